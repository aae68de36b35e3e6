"""A recording read to its end, and judged on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from tracer.account import Account
from tracer.aggregate import Aggregator
from tracer.audit import NO_END
from tracer.errors import TwtraceError
from tracer.filters import Filters
from tracer.model import Close, End, Event, Held, Site, Snapshot, Start, TimeWait, TimeWaitEnd
from tracer.ports import Peak
from tracer.reader import Reader
from tracer.report.collect import Collector
from tracer.report.limits import Facts, limits_of
from tracer.report.model import Edge, PoolPeak, Report, Sentence, Table
from tracer.report.sentences import sentence
from tracer.series import SECOND
from tracer.verdict import Verdicts
from tracer.whatif import Change, WhatIf

JUDGED_EVERY_US = 5 * SECOND
"""If as much has come as there is to judge, ..."""
_JUDGED_AT_LEAST_US = 60 * SECOND
"""... or at least so often: of a day with little traffic, judging would take longer than reading."""

_STRETCH = 2_000
"""Lines between two looks at which recording is furthest behind."""

_ALL = Filters()

Item = Start | Event | End


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for."""

    by: str = "process"
    """One of GROUPINGS."""
    filters: Filters = _ALL
    changes: tuple[Change, ...] = ()


class Part:
    """One file, of which the first line has been read."""

    def __init__(
        self, lines: Iterable[bytes], name: str = "", named: Callable[[Site], Site] = lambda site: site
    ) -> None:
        """`named` may know more of a site than the trace. Raises TwtraceError if that is none."""
        self.name = name
        self._named = named
        self._reader = Reader()
        self._items: Iterator[Item] = self._reader.read(lines)
        start = next(iter(self.some(1)), None)
        if not isinstance(start, Start):
            raise TwtraceError(
                f"{name or 'this'} is no trace: its first line is not a `start` line",
                "give a file of `twtrace record`",
            )
        self.start = start
        self.run = start.run
        """The same for all files of one recording; None: it is the only one."""
        self.number = start.part
        """Which of them, from 1 on."""
        self.end: End | None = None
        """Its last line, once read."""

    def some(self, number: int = _STRETCH) -> list[Item]:
        """The next lines; fewer than so many at the end. Raises TwtraceError if one cannot be read."""
        try:
            items = islice(self._items, number)
            return [self._named(item) if isinstance(item, Site) else item for item in items]
        except TwtraceError as error:
            if not self.name:
                raise
            raise type(error)(f"{self.name}: {error.cause}", error.hint) from error

    def doubts(self) -> list[str]:
        """What is wrong with it, as far as its reader has seen; that it was cut off is told by `end`."""
        return [str(doubt) for doubt in self._reader.doubts if doubt.text != NO_END]

    @property
    def doubted(self) -> int:
        """How many doubts there are; not all are told."""
        return self._reader.doubted - (self.end is None)


