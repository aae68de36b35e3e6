"""Events to a Snapshot: per process, how it ends connections and what that leaves behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from tracer.account import MAX_NAMED_PIDS, Account, Key
from tracer.crowd import Alike, Closes, Ends, Reading
from tracer.flows import MOMENTS_US, FlowCounts, Flows
from tracer.grouping import grouped, remainder
from tracer.model import (
    Close,
    Closed,
    ConnectFailed,
    Counters,
    Event,
    Grade,
    Held,
    Lost,
    Opening,
    Owner,
    Row,
    Site,
    Snapshot,
    Start,
    TimeWait,
    TimeWaitEnd,
    Ways,
)
from tracer.paths import Paths
from tracer.ports import Peak, PortCounts, PortPools
from tracer.series import SECOND, counted
from tracer.sites import Sites

_FOLD_ABOVE = 4
"""More processes than this of one name and cgroup are one row, so that a fork server is."""
_MAX_ACCOUNTS = 8_000
_MAX_OWNERS = 65_536
_PORT_BITS = 16
_PORT = (1 << _PORT_BITS) - 1
_NONE = -1


@dataclass(slots=True, eq=False)
class _Crowd:
    """Whose the TIME_WAITs of a crowd are."""

    number: int
    alike: Alike
    account: Account
    flow: FlowCounts | None
    ports: PortCounts | None
    waiting: int = 0


class Watcher(Protocol):
    """Is told of each event of a connection with whose it is, before that is folded into others."""

    def closed(self, event: Close, account: Account) -> None:
        """A connection is over."""

    def waiting(self, event: TimeWait, account: Account) -> None:
        """A TIME_WAIT is born, or was there."""

    def waited(self, event: TimeWaitEnd, account: Account) -> None:
        """It is gone; `account` is whose it was when it was born."""

    def held(self, event: Held, account: Account) -> None:
        """A half-closed connection is held, or is in another state now."""

    def lost(self, event: Lost) -> None:
        """Something could not be recorded."""


class Aggregator:
    """Takes in events in order, gives a Snapshot at any time. Pure: the time is the events'."""

    def __init__(
        self,
        start: Start,
        filters: str = "",
        watcher: Watcher | None = None,
        *,
        with_recent: bool = True,
    ) -> None:
        """`with_recent`: whether snapshots are to have the last connections."""
        self._start = start
        self._filters = filters
        self._watcher = watcher
        self._accounts: dict[Key, Account] = {}
        self._by_owner: dict[int, tuple[Owner, Account]] = {}
        """By identity, which is quicker: readers and tracers give one object for one owner."""
        self._alike: dict[Key, list[Account]] = {}
        self._with_cgroup: dict[str, Key] = {}
        self._unknown = Account(("unknown",), "unknown", None, grade=Grade.UNKNOWN)
        self._others = Account(("others",), "other processes", None)
        self._total = Account(("all",), "all", None)
        self._closes: list[Close] = []
        """Which the sum takes in at once, at the end of add()."""
        self._time_waits: dict[int, Account] = {}
        self._crowd_waits: dict[int, int] = {}
        """The same of crowds: the crowd's number, and in the last bits the port. There may be very many."""
        self._crowds: dict[int, _Crowd] = {}
        """By number, those of which any wait."""
        self._latest_crowds: dict[Alike, _Crowd] = {}
        self._crowds_so_far = 0
        self._held: dict[int, tuple[Account, str]] = {}
        self._lost = 0
        self._preexisting: set[int] = set()
        self._ports = PortPools(start)
        self._flows = Flows(start.ts_us)
        self._paths = Paths(start.ts_us, with_recent=with_recent)
        self._sites = Sites()

    def take(self, reading: Reading) -> None:
        """Take in events, those of crowds at once; a watcher would not be told of these."""
        for closes in reading.closes:
            self._close_crowd(closes)
        if reading.closes:
            self._paths.take_latest(reading.latest)
        self.add(reading.events)
        for ends in reading.ends:
            self._end_crowd(ends)

    def add(self, events: Iterable[Event]) -> None:
        """Take in events."""
        for event in events:
            second = event.ts_us // SECOND
            if isinstance(event, Close):
                self._close(event, second)
            elif isinstance(event, TimeWait):
                self._time_wait(event, second)
            elif isinstance(event, TimeWaitEnd):
                self._time_wait_end(event)
            elif isinstance(event, Held):
                self._hold(event, second)
            elif isinstance(event, ConnectFailed):
                account = self._account(event.owner, second)
                self._ports.connect_failed(event, account)
                self._flows.connect_failed(event, account)
            elif isinstance(event, Counters):
                self._ports.counters(event)
            elif isinstance(event, Site):
                self._sites.site(event)
            elif isinstance(event, Lost):
                self._lose(event)
        self._total.close_all(self._closes)
        self._closes.clear()
        self._flows.follow()

    def crowd_waits(self) -> Iterator[TimeWait]:
        """The TIME_WAITs there are of crowds; without their times."""
        for conn, wait in self._crowd_waits.items():
            alike = self._crowds[wait >> _PORT_BITS].alike
            if alike.substate is not None:
                ends = alike.ends(conn, wait & _PORT)
                yield TimeWait(0, ends, alike.owner, alike.substate, preexisting=False)

    def is_waiting(self, conn: int) -> bool:
        """Has it a TIME_WAIT here?"""
        return conn in self._time_waits

    def is_preexisting(self, conn: int) -> bool:
        """Has it a TIME_WAIT that was there before?"""
        return conn in self._preexisting

    def is_held(self, conn: int) -> bool:
        """Is it held half-closed?"""
        return conn in self._held

    @property
    def settings(self) -> dict[int, dict[str, int | str]]:
        """By namespace, as they are now."""
        return self._ports.settings

    def settle(self, start: Start) -> None:
        """Take over settings as another part of the same recording found them."""
        self._ports.settings |= {int(netns): values for netns, values in start.sysctl.items()}

    def opened(self, held: Iterable[Held]) -> tuple[Opening, ...]:
        """Where those were opened of which that was looked at, most first."""
        return self._sites.opened(held)

    def looked_at(self) -> tuple[int, int]:
        """Closes of which the place was looked at, and those of them that are not resolved."""
        return self._sites.looked_at()

    def peaks(self) -> tuple[Peak, ...]:
        """Source ports over all the time there was."""
        return self._ports.peaks()

    def reset(self, now_us: int) -> None:
        """Count anew from `now_us` on; what is there stays, and so do the last two minutes' series."""
        for account in (*self._accounts.values(), self._unknown, self._others, self._total):
            account.reset()
        self._flows.reset()
        self._paths.reset(now_us)
        self._sites.reset()

    def snapshot(self, now_us: int, by: str = "process") -> Snapshot:
        """All rows, as of `now_us`; `by` is one of GROUPINGS."""
        accounts = [*self._accounts.values()]
        if self._others.pids:
            accounts.append(self._others)
        unknown = self._unknown
        if by != "process":
            accounts = grouped(by, accounts, self._flows, now_us // SECOND)
            unknown = remainder(self._total, accounts, now_us // SECOND)
        accounts.sort(key=lambda account: (-account.time_waits, -account.closes, account.name))
        return replace(
            self.gist(now_us),
            rows=tuple(self._row(account, now_us) for account in accounts),
            unknown=self._row(unknown, now_us),
            by=by,
            edges=self._paths.edges(now_us),
            ends=self._paths.ends(now_us),
            ages=self._paths.ages(),
            recent=self._recent(),
        )

    def gist(self, now_us: int) -> Snapshot:
        """All that a verdict looks at: a snapshot without rows, ways and connections."""
        return Snapshot(
            ts_us=now_us,
            elapsed_us=now_us - self._start.ts_us,
            host=self._start.host,
            kernel=self._start.kernel,
            hooks=self._start.hooks.get("source", "unknown"),
            filters=self._filters,
            rows=(),
            unknown=self._row(self._unknown, now_us),
            total=self._row(self._total, now_us),
            lost=self._lost,
            pools=self._ports.pools(now_us),
            flows=self._flows.flows(now_us),
            held=self._flows.held(self._sites.opened),
            overflows=self._flows.overflows(now_us),
            conflicts=self._flows.conflicts(now_us),
            preexisting=len(self._preexisting),
            settings=dict(self._ports.settings),
            sites=self._sites.found(),
        )

    @property
    def size(self) -> int:
        """What a gist goes through: it costs about as much as that many events."""
        return self._flows.size + self._ports.size

    def _recent(self) -> tuple[Closed, ...]:
        recent = self._paths.recent(self._account_of)
        if not self._sites:
            return recent
        place = self._sites.place
        return tuple(
            one if one.close.site is None else one._replace(place=place(one.close.site)) for one in recent
        )

    def _account_of(self, event: Close) -> Account:
        return self._account(event.owner, event.ts_us // SECOND)

    def _account(self, owner: Owner, second: int) -> Account:
        known = self._by_owner.get(id(owner))
        if known is not None and known[0] is owner:
            account = known[1]
            process = owner.process
            if account.folded_into is None and process is not None and account.name == process.comm:
                account.process = process
                account.active = second
                return account
        account = self._find_account(owner, second)
        if owner.process is not None and owner.process.cgroup is not None:
            if len(self._by_owner) >= _MAX_OWNERS:
                self._by_owner.clear()
            self._by_owner[id(owner)] = owner, account
        return account

    def _find_account(self, owner: Owner, second: int) -> Account:
        process = owner.process
        if process is None:
            return self._unknown
        alike: Key = (process.comm, process.cgroup)
        if process.cgroup is None:  # ended before it could be read: goes with its like
            alike = self._with_cgroup.get(process.comm, alike)
        account = self._accounts.get(alike)
        if account is None:
            key: Key = (process.pid, process.start_us)
            account = self._accounts.get(key)
            if account is None:
                if len(self._accounts) >= _MAX_ACCOUNTS:
                    self._retire(second)
                account = self._accounts[key] = Account(key, process.comm, process.cgroup)
                account.note_pid(process.pid)
                account = self._fold(alike, account, second)
            elif account.name != process.comm:
                account.name = process.comm  # exec, or a new title
                account.row = None
        account.note_pid(process.pid)
        account.note_grade(owner.grade)
        account.process = process
        account.active = second
        return account

    def _retire(self, second: int) -> None:
        """Make room: the longest idle half goes into one row of others."""
        for account in sorted(self._accounts.values(), key=lambda one: one.active)[: _MAX_ACCOUNTS // 2]:
            self._others.merge(account, second)
            account.folded_into = self._others
            del self._accounts[account.key]
        self._alike.clear()
        self._with_cgroup.clear()

    def _fold(self, alike: Key, account: Account, second: int) -> Account:
        same = self._alike.setdefault(alike, [])
        if account.cgroup is not None and account.name not in self._with_cgroup:
            self._with_cgroup[account.name] = alike
            same += self._alike.pop((account.name, None), [])
        same.append(account)
        if len(same) <= _FOLD_ABOVE:
            return account
        folded = Account(alike, account.name, account.cgroup)
        for one in same:
            folded.merge(one, second)
            one.folded_into = folded
            del self._accounts[one.key]
        del self._alike[alike]
        self._accounts[alike] = folded
        return folded

    def _close(self, event: Close, second: int) -> None:
        if event.ends.conn in self._held:
            self._release(event.ends.conn)
        account = self._account(event.owner, second)
        account.close(event, second)
        self._closes.append(event)
        self._ports.close(event)
        self._paths.close(event, account)
        self._sites.close(event, account)
        process = event.owner.process
        self._flows.close(event, account, process.pid if process else None)
        if self._watcher is not None:
            self._watcher.closed(event, account)

    def _time_wait(self, event: TimeWait, second: int) -> None:
        account = self._account(event.owner, second)
        account.time_wait(event, second)
        self._total.time_wait(event, second)
        self._time_waits[event.ends.conn] = account
        self._ports.time_wait(event, account)
        self._flows.time_wait(event)
        if event.preexisting:
            self._preexisting.add(event.ends.conn)
        if self._watcher is not None:
            self._watcher.waiting(event, account)

    def _close_crowd(self, closes: Closes) -> None:
        alike, second, number = closes.alike, closes.second, len(closes.conns)
        if self._held:
            for conn in self._held.keys() & set(closes.conns):
                self._release(conn)
                self._flows.let_go(conn)
        ordered = sorted(closes.ages_us)
        ages = counted(ordered)
        account = self._account(alike.owner, second)
        account.close_crowd(closes, ages)
        self._total.close_crowd(closes, ages)
        self._paths.close_crowd(closes, ordered)
        flow = self._flows.close_crowd(closes, ages, account)
        if alike.substate is None:
            return
        account.wait_crowd(number, second)
        self._total.wait_crowd(number, second)
        ports = self._ports.close_crowd(closes, account)
        crowd = self._crowd(alike, account, flow, ports)
        crowd.waiting += number
        first = crowd.number << _PORT_BITS
        self._crowd_waits.update(zip(closes.conns, [first | port for port in closes.ports], strict=True))

    def _crowd(
        self, alike: Alike, account: Account, flow: FlowCounts | None, ports: PortCounts | None
    ) -> _Crowd:
        crowd = self._latest_crowds.get(alike)
        if crowd is None or (crowd.account, crowd.flow, crowd.ports) != (account, flow, ports):
            self._crowds_so_far += 1
            crowd = _Crowd(self._crowds_so_far, alike, account, flow, ports)
            self._crowds[crowd.number] = self._latest_crowds[alike] = crowd
        return crowd

    def _end_crowd(self, ends: Ends) -> None:
        waiting = self._crowd_waits
        found = [waiting.pop(conn, _NONE) for conn in ends.conns]
        if ends.fin_wait2_us and max(ends.fin_wait2_us) > MOMENTS_US:
            for wait, waited_us in zip(found, ends.fin_wait2_us, strict=True):
                flow = None if wait == _NONE else self._crowds[wait >> _PORT_BITS].flow
                if flow is not None:
                    flow.lingering += waited_us > MOMENTS_US
        told = Counter([wait >> _PORT_BITS for wait in found])
        others = told.pop(_NONE, 0)
        for which, number in told.items():
            self._end_of_crowd(self._crowds[which], number, ends.second)
        self._total.end_crowd(len(found) - others)
        self._paths.end_crowd(ends, len(found) - others)
        if others:
            for at, wait in enumerate(found):
                if wait == _NONE:
                    self._time_wait_end(ends.make(at))

    def _end_of_crowd(self, crowd: _Crowd, number: int, second: int) -> None:
        crowd.account.present().end_crowd(number)
        if crowd.flow is not None:
            crowd.flow.time_wait_now -= number
        if crowd.ports is not None:
            crowd.ports.free(number, second)
        crowd.waiting -= number
        if not crowd.waiting:
            del self._crowds[crowd.number]
            if self._latest_crowds.get(crowd.alike) is crowd:
                del self._latest_crowds[crowd.alike]

    def _time_wait_end(self, event: TimeWaitEnd) -> None:
        if event.ends.conn in self._crowd_waits:
            lingered = () if event.fin_wait2_us is None else (event.fin_wait2_us,)
            alone = Ends(
                event.reason, event.ends.netns, event.ts_us, (event.ends.conn,), lingered, lambda _at: event
            )
            self._end_crowd(alone)
            return
        holder = self._time_waits.pop(event.ends.conn, None)
        if holder is not None:
            holder.present().time_wait_end()
            self._total.time_wait_end()
            if self._watcher is not None:
                self._watcher.waited(event, holder)
        self._ports.time_wait_end(event)
        self._flows.time_wait_end(event)
        self._paths.time_wait_end(event)
        self._preexisting.discard(event.ends.conn)

    def _hold(self, event: Held, second: int) -> None:
        self._release(event.ends.conn)
        account = self._account(event.owner, second)
        if event.state in ("CLOSE_WAIT", "FIN_WAIT2"):
            self._held[event.ends.conn] = account, event.state
            account.hold(event.state, 1)
            self._total.hold(event.state, 1)
            self._flows.hold(event, account)
        if self._watcher is not None:
            self._watcher.held(event, account)

    def _lose(self, event: Lost) -> None:
        self._lost += event.count
        if self._watcher is not None:
            self._watcher.lost(event)

    def _release(self, conn: int) -> None:
        held = self._held.pop(conn, None)
        if held is not None:
            account, state = held
            account.present().hold(state, -1)
            self._total.hold(state, -1)

    def _row(self, account: Account, now_us: int) -> Row:
        began = self._start.ts_us
        if account.row is not None:
            return account.row._replace(
                close_rate=account.close_series.rate(now_us, began),
                time_wait_rate=account.time_wait_series.rate(now_us, began),
                history=account.time_wait_series.values(now_us // SECOND),
            )
        account.settle()
        account.row = Row(
            key=account.row_key(),
            label=account.label(),
            grade=account.grade,
            cgroup=account.cgroup,
            role=account.role(),
            closes=account.closes,
            close_rate=account.close_series.rate(now_us, began),
            time_waits=account.time_waits,
            time_wait_rate=account.time_wait_series.rate(now_us, began),
            time_wait_now=account.time_wait_now,
            held_close_wait=account.close_wait,
            held_fin_wait2=account.fin_wait2,
            first_local=account.first_local,
            first_remote=account.first_remote,
            resets_sent=account.resets_sent,
            resets_received=account.resets_received,
            failed=account.failed,
            by_exit=account.by_exit,
            age_p50_us=account.ages.quantile(0.5),
            top_peer=account.top_peer(),
            history=account.time_wait_series.values(now_us // SECOND),
            pids=tuple(sorted(account.pids)[:MAX_NAMED_PIDS]),
            process=account.process,
            ways=Ways(account.way_close, account.way_shutdown, account.way_exit, account.way_unknown),
            age_p99_us=account.ages.quantile(0.99),
        )
        return account.row
