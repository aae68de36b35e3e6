"""What is counted for one row of WHO."""

from __future__ import annotations

from dataclasses import dataclass, field

from tracer.model import Close, Grade, TimeWait, TimeWaitEnd
from tracer.report.model import WhoRow
from tracer.report.quantiles import Durations
from tracer.series import SECOND

Shape = tuple[str, str, str, str, bool]
"""Role, first, how, via, and whether a TIME_WAIT followed."""

_BY_FIRST = {"local": "closed_first", "remote": "peer_first", "both": "both_first"}
_BY_HOW = {
    "reset_sent": "reset_sent",
    "reset_received": "reset_received",
    "timeout": "timed_out",
    "failed": "connect_failed",
}

ENDINGS = (*_BY_FIRST.values(), *_BY_HOW.values(), "unknown")
"""What ended a connection: the first FIN, or what took its place."""


@dataclass(slots=True, eq=False)
class Tally:
    """Counts of one process, one group, or all."""

    shapes: dict[Shape, int] = field(default_factory=dict)
    """Closes, by all that a row says of them: one count a close."""
    ages: tuple[Durations, Durations] = field(default_factory=lambda: (Durations(), Durations()))
    """Of connections that left a TIME_WAIT, and of those that did not."""
    born: int = 0
    orphans: int = 0
    """Born in FIN_WAIT2, ..."""
    orphan_ends: dict[str, int] = field(default_factory=dict)
    """... and ended there, by reason."""
    now: int = 0
    peak: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    rearmed: int = 0
    close_wait: int = 0
    fin_wait2: int = 0

    def close(self, event: Close) -> None:
        """A connection is over, or none came about."""
        shape = (event.role, event.first, event.how, event.via, event.time_wait)
        self.shapes[shape] = self.shapes.get(shape, 0) + 1
        if event.age_us is not None and event.how != "failed":
            self.ages[not event.time_wait].add(event.age_us)

    def time_wait(self, event: TimeWait) -> None:
        """A TIME_WAIT is born, or was there."""
        if not event.preexisting:
            self.born += 1
            self.orphans += event.substate == "FIN_WAIT2"
        self.now += 1
        self.peak = max(self.peak, self.now)

    def time_wait_end(self, event: TimeWaitEnd) -> None:
        """It is gone."""
        self.now -= 1
        self.ends[event.reason] = self.ends.get(event.reason, 0) + 1
        self.rearmed += event.rearmed > 0
        if event.lifetime_us is None and event.fin_wait2_us is not None:
            self.orphan_ends[event.reason] = self.orphan_ends.get(event.reason, 0) + 1

    def hold(self, state: str, change: int) -> None:
        """Count a half-closed connection in or out."""
        if state == "CLOSE_WAIT":
            self.close_wait += change
        else:
            self.fin_wait2 += change

    def merge(self, other: Tally) -> None:
        """Take over all that another holds; the peak is then at most what is said."""
        for shape, count in other.shapes.items():
            self.shapes[shape] = self.shapes.get(shape, 0) + count
        for mine, theirs in zip(self.ages, other.ages, strict=True):
            mine.merge(theirs)
        for ends, of_other in ((self.ends, other.ends), (self.orphan_ends, other.orphan_ends)):
            for reason, count in of_other.items():
                ends[reason] = ends.get(reason, 0) + count
        for name in ("born", "orphans", "now", "peak", "rearmed", "close_wait", "fin_wait2"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def row(self, key: str, label: str, grade: Grade | None, elapsed_us: int) -> WhoRow:
        """As WHO has it."""
        endings = dict.fromkeys(ENDINGS, 0)
        ways: dict[str, int] = {}
        closes = clients = servers = 0
        for (role, first, how, via, _), count in self.shapes.items():
            closes += count
            clients += count * (role == "client")
            servers += count * (role == "server")
            ending = ending_of(first, how)
            endings[ending] += count
            if ending == "closed_first":
                ways[via] = ways.get(via, 0) + count
        ages = Durations()
        for some in self.ages:
            ages.merge(some)
        return WhoRow(
            key=key,
            label=label,
            grade=grade,
            role=_role(clients, servers),
            closes=closes,
            closes_per_s=closes * SECOND / max(elapsed_us, 1),
            time_waits=self.born,
            time_wait_now=self.now,
            time_wait_peak=self.peak,
            time_wait_ends=_ranked(self.ends),
            orphans=self.orphans,
            orphan_ends=_ranked(self.orphan_ends),
            rearmed=self.rearmed,
            held_close_wait=self.close_wait,
            held_fin_wait2=self.fin_wait2,
            endings={name: count for name, count in endings.items() if count},
            ways=_ranked(ways),
            ages=ages.quantiles(),
        )


def ending_of(first: str, how: str) -> str:
    """One of ENDINGS."""
    return _BY_FIRST.get(first) or _BY_HOW.get(how, "unknown")


def _ranked(counts: dict[str, int]) -> dict[str, int]:
    """The most frequent first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _role(clients: int, servers: int) -> str:
    known = clients + servers
    if not known:
        return "unknown"
    if 10 * max(clients, servers) < 9 * known:
        return "mixed"
    return "client" if clients > servers else "server"


NOBODY = Tally().row("", "", None, 1)
"""Who did nothing."""
