"""Both ends of one connection, when the hosts of both were traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tracer.account import Account
from tracer.model import Close
from tracer.report.model import Joined, Pair
from tracer.settings import is_loopback

SKEW_US = 5_000_000
"""Clocks of two hosts may differ by so much."""
MAX_WAITING = 65_536
"""Ends whose other end may still come; beyond, the oldest is alone."""
_MAX_PAIRS = 8_000

_Four = tuple[str, int, str, int]


@dataclass(frozen=True, slots=True)
class _End:
    trace: int
    account: Account
    role: str
    first: str
    opened_us: int | None
    closed_us: int
    time_wait: bool
    service: int


@dataclass(slots=True)
class _Counts:
    connections: int = 0
    a_first: int = 0
    b_first: int = 0
    disputed: int = 0
    neither: int = 0
    a_time_waits: int = 0
    b_time_waits: int = 0

    def add(self, a: _End, b: _End) -> None:
        self.connections += 1
        self.a_first += (a.first, b.first) == ("local", "remote")
        self.b_first += (a.first, b.first) == ("remote", "local")
        self.neither += (a.first, b.first) == ("none", "none")
        self.disputed = self.connections - self.a_first - self.b_first - self.neither
        self.a_time_waits += a.time_wait
        self.b_time_waits += b.time_wait

    def merge(self, other: _Counts) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Joiner:
    """Is told of closes by several recordings, all at about the same moment of time."""

    def __init__(self, hosts: list[str]) -> None:
        """`hosts` by recording."""
        self._hosts = hosts
        self._waiting: dict[_Four, list[_End]] = {}
        self._number = 0
        self._pairs: dict[tuple[int, Account, int, Account, int], _Counts] = {}
        self._connections = 0
        self._alone = 0

    def of(self, trace: int) -> Callable[[Close, Account], None]:
        """What that recording tells its closes to."""

        def closed(event: Close, account: Account) -> None:
            ends = event.ends
            if event.how == "failed" or is_loopback(ends.saddr):
                return
            opened_us = None if event.age_us is None else event.ts_us - event.age_us
            service = ends.dport if event.role == "client" else ends.sport
            end = _End(
                trace, account, event.role, event.first, opened_us, event.ts_us, event.time_wait, service
            )
            four = (ends.saddr, ends.sport, ends.daddr, ends.dport)
            self._meet(four, end)

        return closed

    def joined(self) -> Joined:
        """All that met."""
        together: dict[tuple[int, Account, int, Account, int], _Counts] = {}
        for (trace, account, other_trace, other, port), counts in self._pairs.items():
            key = (trace, account.present(), other_trace, other.present(), port)
            together.setdefault(key, _Counts()).merge(counts)
        pairs = [
            Pair(
                a=a.who(),
                a_host=self._hosts[a_trace],
                b=b.who(),
                b_host=self._hosts[b_trace],
                port=port,
                connections=counts.connections,
                a_first=counts.a_first,
                b_first=counts.b_first,
                disputed=counts.disputed,
                neither=counts.neither,
                a_time_waits=counts.a_time_waits,
                b_time_waits=counts.b_time_waits,
            )
            for (a_trace, a, b_trace, b, port), counts in together.items()
        ]
        pairs.sort(key=lambda pair: -pair.connections)
        return Joined(tuple(pairs), self._connections, self._alone + self._number, SKEW_US)

    def _meet(self, four: _Four, end: _End) -> None:
        reverse = four[2:] + four[:2]
        for other in self._waiting.get(reverse, ()):
            if _overlap(end, other):
                self._take(reverse, other)
                if other.trace != end.trace:
                    self._join(end, other)
                return
        self._waiting.setdefault(four, []).append(end)
        self._number += 1
        if self._number > MAX_WAITING:
            oldest = next(iter(self._waiting))
            self._take(oldest, self._waiting[oldest][0])
            self._alone += 1

    def _take(self, four: _Four, end: _End) -> None:
        ends = self._waiting[four]
        ends.remove(end)
        if not ends:
            del self._waiting[four]
        self._number -= 1

    def _join(self, one: _End, other: _End) -> None:
        self._connections += 1
        a, b = (other, one) if _is_opener(other, one) else (one, other)
        port = b.service if b.role == "server" else a.service
        key = (a.trace, a.account, b.trace, b.account, port)
        counts = self._pairs.get(key)
        if counts is None:
            if len(self._pairs) >= _MAX_PAIRS:
                return
            counts = self._pairs[key] = _Counts()
        counts.add(a, b)


def _overlap(one: _End, other: _End) -> bool:
    """Were both there at one time? One whose beginning nobody saw was there from ever."""
    return (one.opened_us is None or one.opened_us - SKEW_US <= other.closed_us) and (
        other.opened_us is None or other.opened_us - SKEW_US <= one.closed_us
    )


def _is_opener(one: _End, other: _End) -> bool:
    if one.role == other.role:
        return one.trace < other.trace
    return one.role == "client" or other.role == "server"
