"""What of a Snapshot belongs to a drill-down: the parts that are one row's, their keys, their names. Pure."""

from __future__ import annotations

from collections.abc import Callable

from tracer.model import CallSites, Close, Closed, Flow, Grade, Owner, Row, Snapshot
from tracer.text import endpoint, printable, width
from tracer.tui.cells import GLYPHS, NOTHING, Cell, Severity, TextLine, clip, cut, cut_before

Clock = Callable[[int], str]
"""Microseconds since the Unix epoch → the time of day, as `12:04:31.118`."""

CALLS = {"close": "close()", "shutdown": "shutdown()", "exit": "exit()", "abort": "abort"}
"""By `Close.via`, how a process ended its side."""

GRADES = {
    Grade.CERTAIN: "certain: seen in its own connect, read, write or close",
    Grade.INFERRED: "inferred: found among its open files",
    Grade.UNKNOWN: "unknown: nobody was seen using it",
}


def crumbs(columns: int, row: Row, flow: Flow | None = None, closed: Closed | None = None) -> TextLine:
    """The way here: `Overview ▸ orders-api[4711] ▸ 10.2.0.9:5432`; its end is what is shown."""
    steps = [printable(row.label)]
    if flow is not None:
        steps.append(peer_name(flow))
    if closed is not None:
        steps.append(local_end(closed.close) if flow else both_ends(closed.close))
    room = max(1, (columns - len("Overview") - 3 * len(steps)) // len(steps))
    if len("Overview") + sum(3 + width(step) for step in steps) > columns:
        steps = [cut(tailed(step, room), room) for step in steps]
    line = [Cell("Overview", Severity.FAINT)]
    for number, step in enumerate(steps, 1):
        line += [
            Cell(" ▸ ", Severity.FAINT),
            Cell(step, Severity.STRONG if number == len(steps) else Severity.PLAIN),
        ]
    return clip(tuple(line), columns)


def is_sum(snapshot: Snapshot, row: Row) -> bool:
    """Whether everything is the row's."""
    return row.key == snapshot.total.key


def flows_of(snapshot: Snapshot, row: Row) -> tuple[Flow, ...]:
    """What it does with each of its peers, most TIME_WAITs first."""
    everything = is_sum(snapshot, row)
    return tuple(flow for flow in snapshot.flows if everything or flow.who.row == row.key)


def sites_of(snapshot: Snapshot, row: Row) -> CallSites | None:
    """From where in its program it closes; None: not looked at, or the row is no process."""
    return next((one for one in snapshot.sites if one.who.row == row.key), None)


def closes_of(snapshot: Snapshot, row: Row) -> tuple[Closed, ...]:
    """Its last connections, newest first."""
    everything = is_sum(snapshot, row)
    return tuple(one for one in reversed(snapshot.recent) if everything or one.row == row.key)


def closes_with(snapshot: Snapshot, flow: Flow) -> tuple[Closed, ...]:
    """The last connections that it is made of, newest first."""
    whose = (flow.who.row, flow.role, flow.netns, flow.local, flow.remote, flow.port)
    return tuple(one for one in reversed(snapshot.recent) if _whose(one) == whose)


def _whose(closed: Closed) -> tuple[str, str, int, str, str, int]:
    role, ends = closed.close.role, closed.close.ends
    port = ends.sport if role == "server" else ends.dport
    return closed.row, role, ends.netns, ends.saddr, ends.daddr, port


def flow_key(flow: Flow) -> str:
    """What a cursor stays on."""
    return f"{flow.who.row}|{flow.netns}|{flow.role}|{flow.local}|{flow.remote}|{flow.port}"


def find_flow(snapshot: Snapshot, key: str) -> Flow | None:
    """By its `flow_key()`, in a later snapshot too; None if it is no longer shown."""
    return next((flow for flow in snapshot.flows if flow_key(flow) == key), None)


def find_closed(snapshot: Snapshot, key: str) -> Closed | None:
    """By the key of its line, the connection's number; None if it is no longer kept."""
    return next((closed for closed in snapshot.recent if str(closed.close.ends.conn) == key), None)


def is_poolable(flow: Flow) -> bool:
    """Could most of its connections have been an earlier one?"""
    return 0 < flow.closes <= 2 * flow.reconnects


def peer_name(flow: Flow) -> str:
    """`10.2.0.9:5432`; a server's client with the port it was served on: `10.0.3.1 (:443)`."""
    remote = printable(flow.remote)
    return f"{remote} (:{flow.port})" if flow.role == "server" else endpoint(remote, flow.port)


def local_end(close: Close) -> str:
    """Address and port on this side."""
    return endpoint(printable(close.ends.saddr), close.ends.sport)


def remote_end(close: Close) -> str:
    """Address and port on the other side."""
    return endpoint(printable(close.ends.daddr), close.ends.dport)


def both_ends(close: Close) -> str:
    """The local one first."""
    return f"{local_end(close)} → {remote_end(close)}"


def owner_name(owner: Owner) -> str:
    """`orders-api[4711]`."""
    process = owner.process
    return NOTHING if process is None else f"{printable(process.comm)}[{process.pid}]"


def owner_text(owner: Owner) -> str:
    """With grade, in words."""
    name = f"{owner_name(owner)}, " if owner.process else ""
    return f"{GLYPHS[owner.grade]} {name}{GRADES[owner.grade]}"


def tailed(text: str, columns: int) -> str:
    """Cut a name before its pid, an address before its port: what tells it apart stays."""
    if text.endswith(")"):
        start = text.rfind(" (:")
    else:
        start = max(text.rfind("["), text.rfind(" ×"), text.rfind(":"))
    return cut_before(text, start, columns)