class Reading:
    """One recording: a file, or the files it was written to one after another."""

    def __init__(
        self,
        parts: list[Part],
        wanted: Wanted,
        also: Callable[[Close, Account], None] | None = None,
    ) -> None:
        """`parts` in order; `also` is told of each close, and whose it is."""
        self.parts = parts
        self._wanted = wanted
        self.start = parts[0].start
        self.collector = Collector(self.start.ts_us, wanted.by, also)
        self._aggregator = Aggregator(self.start, wanted.filters.describe(), self.collector)
        self._verdicts = Verdicts()
        self._what_if = WhatIf(self.start) if wanted.changes else None
        self.now_us = self.start.ts_us
        self._due_us = self.now_us + JUDGED_EVERY_US
        self._judged_us = self.now_us
        self._unjudged = 0
        """Lines since then."""
        self._pending: list[Event] = []
        self._at = 0

    def read_some(self) -> bool:
        """Take in some lines; False at the end. Raises TwtraceError if a line cannot be read."""
        part = self.parts[self._at]
        items = part.some()
        latest_us = max([item.ts_us for item in items], default=self.now_us)
        if latest_us < self._due_us:
            self._pending += _events(items)
        else:
            for item in items:
                if item.ts_us >= self._due_us:
                    self._judge(item.ts_us)
                self._pending += _events([item])
        if items and isinstance(items[-1], End):
            part.end = items[-1]
        self.now_us = max(self.now_us, latest_us)
        self._flush()
        if len(items) == _STRETCH:
            return True
        if self._at + 1 == len(self.parts):
            return False
        self._at += 1
        self._aggregator.settle(self.parts[self._at].start)
        return True

    def report(self) -> Report:
        """Of all that was read."""
        snapshot = self._aggregator.snapshot(self.now_us)
        self._verdicts.note(snapshot)
        collector, elapsed_us = self.collector, snapshot.elapsed_us
        processes = collector.processes(elapsed_us)
        never_closed = collector.never_closed(self.now_us, self._aggregator.opened)
        what_if = self._what_if
        return Report(
            start=self.start,
            parts=tuple(part.number for part in self.parts),
            whole=all(part.end is not None for part in self.parts),
            snapshot=snapshot,
            findings=self._verdicts.findings(),
            outcomes=tuple(map(what_if.outcome, self._wanted.changes)) if what_if is not None else (),
            limits=limits_of(self._facts(snapshot, processes)),
            who=processes if self._wanted.by == "process" else collector.who(elapsed_us),
            processes=processes,
            sentences=tuple(Sentence(row.key, sentence(row, never_closed)) for row in processes.rows),
            ways=collector.ways(),
            edges=tuple(
                Edge(old, new, traffic.number)
                for (old, new), traffic in sorted(snapshot.edges.items(), key=lambda item: -item[1].number)
            ),
            dwells=collector.dwells(),
            reasons=collector.reasons(),
            born=processes.total.time_waits,
            preexisting=collector.preexisting,
            remaining=processes.total.time_wait_now,
            ages=collector.ages(),
            lifetimes=collector.lifetimes(),
            pools=tuple(map(_pool, self._aggregator.peaks())),
            never_closed=never_closed,
            population=collector.populations.made(self.now_us),
        )

    def _facts(self, snapshot: Snapshot, processes: Table) -> Facts:
        several = len(self.parts) > 1
        looked_at, unresolved = self._aggregator.looked_at()
        return Facts(
            starts=tuple(part.start for part in self.parts),
            ends=tuple(part.end for part in self.parts),
            numbers=tuple(part.number for part in self.parts),
            doubts=tuple(
                f"{part.name}: {doubt}" if several else doubt
                for part in self.parts
                for doubt in part.doubts()
            ),
            doubted=sum(part.doubted for part in self.parts),
            filters=self._wanted.filters.describe(),
            lost=dict(self.collector.lost_by),
            preexisting=self.collector.preexisting,
            unseen=self.collector.unseen,
            ended=self.collector.ended(),
            looked_at=looked_at,
            unresolved=unresolved,
            snapshot=snapshot,
            processes=processes,
        )

    def _judge(self, now_us: int) -> None:
        self._flush()
        judged = self._due_us
        if self._unjudged >= self._aggregator.size or judged - self._judged_us >= _JUDGED_AT_LEAST_US:
            self._verdicts.note(self._aggregator.gist(judged))
            self._unjudged, self._judged_us = 0, judged
        self._due_us += JUDGED_EVERY_US * ((now_us - self._due_us) // JUDGED_EVERY_US + 1)

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        self._unjudged += len(pending)
        events = self._wanted.filters.passing(pending)
        if self._at:
            events = [event for event in map(self._as_known, events) if event is not None]
        self._aggregator.add(events)
        if self._what_if is not None:
            for event in events:
                self._what_if.add(event)

    def _as_known(self, event: Event) -> Event | None:
        """An event of a later part: what it finds there, an earlier one has told of already."""
        if isinstance(event, TimeWait) and event.preexisting:
            return None if self._aggregator.is_waiting(event.ends.conn) else event
        if isinstance(event, Held) and event.preexisting:
            return None if self._aggregator.is_held(event.ends.conn) else event
        if isinstance(event, TimeWaitEnd) and event.preexisting:
            conn = event.ends.conn
            if self._aggregator.is_waiting(conn) and not self._aggregator.is_preexisting(conn):
                return event._replace(preexisting=False)
        return event


def read(lines: Iterable[bytes], changes: tuple[Change, ...] = ()) -> Report:
    """Read one trace to its end. Raises TwtraceError."""
    reading = Reading([Part(lines)], Wanted(changes=changes))
    while reading.read_some():
        pass
    return reading.report()


def _events(items: list[Item]) -> list[Event]:
    return [item for item in items if not isinstance(item, Start | End)]


def _pool(peak: Peak) -> PoolPeak:
    netns, _, saddr, daddr, dport = peak.key
    took_us = peak.peak_us - peak.since_us
    return PoolPeak(
        netns=netns,
        saddr=saddr,
        daddr=daddr,
        dport=dport,
        size=peak.size,
        peak=peak.peak,
        peak_us=peak.peak_us,
        since_us=peak.since_us,
        growth=peak.peak * SECOND / took_us if took_us else 0.0,
        now=peak.now,
        failures=peak.failures,
        who=peak.who,
    )
