"""What a report counts beside what every Snapshot has: in memory bounded by owners and destinations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tracer.account import Account
from tracer.model import (
    UNKNOWN_OWNER,
    Close,
    Endpoints,
    Grade,
    Held,
    Lost,
    Opening,
    Owner,
    TimeWait,
    TimeWaitEnd,
)
from tracer.report.grouping import last_state, name_of
from tracer.report.model import Bin, Dwell, NeverClosed, Reason, Table, Way, WhoRow
from tracer.report.population import Populations
from tracer.report.quantiles import Durations, by_doubling
from tracer.report.tally import Tally
from tracer.series import SECOND
from tracer.text import endpoint

MAX_ROWS = 8_000
"""More groups than this are one row of others."""
OTHERS = "others"

_PASSED = (
    "SYN_SENT", "NEW_SYN_RECV", "SYN_RECV", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSING",
    "FIN_WAIT2 (orphan)", "TIME_WAIT", "CLOSE_WAIT", "LAST_ACK",
)  # fmt: skip
_MAX_SECONDS = 600
_STATES_AT_ONCE = 2_000
_PEERS = 3

_Group = tuple[Account, str, str, int, int]
"""Who holds it, state, role, namespace, the service's port."""


@dataclass(slots=True)
class _Ended:
    count: int = 0
    in_fin_wait2: int = 0
    rearmed: int = 0
    times: Durations = field(default_factory=Durations)


