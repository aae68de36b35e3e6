"""What if: the connections of a trace run again under a change. Pure."""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from statistics import mean, median

from tracer.errors import UsageError
from tracer.lifetime import expected_lifetime_us
from tracer.model import Close, ConnectFailed, Counters, Event, Start, TimeWait, TimeWaitEnd
from tracer.portmodel import PortModel
from tracer.settings import Values, automatic_ports, is_loopback, reuse_allowed, reuse_delay_us

Pool = tuple[int, int, str, str | None, int | None]

KEPT_US = 60_000_000
"""A kept connection that nobody needs for so long is closed."""
_SAME_CLOSE_US = 2_000_000
"""Both ends of a connection are closed within this, or are not taken for one."""

_SAMPLE = 1000

_FORMS = "tw_reuse=0|1|2, port_range=LOW-HIGH, keepalive, peer-closes-first, max_tw_buckets=N"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing made different."""

    text: str
    """As given."""
    settings: tuple[tuple[str, int | str], ...] = ()
    keep: bool = False
    peer_first: bool = False


def parse_change(text: str) -> Change:
    """`tw_reuse=1`, `port_range=1024-65535`, ... Raises UsageError."""
    if text == "keepalive":
        return Change(text, keep=True)
    if text == "peer-closes-first":
        return Change(text, peer_first=True)
    if match := re.fullmatch(r"tw_reuse=([012])", text):
        return Change(text, (("tcp_tw_reuse", int(match[1])),))
    if match := re.fullmatch(r"max_tw_buckets=(\d{1,9})", text):
        return Change(text, (("tcp_max_tw_buckets", int(match[1])),))
    match = re.fullmatch(r"port_range=(\d{1,5})-(\d{1,5})", text)
    if match and 0 < int(match[1]) <= int(match[2]) < 1 << 16:
        return Change(text, (("ip_local_port_range", f"{match[1]} {match[2]}"),))
    raise UsageError(f"no change {text!r}", f"give one of {_FORMS}")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run comes to."""

    connections: int
    failures: int
    """connect() calls without a port."""
    time_waits_peak: int
    time_waits_end: int
    """At the end of the trace."""
    client_side_peak: int
    """Of the TIME_WAITs, those of who connected: each holds a source port."""
    server_side_peak: int
    ports_peak: int
    """Most source ports held for one destination."""
    overflowed: int
    """TIME_WAITs left out for tcp_max_tw_buckets."""
    reused: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A change, and the figures of the model without and with it."""

    change: str
    before: Figures
    after: Figures
    seen: Figures
    """What the trace itself shows; what is not in it is as in `before`."""


@dataclass(frozen=True, slots=True)
class _Connection:
    netns: int
    pool: Pool | None
    """None for an end that accepted."""
    peer: tuple[object, ...]
    """Of whom a kept connection could be used again: the process, its end and the other's service."""
    ends: tuple[object, ...]
    opened_us: int
    closed_us: int
    waits: bool

    @property
    def side(self) -> str:
        return "server" if self.pool is None else "client"


