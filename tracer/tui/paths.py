"""CLOSE PATHS: the states connections went through on their way out, with how many did so a second. Pure.

Edges are events, nodes are gauges; a node whose number nobody counts has none.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from itertools import groupby
from typing import NamedTuple

from tracer.model import Snapshot, Traffic
from tracer.text import fit, printable
from tracer.tui.cells import WARNING, Cell, Severity, TextLine, clip, figure
from tracer.tui.ports import Part, fitting, longest, part

_DIAGRAM = 56
"""Columns without which paths are told a line each; ..."""
_WIDE = 90
"""... with counts from so many on, ..."""
_WIDEST = 100
"""... and not drawn wider than this."""
_BOXED, _PLAIN = 12, 10
"""Lines of the diagram, with boxes around its last states and without."""
_NEEDED = 3
"""Lines of the summary without which there is no diagram."""
_STEPS = 4
"""Rows without which not every step is listed below the diagram."""
_LEFT, _RIGHT = 17, 19
"""Columns that the narrowest diagram has beside its two outer paths."""

_NO_FIN = ("reset_sent", "reset_received", "timeout", "unknown")
_ENDS = {
    "expired": "timer",
    "reused": "reused",
    "replaced": "new SYN",
    "reset": "RST",
    "reset_sent": "RST sent",
    "killed": "killed",
    "netns_exit": "netns gone",
    "unknown": "unknown",
}
_LAST = {
    "CLOSE": "CLOSED",
    "reset_sent": "RST sent",
    "reset_received": "RST received",
    "timeout": "timed out",
    "overflow": "no TIME_WAIT, table full",
    "unknown": "CLOSED, how is not known",
}


class _Ranked(NamedTuple):
    """A line, and when it is left out for want of rows: 0 last."""

    importance: int
    line: TextLine


def title(snapshot: Snapshot, columns: int) -> str:
    """The border's title."""
    rate = f"{figure(snapshot.total.close_rate, 9, 1)} closes/s"
    return longest(
        (f"CLOSE PATHS · {rate} over ten seconds", f"CLOSE PATHS · {rate}", "CLOSE PATHS"), columns
    )


def render(snapshot: Snapshot, columns: int, rows: int) -> tuple[TextLine, ...]:
    """The diagram if there is room for it and its summary, else a line for each path.

    What room is left below the diagram has every step, also those it does not draw.
    """
    summary = _summary(snapshot, columns)
    if columns < _DIAGRAM or rows < _PLAIN + _NEEDED:
        return _kept([*_paths(snapshot, columns), *summary], rows)
    boxed = rows >= _BOXED + len(summary)
    drawn = _diagram(snapshot, columns, boxed=boxed)
    below = _kept(summary, rows - len(drawn))
    return (*drawn, *below, *_steps(snapshot, columns, rows - len(drawn) - len(below)))


def _kept(lines: list[_Ranked], rows: int) -> tuple[TextLine, ...]:
    """The most important lines, in the order given."""
    kept = sorted(range(len(lines)), key=lambda index: lines[index].importance)[: max(rows, 0)]
    return tuple(lines[index].line for index in sorted(kept))


def _traffic(snapshot: Snapshot, old: str, new: str) -> Traffic:
    return snapshot.edges.get((old, new), Traffic(0, 0.0))


def _into(snapshot: Snapshot, new: Container[str], old: str | None = None) -> Traffic:
    """The sum of what came to one of the states `new`, from `old` only if that is given."""
    found = [traffic for edge, traffic in snapshot.edges.items() if edge[1] in new and old in (None, edge[0])]
    return _sum(found)


def _sum(found: Iterable[Traffic]) -> Traffic:
    every = list(found)
    return Traffic(sum(one.number for one in every), sum(one.rate for one in every))


def _rate(traffic: Traffic, columns: int = 9) -> str:
    return f"{figure(traffic.rate, columns - 2, 1)}/s"


def _weight(traffic: Traffic, severity: Severity = Severity.PLAIN) -> Severity:
    """What never happened is faint."""
    return severity if traffic.number else Severity.FAINT


def _summary(snapshot: Snapshot, columns: int) -> list[_Ranked]:
    """How connections ended without FIN, how TIME_WAITs did; those skipped and those from before, if any."""
    lines = [_Ranked(4, _resets(snapshot, columns)), _Ranked(3, _ends(snapshot, columns))]
    skipped = _into(snapshot, ("overflow",))
    if skipped.number:
        mark, severity = (f"{WARNING} ", Severity.WARN) if skipped.rate else ("", Severity.PLAIN)
        counted = part(1, f"({skipped.number:,} so far)", severity)
        text = f"{mark}table full, no TIME_WAIT: {_rate(skipped)}"
        lines.insert(
            0, _Ranked(0 if skipped.rate else 5, fitting((part(0, text, severity), counted), columns))
        )
    if snapshot.preexisting:
        text = f"┄▶ TIME_WAIT: {snapshot.preexisting:,} from before the trace"
        lines.append(_Ranked(6, fitting((part(0, text, Severity.FAINT),), columns)))
    return lines


