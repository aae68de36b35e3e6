"""Events to a Snapshot: per process, how it ends connections and what that leaves behind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tracer.model import (
    Close,
    Endpoints,
    Event,
    Grade,
    Held,
    Lost,
    Owner,
    Row,
    Snapshot,
    Start,
    TimeWait,
    TimeWaitEnd,
)
from tracer.text import endpoint

HISTORY_SECONDS = 120
_RATE_SECONDS = 10
_FOLD_ABOVE = 4
"""More processes than this of one name and cgroup are one row, so that a fork server is."""
_MAX_ACCOUNTS = 4_000
_MAX_PEERS = 256
MAX_PIDS = 4096
"""More processes in a row are shown as at least so many."""

_GRADES = (Grade.CERTAIN, Grade.INFERRED, Grade.UNKNOWN)
_SECOND = 1_000_000

Key = tuple[object, ...]


class Series:
    """Counts in each of the last seconds."""

    __slots__ = ("_counts", "_second")

    def __init__(self) -> None:
        self._counts = [0] * HISTORY_SECONDS
        self._second = 0

    def add(self, second: int, count: int = 1) -> None:
        """Count in `second`; one that fell out of the window is dropped."""
        if second > self._second:
            self._advance(second)
        if second > self._second - HISTORY_SECONDS:
            self._counts[second % HISTORY_SECONDS] += count

    def values(self, second: int) -> tuple[int, ...]:
        """The counts up to `second`, oldest first."""
        if second > self._second:
            self._advance(second)
        at = second % HISTORY_SECONDS + 1
        return tuple(self._counts[at:] + self._counts[:at])

    def merge(self, other: Series, second: int) -> None:
        """Add another's counts, as of `second`."""
        for back, count in enumerate(reversed(other.values(second))):
            if count:
                self.add(second - back, count)

    def _advance(self, second: int) -> None:
        for stale in range(max(self._second + 1, second - HISTORY_SECONDS + 1), second + 1):
            self._counts[stale % HISTORY_SECONDS] = 0
        self._second = second


class Histogram:
    """Durations in buckets of at most a quarter of their size."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}

    def add(self, value: int, count: int = 1) -> None:
        """Count a duration."""
        bucket = _bucket(value)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def merge(self, other: Histogram) -> None:
        """Add another's counts."""
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def quantile(self, share: float) -> int | None:
        """The middle of the bucket in which that share of all is reached; None of nothing."""
        wanted = share * sum(self._buckets.values())
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                low, high = _bounds(bucket)
                return (low + high) // 2
        return None


def _bucket(value: int) -> int:
    if value < 4:  # noqa: PLR2004 - below, each value has a bucket
        return max(value, 0)
    shift = value.bit_length() - 3
    return (shift + 1) * 4 + (value >> shift) - 4


def _bounds(bucket: int) -> tuple[int, int]:
    if bucket < 4:  # noqa: PLR2004
        return bucket, bucket
    shift = bucket // 4 - 1
    low = (bucket % 4 + 4) << shift
    return low, low + (1 << shift) - 1


@dataclass(slots=True)
class Account:
    """What is kept of one row."""

    key: Key
    name: str
    cgroup: str | None
    pids: set[int] = field(default_factory=set)
    grade: Grade | None = None
    closes: int = 0
    time_waits: int = 0
    time_wait_now: int = 0
    clients: int = 0
    servers: int = 0
    first_local: int = 0
    first_remote: int = 0
    resets_sent: int = 0
    resets_received: int = 0
    failed: int = 0
    by_exit: int = 0
    close_wait: int = 0
    fin_wait2: int = 0
    close_series: Series = field(default_factory=Series)
    time_wait_series: Series = field(default_factory=Series)
    ages: Histogram = field(default_factory=Histogram)
    peers: dict[tuple[str, int, bool], int] = field(default_factory=dict)
    active: int = 0
    """The second of its last event."""
    folded_into: Account | None = None

    def present(self) -> Account:
        """The account that now keeps this one's figures."""
        account = self
        while account.folded_into is not None:
            account = account.folded_into
        return account

    def close(self, event: Close, second: int) -> None:
        """Take in a close."""
        self.closes += 1
        self.close_series.add(second)
        self.clients += event.role == "client"
        self.servers += event.role == "server"
        self.first_local += event.first == "local"
        self.first_remote += event.first == "remote"
        self.resets_sent += event.how == "reset_sent"
        self.resets_received += event.how == "reset_received"
        self.failed += event.how in ("failed", "timeout")
        self.by_exit += event.via == "exit"
        if event.age_us is not None:
            self.ages.add(event.age_us)
        self._count_peer(event.ends, is_server=event.role == "server")

    def time_wait(self, event: TimeWait, second: int) -> None:
        """Take in a birth."""
        self.time_wait_now += 1
        if not event.preexisting:
            self.time_waits += 1
            self.time_wait_series.add(second)

    def hold(self, state: str, change: int) -> None:
        """Count a half-closed socket in or out."""
        self.close_wait += change * (state == "CLOSE_WAIT")
        self.fin_wait2 += change * (state == "FIN_WAIT2")

    def merge(self, other: Account, second: int) -> None:
        """Take over all that another holds."""
        self.pids |= other.pids
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.note_grade(other.grade)
        self.close_series.merge(other.close_series, second)
        self.time_wait_series.merge(other.time_wait_series, second)
        self.ages.merge(other.ages)
        for peer, count in other.peers.items():
            self.peers[peer] = self.peers.get(peer, 0) + count

    def note_pid(self, pid: int) -> None:
        """Count a process; of very many only that there are."""
        if len(self.pids) < MAX_PIDS:
            self.pids.add(pid)

    def note_grade(self, grade: Grade | None) -> None:
        """Keep the worst grade."""
        if grade and (self.grade is None or _GRADES.index(grade) > _GRADES.index(self.grade)):
            self.grade = grade

    def top_peer(self) -> str | None:
        """The most frequent peer; for a server with the port it was served on."""
        if not self.peers:
            return None
        address, port, is_server = max(self.peers, key=self.peers.__getitem__)
        return f"{address} (:{port})" if is_server else endpoint(address, port)

    def role(self) -> str:
        """What it mostly is; `mixed` when neither is nine tenths."""
        known = self.clients + self.servers
        if not known:
            return "unknown"
        if 10 * max(self.clients, self.servers) < 9 * known:
            return "mixed"
        return "client" if self.clients > self.servers else "server"

    def _count_peer(self, ends: Endpoints, *, is_server: bool) -> None:
        peer = (ends.daddr, ends.sport if is_server else ends.dport, is_server)
        if peer not in self.peers and len(self.peers) >= _MAX_PEERS:
            # Keeps what is frequent: all that came once makes room.
            self.peers = {peer: count for peer, count in self.peers.items() if count > 1}
            if len(self.peers) >= _MAX_PEERS:
                return
        self.peers[peer] = self.peers.get(peer, 0) + 1


