"""The plain table: the Snapshot on a terminal's 80 columns, or in a log."""

from __future__ import annotations

import textwrap
import time

from tracer.habit import habit
from tracer.model import Grade, Row, Snapshot
from tracer.text import fit, percent, printable
from tracer.verdict import MARKS, Severity, judge

_GLYPHS = {Grade.CERTAIN: "●", Grade.INFERRED: "◐", Grade.UNKNOWN: "?", None: "Σ"}

_HEAD = "  PROCESS               CLOSE/s   TW/s TW NOW HELD FIRST  RST HOW IT ENDS"


_COLUMNS = 79

_BOLD, _YELLOW, _RESET = "\x1b[1m", "\x1b[33m", "\x1b[0m"


def render(snapshot: Snapshot, *, color: bool = False) -> str:
    """Header, the worst finding if one is above fine, the rows; ends in a newline."""
    clock = time.strftime("%H:%M:%S", time.localtime(snapshot.ts_us // 1_000_000))
    lost = f"▲ LOST {snapshot.lost}" if snapshot.lost else "lost 0"
    header = f"{clock}  {printable(snapshot.host)}  up {_elapsed(snapshot)}  hooks {snapshot.hooks}  {lost}"
    if snapshot.filters:
        header += f"  filter {printable(snapshot.filters)}"
    lines = [_painted(header, color, _BOLD), *_verdict(snapshot, color), *rows(snapshot, color=color)]
    return "\n".join(lines) + "\n"


def rows(snapshot: Snapshot, *, color: bool = False) -> list[str]:
    """Headings, one line a process, unknown and sum."""
    every = (*snapshot.rows, snapshot.unknown, snapshot.total)
    return [_painted(_HEAD, color, _BOLD), *(_painted(_line(row), color) for row in every)]


def _verdict(snapshot: Snapshot, color: bool) -> list[str]:
    worst = judge(snapshot)[0]
    if worst.severity is Severity.FINE:
        return []
    text = printable(f"{MARKS[worst.severity]} {worst.severity.name} {worst.who.label}: {worst.why}")
    return [_painted(line, color) for line in textwrap.wrap(text, _COLUMNS, subsequent_indent="  ")]


def _painted(line: str, color: bool, paint: str = "") -> str:
    """Colour repeats what a word or a ▲ says already."""
    paint = _YELLOW if "▲" in line else paint
    return f"{paint}{line}{_RESET}" if color and paint else line


def _line(row: Row) -> str:
    held = row.held_close_wait + row.held_fin_wait2
    cells = (
        _GLYPHS[row.grade],
        fit(printable(row.label), 21),
        f"{row.close_rate:7.1f}",
        f"{row.time_wait_rate:6.1f}",
        f"{row.time_wait_now:6d}",
        f"{held or '–':>4}",
        f"{percent(row.first_local, row.closes):>5}",
        f"{percent(row.resets_sent + row.resets_received, row.closes):>4}",
        habit(row),
    )
    return " ".join(cells).rstrip()


def _elapsed(snapshot: Snapshot) -> str:
    seconds = snapshot.elapsed_us // 1_000_000
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
