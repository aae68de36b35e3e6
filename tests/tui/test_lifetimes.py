"""LIFETIME, drawn for invented ages."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.tui.samples import AGES, COLUMNS, ROWS, TOTAL, busy, fitted, snapshot
from tracer.model import AgeBucket, Snapshot
from tracer.tui import lifetimes
from tracer.tui.lifetimes import merged


def drawn(shown: Snapshot, columns: int, rows: int) -> list[str]:
    return fitted(lifetimes.render(shown, columns, rows), columns, rows)


def test_in_half_a_middle_screen() -> None:
    assert drawn(busy(), 52, 6) == [
        "p50 9.1 ms  p99 2.4 s  █ left a TIME_WAIT  ░ none",
        "  < 1 ms ░░                                      702",
        "  < 4 ms ████████████████████▉░░               9,911",
        " < 16 ms ██████████████████████████████████░  15,100",
        "   < 1 s ██░                                   1,500",
        "   ≥ 1 s ▏░░░░                                 2,229",
    ]


def test_a_bucket_a_line_if_there_is_room() -> None:
    assert drawn(busy(), 76, 11) == [
        "p50 9.1 ms  p99 2.4 s  █ left a TIME_WAIT  ░ none",
        "  < 1 ms ░░                                                 0 █        702 ░",
        "  < 4 ms █████████████████████████▍░░                   9,000 █        911 ░",
        " < 16 ms █████████████████████████████████████████░    14,800 █        300 ░",
        " < 64 ms ██░                                              700 █        300 ░",
        "< 256 ms █                                                300 █          0 ░",
        "   < 1 s ▌                                                 90 █        110 ░",
        "   < 4 s ▏░░░░                                             60 █      1,640 ░",
        "  < 16 s ░                                                  0 █        400 ░",
        "  < 66 s ░                                                  0 █        128 ░",
        "  ≥ 66 s ░                                                  0 █          1 ░",
    ]


def test_few_rows_and_columns() -> None:
    assert drawn(busy(), 29, 4) == [
        "p50 9.1 ms  p99 2.4 s",
        "  < 4 ms ███████████░░       ",
        " < 16 ms ██████████████████░ ",
        " ≥ 16 ms █▌░░░               ",
    ]
    assert drawn(busy(), 20, 1) == ["p50 9.1 ms"]
    assert drawn(busy(), 40, 2)[1] == "     any ███████████████████▌░░░  29,442"
    assert lifetimes.render(busy(), 76, 0) == ()


def test_some_is_not_none() -> None:
    ages = (AgeBucket(1_000, 1, 99_999), AgeBucket(4_000, 99_999, 1), AgeBucket(None, 0, 1))
    assert drawn(busy(ages=ages), 52, 6)[1:] == [
        "  < 1 ms ▏░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ 100,000",
        "  < 4 ms ██████████████████████████████████░ 100,000",
        "  ≥ 4 ms ░                                         1",
    ]


def test_nothing_yet() -> None:
    for ages in ((), (AgeBucket(1_000, 0, 0), AgeBucket(None, 0, 0))):
        assert drawn(snapshot(ages=ages), 52, 6) == ["no connection has ended yet"]


@pytest.mark.parametrize(
    ("most", "bounds"),
    [
        (10, [1_000, 4_000, 16_000, 64_000, 256_000, 1_024_000, 4_096_000, 16_384_000, 65_536_000, None]),
        (9, [1_000, 4_000, 16_000, 64_000, 256_000, 1_024_000, 4_096_000, 16_384_000, None]),
        (8, [1_000, 4_000, 16_000, 64_000, 1_024_000, 4_096_000, 16_384_000, None]),
        (4, [1_000, 4_000, 16_000, None]),
        (1, [None]),
        (0, [None]),
    ],
)
def test_neighbours_with_the_fewest_are_merged(most: int, bounds: list[int | None]) -> None:
    assert [bucket.below_us for bucket in merged(AGES, most)] == bounds
    assert sum(bucket.time_wait for bucket in merged(AGES, most)) == 24_950
    assert sum(bucket.other for bucket in merged(AGES, most)) == 4_492


def test_empty_ends_go_before_anything_is_merged() -> None:
    ages = tuple(AgeBucket(10**power, count, 0) for power, count in ((2, 0), (3, 1), (4, 0), (5, 1), (6, 0)))
    assert [bucket.below_us for bucket in merged(ages, 4)] == [10**2, 10**3, 10**4, 10**5]
    assert [bucket.below_us for bucket in merged(ages, 3)] == [10**3, 10**4, 10**5]
    assert merged(ages, 2) == (AgeBucket(10**4, 1, 0), AgeBucket(10**5, 1, 0))


def test_title() -> None:
    assert lifetimes.title(busy(), 76) == "LIFETIME · 29,442 connections so far"
    assert lifetimes.title(busy(), 20) == "LIFETIME · 29,442"
    assert lifetimes.title(busy(), 10) == "LIFETIME"


COUNT = st.one_of(st.integers(0, 3), st.integers(0, 10**12))


@given(
    columns=COLUMNS,
    rows=ROWS,
    counts=st.lists(st.tuples(st.integers(1, 10**10), COUNT, COUNT), max_size=20),
    last=st.booleans(),
    age_us=st.one_of(st.none(), st.integers(0, 10**14)),
)
def test_any_ages_fit(
    columns: int, rows: int, counts: list[tuple[int, int, int]], last: bool, age_us: int | None
) -> None:
    ages = tuple(AgeBucket(*bucket) for bucket in sorted(counts))
    ages += (AgeBucket(None, 7, 7),) * last
    shown = busy(ages=ages, total=TOTAL._replace(age_p50_us=age_us, age_p99_us=age_us))
    assert drawn(shown, columns, rows)