_SUMS = (
    "closes",
    "time_waits",
    "time_wait_now",
    "clients",
    "servers",
    "first_local",
    "first_remote",
    "resets_sent",
    "resets_received",
    "failed",
    "by_exit",
    "close_wait",
    "fin_wait2",
)


class Aggregator:
    """Takes in events in order, gives a Snapshot at any time. Pure: the time is the events'."""

    def __init__(self, start: Start, filters: str = "") -> None:
        self._start = start
        self._filters = filters
        self._accounts: dict[Key, Account] = {}
        self._alike: dict[Key, list[Account]] = {}
        self._with_cgroup: dict[str, Key] = {}
        self._unknown = Account(("unknown",), "unknown", None, grade=Grade.UNKNOWN)
        self._others = Account(("others",), "other processes", None)
        self._total = Account(("all",), "all", None)
        self._time_waits: dict[int, Account] = {}
        self._held: dict[int, tuple[Account, str]] = {}
        self._lost = 0

    def add(self, events: Iterable[Event]) -> None:
        """Take in events."""
        for event in events:
            second = event.ts_us // _SECOND
            if isinstance(event, Close):
                self._release(event.ends.conn)
                account = self._account(event.owner, second)
                account.close(event, second)
                self._total.close(event, second)
            elif isinstance(event, TimeWait):
                account = self._account(event.owner, second)
                account.time_wait(event, second)
                self._total.time_wait(event, second)
                self._time_waits[event.ends.conn] = account
            elif isinstance(event, TimeWaitEnd):
                holder = self._time_waits.pop(event.ends.conn, None)
                if holder is not None:
                    holder.present().time_wait_now -= 1
                    self._total.time_wait_now -= 1
            elif isinstance(event, Held):
                self._hold(event, second)
            elif isinstance(event, Lost):
                self._lost += event.count

    def snapshot(self, now_us: int) -> Snapshot:
        """All rows, as of `now_us`."""
        accounts = [*self._accounts.values()]
        if self._others.pids:
            accounts.append(self._others)
        accounts.sort(key=lambda account: (-account.time_waits, -account.closes, account.name))
        return Snapshot(
            ts_us=now_us,
            elapsed_us=now_us - self._start.ts_us,
            host=self._start.host,
            kernel=self._start.kernel,
            hooks=self._start.hooks.get("source", "unknown"),
            filters=self._filters,
            rows=tuple(self._row(account, now_us) for account in accounts),
            unknown=self._row(self._unknown, now_us),
            total=self._row(self._total, now_us),
            lost=self._lost,
        )

    def _account(self, owner: Owner, second: int) -> Account:
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
        account.note_pid(process.pid)
        account.note_grade(owner.grade)
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

    def _hold(self, event: Held, second: int) -> None:
        self._release(event.ends.conn)
        if event.state in ("CLOSE_WAIT", "FIN_WAIT2"):
            account = self._account(event.owner, second)
            self._held[event.ends.conn] = account, event.state
            account.hold(event.state, 1)
            self._total.hold(event.state, 1)

    def _release(self, conn: int) -> None:
        held = self._held.pop(conn, None)
        if held is not None:
            account, state = held
            account.present().hold(state, -1)
            self._total.hold(state, -1)

    def _row(self, account: Account, now_us: int) -> Row:
        second = now_us // _SECOND
        # The present second is not over: the window is whole ones and its part so far.
        elapsed = max(now_us - self._start.ts_us, _SECOND)
        window = min((_RATE_SECONDS - 1) * _SECOND + now_us % _SECOND, elapsed)
        history = account.time_wait_series.values(second)
        closes = account.close_series.values(second)
        return Row(
            key="/".join(map(str, account.key)),
            label=_label(account),
            grade=account.grade,
            cgroup=account.cgroup,
            role=account.role(),
            closes=account.closes,
            close_rate=_rate(closes, window),
            time_waits=account.time_waits,
            time_wait_rate=_rate(history, window),
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
            history=history,
        )


def _label(account: Account) -> str:
    if not account.pids:
        return account.name
    if len(account.pids) == 1:
        return f"{account.name}[{next(iter(account.pids))}]"
    at_least = "+" if len(account.pids) >= MAX_PIDS else ""
    return f"{account.name} ×{len(account.pids)}{at_least}"


def _rate(series: tuple[int, ...], window_us: int) -> float:
    return sum(series[-_RATE_SECONDS:]) * _SECOND / window_us
