from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tracer.duration import seconds
from tracer.errors import UsageError
from tracer.text import duration, endpoint, fit, json_safe, percent, printable, width


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\r\0", "a\\nb\\r\\x00"),
        ("\x9b", "\\x9b"),
        ("\u202e\u200b\u2028\ue000", "\\u202e\\u200b\\u2028\\ue000"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("größe 日本", "größe 日本"),
    ],
)
def test_printable(raw: str, shown: str) -> None:
    assert printable(raw) == shown


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("", 0)])
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize("text", ["", "ab", "abcdef", "日本語テキスト", "a日本", "e\u0301" * 10])
def test_fit_is_exact(text: str) -> None:
    for columns in range(1, 9):
        assert width(fit(text, columns)) == columns
        assert width(fit(text, columns, ">")) == columns


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (None, "–"),
        (850, "850 µs"),
        (9_100, "9.1 ms"),
        (88_400, "88 ms"),
        (1_200_000, "1.2 s"),
        (180_000_000, "3 min"),
        (7_200_000_000, "2 h"),
    ],
)
def test_duration(us: int | None, text: str) -> None:
    assert duration(us) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "–"), (0, 9, "0%"), (9, 9, "100%"), (1, 1000, "<1%"), (999, 1000, "99%"), (1, 3, "33%")],
)
def test_percent_is_100_or_0_only_when_exactly_so(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


def test_endpoint() -> None:
    assert endpoint("10.0.0.1", 80) == "10.0.0.1:80"
    assert endpoint("::1", 80) == "[::1]:80"


@pytest.mark.parametrize(
    ("text", "value"), [("30s", 30), ("5m", 300), ("500ms", 0.5), ("2", 2), ("1.5h", 5400)]
)
def test_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "x", "-3s", "0", "3 s", "1d", "nan", "inf"])
def test_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="no duration"):
        seconds(text)


@given(st.text(max_size=30))
def test_json_that_is_safe_says_the_same(text: str) -> None:
    document = json.dumps({"a": text}, ensure_ascii=False).encode("utf-8", "replace")
    safe = json_safe(document)
    assert json.loads(safe) == json.loads(document)
    shown = safe.decode()
    assert printable(shown) == shown


def test_json_is_left_alone_where_it_can() -> None:
    assert json_safe('{"é": "日本"}'.encode()) == '{"é": "日本"}'.encode()
    assert json_safe('"\x9b31m\u202e\U000e0001\x7f"'.encode()) == (rb'"\u009b31m\u202e\udb40\udc01\u007f"')
