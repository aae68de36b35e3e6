"""The drill-down into a process, a peer or a socket, from one Snapshot alone. No Textual here.

Its panels PEERS, A TYPICAL CONNECTION and SOCKETS have modules of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tracer.account import MAX_NAMED_PIDS
from tracer.callsites import looked_at, rest, shares_of
from tracer.model import HeldGroup, Row, Snapshot
from tracer.places import spot
from tracer.series import SECOND
from tracer.text import duration, percent, printable, width
from tracer.tui.cells import GLYPHS, WARNING, Cell, Severity, TextLine, cut, text_of
from tracer.tui.drill import (
    GRADES,
    Clock,
    crumbs,
    find_closed,
    find_flow,
    flow_key,
    flows_of,
    is_sum,
    sites_of,
)
from tracer.tui.peers import peer, peer_table
from tracer.tui.sockets import socket, socket_table
from tracer.tui.typical import typical
from tracer.tui.viewmodel import sparkline
from tracer.tui.wrapping import between, fact, flow, within

__all__ = [
    "Clock",
    "crumbs",
    "find_closed",
    "find_flow",
    "flow_key",
    "identity",
    "peer",
    "peer_table",
    "socket",
    "socket_table",
    "typical",
    "why",
]

_TREE = 72
"""Figures stand no further from what they are of, however wide the panel."""
_MOST_HELD = 3
_ROOMY = 4
"""Rows that are enough for who it is, how surely, and where."""
_SPARK = 24
_LEAST_SITES = 3
_LINE = 6
"""Columns of the number of a line."""


def identity(snapshot: Snapshot, row: Row, columns: int, rows: int) -> tuple[TextLine, ...]:
    """Who it is, how surely, and how much of all TIME_WAITs it has."""
    command, facts = _command(snapshot, row), _facts(snapshot, row)
    is_tight = rows < _ROOMY
    if is_tight:
        left = columns - sum(3 + width(text_of(one)) for one in facts)
        command = cut(command, max(left, columns // 3))
    first, *more = flow(((Cell(command, Severity.STRONG),), *facts), columns)
    standing = flow(_standing(snapshot, row), columns)
    lines = (first, *standing, *more) if is_tight else (first, *more, *standing)
    return within((*lines, *flow(_place(row), columns)), columns, rows)


def _command(snapshot: Snapshot, row: Row) -> str:
    if row.key == snapshot.unknown.key:
        return "nobody was seen using these sockets, or they were there before the trace"
    if is_sum(snapshot, row):
        return "all that was traced, known owners and unknown"
    process = row.process
    if process is None:
        return printable(row.label)
    exe, cmdline = process.exe or "", process.cmdline or ""
    called = cmdline.split(" ")[0]
    # `python3 …` says what /usr/bin/python3.12 is; `gunicorn …` does not.
    is_told = called and _name(exe).startswith(_name(called))
    return printable(cmdline if is_told else f"{exe} {cmdline}".strip() or process.comm)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _facts(snapshot: Snapshot, row: Row) -> list[TextLine]:
    facts = []
    process = row.process
    if process is not None and row.pids:
        facts.append(fact("pid" if len(row.pids) == 1 else "one of them, pid", str(process.pid)))
        if process.uid is not None:
            facts.append(fact("uid", str(process.uid)))
        facts.append(fact("up", _span(max(0, snapshot.ts_us - process.start_us))))
        if process.unit:
            facts.append(fact("unit", process.unit))
    namespaces = sorted({one.netns for one in flows_of(snapshot, row)})
    if namespaces:
        others = f" and {len(namespaces) - 1} more" if len(namespaces) > 1 else ""
        facts.append(fact("netns", f"{namespaces[0]}{others}"))
    return facts


def _standing(snapshot: Snapshot, row: Row) -> list[TextLine]:
    facts = []
    if row.grade is not None:
        least = " (the least sure of them)" if len(row.pids) > 1 else ""
        facts.append(fact("owner", f"{GLYPHS[row.grade]} {GRADES[row.grade]}{least}"))
    everything = snapshot.total.time_wait_now
    share = f" = {percent(row.time_wait_now, everything)} of {everything:,}"
    now = f"{row.time_wait_now:,}{'' if is_sum(snapshot, row) else share}"
    facts.append(fact("TIME_WAIT now", now, Severity.STRONG))
    drawn = sparkline(row.history, _SPARK).strip()
    if drawn:
        facts.append(fact("TW/s, 2 min", f"{drawn} {row.time_wait_rate:,.1f}"))
    return facts


def _place(row: Row) -> list[TextLine]:
    facts = []
    if row.process is not None and row.process.container:
        facts.append(fact("container", row.process.container[:12]))
    if row.cgroup:
        facts.append(fact("cgroup", row.cgroup))
    if len(row.pids) > 1:
        lowest = "lowest " if len(row.pids) >= MAX_NAMED_PIDS else ""
        facts.append(fact(f"{lowest}pids", " ".join(map(str, row.pids))))
    return facts


def _span(us: int) -> str:
    """`3 d 04 h`, `2 h 05 min`, `12 min`, `44 s`."""
    minutes, seconds = divmod(us // SECOND, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


class _Branch(NamedTuple):
    number: int
    words: str
    details: tuple[TextLine, ...] = ()


def why(snapshot: Snapshot, row: Row, columns: int, rows: int) -> tuple[TextLine, ...]:
    """How it ends its connections, as a tree whose parts add up to its closes.

    Then what it never closed, and from where in its program it closes. With little room what never
    happened is left out, and what happened least goes together.
    """
    columns = min(columns, _TREE)
    held = _held(snapshot, row)
    head = between(f"Σ {row.closes:,} closes", f"{row.close_rate:,.1f}/s now", columns, Severity.STRONG)
    sites = _sites(snapshot, row, columns, (rows - len(held)) // 2)
    left = rows - 1 - len(held) - len(sites)
    tree = _tree(_branches(snapshot, row), row, columns, left) if row.closes else []
    return within((head, *tree, *held, *sites), columns, rows)


def _tree(branches: list[_Branch], row: Row, columns: int, rows: int) -> list[TextLine]:
    if sum(1 + len(branch.details) for branch in branches) > rows:
        branches = [branch for branch in branches if branch.number]
    if len(branches) > rows:
        most = sorted(branches, key=lambda branch: -branch.number)[: max(rows - 1, 0)]
        rest = row.closes - sum(branch.number for branch in most)
        branches = [*(branch for branch in branches if branch in most), _Branch(rest, "other")]
    spare = rows - len(branches)
    lines: list[TextLine] = []
    for branch in branches:
        stem, turn = (" ", "└─") if branch is branches[-1] else ("│", "├─")
        severity = Severity.PLAIN if branch.number else Severity.FAINT
        words = f"{turn} {_share(branch.number, row.closes):>5}  {branch.words}"
        lines.append(between(words, f"{branch.number:,}", columns, severity))
        details = branch.details[: max(spare, 0)]
        spare -= len(details)
        lines += [(Cell(stem + " " * 9), *detail) for detail in details]
    return lines


def _branches(snapshot: Snapshot, row: Row) -> list[_Branch]:
    """Its closes, each in one branch.

    A reset after a FIN counts as a reset. Of the others a row knows how many it closed first (`Ways`; a row
    that is no process does not); the peer's are as many as its figures leave room for.
    """
    by_fin = max(0, row.closes - row.resets_received - row.resets_sent - row.failed)
    ours = min(sum(row.ways) or row.first_local, by_fin)
    theirs = min(row.first_remote, by_fin - ours)
    return [
        _Branch(ours, "we close first ──▶ TIME_WAIT", tuple(_ways(snapshot, row))),
        _Branch(theirs, "peer closes first ─▶ CLOSE_WAIT"),
        _Branch(row.resets_received, "RST received"),
        _Branch(row.resets_sent, "RST sent (SO_LINGER 0, unread data)"),
        _Branch(row.failed, "failed: no connection, or timed out"),
        _Branch(by_fin - ours - theirs, "other: both at once, or not seen"),
    ]


def _ways(snapshot: Snapshot, row: Row) -> Iterator[TextLine]:
    names = ("close()", "shutdown()", "exit()", "not seen")
    calls = [fact(name, f"{number:,}") for name, number in zip(names, row.ways, strict=True) if number]
    yield from flow(calls, _TREE)
    for tally in snapshot.overflows:
        if tally.who.row == row.key:
            text = f"{WARNING} {tally.count:,} left none: too many (tcp_max_tw_buckets)"
            yield (Cell(text, Severity.WARN),)
    began_so = row.first_local - sum(row.ways)
    if calls and began_so > 0:
        yield (Cell(f"{began_so:,} more sent a FIN first and ended below", Severity.FAINT),)


def _share(part: int, whole: int) -> str:
    """With a decimal, so that parts can be seen to add up; 0 and 100 % only if exactly so."""
    if not part or part == whole:
        return percent(part, whole)
    share = f"{100 * part / whole:.1f}%"
    return {"0.0%": "<0.1%", "100.0%": "99.9%"}.get(share, share)


def _held(snapshot: Snapshot, row: Row) -> list[TextLine]:
    everything = is_sum(snapshot, row)
    groups = [group for group in snapshot.held if everything or group.who.row == row.key]
    if not groups and row.held_close_wait:
        return [(Cell(f"{WARNING} {row.held_close_wait:,} left open in CLOSE_WAIT", Severity.WARN),)]
    return [_held_line(snapshot, group) for group in groups[:_MOST_HELD]]


def _sites(snapshot: Snapshot, row: Row, columns: int, rows: int) -> list[TextLine]:
    """A headline and the places that most comes from, in at most so many rows."""
    found = sites_of(snapshot, row)
    if found is None:
        return []
    shares = shares_of(found)
    lines: list[TextLine] = [(Cell(looked_at(shares), Severity.FAINT),)]
    for place, count in shares.told:
        words = f"{percent(count, shares.looked_at):>5}  {printable(place.function)}"
        lines.append(between(words, printable(spot(place, columns // 2 - _LINE)), columns))
    for words, count in rest(shares):
        lines.append((Cell(f"{percent(count, shares.looked_at):>5}  {words}", Severity.FAINT),))
    return lines[: max(rows, _LEAST_SITES)]


def _held_line(snapshot: Snapshot, group: HeldGroup) -> TextLine:
    age = duration(max(0, snapshot.ts_us - group.oldest_us))
    where = {"server": f" on port {group.port}", "client": f" to port {group.port}"}.get(group.role, "")
    what = f"in {group.state}{where}, oldest {age}"
    if group.state == "CLOSE_WAIT":
        return (Cell(f"{WARNING} {group.count:,} left open {what}", Severity.WARN),)
    return (Cell(f"· {group.count:,} half-closed {what}"),)
