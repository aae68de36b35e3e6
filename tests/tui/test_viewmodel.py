"""Exact strings for invented snapshots."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tui.samples import CURL, JAVA, ORDERS, TOTAL, UNKNOWN, row, scene, snapshot
from tracer.model import Row, Snapshot
from tracer.text import width
from tracer.tui import viewmodel
from tracer.tui.cells import Severity
from tracer.tui.scene import Sort
from tracer.tui.viewmodel import Line, View

NARROW, MIDDLE, WIDE = 77, 117, 197
"""What terminals of 80, 120 and 200 columns leave for cells."""


def text(line: Line) -> str:
    """The line as it is drawn."""
    return "".join(cell.text for cell in line.cells)


def who(shown: Snapshot, sort: Sort, columns: int) -> View:
    """The table of a snapshot's rows."""
    return viewmodel.view(scene(shown, sort=sort), shown.rows, columns)


def drawn(view: View) -> list[str]:
    """Headings, processes and sums as they are drawn."""
    return ["".join(heading.text for heading in view.headings), *map(text, (*view.processes, *view.sums))]


def labels(view: View) -> list[str]:
    """The keys of the processes, from the top."""
    return [line.key for line in view.processes]


def header(shown: Snapshot, columns: int, *, paused: bool = False) -> str:
    """The top line as it is drawn."""
    return "".join(cell.text for cell in viewmodel.header(scene(shown, paused=paused), columns))


def test_narrow() -> None:
    assert drawn(who(snapshot(), Sort(), NARROW)) == [
        " PROCESS                ROLE CLOSE/s    TW/s ▼TW NOW TW, 2 min     HELD FIRST",
        " ● orders-api[4711]     cli    415.0   412.0  24,720 ▁▂▃▃▄▅▆▇██       0   99%",
        " ◐ curl ×412            cli      1.3     1.3      78         ▁        0  100%",
        " ● java[2290]           srv      0.0     0.0       0                ▲43     –",
        " ? unknown              ?        0.0     0.0      12                  0     –",
        " Σ all                         416.3     0.0  24,810                ▲41     –",
    ]


def test_middle_adds_resets_lifetime_and_peer() -> None:
    lines = drawn(who(snapshot(), Sort(), MIDDLE))
    assert [line[77 + 4 :] for line in lines] == [
        "  RST LIFE p50 TOP PEER             ",
        "   0%   9.1 ms 10.2.0.9:5432        ",
        "  10%    88 ms 10.9.1.1:443         ",
        "    –        – –                    ",
        "    –        – –                    ",
        "    –        – –                    ",
    ]


def test_wide_adds_the_cgroup() -> None:
    heading, first, *_ = drawn(who(snapshot(), Sort(), WIDE))
    assert heading[-50:].split() == ["HOW", "IT", "ENDS", "CGROUP"]
    assert first[-50:].split("  ")[0].strip() == "closes first"
    assert first[-32:].strip() == "/system.slice/orders.service"


@pytest.mark.parametrize("columns", [0, 1, 22, 23, 31, 60, NARROW, 100, MIDDLE, 160, WIDE, 400])
def test_lines_are_equally_wide_and_fit(columns: int) -> None:
    widths = set(map(width, drawn(who(snapshot(), Sort(), columns))))
    assert len(widths) == 1
    assert widths.pop() <= max(columns, 23)


def test_columns_come_in_by_importance() -> None:
    assert [column.key for column, _ in viewmodel.layout(40)] == [
        "process",
        "time_wait_rate",
        "time_wait_now",
    ]
    assert len(viewmodel.layout(WIDE)) == 13


def test_title_names_order_and_share() -> None:
    many = snapshot(*(row(f"worker[{pid}]", time_wait_now=pid) for pid in range(5000)))
    view = who(many, Sort(), NARROW)
    assert view.title == "WHO by process · sort TW NOW ▼ · 200 of 5,000"
    assert len(view.processes) == viewmodel.MAX_ROWS
    assert view.processes[0].key == "worker[4999]"
    assert [line.key for line in view.sums] == ["unknown", "all"]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (Sort("time_wait_now", descending=True), [ORDERS, CURL, JAVA]),
        (Sort("time_wait_now", descending=False), [JAVA, CURL, ORDERS]),
        (Sort("held", descending=True), [JAVA, ORDERS, CURL]),
        (Sort("process", descending=False), [CURL, JAVA, ORDERS]),
        (Sort("life", descending=True), [CURL, ORDERS, JAVA]),
        (Sort("life", descending=False), [ORDERS, CURL, JAVA]),
        (Sort("first", descending=False), [ORDERS, CURL, JAVA]),
    ],
)
def test_order_with_the_missing_last_both_ways(sort: Sort, order: list[Row]) -> None:
    view = who(snapshot(), sort, MIDDLE)
    assert labels(view) == [row.key for row in order]
    assert [line.key for line in view.sums] == [UNKNOWN.key, TOTAL.key]


def test_next_sort_goes_through_the_shown_columns_and_round() -> None:
    sort, seen = Sort(), []
    for _ in range(7):
        sort = viewmodel.next_sort(scene(snapshot(), sort=sort), NARROW)
        seen.append(f"{sort.column}{sort.marker}")
    assert seen == [
        "held▼",
        "first▼",
        "process▲",
        "role▲",
        "close_rate▼",
        "time_wait_rate▼",
        "time_wait_now▼",
    ]
    assert viewmodel.next_sort(scene(snapshot(), sort=Sort("cgroup")), NARROW).column == "process"


