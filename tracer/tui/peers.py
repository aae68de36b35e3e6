"""PEERS: what a process does with each of the hosts it talks to. No Textual here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tracer.model import Flow, Pool, Row, Snapshot
from tracer.series import SECOND
from tracer.text import duration, endpoint, percent, printable
from tracer.tui.cells import GLYPHS, NOTHING, WARNING, Severity, TextLine, bar, figure
from tracer.tui.drill import flow_key, flows_of, is_poolable, is_sum, peer_name, tailed
from tracer.tui.listing import Field, Table, table
from tracer.tui.typical import typical_with
from tracer.tui.wrapping import LABEL, paragraph, within
from tracer.verdict import POOL_NEARLY_FULL

_BAR = 20


class _Peer(NamedTuple):
    flow: Flow
    pool: Pool | None


def peer_table(snapshot: Snapshot, row: Row, columns: int) -> Table:
    """Its peers under headings, keyed by `flow_key()`."""
    flows = flows_of(snapshot, row)
    items = [(flow_key(flow), _Peer(flow, _pool_of(snapshot, flow))) for flow in flows]
    number = f"{len(flows):,}" if flows else "none so far"
    if snapshot.by != "process" and not is_sum(snapshot, row):
        number = f"known of processes, and the rows stand for {snapshot.by}: a"
    return table(f"PEERS  {number}", _FIELDS, items, len(flows), columns)


def peer(snapshot: Snapshot, flow: Flow, columns: int, rows: int) -> tuple[TextLine, ...]:
    """All that is known of what a process does with one peer, and a typical connection with it."""
    lines: list[TextLine] = []
    for label, text, severity in _facts(snapshot, flow):
        lines += paragraph(label, text, columns, severity, LABEL)
    return within((*lines, (), *typical_with(snapshot, flow, columns, rows)), columns, rows)


def _ports(it: _Peer, _columns: int) -> str:
    pool = it.pool
    if pool is None or not pool.size:
        return NOTHING
    return f"{WARNING if _is_full(pool) else ''}{percent(min(pool.used, pool.size), pool.size)}"


def _is_full(pool: Pool) -> bool:
    """Whether there is a finding about it."""
    filling = pool.size is not None and pool.settles >= POOL_NEARLY_FULL * pool.size and not pool.reuse
    return filling or pool.failures_lately > 0


def _pressure(it: _Peer) -> Severity:
    return Severity.WARN if it.pool and _is_full(it.pool) else Severity.PLAIN


def _other_end(it: _Peer, columns: int) -> str:
    return NOTHING if it.flow.peer is None else tailed(printable(it.flow.peer.label), columns)


_FIELDS: tuple[Field[_Peer], ...] = (
    Field("peer", "PEER", 1, 17, 47, lambda it, size: tailed(peer_name(it.flow), size)),
    Field("rate", "TW/s", 3, 6, 7, lambda it, size: figure(it.flow.time_wait_rate, size, 1), ">"),
    Field("now", "TW NOW", 2, 7, 7, lambda it, size: figure(it.flow.time_wait_now, size), ">"),
    Field("ports", "PORTS", 4, 5, 5, _ports, ">", _pressure),
    Field("life", "LIFE p50", 5, 8, 8, lambda it, _: duration(it.flow.age_p50_us), ">"),
    Field("again", "AGAIN", 6, 5, 5, lambda it, _: percent(it.flow.reconnects, it.flow.closes), ">"),
    Field("closes", "CLOSES", 7, 8, 8, lambda it, size: figure(it.flow.closes, size), ">"),
    Field("first", "FIRST", 8, 5, 5, lambda it, _: percent(it.flow.first_local, it.flow.closes), ">"),
    Field("other", "OTHER END", 9, 18, 40, _other_end),
)
"""AGAIN: the share of its connections that began within a second of another's end."""


def _facts(snapshot: Snapshot, flow: Flow) -> Iterator[tuple[str, str, Severity]]:
    local = endpoint(flow.local, flow.port) if flow.role == "server" else flow.local
    who = f"{GLYPHS[flow.who.grade]} {flow.who.label}"
    yield "owner", f"{who}, {flow.role} at {local} in netns {flow.netns}", Severity.PLAIN
    other = f"{flow.peer.label}, on this host" if flow.peer else "not on this host, or not traced"
    yield "peer", f"{peer_name(flow)}: {other}", Severity.STRONG
    first = f"{flow.first_local:,} ({percent(flow.first_local, flow.closes)})"
    half = f"; half of them lasted less than {duration(flow.age_p50_us)}" if flow.age_p50_us else ""
    yield "closes", f"{flow.closes:,}, of which we closed {first} first{half}", Severity.PLAIN
    born = f"{flow.time_waits:,} so far, {flow.time_wait_rate:,.1f}/s"
    yield "TIME_WAIT", f"{flow.time_wait_now:,} now, {born}", Severity.PLAIN
    share = percent(flow.reconnects, flow.closes)
    verdict = ": poolable" if is_poolable(flow) else ""
    again = f"{flow.reconnects:,} ({share}) began within 1 s of another's end{verdict}"
    yield "again", again, Severity.STRONG if verdict else Severity.PLAIN
    pool = _pool_of(snapshot, flow)
    if pool is not None:
        yield "ports", "; ".join(_pool_facts(pool)), Severity.WARN if _is_full(pool) else Severity.PLAIN
    if flow.resets_sent:
        yield "resets", f"{flow.resets_sent:,} sent, {flow.reset_rate:,.1f}/s now", Severity.PLAIN
    if flow.lingering:
        yield "FIN_WAIT2", f"{flow.lingering:,} waited over 1 s for the peer's FIN", Severity.PLAIN


def _pool_facts(pool: Pool) -> Iterator[str]:
    held = f"{pool.time_waits:,} TIME_WAIT + {pool.live:,} live"
    if pool.size:
        share = percent(min(pool.used, pool.size), pool.size)
        yield f"{bar(pool.used / pool.size, _BAR)} {share} of {pool.size:,}: {held}"
    else:
        yield f"{held}, of how many is not known"
    if pool.daddr is None:
        yield "taken by bind(), so for all destinations"
    yield f"settles at {pool.settles:,.0f}"
    if pool.reuse:
        yield f"connect() takes over those in TIME_WAIT after {duration(pool.reuse_after_us)} (tcp_tw_reuse)"
    elif pool.size:
        yield f"connect() fails above {pool.size * SECOND / pool.lifetime_us:,.0f}/s"
    if pool.exhausts_in_us is not None:
        yield f"{WARNING} none left in {duration(pool.exhausts_in_us)}"
    if pool.failures:
        yield f"{WARNING} {pool.failures:,} connect() found none, {pool.failures_lately:,} of them lately"


def _pool_of(snapshot: Snapshot, flow: Flow) -> Pool | None:
    """The source ports it draws from; those that bind() took if there are no others."""
    if flow.role != "client":
        return None
    mine = [pool for pool in snapshot.pools if (pool.netns, pool.saddr) == (flow.netns, flow.local)]
    exact = [pool for pool in mine if (pool.daddr, pool.dport) == (flow.remote, flow.port)]
    bound = [pool for pool in mine if pool.daddr is None and pool.who.row == flow.who.row]
    return next(iter((*exact, *bound)), None)
