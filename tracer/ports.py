"""Source ports: what holds them for each destination, how fast, and where that leads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import nlargest
from typing import NamedTuple

from tracer.account import Account
from tracer.crowd import Closes
from tracer.lifetime import expected_lifetime_us
from tracer.model import Close, ConnectFailed, Counters, Endpoints, Pool, Start, TimeWait, TimeWaitEnd, Who
from tracer.series import SECOND, Series
from tracer.settings import automatic_ports, is_loopback, port_range, reuse_allowed, reuse_delay_us

Key = tuple[int, int, str, str | None, int | None]
"""Namespace, family, source address, destination address and port; without the last two if bind() took the
port, which then is taken for all destinations."""

NOBODY = Who("unknown", None, (), None)

_MAX_POOLS = 10_000
_SHOWN = 100


@dataclass(slots=True)
class PortCounts:
    """What is counted of the ports for one destination."""

    time_waits: int = 0
    live: int = 0
    failures: int = 0
    failing: Series = field(default_factory=Series)
    births: Series = field(default_factory=Series)
    ends: Series = field(default_factory=Series)
    owners: Counter[Account] = field(default_factory=Counter)
    """Of TIME_WAITs born and of connects that failed."""
    peak: int = 0
    peak_us: int = 0
    since_us: int = 0

    def free(self, number: int, second: int) -> None:
        """So many TIME_WAITs are gone."""
        self.time_waits -= number
        self.ends.add(second, number)

    def note(self, ts_us: int) -> None:
        """Remember when the most ports were held."""
        used = self.time_waits + self.live
        if used > self.peak:
            self.since_us = self.since_us or ts_us
            self.peak, self.peak_us = used, ts_us


class Peak(NamedTuple):
    """The ports for one destination over all the time there was."""

    key: Key
    size: int | None
    """Ports there are; None: settings not known."""
    peak: int
    """Most held at once, ..."""
    peak_us: int
    """... and when that was first so."""
    since_us: int
    """When the first was held."""
    now: int
    failures: int
    who: Who


class PortPools:
    """Takes in events with their accounts, gives the pools. Pure: the time is the events'."""

    def __init__(self, start: Start) -> None:
        self._since_us = start.ts_us
        self._lifetime_us = expected_lifetime_us(start.clock["tick_us"])
        self._pools: dict[Key, PortCounts] = {}
        self._closed: dict[int, Key] = {}
        self._waiting: dict[int, PortCounts] = {}
        self.settings = {int(netns): values for netns, values in start.sysctl.items()}
        """By namespace, as they are now."""

    @property
    def size(self) -> int:
        """How many pools there are."""
        return len(self._pools)

    def close(self, event: Close) -> None:
        """A client's connection is over; its TIME_WAIT comes next."""
        if event.role == "client" and event.time_wait:
            self._closed[event.ends.conn] = _key(event.ends, bound=event.bound)

    def time_wait(self, event: TimeWait, account: Account) -> None:
        """A port is held from here on."""
        key = self._closed.pop(event.ends.conn, None)
        if key is None:
            if not event.preexisting or not self._looks_like_clients(event.ends):
                return
            key = _key(event.ends, bound=False)
        pool = self._waiting[event.ends.conn] = self._pool(key)
        pool.time_waits += 1
        pool.note(event.ts_us)
        if not event.preexisting:
            pool.births.add(event.ts_us // SECOND)
            pool.owners[account] += 1

    def time_wait_end(self, event: TimeWaitEnd) -> None:
        """And free again."""
        pool = self._waiting.pop(event.ends.conn, None)
        if pool is not None:
            pool.free(1, event.ts_us // SECOND)

    def close_crowd(self, closes: Closes, account: Account) -> PortCounts | None:
        """Connections are over that leave TIME_WAITs; None if those hold no ports."""
        alike, number = closes.alike, len(closes.conns)
        if alike.role != "client":
            return None
        pool = self._pool(_key(alike.ends(0, 0), bound=alike.bound))
        pool.time_waits += number
        pool.note(closes.ts_us[-1])
        pool.births.add(closes.second, number)
        pool.owners[account] += number
        return pool

    def connect_failed(self, event: ConnectFailed, account: Account) -> None:
        """No port was left."""
        if event.cause == "exhausted":
            pool = self._pool(_key(event.ends, bound=False))
            pool.failures += 1
            pool.failing.add(event.ts_us // SECOND)
            pool.owners[account] += 1

    def counters(self, event: Counters) -> None:
        """The ports that full sockets hold, and settings that have changed."""
        self.settings |= {int(netns): values for netns, values in event.sysctl.items()}
        for pool in self._pools.values():
            pool.live = 0
        for held in event.live:
            pool = self._pool((held.netns, held.family, held.saddr, held.daddr, held.dport))
            pool.live = held.ports
            pool.note(event.ts_us)

    def pools(self, now_us: int) -> tuple[Pool, ...]:
        """The fullest, as of `now_us`."""
        top = nlargest(
            _SHOWN,
            self._pools.items(),
            key=lambda item: (item[1].failures, item[1].time_waits + item[1].live),
        )
        made = [
            self._made(key, pool, now_us)
            for key, pool in top
            if pool.time_waits or pool.live or pool.failures
        ]
        made.sort(key=lambda pool: (pool.failures_lately, pool.settles, pool.used), reverse=True)
        return tuple(made)

    def peaks(self) -> tuple[Peak, ...]:
        """Those that failed, then those with the most ports at once."""
        top = nlargest(_SHOWN, self._pools.items(), key=lambda item: (item[1].failures, item[1].peak))
        return tuple(
            Peak(
                key,
                automatic_ports(self.settings.get(key[0], {})),
                pool.peak,
                pool.peak_us,
                pool.since_us,
                pool.time_waits + pool.live,
                pool.failures,
                mostly(pool.owners),
            )
            for key, pool in top
            if pool.peak or pool.failures
        )

    def _made(self, key: Key, pool: PortCounts, now_us: int) -> Pool:
        netns, family, saddr, daddr, dport = key
        values = self.settings.get(netns, {})
        size = automatic_ports(values)
        reuse = reuse_allowed(values, loopback=is_loopback(daddr or saddr))
        rate = pool.births.rate(now_us, self._since_us)
        growth = rate - pool.ends.rate(now_us, self._since_us)
        limit = values.get("tcp_max_tw_buckets")
        waiting = settling_point(rate, self._lifetime_us, size if reuse else None)
        settles = (min(waiting, limit) if isinstance(limit, int) else waiting) + pool.live
        used = pool.time_waits + pool.live
        exhausts = None
        if size is not None and not reuse and settles > size and growth > 0:
            exhausts = max(0, int((size - used) / growth * SECOND))
        return Pool(
            netns=netns,
            family=family,
            saddr=saddr,
            daddr=daddr,
            dport=dport,
            size=size,
            time_waits=pool.time_waits,
            live=pool.live,
            failures=pool.failures,
            failures_lately=pool.failing.lately(now_us),
            birth_rate=rate,
            growth=growth,
            lifetime_us=self._lifetime_us,
            reuse=reuse,
            reuse_after_us=reuse_delay_us(values),
            settles=settles,
            exhausts_in_us=exhausts,
            who=mostly(pool.owners),
        )

    def _pool(self, key: Key) -> PortCounts:
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= _MAX_POOLS:
                self._pools = {
                    key: pool
                    for key, pool in self._pools.items()
                    if pool.time_waits + pool.live > 1 or pool.failures
                }
            pool = self._pools[key] = PortCounts()
        return pool

    def _looks_like_clients(self, ends: Endpoints) -> bool:
        """One from before the trace has no role: from an automatic port to one that is none."""
        bounds = port_range(self.settings.get(ends.netns, {}))
        return (
            bounds is not None
            and bounds[0] <= ends.sport <= bounds[1]
            and not (bounds[0] <= ends.dport <= bounds[1])
        )


def settling_point(rate: float, lifetime_us: int, reused_of: int | None) -> float:
    """TIME_WAITs once births and ends are even.

    With reuse, of so many ports: connect() goes through every other port in turn and takes
    over the first TIME_WAIT it meets, so it does not get beyond half of them
    (__inet_hash_connect(), net/ipv4/inet_hashtables.c).
    """
    settles = rate * lifetime_us / SECOND
    return settles if reused_of is None else min(settles, reused_of / 2)


def mostly(owners: Counter[Account]) -> Who:
    """Whose most of them are; of several as many, always the same one's."""
    by_account: Counter[Account] = Counter()
    for account, count in owners.items():
        by_account[account.present()] += count
    if not by_account:
        return NOBODY
    return min(by_account, key=lambda account: (-by_account[account], account.row_key())).who()


def _key(ends: Endpoints, *, bound: bool) -> Key:
    if bound:
        return ends.netns, ends.family, ends.saddr, None, None
    return ends.netns, ends.family, ends.saddr, ends.daddr, ends.dport