def _ends(snapshot: Snapshot, columns: int) -> TextLine:
    reasons = sorted(snapshot.ends.items(), key=lambda item: -item[1].number)
    parts = [part(0, "TIME_WAIT ends:", Severity.FAINT)]
    parts += [
        _told(rank, _ENDS.get(reason, "unknown"), traffic, columns)
        for rank, (reason, traffic) in enumerate(reasons, start=1)
    ]
    if not reasons:
        parts.append(part(1, "none yet", Severity.FAINT))
    return fitting(parts, columns)


def _resets(snapshot: Snapshot, columns: int) -> TextLine:
    """From whatever state."""
    sums = {how: _into(snapshot, (how,)) for how in _NO_FIN}
    parts = [
        _told(0, "RST sent", sums["reset_sent"], columns),
        _told(1, "RST received", sums["reset_received"], columns),
        _told(2, "timed out", sums["timeout"], columns),
    ]
    if sums["unknown"].number:
        parts.append(_told(3, "unknown", sums["unknown"], columns))
    return fitting(parts, columns)


def _told(importance: int, words: str, traffic: Traffic, columns: int) -> Part:
    count = f" ({figure(traffic.number, 9)})" if columns >= _WIDE else ""
    return part(importance, f"{words} {_rate(traffic)}{count}", _weight(traffic))


def _paths(snapshot: Snapshot, columns: int) -> list[_Ranked]:
    """A line for each path."""
    close_wait = _held(snapshot.total.held_close_wait, WARNING)
    fin_wait2 = _held(snapshot.total.held_fin_wait2)
    time_wait = Cell(f"TIME_WAIT {snapshot.total.time_wait_now:,}", Severity.STRONG)
    we = ((Cell("FIN_WAIT1"),), (Cell("FIN_WAIT2"), *fin_wait2), (time_wait,))
    both = ((Cell("FIN_WAIT1"),), (Cell("CLOSING"),), (Cell("TIME_WAIT"),))
    peer = ((Cell("CLOSE_WAIT"), *close_wait), (Cell("LAST_ACK"),), (Cell("CLOSED"),))
    local = _traffic(snapshot, "ESTABLISHED", "FIN_WAIT1")
    remote = _traffic(snapshot, "ESTABLISHED", "CLOSE_WAIT")
    return [
        _Ranked(1, _path("we close first", local, we, columns)),
        _Ranked(5, _path("both at once", _traffic(snapshot, "FIN_WAIT1", "CLOSING"), both, columns)),
        _Ranked(2, _path("peer closes first", remote, peer, columns)),
    ]


def _held(count: int, mark: str = "") -> tuple[Cell, ...]:
    """How many sit in a state, after its name; marked and in colour if that is a leak."""
    if not count:
        return ()
    return (Cell(f" {mark}{count:,} held", Severity.WARN if mark else Severity.PLAIN),)


def _path(words: str, traffic: Traffic, steps: tuple[TextLine, ...], columns: int) -> TextLine:
    """Words, rate, count and states; the last of these is the last to be left out, the first the first."""
    parts = [part(0, f"{words:<17}"), part(1, f"{_rate(traffic, 8):>8}", _weight(traffic, Severity.STRONG))]
    if columns >= _WIDE:
        parts.append(part(2, f"{figure(traffic.number, 9):>9}", Severity.FAINT))
    ranked = enumerate(steps, start=-len(steps))
    parts += [Part(2 - rank, (Cell("▶ ", Severity.FAINT), *step)) for rank, step in ranked]
    return fitting(parts, columns, " ")


def _steps(snapshot: Snapshot, columns: int, rows: int) -> tuple[TextLine, ...]:
    """All transitions, the most frequent first, if there are rows for some of them."""
    if rows < _STEPS:
        return ()
    steps = sorted(snapshot.edges.items(), key=lambda item: -item[1].number)
    head = (Cell(f"{'STEP':<38} {'RATE':>9} {'SO FAR':>11}", Severity.FAINT),)
    lines = [
        (Cell(f"{_step(old, new)} {_rate(traffic):>9} {traffic.number:>11,}", _weight(traffic)),)
        for (old, new), traffic in steps
    ]
    return ((), *(clip(line, columns) for line in (head, *lines)[: rows - 1]))