class Collector:
    """A Watcher: told by an Aggregator what happens, and whose it is."""

    def __init__(
        self, began_us: int, by: str = "process", also: Callable[[Close, Account], None] | None = None
    ) -> None:
        """`also` is told of each close, too."""
        self._by = by
        self._also = also
        self._by_account: dict[Account, Tally] = {}
        self._by_name: dict[str | None, Tally] = {}
        self._name_of = None if by in ("process", "state") else name_of(by)
        self._total = Tally()
        self._dwells: dict[str, Durations] = {state: Durations() for state in _PASSED}
        self._waiting: dict[int, Tally] = {}
        """TIME_WAITs by connection, if rows are no processes: whose row."""
        self._held: dict[int, tuple[Held, Account, Tally | None]] = {}
        self._closed_late: Counter[_Group] = Counter()
        self._ended: dict[str, _Ended] = {}
        self._states: list[dict[str, int]] = []
        """Of closes, until there are enough to count their times in one go."""
        self._lifetimes: tuple[Counter[int], Counter[int]] = Counter(), Counter()
        self._populations = Populations(began_us)
        self.unseen = 0
        """Closes of connections that are older than the trace."""
        self.preexisting = 0
        self.lost_by: Counter[str] = Counter()

    def closed(self, event: Close, account: Account) -> None:
        """A connection is over."""
        conn = event.ends.conn
        if conn in self._held:
            self._released(conn)
        self._of(account).close(event)
        if self._by != "process":
            tally = self._named(self._name(event.ends, event.owner, event.role, event))
            tally.close(event)
            if event.time_wait:
                self._waiting[conn] = tally
        self._states.append(event.states)
        if len(self._states) >= _STATES_AT_ONCE:
            self._count_states()
        if event.age_us is None:
            self.unseen += 1
        if self._also is not None:
            self._also(event, account)

    def waiting(self, event: TimeWait, account: Account) -> None:
        """A TIME_WAIT is born, or was there."""
        self._of(account).time_wait(event)
        self._total.time_wait(event)
        self.preexisting += event.preexisting
        self._populations.change(event.ts_us, account, 1)
        if self._by != "process":
            tally = self._waiting.get(event.ends.conn)
            if tally is None:
                tally = self._named(self._name(event.ends, event.owner, "unknown", None))
                self._waiting[event.ends.conn] = tally
            tally.time_wait(event)

    def waited(self, event: TimeWaitEnd, account: Account) -> None:
        """It is gone; `account` is whose it was when it was born."""
        self._of(account).time_wait_end(event)
        self._populations.change(event.ts_us, account, -1)
        self._total.now -= 1
        if self._by != "process":
            tally = self._waiting.pop(event.ends.conn, None)
            if tally is not None:
                tally.time_wait_end(event)
        ended = self._ended.get(event.reason)
        if ended is None:
            ended = self._ended[event.reason] = _Ended()
        ended.count += 1
        ended.rearmed += event.rearmed > 0
        if event.fin_wait2_us is not None:
            self._dwells["FIN_WAIT2 (orphan)"].add(event.fin_wait2_us)
            ended.in_fin_wait2 += event.lifetime_us is None
        if event.lifetime_us is not None:
            ended.times.add(event.lifetime_us)
            self._dwells["TIME_WAIT"].add(event.lifetime_us)
            second = min(event.lifetime_us // SECOND, _MAX_SECONDS)
            self._lifetimes[event.reason != "expired"][second] += 1

    def held(self, event: Held, account: Account) -> None:
        """A half-closed connection is held; in another state than those two it is not any more."""
        conn = event.ends.conn
        if conn in self._held:
            self._released(conn)
        if event.state not in ("CLOSE_WAIT", "FIN_WAIT2"):
            return
        tally = None
        if self._by != "process":
            name = (
                event.state if self._by == "state" else self._name(event.ends, event.owner, event.role, None)
            )
            tally = self._named(name)
            tally.hold(event.state, 1)
        self._of(account).hold(event.state, 1)
        self._held[conn] = event, account, tally

    def lost(self, event: Lost) -> None:
        """Something could not be recorded."""
        self.lost_by[event.what] += event.count

    def processes(self, elapsed_us: int) -> Table:
        """WHO, by process."""
        together: dict[Account, Tally] = {}
        for account, tally in self._by_account.items():
            present = account.present()
            if present is account and present not in together:
                together[present] = tally
            else:
                together.setdefault(present, Tally()).merge(tally)
        unknown = WHO_UNKNOWN
        rows = []
        for account, tally in together.items():
            row = tally.row(account.row_key(), account.label(), account.grade, elapsed_us)
            if account.key == ("unknown",):
                unknown = row
            else:
                rows.append(row)
        return self._table("process", rows, unknown, elapsed_us)

    def who(self, elapsed_us: int) -> Table:
        """WHO, by what was asked for."""
        if self._by == "process":
            return self.processes(elapsed_us)
        unknown = WHO_UNKNOWN
        rows = []
        for name, tally in self._by_name.items():
            if name is None:
                unknown = tally.row("unknown", "unknown", Grade.UNKNOWN, elapsed_us)
            else:
                rows.append(tally.row(name, name, None, elapsed_us))
        return self._table(self._by, rows, unknown, elapsed_us)

    def ways(self) -> tuple[Way, ...]:
        """As Report.ways."""
        closes: Counter[tuple[str, str, str, str]] = Counter()
        waited: Counter[tuple[str, str, str, str]] = Counter()
        for shape, count in self._sum().shapes.items():
            closes[shape[:4]] += count
            waited[shape[:4]] += count * shape[4]
        return tuple(Way(*way, count, waited[way]) for way, count in closes.most_common())

    def ended(self) -> int:
        """Closes by a process: it sent a FIN or a reset."""
        return sum(
            count
            for (_, _, how, via, _), count in self._sum().shapes.items()
            if via != "unknown" and how != "failed"
        )

    def dwells(self) -> tuple[Dwell, ...]:
        """As Report.dwells."""
        self._count_states()
        return tuple(Dwell(state, times.quantiles()) for state, times in self._dwells.items() if times.count)

    def reasons(self) -> tuple[Reason, ...]:
        """As Report.reasons."""
        made = [
            Reason(reason, ended.count, ended.in_fin_wait2, ended.rearmed, ended.times.quantiles())
            for reason, ended in self._ended.items()
        ]
        return tuple(sorted(made, key=lambda one: -one.count))

    def ages(self) -> tuple[Bin, ...]:
        """As Report.ages."""
        return by_doubling(*self._sum().ages)

    def lifetimes(self) -> tuple[Bin, ...]:
        """As Report.lifetimes."""
        expired, other = self._lifetimes
        seconds = expired.keys() | other.keys()
        if not seconds:
            return ()
        return tuple(
            Bin(second * SECOND, (second + 1) * SECOND, expired[second], other[second])
            for second in range(min(seconds), max(seconds) + 1)
        )

    def never_closed(
        self, now_us: int, opened: Callable[[Iterable[Held]], tuple[Opening, ...]]
    ) -> tuple[NeverClosed, ...]:
        """As Report.never_closed; `opened` tells where they were."""
        groups: dict[_Group, list[Held]] = {}
        for event, account, _ in self._held.values():
            groups.setdefault(_group(event, account.present()), []).append(event)
        late: Counter[_Group] = Counter()
        for (account, state, role, netns, port), count in self._closed_late.items():
            late[account.present(), state, role, netns, port] += count
        made = []
        for group, events in groups.items():
            account, state, role, netns, port = group
            since = [event.ts_us for event in events]
            peers = Counter(_peer(event.ends, role) for event in events)
            made.append(
                NeverClosed(
                    who=account.who(),
                    state=state,
                    role=role,
                    netns=netns,
                    port=port,
                    count=len(events),
                    longest_us=now_us - min(since),
                    shortest_us=now_us - max(since),
                    from_before=sum(event.preexisting for event in events),
                    closed_late=late[group],
                    peers=tuple(peer for peer, _ in peers.most_common(_PEERS)),
                    opened=opened(events),
                )
            )
        return tuple(sorted(made, key=lambda one: (one.state != "CLOSE_WAIT", -one.count)))

    def _count_states(self) -> None:
        spent: dict[str, list[int]] = {state: [] for state in self._dwells}
        for states in self._states:
            for state, spent_us in states.items():
                if state in spent:
                    spent[state].append(spent_us)
        for state, times in spent.items():
            self._dwells[state].add_all(times)
        self._states.clear()

    @property
    def populations(self) -> Populations:
        """TIME_WAITs over time."""
        return self._populations

    @property
    def total(self) -> Tally:
        """All that happened."""
        return self._sum()

    def _sum(self) -> Tally:
        total = Tally()
        for tally in self._by_account.values():
            total.merge(tally)
        total.peak = self._total.peak
        return total

    def _table(self, by: str, rows: list[WhoRow], unknown: WhoRow, elapsed_us: int) -> Table:
        rows.sort(key=lambda row: (-row.time_waits, -row.closes, -row.time_wait_now, row.label))
        return Table(by, tuple(rows), unknown, self._sum().row("all", "all", None, elapsed_us))

    def _of(self, account: Account) -> Tally:
        tally = self._by_account.get(account)
        if tally is None:
            if len(self._by_account) >= 2 * MAX_ROWS:
                self._compact()
            tally = self._by_account[account] = Tally()
        return tally

    def _compact(self) -> None:
        """What the aggregate has folded is one here, too."""
        for account in [one for one in self._by_account if one.folded_into is not None]:
            tally = self._by_account.pop(account)
            self._by_account.setdefault(account.present(), Tally()).merge(tally)

    def _name(self, ends: Endpoints, owner: Owner, role: str, closed: Close | None) -> str | None:
        if self._name_of is not None:
            return self._name_of(ends, owner, role)
        return "TIME_WAIT" if closed is None else last_state(closed)

    def _named(self, name: str | None) -> Tally:
        tally = self._by_name.get(name)
        if tally is None:
            if len(self._by_name) >= MAX_ROWS and name is not None:
                name = OTHERS
            tally = self._by_name.setdefault(name, Tally())
        return tally

    def _released(self, conn: int) -> None:
        event, account, tally = self._held.pop(conn)
        self._of(account).hold(event.state, -1)
        if tally is not None:
            tally.hold(event.state, -1)
        group = _group(event, account)
        if group in self._closed_late or len(self._closed_late) < MAX_ROWS:
            self._closed_late[group] += 1


WHO_UNKNOWN = Tally().row("unknown", "unknown", UNKNOWN_OWNER.grade, 1)
"""When nothing is."""


def _group(event: Held, account: Account) -> _Group:
    port = event.ends.sport if event.role == "server" else event.ends.dport
    return account, event.state, event.role, event.ends.netns, port


def _peer(ends: Endpoints, role: str) -> str:
    return ends.daddr if role == "server" else endpoint(ends.daddr, ends.dport)
