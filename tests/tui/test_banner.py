"""VERDICT, of what judge() finds in invented snapshots."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.tui.samples import COLUMNS, HOSTILE, NETNS, QUIET_POOL, ROWS, busy, fitted, flow, pool, who
from tests.unit.test_verdict import towards
from tracer.model import Grade, HeldGroup, Snapshot, Tally, Who
from tracer.tui import banner
from tracer.tui.cells import Severity, text_of
from tracer.verdict import HOST, Finding, judge
from tracer.verdict import Severity as Weight

FILLING = pool(time_waits=20_000, growth=88.0, settles=43_000.0, exhausts_in_us=41_000_000)
FAILING = pool(time_waits=28_112, settles=28_232.0, failures=1_234, failures_lately=17)
LEAK = HeldGroup(who("java[2290]"), "CLOSE_WAIT", "server", NETNS, 8080, 41, 1_699_999_280_000_000)
SKIPPED = Tally(NETNS, 1_234, 12, who("orders-api[4711]"))
WHO_AND_WHY = "who: ● orders-api[4711]   why: closes first after 9.1 ms   "
QUIET = busy(pools=(QUIET_POOL,), flows=())


def drawn(shown: Snapshot, columns: int, rows: int = 2) -> list[str]:
    return fitted(banner.render(judge(shown), shown, columns, rows), columns, rows)


@pytest.mark.parametrize(
    ("shown", "sentence", "rest"),
    [
        (
            busy(),
            (
                "▲ WARN  10.0.3.7 → 10.2.0.9:5432 holds 24,720 of 28,232 ports:"
                " it settles at 24,840; more than 471/s fail"
            ),
            f"{WHO_AND_WHY}do: keep connections open and reuse them      +1 more [f]",
        ),
        (
            busy(pools=(FILLING,)),
            "▲ WARN  10.0.3.7 → 10.2.0.9:5432 holds 20,120 of 28,232 ports: connect() will fail in 41.0 s",
            f"{WHO_AND_WHY}do: keep connections open and reuse them      +1 more [f]",
        ),
        (
            busy(pools=(FAILING,)),
            "✘ CRITICAL  10.0.3.7 → 10.2.0.9:5432: connect() failed 1,234×, 28,232 of 28,232 ports held",
            f"{WHO_AND_WHY}do: keep connections open and reuse them      +1 more [f]",
        ),
        (
            busy(held=(LEAK,), pools=(), flows=()),
            (
                "▲ WARN  41 connections it accepted on port 8080 stay in CLOSE_WAIT, the oldest for 12 min:"
                " the peer has closed"
            ),
            (
                "who: ● java[2290]   do: close the socket when read() returns 0"
                " → frees 41 sockets and descriptors                [f]"
            ),
        ),
        (
            busy(overflows=(SKIPPED,), pools=()),
            (
                "▲ WARN  1,234 closes left no TIME_WAIT because there were too many already:"
                " old segments may reach a new connection"
            ),
            f"{WHO_AND_WHY}do: raise net.ipv4.tcp_max_tw_buckets         +1 more [f]",
        ),
        (
            busy(pools=()),
            "· NOTICE  closes first and reconnects within a second: 29,000 of 29,442 connections",
            (
                "who: ● orders-api[4711]   do: keep connections open and reuse them"
                " → spares 29,000 of 29,442 connections         [f]"
            ),
        ),
        (
            QUIET,
            (
                "✔ nothing to worry about: 25,530 TIME_WAITs, the fullest pool 10.0.3.7 → 10.9.1.1:443 holds"
                " 78 of 28,232 ports (<1%)"
            ),
            f"{'no connect() failed, nobody leaves sockets open':<113}[f]",
        ),
    ],
)
def test_middle(shown: Snapshot, sentence: str, rest: str) -> None:
    assert drawn(shown, 116) == [sentence, rest]


@pytest.mark.parametrize(
    ("shown", "sentence", "rest"),
    [
        (
            busy(),
            "▲ WARN  → 10.2.0.9:5432 is 88% full: it settles at 24,840",
            "who: ● orders-api[4711]   do: keep connections open and reuse them    +1 [f]",
        ),
        (
            busy(pools=(FILLING,)),
            "▲ WARN  → 10.2.0.9:5432 is 71% full: connect() will fail in 41.0 s",
            "who: ● orders-api[4711]   do: keep connections open and reuse them    +1 [f]",
        ),
        (
            busy(pools=(replace(FAILING, daddr=None, dport=None, size=None),), flows=()),
            "✘ CRITICAL  → any destination: connect() failed 1,234×, 28,232 ports held",
            "who: ● orders-api[4711]   do: sysctl net.ipv4.tcp_tw_reuse=1             [f]",
        ),
        (
            busy(held=(LEAK,), pools=(), flows=()),
            "▲ WARN  41 connections it accepted on port 8080 stay in CLOSE_WAIT",
            "who: ● java[2290]   do: close the socket when read() returns 0           [f]",
        ),
        (
            busy(pools=()),
            "· NOTICE  closes first and reconnects: 29,000 of 29,442 connections",
            "who: ● orders-api[4711]   do: keep connections open and reuse them       [f]",
        ),
        (
            QUIET,
            "✔ nothing to worry about: 25,530 TIME_WAITs, the fullest pool is <1% full",
            "no connect() failed, nobody leaves sockets open                          [f]",
        ),
    ],
)
def test_small(shown: Snapshot, sentence: str, rest: str) -> None:
    assert drawn(shown, 76) == [sentence, rest]


def test_a_third_line_for_the_remedy() -> None:
    first, who_and_why, do = drawn(busy(), 196, 3)
    assert first == f"▲ WARN  {judge(busy())[0].why}"
    assert (
        who_and_why == "who: ● orders-api[4711], 98% of them   why: closes first after 9.1 ms and reconnects"
    )
    remedy = judge(busy())[0].remedies[0]
    assert do == f"{f'do: {remedy.do} → {remedy.effect}':<185}+1 more [f]"
    server = flow(role="server", port=443, local="10.0.3.7", remote="10.7.1.22")
    assert drawn(busy(pools=(), flows=(server,)), 116, 3)[1] == (
        "who: ● orders-api[4711]   confidence: medium"
    )


def test_more_rows_show_the_other_findings_and_count_the_rest() -> None:
    shown = busy(held=(LEAK,), overflows=(SKIPPED,))
    whose, java = "orders-api[4711]", "java[2290]"
    others = [
        "▲ WARN  orders-api[4711]: 1,234 closes left no TIME_WAIT because there were too many already",
        f"▲ WARN  {java}: 41 connections it accepted on port 8080 stay in CLOSE_WAIT, the oldest for 12 min",
        f"· NOTICE  {whose}: closes first and reconnects within a second: 29,000 of 29,442 connections",
    ]
    for rows, key in ((1, "+3 more [f]"), (2, "+3 more [f]"), (4, "+2 more [f]"), (6, "  [f]"), (9, "  [f]")):
        lines = drawn(shown, 116, rows)
        assert lines[3:] == others[: max(rows - 3, 0)]
        assert [line for line in lines if line.endswith("[f]")] == [lines[min(rows, 3) - 1]]
        assert lines[min(rows, 3) - 1].endswith(key)


def test_what_is_fine_is_shown_where_there_is_room_and_never_counted() -> None:
    here = flow(reconnects=0, peer=who("postgres[880]"))
    shown = busy(pools=(), flows=(here,))
    assert [one.id for one in judge(shown)] == ["nothing", "both_ends_here"]
    assert drawn(shown, 116)[1].endswith("  [f]")
    assert drawn(shown, 116, 3)[2] == (
        "✔ FINE  orders-api[4711]: both ends are on this host, and of the two orders-api[4711] closes first"
    )


@pytest.mark.parametrize(
    ("pools", "columns", "how"),
    [
        ((), 116, ", none of which holds a source port of a client"),
        ((), 60, ""),
        ((pool(size=None),), 116, ", none of which holds a source port of a client"),
        ((QUIET_POOL,), 100, ", the fullest pool holds 78 of 28,232 ports (<1%)"),
        (
            (pool(reuse=True, daddr=None, dport=None), QUIET_POOL),
            130,
            ", the fullest pool 10.0.3.7 → any destination holds 24,720 of 28,232 ports (88%)",
        ),
    ],
)
def test_how_well(pools: tuple[object, ...], columns: int, how: str) -> None:
    text = f"✔ nothing to worry about: 25,530 TIME_WAITs{how}"
    assert drawn(busy(pools=pools, flows=()), columns)[0] == text


def test_a_short_trace_is_said_to_be_short() -> None:
    short = replace(QUIET, elapsed_us=12_000_000)
    assert drawn(short, 76)[1] == f"{'only 12.0 s were traced, a TIME_WAIT lasts 60':<73}[f]"
    assert drawn(short, 116)[1][:96] == (
        "no connect() failed, nobody leaves sockets open   only 12.0 s were traced, a TIME_WAIT lasts 60 "
    )


def test_why_is_told_where_the_habit_is_known() -> None:
    def why(**fields: object) -> str:
        return drawn(busy(flows=(flow(**fields),)), 196, 3)[1].partition("why: ")[2]

    assert why() == "closes first after 9.1 ms and reconnects"
    assert why(reconnects=9) == "closes first after 9.1 ms"
    assert why(first_local=9) == why(remote="10.2.0.10") == why(who=who("other[1]")) == ""


def test_severity_is_coloured_as_it_is_said() -> None:
    for shown, severity in (
        (busy(), Severity.WARN),
        (busy(pools=()), Severity.STRONG),
        (QUIET, Severity.STRONG),
    ):
        assert banner.render(judge(shown), shown, 116, 2)[0][0].severity is severity


def test_long_sentences_end_at_a_clause_or_a_word() -> None:
    def cut(why: str) -> str:
        one = Finding("x", Weight.WARN, HOST, why, {})
        return fitted(banner.render((one,), busy(), 36, 1), 36, 1)[0][8:30].rstrip()

    assert cut("some words that fit") == "some words that fit"
    assert cut("some words that fit, and more of them") == "some words that fit"
    assert cut("some of the words (those, in fact) and more") == "some of the words"
    assert cut("a (b, c of the words and more of them)") == "a (b, c of the words…"
    assert cut("a (b, c of the wordy and more of them)") == "a (b, c of the wordy…"
    assert cut("a (b, c of the wordless ones of them)") == "a (b, c of the…"
    assert cut("to fe80::1:2:3:: and more of them") == "to fe80::1:2:3:: and…"
    assert cut("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") == "aaaaaaaaaaaaaaaaaaaaa…"


def test_no_remedy() -> None:
    one = Finding("x", Weight.CRITICAL, HOST, "bad", {})
    lines = [fitted(banner.render((one,), busy(), 40, rows), 40, rows) for rows in (2, 3)]
    assert [[line.rstrip() for line in shown] for shown in lines] == [
        ["✘ CRITICAL  bad", f"{'who: this host':<37}[f]"],
        ["✘ CRITICAL  bad", "who: this host", f"{'':<37}[f]"],
    ]


def test_nothing_judged_yet() -> None:
    assert banner.render((), busy(), 76, 2) == ()
    assert banner.render(judge(busy()), busy(), 76, 0) == ()


def test_title() -> None:
    assert banner.title(busy(), 76) == "VERDICT"


WHOSE = st.builds(
    lambda label, grade: replace(who("a[1]"), label=label, grade=grade),
    HOSTILE,
    st.sampled_from([*Grade, None]),
)


@given(columns=COLUMNS, rows=ROWS, whose=WHOSE, address=HOSTILE)
def test_hostile_names(columns: int, rows: int, whose: Who, address: str) -> None:
    pools = tuple(
        replace(one, saddr=address, daddr=address, who=whose) for one in (FILLING, FAILING, QUIET_POOL)
    )
    shown = busy(
        pools=pools,
        flows=(flow(who=whose, local=address, remote=address, peer=whose),),
        held=(replace(LEAK, who=whose),),
        overflows=(replace(SKIPPED, who=whose),),
        conflicts=(replace(SKIPPED, who=whose),),
    )
    for one in (
        shown,
        replace(shown, pools=()),
        replace(shown, pools=pools[2:], flows=(), held=(), overflows=(), conflicts=()),
    ):
        assert drawn(one, columns, rows)


def test_many_time_waits_are_fine_when_spread_and_not_when_towards_one() -> None:
    fine, warned = (towards(count, peers) for count, peers in ((25_000, 500), (24_000, 1)))
    assert next(text_of(line) for line in banner.render(judge(fine), fine, 116, 2)).startswith(
        "✔ nothing to worry about: 25,000 TIME_WAITs, "
    )
    first, second = (text_of(line) for line in banner.render(judge(warned), warned, 116, 2))
    assert first.startswith(
        "▲ WARN  10.0.0.1 → 10.9.0.1:5432 holds 24,000 of 28,232 ports: it settles at 24,"
    )
    assert second.startswith("who: ● a[1]   why: closes first after ")
    assert "do: keep connections open and reuse them" in second
