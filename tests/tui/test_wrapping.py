"""Words into lines, items into tables."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.tui.samples import COLUMNS, HOSTILE, fitted
from tracer.text import printable, width
from tracer.tui.cells import Cell, Severity, TextLine, text_of
from tracer.tui.listing import Field, layout, table
from tracer.tui.wrapping import GLUE, between, fact, flow, paragraph, within, wrap


def texts(lines: tuple[TextLine, ...]) -> list[str]:
    return [text_of(line) for line in lines]


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("", 5, []),
        ("   ", 5, []),
        ("one two", 7, ["one two"]),
        ("one two", 6, ["one", "two"]),
        ("  one   two ", 20, ["one two"]),
        ("abcdefgh ij", 3, ["abc", "def", "gh", "ij"]),
        ("a bcdefg", 3, ["a", "bcd", "efg"]),
        ("日本語", 4, ["日本", "語"]),
        ("日本語", 1, ["日", "本", "語"]),
        ("e\u0301\u0301e\u0301", 1, ["e\u0301\u0301e\u0301"]),
        (f"12{GLUE}min 3", 6, ["12 min", "3"]),
        (f"a 12{GLUE}min", 6, ["a", "12 min"]),
    ],
)
def test_wrap(text: str, columns: int, expected: list[str]) -> None:
    assert wrap(text, columns) == expected


@given(text=HOSTILE, columns=COLUMNS)
def test_wrap_loses_nothing_but_blanks(text: str, columns: int) -> None:
    text = printable(text)
    lines = wrap(text, columns)
    assert "".join("".join(lines).split()) == "".join(text.replace(GLUE, " ").split())
    assert all(line and width(line) <= columns for line in lines)


def test_paragraph() -> None:
    assert texts(paragraph("why", "it closes first and reconnects", 30, indent=10)) == [
        "why       it closes first and",
        "          reconnects",
    ]
    assert texts(paragraph("a-long-label", "x", 30, indent=10)) == ["a-long-labelx"]
    assert texts(paragraph("why", "", 30, indent=10)) == ["why       "]
    narrow = paragraph("why", "it closes first", 12, Severity.STRONG, indent=10)
    assert texts(narrow) == ["why", "  it closes", "  first"]
    assert narrow[1][1].severity is Severity.STRONG
    assert texts(paragraph("", "a\x1bb", 12, indent=10)) == ["  a\\x1bb"]


def test_flow() -> None:
    pieces = [fact("pid", "1"), fact("uid", "\x07"), fact("netns", "4026531840")]
    assert texts(flow(pieces, 40)) == ["pid 1   uid \\x07   netns 4026531840"]
    assert texts(flow(pieces, 20)) == ["pid 1   uid \\x07", "netns 4026531840"]
    assert texts(flow(pieces, 10)) == ["pid 1", "uid \\x07", "netns 402…"]
    assert flow([], 10) == ()


def test_between() -> None:
    assert text_of(between("left", "right", 12)) == "left   right"
    assert text_of(between("left", "right", 9)) == "le… right"


def test_within() -> None:
    lines = ((Cell("one"),), (Cell("two"),))
    assert texts(within(lines, 2, 5)) == ["o…", "t…"]
    assert texts(within(lines, 3, 1)) == ["one"]
    assert within(lines, 3, 0) == ()


FIELDS: tuple[Field[str], ...] = (
    Field("last", "LAST", 3, 4, 4, lambda _it, _size: "x", ">"),
    Field("name", "NAME", 1, 5, 8, lambda it, _size: it),
    Field("size", "SIZE", 2, 4, 4, lambda it, size: str(len(it) * size), ">"),
)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (30, [("last", 4), ("name", 8), ("size", 4)]),
        (16, [("last", 4), ("name", 5), ("size", 4)]),
        (15, [("name", 8), ("size", 4)]),
        (11, [("name", 5), ("size", 4)]),
        (10, [("name", 8)]),
        (3, [("name", 2)]),
    ],
)
def test_layout(columns: int, expected: list[tuple[str, int]]) -> None:
    assert [(field.key, size) for field, size in layout(FIELDS, columns)] == expected


def test_table() -> None:
    made = table("TITLE", FIELDS, [("a", "short"), ("b", "日本語プロセス")], 9, 15)
    assert [heading.text for heading in made.headings] == [" NAME    ", " SIZE"]
    assert [(line.key, text_of(line.cells)) for line in made.lines] == [
        ("a", " short      20"),
        ("b", " 日本語…    28"),
    ]
    assert (made.title, made.total) == ("TITLE", 9)


@given(columns=COLUMNS, name=HOSTILE)
def test_tables_stay_within(columns: int, name: str) -> None:
    made = table("", FIELDS, [("a", printable(name))], 1, columns)
    fitted(tuple(line.cells for line in made.lines), columns, 1)