def _step(old: str, new: str) -> str:
    return fit(printable(f"{old} → {_LAST.get(new, new)}"), 38)


class _Canvas:
    """Lines on which text is put at its place; all of it is one column a character."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self._marks = [[(" ", Severity.PLAIN)] * columns for _ in range(rows)]

    def put(self, row: int, column: int, text: str, severity: Severity = Severity.PLAIN) -> None:
        """Text from `column` on, as much as there is room for."""
        text = text[: self.columns - column]
        self._marks[row][column : column + len(text)] = [(char, severity) for char in text]

    def put_before(self, row: int, column: int, text: str, severity: Severity = Severity.PLAIN) -> None:
        """Text that ends before `column`."""
        self.put(row, column - len(text), text, severity)

    def put_around(self, row: int, column: int, text: str, severity: Severity = Severity.PLAIN) -> None:
        """Text with its middle at `column`."""
        self.put(row, column - len(text) // 2, text, severity)

    def lines(self) -> tuple[TextLine, ...]:
        """What was put, without the blanks at the ends."""
        return tuple(_cells(marks) for marks in self._marks)


def _cells(marks: list[tuple[str, Severity]]) -> TextLine:
    end = max((index for index, (char, _) in enumerate(marks, start=1) if char != " "), default=0)
    return tuple(
        Cell("".join(char for char, _ in group), severity)
        for severity, group in groupby(marks[:end], key=lambda mark: mark[1])
    )


class _Places(NamedTuple):
    """Where the diagram's arrows run, and how wide it is."""

    columns: int
    fin_wait2: int
    left: int
    closing: int
    middle: int
    right: int


