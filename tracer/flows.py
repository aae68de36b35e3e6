"""Flows: what one process does with one peer, and which of its connections a kept one would have spared."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from tracer.account import Account
from tracer.crowd import Alike, Closes
from tracer.model import Close, ConnectFailed, Flow, Held, HeldGroup, Opening, Tally, TimeWait, TimeWaitEnd
from tracer.ports import mostly
from tracer.series import SECOND, Histogram, Series
from tracer.settings import is_loopback

MOMENTS_US = 1_000_000
"""A connection that begins so soon after the end of an earlier one could have been that one."""

_MAX_FLOWS = 8_000
_MAX_IDLE = 1_000
_MAX_PROCESSES = 256
_MAX_UNMET = 32_768
_SHOWN = 100

Key = tuple[Account, int, str, str, str, int]


@dataclass(slots=True, eq=False)
class FlowCounts:
    """What is counted of one flow."""

    closes: int = 0
    failed: int = 0
    """connect() calls that never succeeded: no closes."""
    timeouts: int = 0
    by_exit: int = 0
    first_local: int = 0
    first_remote: int = 0
    time_waits: int = 0
    time_wait_now: int = 0
    reconnects: int = 0
    resets_sent: int = 0
    resets_received: int = 0
    lingering: int = 0
    ends: Series = field(default_factory=Series)
    """Of connections, and of connects that failed."""
    births: Series = field(default_factory=Series)
    resets: Series = field(default_factory=Series)
    ages: Histogram = field(default_factory=Histogram)
    idle: dict[int, deque[int]] = field(default_factory=dict)
    """By pid, when connections were closed that none has followed yet."""
    peers: Counter[Account] = field(default_factory=Counter)
    unsettled: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Closes by first, how and via, which are few: not yet in the counts, but in `closes`."""

    def close(self, event: Close | Alike, second: int, number: int) -> None:
        """Count so many."""
        self.ends.add(second, number)
        if event.how == "failed":
            self.failed += number
            return
        self.closes += number
        shape = event.first, event.how, event.via
        self.unsettled[shape] = self.unsettled.get(shape, 0) + number
        if event.how == "reset_sent":
            self.resets.add(second, number)

    def settle(self) -> None:
        """Count what has come: to be called before any of the counts is read."""
        for (first, how, via), count in self.unsettled.items():
            self.first_local += count * (first == "local")
            self.first_remote += count * (first == "remote")
            self.timeouts += count * (how == "timeout")
            self.by_exit += count * (via == "exit")
            self.resets_received += count * (how == "reset_received")
            self.resets_sent += count * (how == "reset_sent")
        self.unsettled.clear()

    def merge(self, other: FlowCounts, second: int) -> None:
        """Take over all that another holds."""
        self.settle()
        other.settle()
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.ends.merge(other.ends, second)
        self.births.merge(other.births, second)
        self.resets.merge(other.resets, second)
        self.ages.merge(other.ages)
        self.peers.update(other.peers)


_End = tuple[Account, FlowCounts]


