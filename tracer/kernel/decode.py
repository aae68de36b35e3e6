"""Ring records to events."""

from __future__ import annotations

import struct
from typing import NamedTuple

from tracer.kernel.addresses import address
from tracer.kernel.opensockets import OpenSockets
from tracer.kernel.processes import Processes
from tracer.model import (
    STATES,
    UNKNOWN_OWNER,
    Close,
    ConnectFailed,
    Endpoints,
    Event,
    Grade,
    Held,
    Owner,
    State,
    TimeWait,
    TimeWaitEnd,
)

EVENT_RECORD = struct.Struct("=QQ16s16sHHIQI4xQI4xQI4xQQQQIIIIIIBBBBBBBBBBBBI")
"""`struct event` of bpf/events.h, without the ring's header."""

HELD_RECORD = struct.Struct("=QQQI4x16s16sHHIBBBB4x")
"""`struct held_socket`."""

_RING_RECORD = struct.Struct("=8x" + EVENT_RECORD.format[1:])

_EV_STATE, _EV_CLOSE, _EV_TW_END = 1, 2, 3
_PROCESS, _PREEXISTING, _DWELL, _TIME_WAIT, _UNLINKED, _TURNED, _KILLED, _OVERFLOW = (
    1 << bit for bit in range(8)
)

ROLES = ("unknown", "client", "server", "unknown")
FIRSTS = ("none", "local", "remote", "both")
HOWS = ("unknown", "fin", "reset_sent", "reset_received", "timeout", "failed")
CAUSES = ("not", "exhausted", "conflict")
VIAS = ("unknown", "close", "shutdown", "exit", "abort")
REASONS = (
    "unknown",
    "expired",
    "reused",
    "replaced",
    "reset",
    "reset_sent",
    "killed",
    "netns_exit",
)

_OWN_CONNS = (2047 << 3) << 39
"""Connection numbers from here on are ours; those below are the kernel side's."""


class _Record(NamedTuple):
    """`struct event`, field by field."""

    ts_ns: int
    conn: int
    saddr: bytes
    daddr: bytes
    sport: int
    dport: int
    netns: int
    opener_start: int
    opener_pid: int
    closer_start: int
    closer_pid: int
    by_start: int
    by_pid: int
    span_us: int
    established: int
    close_wait: int
    fin_wait2: int
    syn_sent: int
    syn_recv: int
    fin_wait1: int
    last_ack: int
    closing: int
    seen: int
    type: int
    family: int
    old: int
    new: int
    flags: int
    role: int
    first: int
    how: int
    via: int
    reason: int
    failed: int
    bound: int
    rearmed: int


_DWELL_FIELDS = tuple(
    (1 << number, name, _Record._fields.index(name.lower()))
    for number, name in enumerate(STATES)
    if name.lower() in _Record._fields
)
"""Bit in `seen`, state name, position in the record."""


