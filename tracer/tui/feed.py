"""CLOSES: the last connections that ended, the newest first; whose they were, and in words how. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tracer.model import Close, Closed, Owner, Snapshot, TimeWaitEnd
from tracer.series import SECOND
from tracer.text import duration, endpoint, fit, printable, width
from tracer.tui.cells import NOTHING, WARNING, Cell, Severity, TextLine, clip, cut, cut_before, figure
from tracer.tui.clock import local_time
from tracer.tui.ports import longest, named

_TIME = 12


class _Layout(NamedTuple):
    """Columns of the fields, each with a blank after it; 0: left out. In words how has what is left."""

    least: int
    """Columns from which on it looks like this."""
    time: int
    owner: int
    ends: int
    age: int


_LAYOUTS = (
    _Layout(180, _TIME, 32, 66, 7),
    _Layout(140, _TIME, 28, 48, 7),
    _Layout(100, _TIME, 20, 33, 7),
    _Layout(70, _TIME, 18, 16, 0),
    _Layout(46, _TIME, 14, 0, 0),
    _Layout(0, 0, 10, 0, 0),
)
_ARROWS = {"client": "→", "server": "←"}
_CALLS = {"close": "close()", "shutdown": "shutdown()", "exit": "exit"}
_FIRST = {"local": "we closed first", "remote": "peer closed first", "both": "both closed at once"}
_FINS = {"local": "our FIN", "remote": "the peer's FIN", "both": "FINs of both"}
_HOW = {"reset_sent": "RST sent", "reset_received": "RST received", "timeout": "timed out"}
_REASONS = {
    "expired": "expired",
    "reused": "reused",
    "replaced": "replaced by a SYN",
    "reset": "ended by RST",
    "reset_sent": "ended by RST sent",
    "killed": "killed",
    "netns_exit": "gone with its netns",
}


def title(snapshot: Snapshot, columns: int) -> str:
    """The border's title."""
    rate = f"{figure(snapshot.total.close_rate, 9, 1)}/s"
    return longest((f"CLOSES · newest first of {rate}", "CLOSES"), columns)


def render(
    snapshot: Snapshot, columns: int, rows: int, clock: Callable[[int], str] = local_time
) -> tuple[TextLine, ...]:
    """A line for each; `clock` makes the time of day of microseconds since the Unix epoch."""
    if rows < 1:
        return ()
    if not snapshot.recent:
        return (clip((Cell("no connection has ended yet", Severity.FAINT),), columns),)
    layout = next(one for one in _LAYOUTS if columns >= one.least)
    newest = reversed(snapshot.recent[-rows:])
    return tuple(clip(_line(closed, layout, columns, clock), columns) for closed in newest)


def _line(closed: Closed, layout: _Layout, columns: int, clock: Callable[[int], str]) -> TextLine:
    close = closed.close
    fields = (
        (layout.time, clock(close.ts_us), Severity.FAINT),
        (layout.owner, _owner(close.owner, layout.owner), Severity.PLAIN),
        (layout.ends, _ends(close, layout.ends), Severity.PLAIN),
        (layout.age, f"{duration(close.age_us):>{max(layout.age, 1)}}", Severity.PLAIN),
    )
    cells = [Cell(fit(text, size) + " ", severity) for size, text, severity in fields if size]
    room = columns - sum(width(cell.text) for cell in cells)
    severity = Severity.WARN if close.overflow else Severity.PLAIN
    return (*cells, Cell(longest(tuple(ways(closed)), room), severity))


def _owner(owner: Owner, columns: int) -> str:
    process = owner.process
    label = f"{process.comm}[{process.pid}]" if process else "unknown"
    return named(label, owner.grade, columns)


def _ends(close: Close, columns: int) -> str:
    """Both ends, if they fit; else the one that says more, its port uncut."""
    ends = close.ends
    arrow = _ARROWS.get(close.role, NOTHING)
    local, remote = (
        printable(endpoint(*end)) for end in ((ends.saddr, ends.sport), (ends.daddr, ends.dport))
    )
    both = f"{local} {arrow} {remote}"
    if width(both) <= columns:
        return both
    if close.role == "server":
        return cut(f":{ends.sport} {arrow} {printable(ends.daddr)}", max(columns, 1))
    there = f"{arrow} {remote}"
    return cut_before(there, there.rfind(":"), columns)


def ways(closed: Closed) -> list[str]:
    """How a connection ended, in words; the fullest form first."""
    close = closed.close
    if close.how == "failed":
        return ["connect failed"]
    if close.overflow:
        table_full = f"{WARNING} no TIME_WAIT: table full"
        return [*(f"{table_full}; {way}" for way in _by_fin(close)), table_full, f"{WARNING} table full"]
    if close.how != "fin":
        return _abruptly(close)
    if not close.time_wait:
        return _by_fin(close)
    by_fin = _by_fin(close)
    forms = [f"{by_fin[0]} → {outcome}" for outcome in _outcomes(closed.end)]
    return [*forms, f"{by_fin[-1]} → TIME_WAIT", by_fin[-1]]


def _by_fin(close: Close) -> list[str]:
    first = _FIRST.get(close.first)
    call = _CALLS.get(close.via)
    if first is None:
        return ["closed, first FIN not seen", "closed"]
    if close.first == "both":
        return [first, "both closed"]
    if call is None:
        return [first]
    return [f"{first}, then {call}" if close.first == "remote" else f"{first} ({call})", first]


def _abruptly(close: Close) -> list[str]:
    """Not by FIN, though there may have been one."""
    how = _HOW.get(close.how, "ended")
    forms = [how]
    if close.how == "reset_sent" and close.via == "abort":
        forms = ["connection aborted", "aborted"]
    elif close.how == "reset_sent" and close.via in _CALLS:
        forms = [f"{how} on {_CALLS[close.via]}", how]
    elif close.how not in _HOW:
        forms = [f"{how}, not known how", how]
    fin = _FINS.get(close.first)
    return [f"{forms[0]} after {fin}", *forms] if fin else forms


def _outcomes(end: TimeWaitEnd | None) -> list[str]:
    """What came after; the fullest form first."""
    if end is None:
        return ["TIME_WAIT"]
    only_fin_wait2 = end.lifetime_us is None and end.fin_wait2_us is not None
    state = "FIN_WAIT2" if only_fin_wait2 else "TIME_WAIT"
    lasted = end.fin_wait2_us if only_fin_wait2 else end.lifetime_us
    after = "" if lasted is None else f" after {_exactly(lasted)}"
    return [f"{state}, {_REASONS.get(end.reason, 'ended')}{after}", state]


def _exactly(us: int) -> str:
    """Tenths of seconds: whether it was 60 s or 62 is to be seen."""
    return f"{us / SECOND:,.1f} s" if us >= SECOND else duration(us)
