"""Ring records to events."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tracer.crowd import KEPT, Alike, Closes, Ends, Latest, Reading
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
from tracer.series import SECOND

EVENT_RECORD = struct.Struct("=QQQ52sH2x104s")
"""`struct event` of bpf/events.h, without the ring's header; as bytes: its times in states, and `alike`."""

TIMES_RECORD = struct.Struct("=QQQIIIIIII")
"""The first of them: `struct dwell`, and `rearmed`."""

ALIKE_RECORD = struct.Struct("=BBBBBBBBBBBBIIHBx16s16sQI4xQI4xQI4x")
"""`struct alike`."""

HELD_RECORD = struct.Struct("=QQQI4x16s16sHHIBBBB4x")
"""`struct held_socket`."""

_RING_RECORD = struct.Struct("=8x" + EVENT_RECORD.format[1:])

_EV_STATE, _EV_CLOSE, _EV_TW_END = 1, 2, 3
_PROCESS, _PREEXISTING, _DWELL, _TIME_WAIT, _TURNED, _KILLED, _OVERFLOW = (1 << bit for bit in range(7))

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

_Record = tuple[int, int, int, bytes, int, bytes]
"""`struct event`: ts, conn, span_us, times, port, alike."""
_TS: Final = 0
_CONN: Final = 1
_SPAN_US: Final = 2
_TIMES: Final = 3
_PORT: Final = 4
_ALIKE: Final = 5

_TIMES_OF = (
    "ESTABLISHED",
    "CLOSE_WAIT",
    "FIN_WAIT2",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "LAST_ACK",
    "CLOSING",
)
_FIN_WAIT2 = _TIMES_OF.index("FIN_WAIT2")
_REARMED = len(_TIMES_OF) + 1

_CROWD = 4
"""As many alike pay for being taken in together."""
_MAX_KINDS = 16_384
_MAX_UNFOLLOWED = 262_144

