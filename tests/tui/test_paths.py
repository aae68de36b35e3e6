"""CLOSE PATHS, drawn for invented traffic."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from tests.tui.samples import COLUMNS, EDGES, ENDS, HOSTILE, ROWS, TOTAL, busy, fitted, snapshot
from tracer.model import Snapshot, Traffic
from tracer.text import width
from tracer.tui import paths
from tracer.tui.cells import Cell, Severity

FULL = {**EDGES, ("FIN_WAIT2", "overflow"): Traffic(1_234, 12.0)}


def drawn(shown: Snapshot, columns: int, rows: int) -> list[str]:
    return fitted(paths.render(shown, columns, rows), columns, rows)


def cells(shown: Snapshot, columns: int, rows: int) -> list[Cell]:
    return [cell for line in paths.render(shown, columns, rows) for cell in line]


def test_the_diagram() -> None:
    assert drawn(busy(), 64, 15) == [
        "    we close first ┌───── ESTABLISHED ─────┐ peer closes first",
        "           425.5/s │           │           │ 53.2/s",
        "                   ▼           │           ▼",
        "               FIN_WAIT1       │      CLOSE_WAIT ▲41 held",
        "        ACK ┌──────┴────┐ FIN  │ no FIN    │ close()",
        "    425.1/s ▼     0.4/s ▼      │ 12.0/s    ▼ 53.2/s",
        "    FIN_WAIT2 2 held CLOSING   │       LAST_ACK",
        "        FIN │       ACK │      │           │ ACK",
        "    425.1/s ▼     0.4/s ▼      ▼           ▼ 53.2/s",
        "   ┏━━━━━━━━━━━━━━━━━━━━━┓    ┌─────────────────┐",
        "   ┃ TIME_WAIT    25,530 ┃───▶│     CLOSED      │",
        "   ┗━━━━━━━━━━━━━━━━━━━━━┛    └─────────────────┘",
        "RST sent 11.0/s  RST received 1.0/s  timed out 0.0/s",
        "TIME_WAIT ends:  timer 421.0/s  reused 4.0/s  new SYN 0.0/s",
        "┄▶ TIME_WAIT: 12 from before the trace",
    ]


def test_the_smallest_diagram_has_no_boxes() -> None:
    assert drawn(busy(edges=FULL), 56, 13) == [
        "  we close first ┌─── ESTABLISHED ───┐ peer closes first",
        "         425.5/s │         │         │ 53.2/s",
        "                 ▼         │         ▼",
        "             FIN_WAIT1     │    CLOSE_WAIT ▲41 held",
        "       ACK ┌─────┴───┐ FIN │ no FIN  │ close()",
        "   425.1/s ▼   0.4/s ▼     │ 12.0/s  ▼ 53.2/s",
        " FIN_WAIT2 2 held CLOSING  │     LAST_ACK",
        "       FIN │     ACK │     │         │ ACK",
        "   425.1/s ▼   0.4/s ▼     ▼         │ 53.2/s",
        "    TIME_WAIT  25,530  ─▶ CLOSED ◀───┘",
        "▲ table full, no TIME_WAIT: 12.0/s  (1,234 so far)",
        "RST sent 11.0/s  RST received 1.0/s  timed out 0.0/s",
        "TIME_WAIT ends:  timer 421.0/s  reused 4.0/s",
    ]


def test_small_is_a_line_a_path() -> None:
    lines = [
        "we close first     425.5/s ▶ FIN_WAIT1 ▶ FIN_WAIT2 2 held ▶ TIME_WAIT 25,530",
        "both at once         0.4/s ▶ FIN_WAIT1 ▶ CLOSING ▶ TIME_WAIT",
        "peer closes first   53.2/s ▶ CLOSE_WAIT ▲41 held ▶ LAST_ACK ▶ CLOSED",
        "▲ table full, no TIME_WAIT: 12.0/s  (1,234 so far)",
        "RST sent 11.0/s  RST received 1.0/s  timed out 0.0/s",
        "TIME_WAIT ends:  timer 421.0/s  reused 4.0/s  new SYN 0.0/s",
        "┄▶ TIME_WAIT: 12 from before the trace",
    ]
    shown = busy(edges=FULL)
    assert drawn(shown, 76, 7) == drawn(shown, 76, 12) == lines
    for rows, kept in ((6, "012345"), (5, "02345"), (4, "0235"), (3, "023"), (2, "03"), (1, "3")):
        assert drawn(shown, 76, rows) == [lines[int(index)] for index in kept]
    assert paths.render(shown, 76, 0) == ()


def test_narrow_keeps_where_it_ends() -> None:
    assert drawn(busy(), 43, 5) == [
        "we close first     425.5/s",
        "both at once         0.4/s ▶ TIME_WAIT",
        "peer closes first   53.2/s ▶ CLOSED",
        "RST sent 11.0/s  RST received 1.0/s",
        "TIME_WAIT ends:  timer 421.0/s",
    ]


def test_wide_counts_too() -> None:
    lines = drawn(busy(edges=FULL), 116, 30)
    assert lines[1] == "             425.5/s · 325,100 │                 │                 │ 53.2/s · 40,644"
    assert lines[5] == (
        "  425.1/s · 324,790 ▼       0.4/s · 306 ▼        │ 12.0/s · 9,168  ▼ 53.2/s · 40,644"
    )
    assert lines[12:] == [
        "▲ table full, no TIME_WAIT: 12.0/s  (1,234 so far)",
        "RST sent 11.0/s (8,404)  RST received 1.0/s (768)  timed out 0.0/s (0)",
        "TIME_WAIT ends:  timer 421.0/s (296,000)  reused 4.0/s (3,100)  new SYN 0.0/s (12)",
        "┄▶ TIME_WAIT: 12 from before the trace",
        "",
        "STEP                                        RATE      SO FAR",
        "ESTABLISHED → FIN_WAIT1                  425.5/s     325,100",
        "FIN_WAIT1 → FIN_WAIT2                    425.1/s     324,790",
        "FIN_WAIT2 → TIME_WAIT                    425.1/s     324,790",
        "ESTABLISHED → CLOSE_WAIT                  53.2/s      40,644",
        "CLOSE_WAIT → LAST_ACK                     53.2/s      40,644",
        "LAST_ACK → CLOSED                         53.2/s      40,643",
        "ESTABLISHED → RST sent                    11.0/s       8,404",
        "FIN_WAIT2 → no TIME_WAIT, table full      12.0/s       1,234",
        "ESTABLISHED → RST received                 1.0/s         764",
        "FIN_WAIT1 → CLOSING                        0.4/s         306",
        "CLOSING → TIME_WAIT                        0.4/s         306",
        "FIN_WAIT1 → RST received                   0.0/s           4",
    ]
    assert drawn(busy(), 90, 8)[0] == (
        "we close first     425.5/s   325,100 ▶ FIN_WAIT1 ▶ FIN_WAIT2 2 held ▶ TIME_WAIT 25,530"
    )
    # A heading is not shown for less than two steps.
    assert [len(drawn(busy(), 116, rows)) for rows in (18, 19, 30)] == [15, 19, 28]


def test_resets_from_all_states_but_no_fin_from_established_alone() -> None:
    edges = {
        ("ESTABLISHED", "timeout"): Traffic(5, 0.5),
        ("FIN_WAIT1", "timeout"): Traffic(10, 1.0),
        ("CLOSE_WAIT", "unknown"): Traffic(1, 0.1),
    }
    lines = drawn(busy(edges=edges), 70, 15)
    assert lines[5].split() == ["0.0/s", "▼", "0.0/s", "▼", "│", "0.5/s", "▼", "0.0/s"]
    assert lines[12] == "RST sent 0.0/s  RST received 0.0/s  timed out 1.5/s  unknown 0.1/s"


def test_what_never_happened_is_faint_and_what_is_bad_is_marked() -> None:
    quiet = cells(busy(edges={}, ends={}, preexisting=0), 64, 15)
    assert {cell.severity for cell in quiet if "/s" in cell.text} == {Severity.FAINT}
    assert [cell.text for cell in quiet if cell.severity is Severity.WARN] == ["▲41 held"]
    assert [cell.text for cell in quiet if "none yet" in cell.text]
    full = cells(busy(edges=FULL, total=TOTAL._replace(held_close_wait=0)), 64, 15)
    assert [cell.text[0] for cell in full if cell.severity is Severity.WARN] == ["▲", "("]
    over = {("FIN_WAIT2", "overflow"): Traffic(1_234, 0.0)}
    past = cells(busy(edges=over, total=TOTAL._replace(held_close_wait=0)), 64, 15)
    assert not [cell for cell in past if cell.severity is Severity.WARN or "▲" in cell.text]
    assert "table full, no TIME_WAIT: 0.0/s" in [cell.text for cell in past]
    assert drawn(busy(edges=over), 76, 1)[0].startswith("we close first")


def test_large_figures_stay_in_their_place() -> None:
    edges = {edge: Traffic(10**9, 98_765.4) for edge in EDGES}
    total = TOTAL._replace(time_wait_now=12_345_678, held_close_wait=123_456, held_fin_wait2=123_456)
    shown = busy(edges=edges, total=total, preexisting=0)
    assert drawn(shown, 56, 14)[:12] == [
        "  we close first ┌─── ESTABLISHED ───┐ peer closes first",
        "        98,765/s │         │         │ 98,765/s",
        "                 ▼         │         ▼",
        "             FIN_WAIT1     │    CLOSE_WAIT ▲123k held",
        "       ACK ┌─────┴───┐ FIN │ no FIN  │ close()",
        "  98,765/s ▼   99k/s ▼     │ 198k/s  ▼ 98,765/s",
        "   FIN_WAIT2 123k CLOSING  │     LAST_ACK",
        "       FIN │     ACK │     │         │ ACK",
        "  98,765/s ▼   99k/s ▼     ▼         ▼ 98,765/s",
        "  ┏━━━━━━━━━━━━━━━━━━━┓   ┌───────────────┐",
        "  ┃ TIME_WAIT 12,346k ┃──▶│    CLOSED     │",
        "  ┗━━━━━━━━━━━━━━━━━━━┛   └───────────────┘",
    ]


def test_a_label_uses_all_its_room() -> None:
    resets = busy(edges={("ESTABLISHED", "reset_sent"): Traffic(9, 1_234.4)})
    assert drawn(resets, 56, 15)[5] == "     0.0/s ▼   0.0/s ▼     │ 1,234/s ▼ 0.0/s"


def test_how_time_waits_ended_in_words() -> None:
    reasons = ("expired", "reused", "replaced", "reset", "reset_sent", "killed", "netns_exit", "other")
    ends = {reason: Traffic(9 - rank, 1.0) for rank, reason in enumerate(reasons)}
    shown = busy(ends=ends, preexisting=0)
    assert drawn(shown, 180, 14)[-1] == (
        "TIME_WAIT ends:  timer 1.0/s (9)  reused 1.0/s (8)  new SYN 1.0/s (7)  RST 1.0/s (6)"
        "  RST sent 1.0/s (5)  killed 1.0/s (4)  netns gone 1.0/s (3)  unknown 1.0/s (2)"
    )
    assert drawn(shown, 80, 14)[-1] == (
        "TIME_WAIT ends:  timer 1.0/s  reused 1.0/s  new SYN 1.0/s  RST 1.0/s"
    )


def test_title() -> None:
    assert paths.title(busy(), 76) == "CLOSE PATHS · 490.7 closes/s over ten seconds"
    assert paths.title(busy(), 40) == "CLOSE PATHS · 490.7 closes/s"
    assert paths.title(busy(), 20) == "CLOSE PATHS"


TRAFFIC = st.builds(Traffic, st.integers(0, 10**12), st.floats(0, 10**7))
STATE = st.one_of(HOSTILE, st.sampled_from([state for edge in FULL for state in edge]))


@given(
    columns=COLUMNS,
    rows=ROWS,
    edges=st.dictionaries(st.tuples(STATE, STATE), TRAFFIC, max_size=12),
    ends=st.dictionaries(st.one_of(HOSTILE, st.sampled_from([*ENDS])), TRAFFIC, max_size=9),
    count=st.integers(0, 10**9),
)
def test_anything_fits(
    columns: int,
    rows: int,
    edges: dict[tuple[str, str], Traffic],
    ends: dict[str, Traffic],
    count: int,
) -> None:
    total = TOTAL._replace(time_wait_now=count, held_close_wait=count, held_fin_wait2=count, close_rate=count)
    shown = snapshot(total=total, edges=edges, ends=ends, preexisting=count)
    assert drawn(shown, columns, rows)
    assert width(paths.title(shown, columns)) <= columns
