from __future__ import annotations

from tests.unit.samples import SECOND, T0, birth, close, held, owner, start
from tracer.aggregate import Aggregator
from tracer.model import Grade, Lost
from tracer.table import render
from tracer.text import width


def table(*events: object, color: bool = False) -> list[str]:
    aggregator = Aggregator(start())
    aggregator.add(events)  # type: ignore[arg-type]
    return render(aggregator.snapshot(T0 + 10 * SECOND), color=color).splitlines()


def test_golden() -> None:
    lines = table(
        *(close(n, owner(4711, "orders-api"), at=5) for n in range(40)),
        *(birth(n, owner(4711, "orders-api"), at=5) for n in range(40)),
        close(50, owner(2, "haproxy"), first="none", how="reset_sent"),
        close(51, owner(3, "php"), via="exit"),
        held(60, owner(2290, "java", grade=Grade.INFERRED)),
        birth(70, preexisting=True),
    )
    assert lines[1:] == [
        "  PROCESS               CLOSE/s   TW/s TW NOW HELD FIRST  RST HOW IT ENDS",
        "● orders-api[4711]          4.4    4.4     40    –  100%   0% closes first",
        "● haproxy[2]                0.0    0.0      0    –    0% 100% resets",
        "● php[3]                    0.0    0.0      0    –  100%   0% exits, no close()",
        "◐ java[2290]                0.0    0.0      0    1     –    – ▲ 1 never closed",
        "? unknown                   0.0    0.0      1    –     –    – –",
        "Σ all                       4.4    4.4     41    1   98%   2% ▲ 1 never closed",
    ]
    assert lines[0].endswith("  host  up 00:00:10  hooks timer  lost 0")


def test_the_worst_finding_comes_before_the_rows() -> None:
    leak = [held(n, owner(1, "java\x1b[31m"), at=1) for n in range(5)]
    lines = table(*leak)
    assert lines[1:4] == [
        "▲ WARN java\\x1b[31m[1]: 5 connections it holds stay in CLOSE_WAIT, the oldest",
        "  for 9.0 s: the peer has closed, the process does not",
        "  PROCESS               CLOSE/s   TW/s TW NOW HELD FIRST  RST HOW IT ENDS",
    ]


def test_losses_stand_in_the_header() -> None:
    assert "▲ LOST 5" in table(Lost(T0, "x", 5))[0]


def test_hostile_names_cannot_move_the_cursor_or_the_columns() -> None:
    names = [
        "\x1b[31mred",
        "[bold]x",
        "new\nline",
        "tab\there",
        "\u202egnirts",
        "日本語の長い名前です",
        "e\u0301" * 9,
    ]
    lines = table(*(close(n, owner(n, name, f"/{n}")) for n, name in enumerate(names)))
    assert len(lines) == 2 + len(names) + 2
    for line in lines[2:]:
        assert "\x1b" not in line
        assert "\u202e" not in line
        head = line[: line.index("closes first")] if "closes first" in line else line
        assert width(head) in {62, width(line)}


def test_colour_repeats_words_only() -> None:
    lines = table(held(1, owner(1, "java")), color=True)
    assert (
        lines[2]
        == "\x1b[33m● java[1]                   0.0    0.0      0    1     –    – ▲ 1 never closed\x1b[0m"
    )
    assert [
        line.replace("\x1b[33m", "").replace("\x1b[1m", "").replace("\x1b[0m", "") for line in lines
    ] == table(held(1, owner(1, "java")))