class WhatIf:
    """Takes in a trace's events, then answers."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._settings: dict[int, Values] = {int(netns): values for netns, values in start.sysctl.items()}
        self._connections: list[_Connection] = []
        self._failed: list[ConnectFailed] = []
        self._lifetimes: list[int] = []
        self._now = Counter[str]()
        self._seen = Counter[str]()
        self._roles: dict[int, str] = {}
        self._end_us = start.ts_us

    def add(self, event: Event) -> None:
        """Take in one more."""
        self._end_us = max(self._end_us, event.ts_us)
        if isinstance(event, Close):
            self._close(event)
        elif isinstance(event, TimeWait):
            if not event.preexisting:
                self._count("all", 1)
                self._count(self._roles.get(event.ends.conn, "unknown"), 1)
        elif isinstance(event, TimeWaitEnd):
            if not event.preexisting:
                self._count("all", -1)
                self._count(self._roles.pop(event.ends.conn, "unknown"), -1)
                self._seen["reused"] += event.reason == "reused"
                if event.reason == "expired" and event.lifetime_us and not event.rearmed:
                    self._lifetimes.append(event.lifetime_us)
        elif isinstance(event, ConnectFailed):
            if event.cause == "exhausted":
                self._failed.append(event)
        elif isinstance(event, Counters):
            self._settings |= {int(netns): values for netns, values in event.sysctl.items()}

    def outcome(self, change: Change) -> Outcome:
        """Without and with the change."""
        attempts = self._attempts()
        before = self._run(attempts, Change(""))
        after = self._run(_peers_first(attempts) if change.peer_first else attempts, change)
        seen = replace(
            before,
            connections=sum(one.pool is not None for one in self._connections),
            failures=len(self._failed),
            time_waits_peak=self._seen["all"],
            time_waits_end=self._now["all"],
            client_side_peak=self._seen["client"],
            server_side_peak=self._seen["server"],
            overflowed=self._seen["overflowed"],
            reused=self._seen["reused"],
        )
        return Outcome(change.text, before, after, seen)

    def _count(self, what: str, by: int) -> None:
        self._now[what] += by
        self._seen[what] = max(self._seen[what], self._now[what])

    def _close(self, event: Close) -> None:
        if event.role not in ("client", "server") or event.how == "failed" or event.age_us is None:
            return
        ends = event.ends
        process = event.owner.process
        who = process and (process.pid, process.start_us)
        pool: Pool | None = None
        if event.role == "client":
            pool = (ends.netns, ends.family, ends.saddr, ends.daddr, ends.dport)
            if event.bound:
                pool = (*pool[:3], None, None)
        service = ends.dport if event.role == "client" else ends.sport
        self._seen["overflowed"] += event.overflow
        if event.time_wait:
            self._roles[ends.conn] = event.role
        self._connections.append(
            _Connection(
                ends.netns,
                pool,
                (who, ends.netns, event.role, ends.saddr, ends.daddr, service),
                (ends.netns if is_loopback(ends.saddr) else 0, *ends[3:]),
                event.ts_us - event.age_us,
                event.ts_us,
                event.time_wait or event.overflow,
            )
        )

    def _attempts(self) -> list[_Connection]:
        """All that wanted a connection, in the order of their beginnings.

        One that found no port would have been like the others of its pool, at both ends.
        """
        attempts = list(self._connections)
        by_ends = _by_ends(attempts)
        alike: dict[Pool, list[_Connection]] = defaultdict(list)
        for one in attempts:
            if one.pool is not None:
                alike[one.pool].append(one)
        for number, event in enumerate(self._failed, 1):
            ends = event.ends
            others = alike.get((ends.netns, ends.family, ends.saddr, ends.daddr, ends.dport))
            if others:
                age_us = int(median(one.closed_us - one.opened_us for one in others[:_SAMPLE]))
                pair = (others[0], *_other_ends(others[0], attempts, by_ends))
                for one in pair:
                    # No port has a number below 0: both ends of this attempt, and of no other.
                    netns, *four = one.ends
                    sport = 1 if one.pool is not None else 3
                    four[sport] = -number
                    opened_us = event.ts_us
                    attempts.append(
                        replace(
                            one,
                            ends=(netns, *four),
                            opened_us=opened_us,
                            closed_us=opened_us + age_us,
                        )
                    )
        return sorted(attempts, key=lambda one: one.opened_us)

    def _run(self, attempts: Iterable[_Connection], change: Change) -> Figures:
        lifetime_us = (
            int(mean(self._lifetimes))
            if self._lifetimes
            else expected_lifetime_us(self._start.clock["tick_us"])
        )
        settings = {netns: {**values, **dict(change.settings)} for netns, values in self._settings.items()}
        return _Run(settings, dict(change.settings), lifetime_us, self._end_us, keep=change.keep).run(
            attempts
        )


_ByEnds = dict[tuple[object, ...], list[int]]


def _by_ends(connections: list[_Connection]) -> _ByEnds:
    found: _ByEnds = defaultdict(list)
    for number, one in enumerate(connections):
        found[one.ends].append(number)
    return found


def _mirrored(ends: tuple[object, ...]) -> tuple[object, ...]:
    """As the other end has it."""
    netns, saddr, sport, daddr, dport = ends
    return netns, daddr, dport, saddr, sport


def _other_ends(one: _Connection, connections: list[_Connection], by_ends: _ByEnds) -> Iterator[_Connection]:
    """The other end of it, where that is in the trace as well."""
    return (connections[number] for number in _others(one, connections, by_ends))


def _others(one: _Connection, connections: list[_Connection], by_ends: _ByEnds) -> Iterator[int]:
    for number in by_ends.get(_mirrored(one.ends), ()):
        if abs(connections[number].closed_us - one.closed_us) < _SAME_CLOSE_US:
            yield number
            return


def _peers_first(attempts: list[_Connection]) -> list[_Connection]:
    """Who waits changes over: to the other end, where that is in the trace as well."""
    by_ends = _by_ends(attempts)
    changed = list(attempts)
    for number, one in enumerate(attempts):
        if one.waits:
            changed[number] = replace(changed[number], waits=False)
            for other in _others(one, attempts, by_ends):
                changed[other] = replace(changed[other], waits=not attempts[other].waits)
    return changed


class _Run:
    """One run of the model."""

    def __init__(
        self,
        settings: dict[int, dict[str, int | str]],
        unknown: dict[str, int | str],
        lifetime_us: int,
        end_us: int,
        *,
        keep: bool,
    ) -> None:
        self._settings = settings
        self._unknown = unknown
        """What is known of a namespace whose settings are not in the trace."""
        self._lifetime_us = lifetime_us
        self._end_us = end_us
        self._keep = keep
        self._pools: dict[Pool, PortModel] = {}
        self._kept: dict[tuple[object, ...], list[_Kept]] = defaultdict(list)
        self._ports: dict[tuple[object, ...], tuple[object, ...] | None] = {}
        """Of clients, by their ends: the port of the model; None: there was none."""
        self._served: dict[tuple[object, ...], int] = {}
        """TIME_WAITs of servers by their client's port: since when."""
        self._due: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = count()
        self._waiting: Counter[int] = Counter()
        self._now: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()

    def run(self, attempts: Iterable[_Connection]) -> Figures:
        """All of them, and what is due until the end of the trace."""
        for one in attempts:
            self._advance(one.opened_us)
            self._open(one)
        self._advance(self._end_us)
        return Figures(
            connections=self._sums["connections"],
            failures=self._sums["failures"],
            time_waits_peak=self._peak["all"],
            time_waits_end=self._now["all"],
            client_side_peak=self._peak["client"],
            server_side_peak=self._peak["server"],
            ports_peak=self._peak["ports"],
            overflowed=self._sums["overflowed"],
            reused=self._sums["reused"],
        )

    def _advance(self, until_us: int) -> None:
        while self._due and self._due[0][0] <= until_us:
            now_us, _, happens = heapq.heappop(self._due)
            happens(now_us)

    def _at(self, when_us: int, happens: Callable[[int], None]) -> None:
        heapq.heappush(self._due, (when_us, next(self._order), happens))

    def _open(self, one: _Connection) -> None:
        kept = self._kept[one.peer].pop() if self._keep and self._kept[one.peer] else None
        if kept is None:
            kept = self._connect(one) if one.pool is not None else self._accept(one)
        if kept is not None:
            kept.idle_since = None
            self._at(one.closed_us, lambda now_us: self._done(kept, now_us))

    def _connect(self, one: _Connection) -> _Kept | None:
        port = self._take_port(one)
        self._ports[one.ends] = None if port is None else (one.pool, port)
        if port is None:
            self._sums["failures"] += 1
            return None
        self._sums["connections"] += 1
        return _Kept(one, port)

    def _accept(self, one: _Connection) -> _Kept | None:
        """None if its client got no port. A SYN from a port that waits here replaces the TIME_WAIT."""
        place = self._ports.get(_mirrored(one.ends), one.ends)
        if place is None:
            return None
        if self._served.pop(place, None) is not None:
            self._gone(one)
        return _Kept(one, None, place)

    def _take_port(self, one: _Connection) -> int | None:
        if one.pool is None:
            return None
        model = self._pools.get(one.pool)
        if model is None:
            values = self._settings.get(one.netns, self._unknown)
            reuse = reuse_allowed(values, loopback=is_loopback(str(one.pool[3] or one.pool[2])))
            size = automatic_ports(values)
            model = PortModel(
                size if size is not None else 1 << 16, reuse_delay_us(values) if reuse else None
            )
            self._pools[one.pool] = model
        taken = model.connect(one.opened_us)
        if taken is None:
            return None
        self._peak["ports"] = max(self._peak["ports"], model.used)
        port, was_waiting = taken
        if was_waiting:
            self._sums["reused"] += 1
            self._gone(one)
        return port

    def _done(self, kept: _Kept, now_us: int) -> None:
        if not self._keep:
            self._close(kept, now_us)
            return
        kept.idle_since = now_us
        self._kept[kept.first.peer].append(kept)
        self._at(now_us + KEPT_US, lambda when_us: self._close_idle(kept, now_us, when_us))

    def _close_idle(self, kept: _Kept, since_us: int, now_us: int) -> None:
        if kept.idle_since == since_us:
            self._kept[kept.first.peer].remove(kept)
            self._close(kept, now_us)

    def _close(self, kept: _Kept, now_us: int) -> None:
        one, port = kept.first, kept.port
        model = self._pools.get(one.pool) if one.pool is not None else None
        limit = self._settings.get(one.netns, self._unknown).get("tcp_max_tw_buckets")
        if one.waits and isinstance(limit, int) and self._waiting[one.netns] >= limit:
            self._sums["overflowed"] += 1
        elif one.waits:
            self._waiting[one.netns] += 1
            for what in ("all", one.side):
                self._now[what] += 1
                self._peak[what] = max(self._peak[what], self._now[what])
            if model is not None and port is not None:
                model.wait(port, now_us)
            else:
                self._served[kept.place] = now_us
            self._at(now_us + self._lifetime_us, lambda _: self._expire(kept, model, now_us))
            return
        if model is not None and port is not None:
            model.release(port)

    def _expire(self, kept: _Kept, model: PortModel | None, since_us: int) -> None:
        if model is not None and kept.port is not None:
            if model.since(kept.port) != since_us:
                return  # it was reused
            model.release(kept.port)
        else:
            if self._served.get(kept.place) != since_us:
                return  # it was replaced
            del self._served[kept.place]
        self._gone(kept.first)

    def _gone(self, one: _Connection) -> None:
        self._waiting[one.netns] -= 1
        for what in ("all", one.side):
            self._now[what] -= 1


@dataclass(slots=True, eq=False)
class _Kept:
    """A connection that may be used again."""

    first: _Connection
    port: int | None
    """Of the model; None for one that was accepted."""
    place: tuple[object, ...] = ()
    """Of one that was accepted: its client's port, by which a new SYN meets its TIME_WAIT."""
    idle_since: int | None = None
