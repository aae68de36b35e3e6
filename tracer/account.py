"""What is kept of one process, or of several alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tracer.crowd import Closes
from tracer.model import Close, Grade, Process, Row, TimeWait, Who
from tracer.series import SECOND, Histogram, Series
from tracer.text import endpoint

MAX_PIDS = 4096
"""More processes in a row are shown as at least so many."""
_MAX_PEERS = 256
MAX_NAMED_PIDS = 16
"""Of those that a row names."""

_GRADES = (Grade.CERTAIN, Grade.INFERRED, Grade.UNKNOWN)

Key = tuple[object, ...]


@dataclass(slots=True, eq=False)
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
    way_close: int = 0
    way_shutdown: int = 0
    way_exit: int = 0
    way_unknown: int = 0
    close_wait: int = 0
    fin_wait2: int = 0
    close_series: Series = field(default_factory=Series)
    time_wait_series: Series = field(default_factory=Series)
    ages: Histogram = field(default_factory=Histogram)
    peers: dict[tuple[str, int, bool], int] = field(default_factory=dict)
    active: int = 0
    """The second of its last event."""
    process: Process | None = None
    """The one of the last event."""
    folded_into: Account | None = None
    row: Row | None = None
    """As it was made last; None once anything but time has changed it."""
    _row_key: str = ""
    _unsettled: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    """Closes by role, first, how and via, which are few: not yet in the counts, but in `closes`."""
    _peers_refused: int = 0
    """New peers to be refused before room is looked for again."""

    def present(self) -> Account:
        """The account that now keeps this one's figures."""
        account = self
        while account.folded_into is not None:
            account = account.folded_into
        return account

    def close(self, event: Close, second: int) -> None:
        """Take in a close."""
        self.row = None
        self.closes += 1
        self.close_series.add(second)
        shape = event.role, event.first, event.how, event.via
        self._unsettled[shape] = self._unsettled.get(shape, 0) + 1
        if event.age_us is not None:
            self.ages.add(event.age_us)
        self._count_peer(_peer(event))

    def close_all(self, events: list[Close]) -> None:
        """Take in many: as close() of each, in a third of the time."""
        if not events:
            return
        self.row = None
        self.closes += len(events)
        for second, count in Counter([event.ts_us // SECOND for event in events]).items():
            self.close_series.add(second, count)
        shapes = Counter([(event.role, event.first, event.how, event.via) for event in events])
        for shape, count in shapes.items():
            self._unsettled[shape] = self._unsettled.get(shape, 0) + count
        ages = Counter([event.age_us for event in events if event.age_us is not None])
        for age_us, count in ages.items():
            self.ages.add(age_us, count)
        for peer, count in Counter(map(_peer, events)).items():
            self._count_peer(peer, count)

    def close_crowd(self, closes: Closes, ages: dict[int, int]) -> None:
        """Take in closes alike; `ages` are theirs, counted."""
        alike, number = closes.alike, len(closes.conns)
        self.row = None
        self.closes += number
        self.close_series.add(closes.second, number)
        shape = alike.role, alike.first, alike.how, alike.via
        self._unsettled[shape] = self._unsettled.get(shape, 0) + number
        self.ages.add_counted(ages)
        self._count_peer((alike.daddr, alike.service, alike.role == "server"), number)

    def settle(self) -> None:
        """Count what has come: to be called before any of the counts is read."""
        for (role, first, how, via), count in self._unsettled.items():
            self.clients += count * (role == "client")
            self.servers += count * (role == "server")
            self.first_local += count * (first == "local")
            self.first_remote += count * (first == "remote")
            self.resets_sent += count * (how == "reset_sent")
            self.resets_received += count * (how == "reset_received")
            self.failed += count * (how in ("failed", "timeout"))
            self.by_exit += count * (via == "exit")
            if first == "local" and how == "fin":
                self._count_way(via, count)
        self._unsettled.clear()

    def time_wait(self, event: TimeWait, second: int) -> None:
        """Take in a birth."""
        self.row = None
        self.time_wait_now += 1
        if not event.preexisting:
            self.time_waits += 1
            self.time_wait_series.add(second)

    def time_wait_end(self) -> None:
        """One is gone."""
        self.row = None
        self.time_wait_now -= 1

    def wait_crowd(self, number: int, second: int) -> None:
        """So many births."""
        self.row = None
        self.time_wait_now += number
        self.time_waits += number
        self.time_wait_series.add(second, number)

    def end_crowd(self, number: int) -> None:
        """So many are gone."""
        self.row = None
        self.time_wait_now -= number

    def hold(self, state: str, change: int) -> None:
        """Count a half-closed socket in or out."""
        self.row = None
        self.close_wait += change * (state == "CLOSE_WAIT")
        self.fin_wait2 += change * (state == "FIN_WAIT2")

    def merge(self, other: Account, second: int) -> None:
        """Take over all that another holds."""
        self.row = None
        self.settle()
        other.settle()
        self.pids |= other.pids
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.note_grade(other.grade)
        self.process = other.process or self.process
        self.close_series.merge(other.close_series, second)
        self.time_wait_series.merge(other.time_wait_series, second)
        self.ages.merge(other.ages)
        for peer, count in other.peers.items():
            self.peers[peer] = self.peers.get(peer, 0) + count

    def subtract(self, other: Account, second: int) -> None:
        """Take off what another holds, of counts and series; the median age is not known then."""
        self.row = None
        self.settle()
        other.settle()
        for name in _SUMS:
            setattr(self, name, getattr(self, name) - getattr(other, name))
        self.close_series.merge(other.close_series, second, -1)
        self.time_wait_series.merge(other.time_wait_series, second, -1)
        self.ages = Histogram()
        self.peers = {}

    def reset(self) -> None:
        """Count anew what happens; what is there now stays."""
        self.row = None
        self.settle()
        for name in _EVENTS:
            setattr(self, name, 0)
        self.ages = Histogram()
        self.peers = {}

    def note_pid(self, pid: int) -> None:
        """Count a process; of very many only that there are."""
        if pid not in self.pids and len(self.pids) < MAX_PIDS:
            self.row = None
            self.pids.add(pid)

    def note_grade(self, grade: Grade | None) -> None:
        """Keep the worst grade."""
        if grade and (self.grade is None or _GRADES.index(grade) > _GRADES.index(self.grade)):
            self.row = None
            self.grade = grade

    def label(self) -> str:
        """As a person reads it; may hold hostile text."""
        if not self.pids:
            return self.name
        if len(self.pids) == 1:
            return f"{self.name}[{next(iter(self.pids))}]"
        at_least = "+" if len(self.pids) >= MAX_PIDS else ""
        return f"{self.name} ×{len(self.pids)}{at_least}"

    def who(self) -> Who:
        """As findings name it; of many processes the lowest pids."""
        pids = tuple(sorted(self.pids)[:MAX_NAMED_PIDS])
        return Who(self.label(), self.name if self.pids else None, pids, self.grade, self.row_key())

    def row_key(self) -> str:
        """`Row.key`."""
        if not self._row_key:
            self._row_key = "/".join(map(str, self.key))
        return self._row_key

    def top_peer(self) -> str | None:
        """The most frequent peer; for a server with the port it was served on."""
        if not self.peers:
            return None
        address, port, is_server = max(self.peers, key=self.peers.__getitem__)
        return f"{address} (:{port})" if is_server else endpoint(address, port)

    def role(self) -> str:
        """What it mostly is; `mixed` when neither is nine tenths."""
        self.settle()
        known = self.clients + self.servers
        if not known:
            return "unknown"
        if 10 * max(self.clients, self.servers) < 9 * known:
            return "mixed"
        return "client" if self.clients > self.servers else "server"

    def _count_way(self, via: str, count: int) -> None:
        if via == "close":
            self.way_close += count
        elif via == "shutdown":
            self.way_shutdown += count
        elif via == "exit":
            self.way_exit += count
        else:
            self.way_unknown += count

    def _count_peer(self, peer: tuple[str, int, bool], times: int = 1) -> None:
        count = self.peers.get(peer, 0)
        if not count and len(self.peers) >= _MAX_PEERS:
            if self._peers_refused:
                self._peers_refused -= 1
                return
            # Keeps what is frequent: all that came once makes room.
            self.peers = {peer: count for peer, count in self.peers.items() if count > 1}
            if len(self.peers) >= _MAX_PEERS:
                # All came often: they lose half, so that one who comes often now gets in at last.
                self.peers = {peer: count // 2 for peer, count in self.peers.items()}
                self._peers_refused = _MAX_PEERS
                return
        self.peers[peer] = count + times


def _peer(event: Close) -> tuple[str, int, bool]:
    ends, is_server = event.ends, event.role == "server"
    return ends.daddr, ends.sport if is_server else ends.dport, is_server


_EVENTS = (
    "closes",
    "time_waits",
    "clients",
    "servers",
    "first_local",
    "first_remote",
    "resets_sent",
    "resets_received",
    "failed",
    "by_exit",
    "way_close",
    "way_shutdown",
    "way_exit",
    "way_unknown",
)
_SUMS = (*_EVENTS, "time_wait_now", "close_wait", "fin_wait2")