class Decoder:
    """Turns records into events, in order.

    Remembers only what the kernel side cannot: the numbers given to sockets
    from before the trace, and inferred owners on their way through TIME_WAIT.
    """

    def __init__(self, realtime_offset_us: int, processes: Processes, open_sockets: OpenSockets) -> None:
        self._offset_us = realtime_offset_us
        self._processes = processes
        self._open_sockets = open_sockets
        self._next_conn = _OWN_CONNS
        self._older: dict[tuple[object, ...], int] = {}
        self._renumbered: dict[int, int] = {}
        self._inferred: dict[int, Owner] = {}

    def add_older(self, ends: Endpoints) -> Endpoints:
        """Number a socket from before the trace; what comes of it will carry that number."""
        conn = self._older[ends[1:]] = self._new_conn()
        return ends._replace(conn=conn)

    def decode(self, records: bytes) -> list[Event]:
        """The events in `records`, which hold the ring's headers."""
        events: list[Event] = []
        for fields in _RING_RECORD.iter_unpack(records):
            record = _Record._make(fields)
            ts_us = record.ts_ns // 1000 + self._offset_us
            if record.type == _EV_TW_END:
                events += self._time_wait_end(ts_us, record)
            else:
                events += self._full_socket(ts_us, record)
        return events

    def held(self, record: bytes) -> Held:
        """The event for an entry of the kernel side's `held` map."""
        conn, since, start, pid, saddr, daddr, sport, dport, netns, family, state, flags, role = (
            HELD_RECORD.unpack(record)
        )
        ends = Endpoints(conn, netns, family, address(saddr, family), sport, address(daddr, family), dport)
        if flags & _PREEXISTING:
            ends = ends._replace(conn=self._older.get(ends[1:], conn))
        owner = self._processes.certain(pid, start)
        if owner is UNKNOWN_OWNER:
            opened_us = 0 if flags & _PREEXISTING else since // 1000 + self._offset_us
            owner = self._open_sockets.owner_of(ends, ROLES[role], opened_us)
        return Held(since // 1000 + self._offset_us, ends, owner, STATES[state], False, ROLES[role])

    def _full_socket(self, ts_us: int, record: _Record) -> list[Event]:
        ends = _endpoints(record)
        preexisting = bool(record.flags & _PREEXISTING)
        if preexisting:
            ends = ends._replace(conn=self._older.get(ends[1:], record.conn))
        role = ROLES[record.role]
        opener = self._processes.certain(record.opener_pid, record.opener_start)
        closer = self._processes.certain(record.closer_pid, record.closer_start)
        if opener is UNKNOWN_OWNER:
            # What a state record's span says is not the age.
            age_us = record.span_us if record.type == _EV_CLOSE else 0
            opener = self._open_sockets.owner_of(ends, role, 0 if preexisting else ts_us - age_us)
        owner = opener if closer is UNKNOWN_OWNER or record.flags & _KILLED else closer
        if record.type == _EV_STATE:
            dwell_us = record.span_us if record.flags & _DWELL else None
            context = "process" if record.flags & _PROCESS else "softirq"
            return [State(ts_us, ends, owner, STATES[record.old], STATES[record.new], dwell_us, context)]
        followed = bool(record.flags & _TIME_WAIT)
        told = self._older.pop(ends[1:], None)
        if preexisting and self._open_sockets.is_listening(ends):
            role = "server"
        elif told and followed and not preexisting:
            # Born while we attached: it was in the socket dump, its birth has been told.
            ends = ends._replace(conn=told)
        close = Close(
            ts_us,
            ends,
            owner,
            role,
            FIRSTS[record.first],
            HOWS[record.how],
            VIAS[record.via],
            None if preexisting else record.span_us,
            {name: record[at] for bit, name, at in _DWELL_FIELDS if record.seen & bit},  # type: ignore[misc]
            followed,
            opener,
            closer,
            bool(record.flags & _OVERFLOW),
            bool(record.bound),
        )
        if not followed:
            return [*_connect_failed(close, record.failed), close]
        if owner.grade is Grade.INFERRED:
            self._inferred[record.conn] = owner
        if ends.conn != record.conn:
            self._renumbered[record.conn] = ends.conn
        if told and not preexisting:
            return [close]
        return [close, TimeWait(ts_us, ends, owner, STATES[record.old], preexisting=False)]

    def _time_wait_end(self, ts_us: int, record: _Record) -> list[Event]:
        preexisting = bool(record.flags & _PREEXISTING)
        owner = self._processes.certain(record.closer_pid, record.closer_start)
        if owner is UNKNOWN_OWNER:
            owner = self._inferred.pop(record.conn, UNKNOWN_OWNER)
        ends = _endpoints(record)
        substate = STATES[record.old]
        before: list[Event] = []
        told = self._older.pop(ends[1:], None) if preexisting or record.flags & _UNLINKED else None
        if told:
            ends = ends._replace(conn=told)
        elif preexisting:
            ends = ends._replace(conn=self._new_conn())
            before = [TimeWait(ts_us, ends, owner, substate, preexisting=True)]
        elif self._renumbered:
            ends = ends._replace(conn=self._renumbered.pop(record.conn, record.conn))
        end = TimeWaitEnd(
            ts_us,
            ends,
            owner,
            record.span_us if record.flags & _TURNED else None,
            record.fin_wait2 if substate == "FIN_WAIT2" and not preexisting else None,
            REASONS[record.reason],
            self._processes.certain(record.by_pid, record.by_start) if record.by_pid else None,
            record.rearmed,
            preexisting,
        )
        if record.flags & _UNLINKED and not told:
            born_us = ts_us - record.fin_wait2 - (end.lifetime_us or 0)
            before = [TimeWait(born_us, ends, owner, substate, preexisting=False)]
        return [*before, end]

    def _new_conn(self) -> int:
        self._next_conn += 1
        return self._next_conn


def _connect_failed(close: Close, failed: int) -> list[Event]:
    if not failed:
        return []
    return [ConnectFailed(close.ts_us, close.ends, close.owner, "EADDRNOTAVAIL", CAUSES[failed])]


def _endpoints(record: _Record) -> Endpoints:
    return Endpoints(
        record.conn,
        record.netns,
        record.family,
        address(record.saddr, record.family),
        record.sport,
        address(record.daddr, record.family),
        record.dport,
    )
