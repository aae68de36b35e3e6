"""SOCKETS: the last connections that ended, one a line, and one of them in full. No Textual here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from tracer.lifetime import TIMEWAIT_US
from tracer.model import Close, Closed, Owner, Row, Snapshot, TimeWaitEnd
from tracer.places import NOT_RESOLVED, called, named
from tracer.series import SECOND
from tracer.text import duration, printable
from tracer.tui.cells import GLYPHS, NOTHING, WARNING, Severity, TextLine
from tracer.tui.drill import (
    CALLS,
    Clock,
    both_ends,
    closes_of,
    is_sum,
    local_end,
    owner_name,
    owner_text,
    remote_end,
    tailed,
)
from tracer.tui.listing import Field, Table, table
from tracer.tui.wrapping import GLUE, LABEL, paragraph, within

MOST = 200
"""Lines of the table."""

ORDER = (
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "CLOSING",
    "CLOSE_WAIT",
    "LAST_ACK",
)
"""Of the states a connection passes."""

_CALLS = 16
"""Of a path; all that are kept."""

Fact = tuple[str, str, Severity]


class _Seen(NamedTuple):
    closed: Closed
    now_us: int
    clock: Clock


def socket_table(snapshot: Snapshot, row: Row, columns: int, clock: Clock) -> Table:
    """Its last connections, newest first, keyed by their numbers."""
    closes = closes_of(snapshot, row)
    items = [(str(one.close.ends.conn), _Seen(one, snapshot.ts_us, clock)) for one in closes[:MOST]]
    so_far = max(row.closes, len(closes))
    title = f"SOCKETS  newest first  {len(items):,} of {so_far:,} closed" if items else "SOCKETS  none so far"
    fields = _FIELDS_OF_ALL if is_sum(snapshot, row) else _FIELDS
    return table(title, fields, items, so_far, columns)


def _state(it: _Seen, _columns: int) -> str:
    """What it is now."""
    close, end = it.closed.close, it.closed.end
    if close.overflow:
        return f"{WARNING} overflow"
    if not close.time_wait:
        return _ENDED.get(close.how, "ended")
    return "TIME_WAIT" if end is None else _GONE.get(end.reason, "ended")


_ENDED = {
    "fin": "closed",
    "reset_sent": "RST sent",
    "reset_received": "RST received",
    "timeout": "timed out",
    "failed": "failed",
}
_GONE = {
    "expired": "expired",
    "reused": "reused",
    "replaced": "new SYN",
    "reset": "RST received",
    "reset_sent": "RST sent",
    "killed": "killed",
    "netns_exit": "netns gone",
}


def _severity(it: _Seen) -> Severity:
    if it.closed.close.overflow:
        return Severity.WARN
    return Severity.PLAIN if _left_us(it.closed, it.now_us) is None else Severity.STRONG


def _ended_by(it: _Seen, _columns: int) -> str:
    """What began the end of it."""
    close = it.closed.close
    if close.first == "local":
        return CALLS.get(close.via, "own FIN")
    if close.first != "none":
        return "peer FIN" if close.first == "remote" else "both FIN"
    if close.how == "reset_sent":
        return f"RST {CALLS.get(close.via, '')}".rstrip()
    return _SUDDEN.get(close.how, "not seen")


_SUDDEN = {"reset_received": "peer RST", "timeout": "timeout", "failed": "connect()"}


def _left_us(closed: Closed, now_us: int) -> int | None:
    """Of its TIME_WAIT; None without one."""
    if not closed.close.time_wait or closed.end is not None:
        return None
    return max(0, TIMEWAIT_US - (now_us - closed.close.ts_us))


def _left(it: _Seen, _columns: int) -> str:
    left_us = _left_us(it.closed, it.now_us)
    if left_us is None:
        return NOTHING
    return f"{left_us / SECOND:.1f} s" if left_us else "due"


_FIELDS: tuple[Field[_Seen], ...] = (
    Field("grade", "", 2, 1, 1, lambda it, _: GLYPHS[it.closed.close.owner.grade]),
    Field("time", "TIME", 3, 12, 12, lambda it, _: printable(it.clock(it.closed.close.ts_us))),
    Field("local", "LOCAL", 7, 21, 47, lambda it, size: tailed(local_end(it.closed.close), size)),
    Field("peer", "PEER", 1, 21, 47, lambda it, size: tailed(remote_end(it.closed.close), size)),
    Field("state", "STATE", 4, 12, 12, _state, "<", _severity),
    Field("age", "LASTED", 8, 6, 6, lambda it, _: duration(it.closed.close.age_us), ">"),
    Field("left", "LEFT", 6, 6, 6, _left, ">"),
    Field("by", "ENDED BY", 5, 12, 14, _ended_by),
    Field("owner", "OWNER", 9, 20, 30, lambda it, size: tailed(owner_name(it.closed.close.owner), size)),
    Field("role", "ROLE", 10, 7, 7, lambda it, _: printable(it.closed.close.role)),
)
_FIELDS_OF_ALL = tuple(replace(one, importance=2) if one.key == "owner" else one for one in _FIELDS)


def socket(closed: Closed, snapshot: Snapshot, columns: int, rows: int, clock: Clock) -> tuple[TextLine, ...]:
    """All that is known of one connection that is over."""
    lines: list[TextLine] = []
    for label, text, severity in _facts(closed, snapshot.ts_us, clock):
        lines += paragraph(label, text, columns, severity, LABEL)
    return within(lines, columns, rows)


def _facts(closed: Closed, now_us: int, clock: Clock) -> Iterator[Fact]:
    close, end = closed.close, closed.end
    ends = close.ends
    yield "socket", both_ends(close), Severity.STRONG
    role = close.role if close.role != "unknown" else "client or server, not seen"
    bound = ", its port taken by bind()" if close.bound else ""
    yield "", f"{role}{bound}, IPv{ends.family}, netns {ends.netns}, number {ends.conn}", Severity.PLAIN
    yield "owner", owner_text(close.owner), Severity.PLAIN
    for label, owner in (("opened by", close.opener), ("closed by", close.closer)):
        yield label, _doer(owner, close.owner), Severity.PLAIN
    if close.age_us is None:
        yield "opened", "before the trace", Severity.PLAIN
    else:
        yield "opened", clock(close.ts_us - close.age_us), Severity.PLAIN
    lasted = "" if close.age_us is None else f" after {duration(close.age_us)}"
    yield "closed", f"{clock(close.ts_us)}{lasted}: {_how(close)}", Severity.PLAIN
    yield from _call_site(closed)
    passed = sorted(close.states.items(), key=lambda item: (*ORDER, item[0]).index(item[0]))
    states = " → ".join(f"{state} {duration(us)}".replace(" ", GLUE) for state, us in passed)
    yield "states", states or "none was seen", Severity.PLAIN
    yield _time_wait(closed, now_us, clock)
    if end is not None:
        yield from _end(end)


def _call_site(closed: Closed) -> Iterator[Fact]:
    """From where its FIN or reset was sent."""
    if closed.place is not None:
        yield "call site", named(closed.place), Severity.STRONG
        yield "", called(closed.place, _CALLS), Severity.PLAIN
    elif closed.close.site is not None:
        yield "call site", NOT_RESOLVED, Severity.FAINT


def _doer(doer: Owner, owner: Owner) -> str:
    if doer.process is None:
        return "nobody that was seen"
    return "the same" if doer == owner else owner_text(doer)


def _how(close: Close) -> str:
    call = CALLS.get(close.via)
    by = f" by {call}" if call else ""
    first = {
        "local": f"we closed first{by}; ",
        "remote": f"the peer closed first, then we{by}; " if call else "the peer closed first; ",
        "both": f"both closed at once, we{by}; " if call else "both closed at once; ",
    }.get(close.first, f"no FIN was sent, closed{by}; " if call else "no FIN was sent; ")
    how = {
        "fin": "ended by FIN",
        "reset_sent": "ended by a reset we sent",
        "reset_received": "ended by a reset we received",
        "timeout": "timed out",
        "failed": "connect() did not succeed",
    }.get(close.how, "how it ended was not seen")
    return how if close.how == "failed" else first + how


def _time_wait(closed: Closed, now_us: int, clock: Clock) -> Fact:
    close, end = closed.close, closed.end
    if close.overflow:
        text = f"{WARNING} left out: there were too many already (tcp_max_tw_buckets)"
        return "TIME_WAIT", text, Severity.WARN
    if not close.time_wait:
        return "TIME_WAIT", f"none on this side: {_NONE.get(close.how, 'why was not seen')}", Severity.PLAIN
    if end is not None:
        return "TIME_WAIT", _over(close, end, clock), Severity.PLAIN
    left_us = _left_us(closed, now_us)
    left = f"{left_us / SECOND:.1f} s of 60 left" if left_us else "due: timers may be 5 s late"
    return "TIME_WAIT", f"from {clock(close.ts_us)} on; {left}", Severity.STRONG


_NONE = {
    "fin": "the peer closed first",
    "reset_sent": "a reset leaves none",
    "reset_received": "a reset leaves none",
    "timeout": "a connection given up leaves none",
    "failed": "there was no connection",
}


def _over(close: Close, end: TimeWaitEnd, clock: Clock) -> str:
    began = clock(close.ts_us + (end.fin_wait2_us or 0))
    reason = _REASONS.get(end.reason, "ended, why was not seen,")
    if end.lifetime_us is None:
        return f"not reached, or not seen; {reason} at {clock(end.ts_us)}"
    return f"from {began} on; {reason} at {clock(end.ts_us)} after {end.lifetime_us / SECOND:.1f} s"


def _end(end: TimeWaitEnd) -> Iterator[Fact]:
    if end.by is not None:
        yield "", f"by {owner_text(end.by)}", Severity.PLAIN
    if end.fin_wait2_us is not None:
        yield "", f"born as FIN_WAIT2, {duration(end.fin_wait2_us)} before the peer's FIN", Severity.PLAIN
    if end.rearmed:
        yield "", f"its timer was started anew {end.rearmed:,} times", Severity.PLAIN


_REASONS = {
    "expired": "expired",
    "reused": "its port was taken over by connect()",
    "replaced": "replaced by a new SYN",
    "reset": "ended by a reset from the peer",
    "reset_sent": "ended by a reset we sent",
    "killed": "killed",
    "netns_exit": "its netns was removed",
}