@dataclass(slots=True)
class _Tally:
    whose: Counter[Account] = field(default_factory=Counter)
    series: Series = field(default_factory=Series)

    def add(self, ts_us: int, account: Account, number: int = 1) -> None:
        self.whose[account] += number
        self.series.add(ts_us // SECOND, number)

    def made(self, netns: int, now_us: int) -> Tally:
        return Tally(netns, self.whose.total(), self.series.lately(now_us), mostly(self.whose))


_EVENTS = (
    "closes",
    "failed",
    "timeouts",
    "by_exit",
    "first_local",
    "first_remote",
    "time_waits",
    "reconnects",
    "resets_sent",
    "resets_received",
    "lingering",
)
_SUMS = (*_EVENTS, "time_wait_now")


class Flows:
    """Takes in events with their accounts, gives flows and what is half-closed. Pure."""

    def __init__(self, since_us: int) -> None:
        self._since_us = since_us
        self._flows: dict[Key, FlowCounts] = {}
        self._waiting: dict[int, FlowCounts] = {}
        self._links: dict[tuple[object, ...], tuple[dict[int, _End], dict[int, _End]]] = {}
        """Ends that are over and have not met the other end: by both addresses and the port, those of
        clients and those of servers, each by the client's port."""
        self._unmet = 0
        self._following: dict[tuple[FlowCounts, int], list[tuple[int, int]]] = defaultdict(list)
        """By flow and pid: closes with their age, to be put in order."""
        self._held: dict[int, tuple[Held, Account]] = {}
        self._overflows: dict[int, _Tally] = defaultdict(_Tally)
        self._conflicts: dict[int, _Tally] = defaultdict(_Tally)

    def follow(self) -> None:
        """To be called once all that was read together has been taken in."""
        for (flow, pid), closes in self._following.items():
            closes.sort()
            _follow(flow, pid, closes)
        self._following.clear()

    def close(self, event: Close, account: Account, pid: int | None) -> None:
        """A full socket is gone."""
        self._held.pop(event.ends.conn, None)
        if event.overflow:
            self._overflows[event.ends.netns].add(event.ts_us, account)
        if event.role not in ("client", "server"):
            return
        ends, serves = event.ends, event.role == "server"
        service, port = (ends.sport, ends.dport) if serves else (ends.dport, ends.sport)
        flow = self._flow((account, ends.netns, event.role, ends.saddr, ends.daddr, service))
        flow.close(event, event.ts_us // SECOND, 1)
        if event.how == "failed":
            return
        if event.age_us is not None:
            flow.ages.add(event.age_us)
            if pid is not None:
                self._following[flow, pid].append((event.ts_us, event.age_us))
        if event.time_wait:
            self._waiting[event.ends.conn] = flow
        self._meet(ends.netns, event.role, (ends.saddr, ends.daddr, service), (port,), (account, flow))

    def close_crowd(self, closes: Closes, ages: dict[int, int], account: Account) -> FlowCounts | None:
        """Full sockets alike are gone; `ages` are theirs, counted. None: none for TIME_WAITs."""
        alike, second, number = closes.alike, closes.second, len(closes.conns)
        if alike.overflow:
            self._overflows[alike.netns].add(closes.ts_us[-1], account, number)
        if alike.role not in ("client", "server"):
            return None
        hosts = (alike.saddr, alike.daddr, alike.service)
        flow = self._flow((account, alike.netns, alike.role, *hosts))
        flow.close(alike, second, number)
        if alike.how == "failed":
            return None
        flow.ages.add_counted(ages)
        process = alike.owner.process
        if process is not None:
            self._following[flow, process.pid] += zip(closes.ts_us, closes.ages_us, strict=True)
        if alike.substate is not None:
            flow.time_waits += number
            flow.time_wait_now += number
            flow.births.add(second, number)
        self._meet(alike.netns, alike.role, hosts, closes.ports, (account, flow))
        return flow

    def let_go(self, conn: int) -> None:
        """It is held no more."""
        self._held.pop(conn, None)

    def time_wait(self, event: TimeWait) -> None:
        """It left a TIME_WAIT."""
        flow = self._waiting.get(event.ends.conn)
        if flow is not None:
            flow.time_waits += 1
            flow.time_wait_now += 1
            flow.births.add(event.ts_us // SECOND)

    def time_wait_end(self, event: TimeWaitEnd) -> None:
        """Which is gone."""
        flow = self._waiting.pop(event.ends.conn, None)
        if flow is not None:
            flow.time_wait_now -= 1
            flow.lingering += (event.fin_wait2_us or 0) > MOMENTS_US

    def connect_failed(self, event: ConnectFailed, account: Account) -> None:
        """A bound port had that destination already."""
        if event.cause == "conflict":
            self._conflicts[event.ends.netns].add(event.ts_us, account)

    def hold(self, event: Held, account: Account) -> None:
        """A half-closed socket is held; another state than those two ends it."""
        if event.state in ("CLOSE_WAIT", "FIN_WAIT2"):
            self._held[event.ends.conn] = event, account
        else:
            self._held.pop(event.ends.conn, None)

    @property
    def size(self) -> int:
        """How many flows there are."""
        return len(self._flows)

    def reset(self) -> None:
        """Count anew what happens; what is there now stays."""
        for flow in self._flows.values():
            flow.settle()
            for name in _EVENTS:
                setattr(flow, name, 0)
            flow.ages = Histogram()

    def merged_by(self, key: Callable[[int, str, str, int], str], second: int) -> list[Account]:
        """An account for each value of `key`(netns, role, remote address, service's port), named by it."""
        groups: dict[str, Account] = {}

        def group(netns: int, role: str, remote: str, port: int) -> Account:
            name = key(netns, role, remote, port)
            account = groups.get(name)
            if account is None:
                account = groups[name] = Account(("by", name), name, None)
            return account

        for (_, netns, role, _, remote, port), flow in self._flows.items():
            _add_to(group(netns, role, remote, port), flow, role, second)
        for event, _ in self._held.values():
            port = event.ends.sport if event.role == "server" else event.ends.dport
            group(event.ends.netns, event.role, event.ends.daddr, port).hold(event.state, 1)
        return list(groups.values())

    def flows(self, now_us: int) -> tuple[Flow, ...]:
        """Those with the most TIME_WAITs, then closes."""
        groups: dict[Key, list[FlowCounts]] = {}
        for key, flow in self._flows.items():
            if flow.closes or flow.time_wait_now:
                if key[0].folded_into is not None:
                    key = (key[0].present(), *key[1:])  # noqa: PLW2901
                groups.setdefault(key, []).append(flow)
        top = nlargest(_SHOWN, groups.items(), key=_weight)
        return tuple(self._made(key, _merged(flows, now_us // SECOND), now_us) for key, flows in top)

    def held(self, opened: Callable[[Iterable[Held]], tuple[Opening, ...]]) -> tuple[HeldGroup, ...]:
        """Half-closed sockets by process, state and service, most first; `opened` tells where they were."""
        groups: dict[tuple[Account, str, str, int, int], list[Held]] = {}
        for event, account in self._held.values():
            port = event.ends.sport if event.role == "server" else event.ends.dport
            key = (account.present(), event.state, event.role, event.ends.netns, port)
            groups.setdefault(key, []).append(event)
        made = [
            HeldGroup(
                account.who(),
                state,
                role,
                netns,
                port,
                len(events),
                min(e.ts_us for e in events),
                opened(events),
            )
            for (account, state, role, netns, port), events in groups.items()
        ]
        return tuple(sorted(made, key=lambda group: -group.count)[:_SHOWN])

    def overflows(self, now_us: int) -> tuple[Tally, ...]:
        """Closes without their TIME_WAIT."""
        return tuple(tally.made(netns, now_us) for netns, tally in self._overflows.items())

    def conflicts(self, now_us: int) -> tuple[Tally, ...]:
        """Connects whose bound port was taken."""
        return tuple(tally.made(netns, now_us) for netns, tally in self._conflicts.items())

    def _made(self, key: Key, flow: FlowCounts, now_us: int) -> Flow:
        account, netns, role, local, remote, port = key
        flow.settle()
        return Flow(
            who=account.who(),
            role=role,
            netns=netns,
            local=local,
            remote=remote,
            port=port,
            closes=flow.closes,
            first_local=flow.first_local,
            time_waits=flow.time_waits,
            time_wait_rate=flow.births.rate(now_us, self._since_us),
            time_wait_now=flow.time_wait_now,
            reconnects=flow.reconnects,
            age_p50_us=flow.ages.quantile(0.5),
            resets_sent=flow.resets_sent,
            reset_rate=flow.resets.rate(now_us, self._since_us),
            lingering=flow.lingering,
            peer=mostly(flow.peers) if 2 * flow.peers.total() > flow.closes else None,
        )

    def _flow(self, key: Key) -> FlowCounts:
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= _MAX_FLOWS:
                # What is frequent stays.
                kept = sorted(self._flows.items(), key=lambda item: -item[1].closes)[: _MAX_FLOWS // 2]
                self._flows = dict(kept)
            flow = self._flows[key] = FlowCounts()
        return flow

    def _meet(
        self, netns: int, role: str, hosts: tuple[str, str, int], ports: Sequence[int], end: _End
    ) -> None:
        """Find the other ends, if they are on this host; `hosts` are local and remote one and the service."""
        saddr, daddr, service = hosts
        serves = role == "server"
        # Loopback addresses are each namespace's own.
        where = netns if is_loopback(saddr) else 0
        link = (where, daddr, saddr, service) if serves else (where, saddr, daddr, service)
        both = self._links.get(link)
        if both is None:
            both = self._links[link] = {}, {}
        mine, theirs = both[serves], both[not serves]
        met: list[_End] = []
        for port in ports:
            other = theirs.pop(port, None)
            if other is None:
                mine[port] = end
            else:
                met.append(other)
        if met:
            account, flow = end
            for (its_account, its_flow), number in Counter(met).items():
                flow.peers[its_account] += number
                its_flow.peers[account] += number
        self._unmet += len(ports) - 2 * len(met)
        if self._unmet > _MAX_UNMET:
            self._links.clear()
            self._unmet = 0


def _add_to(account: Account, flow: FlowCounts, role: str, second: int) -> None:
    flow.settle()
    account.closes += flow.closes + flow.failed
    account.failed += flow.failed + flow.timeouts
    for name in ("by_exit", "first_local", "first_remote", "time_waits", "time_wait_now"):
        setattr(account, name, getattr(account, name) + getattr(flow, name))
    account.resets_sent += flow.resets_sent
    account.resets_received += flow.resets_received
    account.clients += flow.closes * (role == "client")
    account.servers += flow.closes * (role == "server")
    account.close_series.merge(flow.ends, second)
    account.time_wait_series.merge(flow.births, second)
    account.ages.merge(flow.ages)


def _weight(group: tuple[Key, list[FlowCounts]]) -> tuple[int, int]:
    flows = group[1]
    if len(flows) == 1:  # mostly, and there may be thousands
        return flows[0].time_waits, flows[0].closes
    return sum(flow.time_waits for flow in flows), sum(flow.closes for flow in flows)


def _merged(flows: list[FlowCounts], second: int) -> FlowCounts:
    if len(flows) == 1:
        return flows[0]
    merged = FlowCounts()
    for flow in flows:
        merged.merge(flow, second)
    return merged


def _follow(flow: FlowCounts, pid: int, closes: list[tuple[int, int]]) -> None:
    """Did each come just after another of the same process had ended?"""
    idle = flow.idle.get(pid)
    if idle is None:
        if len(flow.idle) >= _MAX_PROCESSES:
            del flow.idle[next(iter(flow.idle))]
        idle = flow.idle[pid] = deque(maxlen=_MAX_IDLE)
    for closed, age in closes:
        opened = closed - age
        while idle and idle[0] < opened - MOMENTS_US:
            idle.popleft()
        if idle and idle[0] <= opened:
            idle.popleft()
            flow.reconnects += 1
        idle.append(closed)
