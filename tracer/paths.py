"""The ways out: which states connections passed while closing, how TIME_WAITs ended, how long all lasted."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from tracer.account import Account
from tracer.crowd import KEPT, Alike, Closes, Ends, Latest
from tracer.model import AgeBucket, Close, Closed, TimeWaitEnd, Traffic
from tracer.series import SECOND, Series

_BOUNDS_US = tuple(1_000 << (2 * power) for power in range(9))
"""1 ms, 4 ms, … 65.5 s."""

_RESETS = frozenset({"reset_sent", "reset_received", "timeout", "unknown"})

Edge = tuple[str, str]


class _Counted:
    """So many so far, and lately."""

    __slots__ = ("number", "series")

    def __init__(self) -> None:
        self.number = 0
        self.series = Series()

    def add(self, second: int, number: int = 1) -> None:
        self.number += number
        self.series.add(second, number)

    def merge(self, other: _Counted, second: int) -> None:
        self.number += other.number
        self.series.merge(other.series, second)

    def traffic(self, now_us: int, since_us: int) -> Traffic:
        return Traffic(self.number, self.series.rate(now_us, since_us))


class Paths:
    """Takes in closes and ends, gives edges, reasons, ages and the last connections. Pure."""

    def __init__(self, since_us: int, *, with_recent: bool = True) -> None:
        self._since_us = since_us
        self._with_recent = with_recent
        self._ways: dict[_Way, tuple[_Counted, tuple[Edge, ...]]] = {}
        self._ends: dict[str, _Counted] = {}
        self._ages = [[0, 0] for _ in range(len(_BOUNDS_US) + 1)]
        self._recent: deque[tuple[Close, Account]] = deque()
        self._pending: deque[Latest] = deque()
        """Those of crowds, to be made events when somebody looks."""
        self._ended: dict[int, TimeWaitEnd | None] = {}
        """Of the recent ones."""

    def reset(self, since_us: int) -> None:
        """Begin to count anew; the last connections stay."""
        self._since_us = since_us
        self._ways.clear()
        self._ends.clear()
        self._ages = [[0, 0] for _ in self._ages]

    def close(self, event: Close, account: Account) -> None:
        """A connection is over."""
        self._count_way(_way_of_close(event), event.ts_us // SECOND, 1)
        if event.age_us is not None and event.how != "failed":
            self._ages[_age_bucket(event.age_us)][not event.time_wait] += 1
        if self._with_recent:
            self._keep(event, account)

    def close_crowd(self, closes: Closes, ages: list[int]) -> None:
        """Connections alike are over; `ages` are theirs, in ascending order."""
        alike = closes.alike
        time_wait = alike.substate is not None
        self._count_way(
            _way_of(alike, alike.states, time_wait=time_wait, older=False), closes.second, len(ages)
        )
        if alike.how == "failed":
            return
        counted = 0
        for bucket, bound in enumerate((*_BOUNDS_US, None)):
            below = len(ages) if bound is None else bisect_left(ages, bound)
            self._ages[bucket][not time_wait] += below - counted
            counted = below

    def take_latest(self, latest: Latest) -> None:
        """Some of these may be asked for."""
        if not self._with_recent:
            return
        self._pending.append(latest)
        self._ended.update(dict.fromkeys(latest.conns))
        waiting = sum(len(one.conns) for one in self._pending)
        while waiting - len(self._pending[0].conns) >= KEPT:
            stale = self._pending.popleft()
            waiting -= len(stale.conns)
            for conn in stale.conns:
                self._ended.pop(conn, None)

    def time_wait_end(self, event: TimeWaitEnd) -> None:
        """A TIME_WAIT is gone."""
        self._count_end(event.reason, event.ts_us // SECOND, 1)
        if event.ends.conn in self._ended:
            self._ended[event.ends.conn] = event

    def end_crowd(self, ends: Ends, number: int) -> None:
        """TIME_WAITs are gone; so many of them are counted here."""
        self._count_end(ends.reason, ends.second, number)
        if not self._ended.keys().isdisjoint(ends.conns):
            for at, conn in enumerate(ends.conns):
                if conn in self._ended:
                    self._ended[conn] = ends.make(at)

    def edges(self, now_us: int) -> dict[Edge, Traffic]:
        """As `Snapshot.edges`."""
        edges: dict[Edge, _Counted] = {}
        for counted, along in self._ways.values():
            for edge in along:
                edges.setdefault(edge, _Counted()).merge(counted, now_us // SECOND)
        return {edge: counted.traffic(now_us, self._since_us) for edge, counted in edges.items()}

    def ends(self, now_us: int) -> dict[str, Traffic]:
        """As `Snapshot.ends`."""
        return {reason: counted.traffic(now_us, self._since_us) for reason, counted in self._ends.items()}

    def ages(self) -> tuple[AgeBucket, ...]:
        """As `Snapshot.ages`."""
        bounds = (*_BOUNDS_US, None)
        return tuple(
            AgeBucket(bound, left, other) for bound, (left, other) in zip(bounds, self._ages, strict=True)
        )

    def recent(self, account_of: Callable[[Close], Account]) -> tuple[Closed, ...]:
        """As `Snapshot.recent`."""
        if self._pending:
            for latest in self._pending:
                for close in latest.make():
                    self._recent.append((close, account_of(close)))
            self._pending.clear()
            self._recent = deque(sorted(self._recent, key=lambda one: one[0].ts_us))
            while len(self._recent) > KEPT:
                self._ended.pop(self._recent.popleft()[0].ends.conn, None)
        ended = self._ended
        return tuple(
            Closed(close, ended.get(close.ends.conn), account.present().row_key())
            for close, account in self._recent
        )

    def _keep(self, event: Close, account: Account) -> None:
        if len(self._recent) >= KEPT:
            self._ended.pop(self._recent.popleft()[0].ends.conn, None)
        self._recent.append((event, account))
        self._ended[event.ends.conn] = None

    def _count_way(self, way: _Way, second: int, number: int) -> None:
        counted = self._ways.get(way)
        if counted is None:
            counted = self._ways[way] = _Counted(), tuple(_edges(way))
        counted[0].add(second, number)

    def _count_end(self, reason: str, second: int, number: int) -> None:
        counted = self._ends.get(reason)
        if counted is None:
            counted = self._ends[reason] = _Counted()
        counted.add(second, number)


class _Way(NamedTuple):
    """All that decides which transitions a connection made on its way out: there are few."""

    first: str
    how: str
    time_wait: bool
    overflow: bool
    older: bool
    """Than the trace: nobody saw its first states."""
    established: bool
    fin_wait2: bool
    closing: bool
    last_ack: bool


def _way_of(event: Close | Alike, states: Collection[str], *, time_wait: bool, older: bool) -> _Way:
    """The way of a close, or of closes alike; `states` are those it was seen to enter."""
    return _Way(
        event.first,
        event.how,
        time_wait,
        event.overflow,
        older,
        "ESTABLISHED" in states,
        "FIN_WAIT2" in states,
        "CLOSING" in states,
        "LAST_ACK" in states,
    )


def edges_of(event: Close) -> Iterator[Edge]:
    """The transitions that a connection made on its way out."""
    return _edges(_way_of_close(event))


def _way_of_close(event: Close) -> _Way:
    return _way_of(event, event.states, time_wait=event.time_wait, older=event.age_us is None)


def _edges(way: _Way) -> Iterator[Edge]:
    """The transitions of a connection on its way out, by the states it was in and who closed first.

    A socket passes FIN_WAIT2 even if the FIN comes with the ACK (tcp_rcv_state_process()), so that
    with an older socket, whose first states nobody saw, the way is known all the same.
    """
    last = "TIME_WAIT" if way.time_wait else _last(way)
    if way.first == "none":
        if way.how in _RESETS and (way.older or way.established):
            yield "ESTABLISHED", last
        return
    if way.first == "remote":
        yield "ESTABLISHED", "CLOSE_WAIT"
        if way.last_ack:
            yield "CLOSE_WAIT", "LAST_ACK"
            yield "LAST_ACK", last
        else:
            yield "CLOSE_WAIT", last
        return
    yield "ESTABLISHED", "FIN_WAIT1"
    if way.closing or way.fin_wait2:
        through = "CLOSING" if way.closing else "FIN_WAIT2"
        yield "FIN_WAIT1", through
        yield through, last
    else:
        yield "FIN_WAIT1", last


def _last(way: _Way) -> str:
    """How it came to CLOSE."""
    if way.overflow:
        return "overflow"
    return "CLOSE" if way.how == "fin" else way.how


def _age_bucket(age_us: int) -> int:
    return bisect_right(_BOUNDS_US, age_us)