def _places(columns: int) -> _Places:
    wider = columns - _DIAGRAM
    left, right = _LEFT + wider // 3, columns - _RIGHT - wider // 3
    apart = wider // 8
    return _Places(columns, left - 6 - apart, left, left + 4 + apart, (left + right) // 2, right)


def _diagram(snapshot: Snapshot, columns: int, *, boxed: bool) -> tuple[TextLine, ...]:
    """The closing states: at the left we close first, at the right the peer, amid them nobody does."""
    at = _places(min(columns, _WIDEST))
    canvas = _Canvas(at.columns, _BOXED if boxed else _PLAIN)
    _draw_top(canvas, at, snapshot)
    _draw_we_first(canvas, at, snapshot)
    _draw_peer_first(canvas, at, snapshot)
    _draw_no_fin(canvas, at, snapshot)
    _draw_last(canvas, at, snapshot, boxed=boxed)
    return canvas.lines()


def _draw_top(canvas: _Canvas, at: _Places, snapshot: Snapshot) -> None:
    canvas.put(0, at.left, f"┌{'─' * (at.right - at.left - 1)}┐", Severity.FAINT)
    canvas.put_around(0, at.middle, " ESTABLISHED ")
    local = _traffic(snapshot, "ESTABLISHED", "FIN_WAIT1")
    _label(canvas, _Spot(0, at.left - 1, at.left - 1, before=True), "we close first", local)
    _arrow(canvas, 1, at.left)
    remote = _traffic(snapshot, "ESTABLISHED", "CLOSE_WAIT")
    _label(canvas, _Spot(0, at.right + 2, at.columns - at.right - 2), "peer closes first", remote)
    _arrow(canvas, 1, at.right)


def _draw_we_first(canvas: _Canvas, at: _Places, snapshot: Snapshot) -> None:
    canvas.put_around(3, at.left, "FIN_WAIT1")
    fork = list("─" * (at.closing - at.fin_wait2 + 1))
    fork[0], fork[at.left - at.fin_wait2], fork[-1] = "┌┴┐"
    canvas.put(4, at.fin_wait2, "".join(fork), Severity.FAINT)
    by_ack = _Spot(4, at.fin_wait2 - 1, at.fin_wait2 - 1, before=True)
    by_fin = _Spot(4, at.closing - 1, at.closing - at.fin_wait2 - 3, before=True)
    _label(canvas, by_ack, "ACK", _traffic(snapshot, "FIN_WAIT1", "FIN_WAIT2"))
    _label(canvas, by_fin, "", _traffic(snapshot, "FIN_WAIT1", "CLOSING"))
    canvas.put(4, at.closing + 2, "FIN", Severity.FAINT)
    for column in (at.fin_wait2, at.closing):
        canvas.put(5, column, "▼", Severity.FAINT)
    held = snapshot.total.held_fin_wait2
    forms = (f"FIN_WAIT2 {held:,} held", f"FIN_WAIT2 {figure(held, 6)}") if held else ("FIN_WAIT2",)
    room = at.closing - 4
    name = longest(forms, room)
    canvas.put(6, max(min(at.fin_wait2 - 4, room - len(name)), 0), name)
    canvas.put_around(6, at.closing, "CLOSING")
    _label(canvas, by_ack.lower(3), "FIN", _traffic(snapshot, "FIN_WAIT2", "TIME_WAIT"))
    _arrow(canvas, 7, at.fin_wait2)
    _label(canvas, by_fin.lower(3), "ACK", _traffic(snapshot, "CLOSING", "TIME_WAIT"))
    _arrow(canvas, 7, at.closing)


def _draw_peer_first(canvas: _Canvas, at: _Places, snapshot: Snapshot) -> None:
    canvas.put_around(3, at.right, "CLOSE_WAIT")
    if held := snapshot.total.held_close_wait:
        canvas.put(3, at.right + 6, f"{WARNING}{figure(held, 6)} held", Severity.WARN)
    beside = _Spot(4, at.right + 2, at.columns - at.right - 2)
    _label(canvas, beside, "close()", _traffic(snapshot, "CLOSE_WAIT", "LAST_ACK"))
    _arrow(canvas, 4, at.right)
    canvas.put_around(6, at.right, "LAST_ACK")
    _label(canvas, beside.lower(3), "ACK", _traffic(snapshot, "LAST_ACK", "CLOSE"))
    _arrow(canvas, 7, at.right)


def _draw_no_fin(canvas: _Canvas, at: _Places, snapshot: Snapshot) -> None:
    _arrow(canvas, 1, at.middle, rows=8)
    spot = _Spot(4, at.middle + 2, at.right - at.middle - 3)
    _label(canvas, spot, "no FIN", _into(snapshot, _NO_FIN, "ESTABLISHED"))


def _draw_last(canvas: _Canvas, at: _Places, snapshot: Snapshot, *, boxed: bool) -> None:
    """TIME_WAIT and CLOSED, each below the arrows that lead there."""
    row = 10 if boxed else 9
    start, end = at.fin_wait2 - 9, at.closing + 2
    inner = end - start - 2
    count = figure(snapshot.total.time_wait_now, inner - 12)
    canvas.put(row, start + 2, f"TIME_WAIT {count:>{inner - 12}}", Severity.STRONG)
    closed = at.middle - 1
    if not boxed:
        canvas.put(row, end, f"{'─' * (closed - end - 2)}▶", Severity.FAINT)
        canvas.put(row, closed, "CLOSED ")
        canvas.put(row - 1, at.right, "│", Severity.FAINT)
        canvas.put(row, closed + 7, f"◀{'─' * (at.right - closed - 8)}┘", Severity.FAINT)
        return
    canvas.put(row, end, f"{'─' * (closed - end - 1)}▶", Severity.FAINT)
    canvas.put(row - 1, start, f"┏{'━' * inner}┓", Severity.STRONG)
    canvas.put(row, start, "┃", Severity.STRONG)
    canvas.put(row, end - 1, "┃", Severity.STRONG)
    canvas.put(row + 1, start, f"┗{'━' * inner}┛", Severity.STRONG)
    inner = at.right + 4 - closed
    canvas.put(row - 1, closed, f"┌{'─' * inner}┐")
    canvas.put(row, closed, f"│{'CLOSED':^{inner}}│")
    canvas.put(row + 1, closed, f"└{'─' * inner}┘")


class _Spot(NamedTuple):
    """Where an arrow's label goes: two lines from `row` on, that start at `column` or end before it."""

    row: int
    column: int
    room: int
    before: bool = False

    def lower(self, rows: int) -> _Spot:
        """The same, further down."""
        return self._replace(row=self.row + rows)


def _label(canvas: _Canvas, spot: _Spot, words: str, traffic: Traffic) -> None:
    """What makes connections go this way, and below it how many do."""
    put = canvas.put_before if spot.before else canvas.put
    put(spot.row, spot.column, words, Severity.FAINT)
    rate = _rate(traffic)
    forms = (f"{rate} · {figure(traffic.number, 7)}", rate, _rate(traffic, spot.room))
    counted = forms if canvas.columns >= _WIDE else forms[1:]
    put(spot.row + 1, spot.column, longest(counted, spot.room), _weight(traffic))


def _arrow(canvas: _Canvas, row: int, column: int, rows: int = 2) -> None:
    """Downwards, its head in the last of `rows`."""
    for line in range(row, row + rows - 1):
        canvas.put(line, column, "│", Severity.FAINT)
    canvas.put(row + rows - 1, column, "▼", Severity.FAINT)
