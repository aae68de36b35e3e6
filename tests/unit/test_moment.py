"""A moment as a person types it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import UsageError
from tracer.tui.moment import parse_moment

HINT = "a time of day (12:04:31), a place from the beginning (90s, 5m), or a way from here (+30s, -30s)"


@pytest.fixture(params=["UTC", "America/St_Johns", "Asia/Kathmandu"], autouse=True)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are the terminal's."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def us(text: str) -> int:
    """Local time → microseconds since the epoch."""
    moment = datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f")  # noqa: DTZ007  local
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


BEGAN, HERE = "2024-03-05 09:00:00.250", "2024-03-05 12:04:31.500"


@pytest.mark.parametrize(
    ("text", "after_us"),
    [
        ("0", 0),
        ("90", 90_000_000),
        ("90s", 90_000_000),
        (" 90s ", 90_000_000),
        ("250ms", 250_000),
        ("1.5m", 90_000_000),
        ("1.5min", 90_000_000),
        ("0.0000015s", 1),
        ("2h", 7_200_000_000),
        ("999999999999999h", 999_999_999_999_999 * 3_600_000_000),
    ],
)
def test_from_the_beginning(text: str, after_us: int) -> None:
    began, here = us(BEGAN), us(HERE)
    assert parse_moment(text, began_us=began, here_us=here) == pytest.approx(
        began + after_us, abs=1, rel=1e-15
    )


@pytest.mark.parametrize(
    ("text", "way_us"), [("+30s", 30_000_000), ("-30s", -30_000_000), ("-0.5h", -1_800_000_000), ("+0", 0)]
)
def test_from_here(text: str, way_us: int) -> None:
    assert parse_moment(text, began_us=us(BEGAN), here_us=us(HERE)) == us(HERE) + way_us


@pytest.mark.parametrize(
    ("began", "here", "text", "found"),
    [
        (BEGAN, HERE, "12:04", "2024-03-05 12:04:00.0"),
        (BEGAN, HERE, "12:04:31", "2024-03-05 12:04:31.0"),
        (BEGAN, HERE, "9:30:00.5", "2024-03-05 09:30:00.5"),
        (BEGAN, HERE, "12:04:31.000001", "2024-03-05 12:04:31.000001"),
        (BEGAN, HERE, "13:00", "2024-03-05 13:00:00.0"),
        # A little before the beginning is before it, not a day later.
        (BEGAN, HERE, "08:59", "2024-03-05 08:59:00.0"),
        (BEGAN, HERE, "00:30", "2024-03-05 00:30:00.0"),
        # Midnight is no border.
        ("2024-03-04 23:50:00.0", "2024-03-05 00:05:00.0", "23:58", "2024-03-04 23:58:00.0"),
        ("2024-03-04 23:00:00.0", "2024-03-04 23:58:00.0", "00:05", "2024-03-05 00:05:00.0"),
        # Of several the nearest.
        ("2024-03-01 00:00:00.0", "2024-03-05 13:00:00.0", "00:30", "2024-03-05 00:30:00.0"),
        ("2024-03-01 00:00:00.0", "2024-03-05 01:00:00.0", "23:00", "2024-03-04 23:00:00.0"),
        (BEGAN, HERE, "2024-03-01 23:59:59", "2024-03-01 23:59:59.0"),
        (BEGAN, HERE, "2024-03-01T23:59", "2024-03-01 23:59:00.0"),
    ],
)
def test_a_time_of_day(began: str, here: str, text: str, found: str) -> None:
    assert parse_moment(text, began_us=us(began), here_us=us(here)) == us(found)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "nothing: no time"),
        ("soon", "soon: no time"),
        ("12:04:31pm", "12:04:31pm: no time"),
        ("--5s", "--5s: no time"),
        ("5 s", "5 s: no time"),
        ("5d", "5d: no time"),
        ("1e3", "1e3: no time"),
        ("-12:04", "-12:04: no time"),
        ("٣s", "٣s: no time"),
        ("9" * 400, f"{'9' * 400}: no time"),
        ("24:00", "24:00: no such time"),
        ("12:60", "12:60: no such time"),
        ("2024-02-30 12:00", "2024-02-30 12:00: no such time"),
        ("0000-01-01 12:00", "0000-01-01 12:00: no such time"),
    ],
)
def test_what_is_none(text: str, cause: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_moment(text, began_us=us(BEGAN), here_us=us(HERE))
    assert (raised.value.cause, raised.value.hint) == (cause, HINT)


@given(st.one_of(st.text(max_size=20), st.from_regex(r"([0-9]{4}-[0-9]{2}-[0-9]{2} )?[0-9]{1,2}:[0-9]{2}")))
def test_nothing_else_comes_of_any_text(text: str) -> None:
    with suppress(UsageError):
        assert isinstance(parse_moment(text, began_us=us(BEGAN), here_us=us(HERE)), int)
