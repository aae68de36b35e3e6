"""The ways out: which states connections passed while closing, how TIME_WAITs ended, how long all lasted."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator

from tracer.account import Account
from tracer.model import AgeBucket, Close, Closed, TimeWaitEnd, Traffic
from tracer.series import SECOND, Series

KEPT = 1_000
"""Connections that ended last, of which all is known."""

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

    def add(self, second: int) -> None:
        self.number += 1
        self.series.add(second)

    def merge(self, other: _Counted, second: int) -> None:
        self.number += other.number
        self.series.merge(other.series, second)

    def traffic(self, now_us: int, since_us: int) -> Traffic:
        return Traffic(self.number, self.series.rate(now_us, since_us))


class Paths:
    """Takes in closes and ends, gives edges, reasons, ages and the last connections. Pure."""

    def __init__(self, since_us: int) -> None:
        self._since_us = since_us
        self._ways: dict[tuple[object, ...], tuple[_Counted, tuple[Edge, ...]]] = {}
        self._ends: dict[str, _Counted] = {}
        self._ages = [[0, 0] for _ in range(len(_BOUNDS_US) + 1)]
        self._recent: deque[tuple[Close, Account]] = deque()
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
        second = event.ts_us // SECOND
        states = event.states
        # All that edges_of() looks at: few ways there are, and one count a close.
        key = (
            event.first,
            event.how,
            event.time_wait,
            event.overflow,
            event.age_us is None,
            "ESTABLISHED" in states,
            "FIN_WAIT2" in states,
            "CLOSING" in states,
            "LAST_ACK" in states,
        )
        way = self._ways.get(key)
        if way is None:
            way = self._ways[key] = _Counted(), tuple(edges_of(event))
        way[0].add(second)
        if event.age_us is not None and event.how != "failed":
            self._ages[_age_bucket(event.age_us)][not event.time_wait] += 1
        if len(self._recent) >= KEPT:
            self._ended.pop(self._recent.popleft()[0].ends.conn, None)
        self._recent.append((event, account))
        self._ended[event.ends.conn] = None

    def time_wait_end(self, event: TimeWaitEnd) -> None:
        """A TIME_WAIT is gone."""
        counted = self._ends.get(event.reason)
        if counted is None:
            counted = self._ends[event.reason] = _Counted()
        counted.add(event.ts_us // SECOND)
        if event.ends.conn in self._ended:
            self._ended[event.ends.conn] = event

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

    def recent(self) -> tuple[Closed, ...]:
        """As `Snapshot.recent`."""
        ended = self._ended
        return tuple(
            Closed(close, ended.get(close.ends.conn), account.present().row_key())
            for close, account in self._recent
        )


def edges_of(event: Close) -> Iterator[Edge]:
    """The transitions of a connection on its way out, by the states it was in and who closed first.

    A socket passes FIN_WAIT2 even if the FIN comes with the ACK (tcp_rcv_state_process()), so that
    with an older socket, whose first states nobody saw, the way is known all the same.
    """
    last = "TIME_WAIT" if event.time_wait else _last(event)
    if event.first == "none":
        if event.how in _RESETS and (event.age_us is None or "ESTABLISHED" in event.states):
            yield "ESTABLISHED", last
        return
    if event.first == "remote":
        yield "ESTABLISHED", "CLOSE_WAIT"
        if "LAST_ACK" in event.states:
            yield "CLOSE_WAIT", "LAST_ACK"
            yield "LAST_ACK", last
        else:
            yield "CLOSE_WAIT", last
        return
    yield "ESTABLISHED", "FIN_WAIT1"
    through = next((state for state in ("CLOSING", "FIN_WAIT2") if state in event.states), None)
    if through is None:
        yield "FIN_WAIT1", last
    else:
        yield "FIN_WAIT1", through
        yield through, last


def _last(event: Close) -> str:
    """How it came to CLOSE."""
    if event.overflow:
        return "overflow"
    return "CLOSE" if event.how == "fin" else event.how


def _age_bucket(age_us: int) -> int:
    return bisect_right(_BOUNDS_US, age_us)