def test_marker_does_not_move_titles() -> None:
    plain = drawn(who(snapshot(), Sort("cgroup"), NARROW))[0]
    for key in ("process", "role", "close_rate", "held", "first"):
        for descending, marker in ((True, "▼"), (False, "▲")):
            marked = drawn(who(snapshot(), Sort(key, descending), NARROW))[0]
            assert marked.count(marker) == 1
            assert marked.replace(marker, " ") == plain


@pytest.mark.parametrize(
    ("history", "columns", "expected"),
    [
        ((), 4, "    "),
        ((0,) * 120, 4, "    "),
        ((1,) * 120, 4, "▁▁▁▁"),
        ((8,) * 120, 4, "████"),
        ((400,) * 120, 4, "████"),
        ((5,) * 30, 4, "   ▅"),
        ((1,), 4, "   ▁"),
        ((99,) * 60 + (0,) * 120, 4, "    "),
        (tuple(range(120)), 8, "▁▂▃▄▅▆▇█"),
        ((0,) * 110 + (30,) * 10, 12, "           █"),
    ],
)
def test_sparkline(history: tuple[int, ...], columns: int, expected: str) -> None:
    assert viewmodel.sparkline(history, columns) == expected


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (0.0, "0.0"),
        (9_999.9, "9,999.9"),
        (12_345.6, "12,346"),
        (262_144.0, "262,144"),
        (1_234_567.0, "1,235k"),
    ],
)
def test_figures_are_shortened_not_cut(figure: float, expected: str) -> None:
    view = who(snapshot(row("a", close_rate=figure)), Sort(), NARROW)
    assert view.processes[0].cells[2].text.strip() == expected


def test_held_marks_close_wait_in_words_and_weight() -> None:
    rows = (row("leak", held_close_wait=123_456), row("half", held_fin_wait2=3), row("none"))
    cells = [line.cells[6] for line in who(snapshot(*rows), Sort(), NARROW).processes]
    assert [cell.text.strip() for cell in cells] == ["▲123k", "3", "0"]
    assert [cell.severity for cell in cells] == [Severity.WARN, Severity.PLAIN, Severity.FAINT]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("short[1]", " ● short[1]            "),
        ("a-very-long-name[4194304]", " ● a-very-lon…[4194304]"),
        ("a-very-long-name-of-many ×41", " ● a-very-long-nam… ×41"),
        ("[a-name-that-is-but-a-bracket", " ● [a-name-that-is-but…"),
        ("[bold]x[/]", " ● [bold]x[/]          "),
        ("\x1b[31mx", " ● \\x1b[31mx           "),
        ("日本語プロセス名前長い[77]", " ● 日本語プロセス… [77]"),
        ("e\u0301\u0301t[5]", " ● e\u0301\u0301t[5]               "),
        ("a\u202eb\x9bc", " ● a\\u202eb\\x9bc       "),
        ("\udcff", " ● \\xff                "),
    ],
)
def test_hostile_and_long_labels(label: str, expected: str) -> None:
    cell = who(snapshot(row(label)), Sort(), NARROW).processes[0].cells[0]
    assert cell.text == expected
    assert width(cell.text) == 23


def test_peers_keep_their_port_and_cgroups_their_end() -> None:
    one = row(
        "a",
        top_peer="[2001:db8:85a3:1111:2222:8a2e:370:7334]:9100",
        cgroup="/kubepods.slice/kubepods-burstable.slice/pod\x1b0aa2/cri-9f3b0a.scope",
    )
    cells = who(snapshot(one), Sort(), WIDE).processes[0].cells
    assert cells[-3].text == " [2001:db8:85a3:1111:2222…:9100"
    assert cells[-1].text == " …ce/pod\\x1b0aa2/cri-9f3b0a.scope"


def test_header() -> None:
    left = "twtrace  web-14  Linux 6.8  hooks:timer  ● LIVE 00:12:44  filter: none"
    assert header(snapshot(), 78) == f"{left}  lost 0"
    assert header(snapshot(), 118) == f"{left:<110}  lost 0"


def test_header_paused_filtered_and_lossy() -> None:
    shown = snapshot(filters="family=4", lost=1234, elapsed_us=360_000_000_000)
    left = "twtrace  web-14  Linux 6.8  hooks:timer  ⏸ PAUSED at 100:00:00  filter: family=4"
    assert header(shown, 118, paused=True) == f"{left:<104}  ▲ lost 1,234"
    assert viewmodel.header(scene(shown, paused=True), 118)[-1].severity is Severity.WARN


@pytest.mark.parametrize("columns", [70, 78, 118])
def test_header_cuts_what_matters_least(columns: int) -> None:
    shown = snapshot(
        host="a-very-long-host-name.example.org",
        kernel="6.8.0-1021-azure-fde",
        filters="local_ports=" + ",".join(map(str, range(100))),
        lost=7,
    )
    line = header(shown, columns)
    assert width(line) == columns
    assert "a-very-long-host-name.e…  " in line
    assert "  ● LIVE 00:12:44  filter: " in line
    assert line.endswith("…  ▲ lost 7")


def test_header_shows_hostile_text_as_text() -> None:
    shown = replace(snapshot(), host="\x1b]0;pwn\x07", filters="comms=[red]\u202e")
    line = header(shown, 118)
    assert "  \\x1b]0;pwn\\x07  " in line
    assert "  filter: comms=[red]\\u202e  " in line
