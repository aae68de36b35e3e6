"""SOURCE PORTS, drawn for invented pools."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from tests.tui.samples import (
    COLUMNS,
    HOSTILE,
    NETNS,
    QUIET_POOL,
    ROWS,
    SETTINGS,
    busy,
    fitted,
    flow,
    pool,
    who,
)
from tracer.model import Grade, Pool, Snapshot, Tally
from tracer.text import width
from tracer.tui import ports
from tracer.tui.cells import Cell, Severity, text_of
from tracer.tui.ports import fitting, longest, named, part

OTHER = 4026532001
FILLING = pool(time_waits=20_000, growth=88.0, settles=43_000.0, exhausts_in_us=41_000_000)
FAILING = pool(time_waits=28_112, settles=28_232.0, failures=1_234, failures_lately=17)
TWO_NAMESPACES = {**SETTINGS, OTHER: {"tcp_max_tw_buckets": 25_000}}


def drawn(shown: Snapshot, columns: int, rows: int = 12) -> list[str]:
    return fitted(ports.render(shown, columns, rows), columns, rows)


def figures(one: Pool, columns: int) -> str:
    """The second line of a pool."""
    return drawn(busy(pools=(one,)), columns)[1]


def test_small() -> None:
    assert drawn(busy(), 76, 7) == [
        "10.0.3.7 → 10.2.0.9:5432  ● orders-api[4711]",
        "█████████████│░  88%  24,720 of 28,232  ▲ settles 24,840  at 412.0/s",
        "10.0.3.7 → 10.9.1.1:443  ◐ curl ×412",
        "│░░░░░░░░░░░░░░  <1%  78 of 28,232  settles 78  at 1.3/s",
        "█▌░░░░░░░░░░░░░  10%  TW table 25,530 of 262,144",
    ]


def test_in_half_a_middle_screen() -> None:
    assert drawn(busy(pools=(FILLING, FAILING)), 52, 6) == [
        "10.0.3.7 → 10.2.0.9:5432  ● orders-api[4711]",
        "███████▏░▶  71%  20,120 of 28,232  ▲ full in 41.0 s",
        "10.0.3.7 → 10.2.0.9:5432  ● orders-api[4711]",
        "█████████│ 100%  28,232 of 28,232  ▲ 17 failed",
        "█░░░░░░░░░  10%  TW table 25,530 of 262,144",
    ]


def test_wide_says_all() -> None:
    assert figures(replace(FILLING, live=1_000), 160) == (
        "███████████████████████▊░░░░░░░▶  74%  21,000 of 28,232  ▲ full in 41.0 s  heads for 43,000"
        "  at 412.0/s  20,000 TIME_WAIT, 1,000 live"
    )
    loopback = pool(time_waits=9_000, settles=14_116.0, reuse=True, failures=3)
    assert figures(loopback, 160) == (
        "██████████▍░░░░░│░░░░░░░░░░░░░░░  32%  9,120 of 28,232  settles 14,116  at 412.0/s"
        "  9,000 TIME_WAIT, 120 live  reused after 1.0 s  3 connects failed earlier"
    )


def test_connects_that_fail() -> None:
    assert figures(FAILING, 116) == (
        "██████████████████████│ 100%  28,232 of 28,232  ▲ 17 connects failed in 2 min  settles 28,232"
        "  at 412.0/s"
    )
    assert figures(FAILING, 66).endswith("  ▲ 17 connects failed")


@pytest.mark.parametrize(
    ("settles", "gauge"),
    [
        (0.0, "██░░░░░░░░  20%  2,000 of 10,000  settles 0"),
        (1_000.0, "█│░░░░░░░░  20%  2,000 of 10,000  settles 1,000"),
        (5_000.0, "██░░░│░░░░  20%  2,000 of 10,000  settles 5,000"),
        (7_999.0, "██░░░░░│░░  20%  2,000 of 10,000  settles 7,999"),
        (8_000.0, "██░░░░░░│░  20%  2,000 of 10,000  ▲ settles 8,000"),
        (10_000.0, "██░░░░░░░│  20%  2,000 of 10,000  ▲ settles 10,000"),
        (10_001.0, "██░░░░░░░▶  20%  2,000 of 10,000  ▲ heads for 10,001"),
    ],
)
def test_where_it_settles(settles: float, gauge: str) -> None:
    assert figures(pool(size=10_000, time_waits=2_000, live=0, settles=settles), 54) == gauge


def test_warnings_are_said_and_coloured() -> None:
    for one, warns in ((QUIET_POOL, False), (pool(), True), (FAILING, True), (pool(size=None), False)):
        assert ports.is_warned(one) is warns
        cells = ports.render(busy(pools=(one,)), 116, 3)[1]
        assert (Severity.WARN in {cell.severity for cell in cells}) is warns
        assert ("▲" in text_of(cells)) is warns


def test_ports_without_settings_and_of_bind() -> None:
    unknown = pool(size=None, daddr=None, dport=None, who=who("unknown", None), settles=0.0)
    assert drawn(busy(pools=(unknown,)), 76)[:2] == [
        "10.0.3.7 → any destination (bind())  ? unknown",
        "24,720 ports in use  of how many is not known",
    ]
    assert drawn(busy(pools=(pool(size=0),)), 76)[1].startswith("██████████████▶    –  24,720 of 0  ")


def test_long_addresses_lose_the_source_then_their_middle() -> None:
    long = pool(saddr="2001:db8:85a3:1111:2222:8a2e:370:7334", daddr="2001:db8:85a3:1111:2222:8a2e:370:7335")
    first = [drawn(busy(pools=(long,)), columns)[0] for columns in (116, 76, 40)]
    assert first == [
        f"{long.saddr} → [{long.daddr}]:5432  ● orders-api[4711]",
        "→ [2001:db8:85a3:1111:2222:8a2e:370:7335]:5432  ● orders-api[4711]",
        "→ [2001:db8:85a3:1111:2222:8a2e:37…:5432",
    ]


def test_namespaces_are_named_if_there_are_several() -> None:
    pools = (pool(), replace(QUIET_POOL, netns=OTHER))
    flows = (flow(time_wait_now=24_103), flow(netns=OTHER, time_wait_now=24_000))
    assert drawn(busy(pools=pools, flows=flows, settings=TWO_NAMESPACES), 90) == [
        f"10.0.3.7 → 10.2.0.9:5432  ● orders-api[4711]  netns {NETNS}",
        "███████████████│░░  88%  24,720 of 28,232  ▲ settles 24,840  at 412.0/s",
        f"10.0.3.7 → 10.9.1.1:443  ◐ curl ×412  netns {OTHER}",
        "│░░░░░░░░░░░░░░░░░  <1%  78 of 28,232  settles 78  at 1.3/s  78 TIME_WAIT, 0 live",
        f"█████████████████▎  96%  TW table ≥24,000 of 25,000  netns {OTHER}",
    ]


def test_the_table_of_time_waits() -> None:
    def last(**fields: object) -> tuple[Cell, ...]:
        return ports.render(busy(pools=(), **fields), 76, 7)[-1]

    assert text_of(last(settings={})) == "TW table 25,530"
    assert text_of(last(settings={NETNS: {}})) == "TW table 25,530"
    assert text_of(last(settings={NETNS: {"tcp_max_tw_buckets": 0}})).startswith("███████████████    –  TW")
    nearly = last(settings={NETNS: {"tcp_max_tw_buckets": 31_912}})
    assert text_of(nearly) == "████████████░░░  80%  TW table 25,530 of 31,912"
    assert nearly[0].severity is Severity.WARN
    skipped = Tally(NETNS, 5_000, 1_234, who("a[1]"))
    assert text_of(last(overflows=(skipped,))) == "█▌░░░░░░░░░░░░░  10%  ▲ full: 1,234 left no TIME_WAIT"
    over = text_of(ports.render(busy(overflows=(skipped,)), 116, 1)[0])
    assert over.endswith("  TW table 25,530 of 262,144  ▲ full: 1,234 left no TIME_WAIT  +2 more")
    over = text_of(last(overflows=(replace(skipped, lately=0),)))
    assert over == "█▌░░░░░░░░░░░░░  10%  TW table 25,530 of 262,144"


def test_pools_come_in_pairs_of_lines_and_the_rest_is_counted() -> None:
    many = busy(pools=(pool(),) * 9)
    assert [len(drawn(many, 76, rows)) for rows in (1, 2, 3, 4, 5, 18, 19, 40)] == [1, 1, 3, 3, 5, 17, 19, 19]
    assert drawn(many, 76, 5)[-1].endswith("  +7 more")
    assert drawn(many, 76, 19)[-1] == "█▌░░░░░░░░░░░░░  10%  TW table 25,530 of 262,144"
    assert ports.render(many, 76, 0) == ()


def test_no_pool() -> None:
    assert drawn(busy(pools=()), 76) == [
        "no client on this host holds a source port",
        "█▌░░░░░░░░░░░░░  10%  TW table 25,530 of 262,144",
    ]


def test_title() -> None:
    assert ports.title(busy(), 76) == "SOURCE PORTS · held by TIME_WAIT and live connections"
    assert ports.title(busy(), 40) == "SOURCE PORTS"


@pytest.mark.parametrize(
    ("label", "columns", "expected"),
    [
        ("orders-api[4711]", 20, "● orders-api[4711]"),
        ("orders-api[4711]", 18, "● orders-api[4711]"),
        ("orders-api[4711]", 17, "● orders-a…[4711]"),
        ("orders-api[4711]", 14, "● orders-api"),
        ("orders-api[4711]", 10, "● orders-…"),
        ("curl ×412", 10, "● curl"),
        ("[4711]", 6, "● [47…"),
        ("\x1b[1m\udcff", 30, "● \\x1b[1m\\xff"),
    ],
)
def test_owners_are_cut_before_their_number(label: str, columns: int, expected: str) -> None:
    assert named(label, Grade.CERTAIN, columns) == expected


def test_fitting_leaves_out_the_least_important() -> None:
    parts = [part(1, "first"), part(0, "second"), part(2, "third"), part(1, "fourth")]
    lines = [text_of(fitting(parts, columns)) for columns in (28, 27, 21, 20, 6, 5, 1)]
    assert lines == [
        "first  second  third  fourth",
        "first  second  fourth",
        "first  second  fourth",
        "second",
        "second",
        "seco…",
        "…",
    ]
    assert fitting([], 9) == ()


def test_longest() -> None:
    forms = ("four", "two", "1")
    assert [longest(forms, columns) for columns in (4, 3, 1)] == ["four", "two", "1"]
    assert longest(("日本語",), 3) == "日…"


@given(columns=COLUMNS, rows=ROWS, label=HOSTILE, address=HOSTILE)
def test_hostile_names(columns: int, rows: int, label: str, address: str) -> None:
    whose = who("a")
    pools = tuple(
        replace(one, saddr=address, who=replace(whose, label=label))
        for one in (FILLING, FAILING, pool(size=None), pool(daddr=address, netns=OTHER), pool(daddr=None))
    )
    shown = busy(pools=pools, settings=TWO_NAMESPACES)
    drawn(shown, columns, rows)
    assert width(ports.title(shown, columns)) <= columns