_HEAD = struct.Struct("=BxBxB4xB2xI")
"""Of `struct alike`: type, old, flags, reason, netns."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """`struct alike`, read: worth keeping, since many records have the same."""

    type: int
    family: int
    old: str
    new: str
    flags: int
    role: str
    first: str
    how: str
    via: str
    reason: str
    failed: int
    bound: bool
    netns: int
    service: int
    unfollowed: bool
    saddr: str
    daddr: str
    opener: Owner
    closer: Owner
    by: Owner | None
    states: tuple[tuple[str, int], ...]
    """Name, position in its times."""

    @property
    def owner(self) -> Owner:
        """The closer if it is known, else the opener."""
        return self.opener if self.closer is UNKNOWN_OWNER or self.flags & _KILLED else self.closer

    def ends(self, record: _Record) -> Endpoints:
        conn, port = record[_CONN], record[_PORT]
        if self.role == "server":
            return Endpoints(conn, self.netns, self.family, self.saddr, self.service, self.daddr, port)
        return Endpoints(conn, self.netns, self.family, self.saddr, port, self.daddr, self.service)


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
        self._unfollowed: dict[tuple[object, ...], TimeWait] = {}
        """TIME_WAITs the kernel side had no room for: their ends come as those of older ones."""
        self._kinds: dict[bytes, _Kind] = {}
        self._kinds_as_of = 0
        self._crowds: dict[bytes, Alike] = {}
        self.closing: dict[int, int] = {}
        self.opening: dict[int, int] = {}
        """By connection, the sites where it was closed and opened, if they were looked at."""

    def add_older(self, ends: Endpoints) -> Endpoints:
        """Number a socket from before the trace; what comes of it will carry that number."""
        conn = self._older[ends[1:]] = self._new_conn()
        return ends._replace(conn=conn)

    def decode(self, records: bytes) -> list[Event]:
        """The events in `records`, which hold the ring's headers."""
        self._forget_old_owners()
        return self._events(_RING_RECORD.iter_unpack(records))

    def read(self, records: bytes) -> Reading:
        """The same, those of which many are alike in crowds.

        A crowd's connections are plain: no older than the trace, and their owner is certain.
        """
        self._forget_old_owners()
        groups: dict[bytes, list[_Record]] = defaultdict(list)
        for record in _RING_RECORD.iter_unpack(records):
            groups[record[_ALIKE]].append(record)
        singles: list[_Record] = []
        closes: list[Closes] = []
        latest: list[list[_Record]] = []
        ended: dict[tuple[str, int, bool], list[_Record]] = defaultdict(list)
        for raw, group in groups.items():
            kind, old, flags, reason, netns = _HEAD.unpack_from(raw)
            if kind != _EV_TW_END:
                plain = _apart(group, singles, self.closing, self.opening)
                alike = self._alike(raw) if len(plain) >= _CROWD else None
                if alike is None:
                    singles += plain
                else:
                    latest.append(plain)
                    closes += self._closes(alike, plain)
            elif flags & _PREEXISTING:
                singles += group
            else:
                ended[REASONS[reason], netns, STATES[old] == "FIN_WAIT2"] += group
        ends: list[Ends] = []
        for (why, where, lingered), group in ended.items():
            plain = _apart(group, singles, self._inferred, self._renumbered)
            ends += self._ends(why, where, plain, lingered=lingered)
        singles.sort()
        return Reading(self._events(singles), closes, ends, self._latest(latest))

    def held(self, record: bytes) -> Held:
        """The event for a `struct held_socket`."""
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
        since_us = since // 1000 + self._offset_us
        site = self.opening.get(conn)
        return Held(since_us, ends, owner, STATES[state], preexisting=False, role=ROLES[role], site=site)

    def _events(self, records: Iterable[_Record]) -> list[Event]:
        events: list[Event] = []
        kinds = self._kinds
        for record in records:
            kind = kinds.get(record[_ALIKE]) or self._kind(record[_ALIKE])
            if kind.type == _EV_TW_END:
                self._time_wait_end(events, record, kind)
            elif kind.type == _EV_CLOSE:
                self._close(events, record, kind)
            else:
                self._state(events, record, kind)
        return events

    def _forget_old_owners(self) -> None:
        """A process that was told anew has another name, or is complete only now."""
        if self._kinds_as_of != self._processes.changed:
            self._kinds_as_of = self._processes.changed
            self._kinds.clear()
            self._crowds.clear()

    def _kind(self, raw: bytes) -> _Kind:
        fields = ALIKE_RECORD.unpack(raw)
        kind, family, old, new, flags, role, first, how, via, reason, failed, bound, netns, seen = fields[:14]
        service, unfollowed, saddr, daddr, opener_start, opener, closer_start, closer, by_start, by = fields[
            14:
        ]
        certain = self._processes.certain
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
            self._crowds.clear()
        made = self._kinds[raw] = _Kind(
            kind,
            family,
            STATES[old],
            STATES[new],
            flags,
            ROLES[role],
            FIRSTS[first],
            HOWS[how],
            VIAS[via],
            REASONS[reason],
            failed,
            bool(bound),
            netns,
            service,
            bool(unfollowed),
            address(saddr, family),
            address(daddr, family),
            certain(opener, opener_start),
            certain(closer, closer_start),
            certain(by, by_start) if by else None,
            tuple((name, at) for at, name in enumerate(_TIMES_OF) if seen & 1 << STATES.index(name)),
        )
        return made

    def _alike(self, raw: bytes) -> Alike | None:
        """What a crowd of closes shares; None if these are to be looked at one by one."""
        alike = self._crowds.get(raw)
        if alike is not None:
            return alike
        kind = self._kinds.get(raw) or self._kind(raw)
        is_plain = kind.type == _EV_CLOSE and not (
            kind.flags & _PREEXISTING or kind.failed or kind.unfollowed
        )
        if not is_plain or kind.owner is UNKNOWN_OWNER or kind.opener is UNKNOWN_OWNER:
            return None
        alike = self._crowds[raw] = Alike(
            owner=kind.owner,
            netns=kind.netns,
            family=kind.family,
            saddr=kind.saddr,
            daddr=kind.daddr,
            service=kind.service,
            role=kind.role,
            first=kind.first,
            how=kind.how,
            via=kind.via,
            states=frozenset(name for name, _ in kind.states),
            substate=kind.old if kind.flags & _TIME_WAIT else None,
            overflow=bool(kind.flags & _OVERFLOW),
            bound=kind.bound,
        )
        return alike

    def _closes(self, alike: Alike, group: list[_Record]) -> Iterator[Closes]:
        for ts_us, records in self._by_second(group):
            _, conns, ages, _, ports, _ = zip(*records, strict=True)
            yield Closes(alike, ts_us[-1] // SECOND, ts_us, conns, ports, ages)

    def _ends(self, reason: str, netns: int, group: list[_Record], *, lingered: bool) -> Iterator[Ends]:
        for ts_us, records in self._by_second(group):
            conns = [record[_CONN] for record in records]
            waited = [_fin_wait2_us(record) for record in records] if lingered else ()
            yield Ends(reason, netns, max(ts_us), conns, waited, self._maker(records))

    def _by_second(self, records: list[_Record]) -> Iterator[tuple[list[int], list[_Record]]]:
        """`records` with their times, apart by the second they are of; mostly all are of one."""
        offset_us = self._offset_us
        times = [record[_TS] // 1000 + offset_us for record in records]
        if not times:
            return
        first, last = min(times) // SECOND, max(times) // SECOND
        if first == last:
            yield times, records
            return
        for second in range(first, last + 1):
            part = [at for at, ts_us in enumerate(times) if ts_us // SECOND == second]
            if part:
                yield [times[at] for at in part], [records[at] for at in part]

    def _latest(self, groups: list[list[_Record]]) -> Latest:
        records = sorted(record for group in groups for record in group[-KEPT:])[-KEPT:]
        return Latest([record[_CONN] for record in records], lambda: self._close_events(records))

    def _close_events(self, records: list[_Record]) -> list[Close]:
        return [event for event in self._events(records) if isinstance(event, Close)]

    def _maker(self, records: list[_Record]) -> Callable[[int], TimeWaitEnd]:
        def make(at: int) -> TimeWaitEnd:
            event = self._events([records[at]])[-1]
            if not isinstance(event, TimeWaitEnd):
                raise TypeError(event)
            return event

        return make

    def _full_socket(self, record: _Record, kind: _Kind) -> tuple[int, Endpoints, Owner, Owner, int | None]:
        """When, which, owner, opener, and the number it had in the socket dump."""
        ts_us = record[_TS] // 1000 + self._offset_us
        ends = kind.ends(record)
        older = kind.flags & _PREEXISTING
        told = self._older.get(ends[1:]) if self._older else None
        if older and told:
            ends = ends._replace(conn=told)
        opener, owner = kind.opener, kind.owner
        if opener is UNKNOWN_OWNER:
            # What a state record's span says is not the age.
            age_us = record[_SPAN_US] if kind.type == _EV_CLOSE else 0
            opener = self._open_sockets.owner_of(ends, kind.role, 0 if older else ts_us - age_us)
            owner = opener if owner is UNKNOWN_OWNER else owner
        return ts_us, ends, owner, opener, told

    def _state(self, events: list[Event], record: _Record, kind: _Kind) -> None:
        ts_us, ends, owner, _, _ = self._full_socket(record, kind)
        dwell_us = record[_SPAN_US] if kind.flags & _DWELL else None
        context = "process" if kind.flags & _PROCESS else "softirq"
        events.append(State(ts_us, ends, owner, kind.old, kind.new, dwell_us, context))

    def _close(self, events: list[Event], record: _Record, kind: _Kind) -> None:
        ts_us, ends, owner, opener, told = self._full_socket(record, kind)
        times = TIMES_RECORD.unpack(record[_TIMES])
        preexisting = bool(kind.flags & _PREEXISTING)
        if told:
            del self._older[ends[1:]]
        self.opening.pop(record[_CONN], None)
        if kind.failed:
            events.append(ConnectFailed(ts_us, ends, owner, "EADDRNOTAVAIL", CAUSES[kind.failed]))
        followed = bool(kind.flags & _TIME_WAIT)
        role = kind.role
        if preexisting and self._open_sockets.is_listening(ends):
            role = "server"
        elif told and followed and not preexisting:
            # Born while we attached: it was in the socket dump, its birth has been told.
            ends = ends._replace(conn=told)
        events.append(
            Close(
                ts_us,
                ends,
                owner,
                role,
                kind.first,
                kind.how,
                kind.via,
                None if preexisting else record[_SPAN_US],
                {name: times[at] for name, at in kind.states},
                followed,
                opener,
                kind.closer,
                bool(kind.flags & _OVERFLOW),
                kind.bound,
                self.closing.pop(record[_CONN], None),
            )
        )
        if followed:
            birth = TimeWait(ts_us, ends, owner, kind.old, preexisting=False)
            if not told or preexisting:
                events.append(birth)
            self._remember(birth, record[_CONN], kind)

    def _remember(self, birth: TimeWait, conn: int, kind: _Kind) -> None:
        """What the record of its end will not say."""
        if birth.owner.grade is Grade.INFERRED:
            self._inferred[conn] = birth.owner
        if birth.ends.conn != conn:
            self._renumbered[conn] = birth.ends.conn
        if kind.unfollowed:
            if len(self._unfollowed) >= _MAX_UNFOLLOWED:
                del self._unfollowed[next(iter(self._unfollowed))]
            self._unfollowed[birth.ends[1:]] = birth

    def _unfollowed_end(self, record: _Record, kind: _Kind) -> TimeWaitEnd | None:
        """The end of one that there was no room for, if it is that; when FIN_WAIT2 turned is not known."""
        birth = self._unfollowed.pop(kind.ends(record)[1:], None)
        if birth is None:
            return None
        ts_us = record[_TS] // 1000 + self._offset_us
        lifetime_us = ts_us - birth.ts_us if birth.substate == "TIME_WAIT" else None
        reason, by = kind.reason, kind.by
        return TimeWaitEnd(
            ts_us, birth.ends, birth.owner, lifetime_us, None, reason, by, 0, preexisting=False
        )

    def _time_wait_end(self, events: list[Event], record: _Record, kind: _Kind) -> None:
        if self._unfollowed and kind.flags & _PREEXISTING:
            end = self._unfollowed_end(record, kind)
            if end is not None:
                events.append(end)
                return
        ts_us = record[_TS] // 1000 + self._offset_us
        times = TIMES_RECORD.unpack(record[_TIMES])
        preexisting = bool(kind.flags & _PREEXISTING)
        owner = kind.closer
        if owner is UNKNOWN_OWNER:
            owner = self._inferred.pop(record[_CONN], UNKNOWN_OWNER)
        ends = kind.ends(record)
        substate = kind.old
        told = self._older.pop(ends[1:], None) if preexisting else None
        if told:
            ends = ends._replace(conn=told)
        elif preexisting:
            ends = ends._replace(conn=self._new_conn())
            events.append(TimeWait(ts_us, ends, owner, substate, preexisting=True))
        elif self._renumbered:
            ends = ends._replace(conn=self._renumbered.pop(record[_CONN], record[_CONN]))
        lifetime_us = record[_SPAN_US] if kind.flags & _TURNED else None
        events.append(
            TimeWaitEnd(
                ts_us,
                ends,
                owner,
                lifetime_us,
                times[_FIN_WAIT2] if substate == "FIN_WAIT2" and not preexisting else None,
                kind.reason,
                kind.by,
                times[_REARMED],
                preexisting,
            )
        )

    def _new_conn(self) -> int:
        self._next_conn += 1
        return self._next_conn


def _apart(group: list[_Record], singles: list[_Record], *of: Collection[int]) -> list[_Record]:
    """The group without the connections that are in one of those, which go to `singles`."""
    for conns in of:
        if conns:
            singles += [record for record in group if record[_CONN] in conns]
            group = [record for record in group if record[_CONN] not in conns]
    return group


def _fin_wait2_us(record: _Record) -> int:
    return TIMES_RECORD.unpack(record[_TIMES])[_FIN_WAIT2]  # type: ignore[no-any-return]
