"""The pipeline on the running kernel: source → filter → trace and aggregate → views."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING

from tracer.crowd import Reading
from tracer.errors import TwtraceError
from tracer.filters import Filters
from tracer.journal import Journal
from tracer.kernel.flags import LoadOptions
from tracer.kernel.hooks import AUTO, BEST
from tracer.kernel.loader import ProgramStats
from tracer.kernel.source import LiveSource
from tracer.liveview import LiveView, Publish
from tracer.model import Counters, End, Start
from tracer.record import Encoder
from tracer.recording import Recording
from tracer.tracefile import TraceFile
from tracer.writing import Writer

if TYPE_CHECKING:
    from tracer.symbols.resolver import SiteResolver

_LOOK_EVERY_S = 0.1
"""The kernel side wakes us only when a ring fills; so we look by ourselves."""
_LOOK_AT_LEISURE_S = 0.5
"""Where nobody sees events before there is a snapshot: beside a busy load each look finds cold caches."""

_ACCOUNT_EVERY_US = 10_000_000

_COLLECT_AFTER = 50_000
"""Objects, not 700: events are acyclic, and each look at them costs a third of what reading them does."""

Order = Callable[[LiveView, LiveSource], None]
"""To be carried out in the run's own thread."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to do."""

    filters: Filters
    argv: tuple[str, ...]
    interval_s: float
    ring_mib: int
    hooks: str = AUTO
    """`auto`, or the one source of TIME_WAIT facts to use."""
    duration_s: float | None = None
    with_states: bool = False
    sites: str = "off"
    """One of SITES."""
    with_recent: bool = True
    """Whether snapshots are to have the last connections."""


class LiveRun:
    """One run, from attaching to the last line; run() may be called once, in any thread."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal | None = None,
        *,
        on_attached: Callable[[], None] | None = None,
        is_over: Callable[[], bool] | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare; nothing is loaded before run().

        `notify` is told at once when the hooks are not the best; without it the
        caller has `fallback` to tell.

        `on_attached` is called once every later event will be seen; `is_over`
        several times a second: the run ends when it says so.
        """
        self._plan = plan
        self._journal = journal
        self._on_attached = on_attached
        self._is_over = is_over
        self._notify = notify
        self._encoder = Encoder()
        self._stop = threading.Event()
        self._orders: SimpleQueue[Order] = SimpleQueue()
        self._source: LiveSource | None = None
        self._began_us = 0
        self._view: LiveView | None = None
        self.on_loading: Callable[[], None] = lambda: None
        """Called before the kernel verifies the programs, for long and without Python's lock."""
        self.interval_s = plan.interval_s
        """Between two snapshots; may be set at any time, by any thread."""
        self.fallback: str | None = None
        """Why the hooks are not the best, if so; after they are attached."""
        self.end: End | None = None
        """What the trace ended with, after run()."""
        self.programs: tuple[ProgramStats, ...] = ()
        """The kernel's account of our programs, after run()."""

    def stop(self) -> None:
        """Ask for the end: drain, write the last line, return."""
        self._stop.set()
        self._wake()

    @property
    def stopped(self) -> bool:
        """Was it asked to end?"""
        return self._stop.is_set()

    def so_far(self) -> End | None:
        """What happened until now, but for the kernel's own account; None before it is attached."""
        source = self._source
        if source is None:
            return None
        now_us = source.now_us()
        if self._journal:
            return self._journal.so_far(now_us)
        return self._encoder.so_far(now_us, now_us - self._began_us, {}, {})

    def flush(self) -> None:
        """Let all of the trace so far be in its file soon."""
        if self._journal:
            self._journal.flush()

    @property
    def playhead(self) -> None:
        """None: time is not under control."""
        return None

    @property
    def recording(self) -> Recording | None:
        """The trace that is written on the way."""
        return self._view.recording if self._view else None

    @property
    def recording_failed(self) -> TwtraceError | None:
        """What ended the last one too early, if anything did."""
        return self._view.recording_failed if self._view else None

    def group_by(self, by: str) -> None:
        """Have the next snapshots' rows stand for that, one of GROUPINGS; from any thread."""

        def order(view: LiveView, _source: LiveSource) -> None:
            view.by = by

        self._order(order)

    def reset(self) -> None:
        """Count anew; from any thread."""
        self._order(lambda view, source: view.reset(source.now_us()))

    def start_recording(self, path: str) -> None:
        """Begin a trace amid the run; from any thread. Raises UsageError if there can be no such file."""
        writer = Writer(TraceFile(path))
        self._order(lambda view, source: view.record(writer, self._account(source)))

    def stop_recording(self) -> None:
        """End it; from any thread."""
        self._order(lambda _view, _source: self._end_recording())

    def run(self, publish: Publish | None = None) -> None:
        """Run to the end; `publish` gets a Snapshot every interval and at the end.

        Raises TwtraceError, or BrokenPipeError when a reader has gone.
        """
        with ExitStack() as held:
            resolver = held.enter_context(_site_resolver()) if self._plan.sites != "off" else None
            self._run(publish, resolver)

    def _run(self, publish: Publish | None, resolver: SiteResolver | None) -> None:
        plan = self._plan
        source = LiveSource(
            LoadOptions(
                filters=plan.filters,
                hooks=plan.hooks,
                with_states=plan.with_states,
                sites=plan.sites,
                ring_mib=plan.ring_mib,
            ),
            resolver,
            self.on_loading,
        )
        try:
            start = source.start(plan.argv)
            self._note_fallback(start)
            self._began_us = start.ts_us
            if publish:
                filters = plan.filters.describe()
                self._view = LiveView(start, filters, publish, with_recent=plan.with_recent)
            older = source.preexisting()
            # Written last: whoever sees it knows that all later events will be seen.
            if self._journal:
                self._journal.begin(start)
            self._source = source
            for reading in older:
                self._take(reading)
            self._account(source)
            if self._on_attached:
                self._on_attached()
            with _rare_collections():
                self._follow(source, start)
            self._account(source)
            self._end_recording()
            ledger = source.stop(self._take)
            now = source.now_us()
            if self._view:
                self._view.publish(now)
            if self._journal:
                self.end = self._journal.finish(Counters(now, source.totals(), ledger))
            else:
                self.end, _ = self._encoder.end(now, now - start.ts_us, source.totals(), ledger)
            self.programs = source.programs()
        finally:
            if self._view:
                self._view.close()
            source.close()

    def _follow(self, source: LiveSource, start: Start) -> None:
        plan = self._plan
        deadline = None if plan.duration_s is None else start.ts_us + int(plan.duration_s * 1e6)
        next_tick = start.ts_us
        next_account = start.ts_us + _ACCOUNT_EVERY_US
        source.in_crowds = self._in_crowds
        while not self._stop.is_set():
            now = source.now_us()
            if now >= next_tick:
                self._take(Reading(source.lost()))
                if self._view:
                    self._view.publish(now)
                next_tick = now + int(self.interval_s * 1e6)
            if now >= next_account:
                self._account(source)
                # Asking goes namespace by namespace: a hundredth of our time at most.
                next_account = now + max(_ACCOUNT_EVERY_US, 100 * (source.now_us() - now))
            if (deadline is not None and now >= deadline) or (self._is_over and self._is_over()):
                break
            source.wait(self._pause_s(source.now_us(), next_tick, deadline))
            for reading in source.read():
                self._take(reading)
            if self._journal:
                self._journal.check()
                if self._journal.is_due(now):
                    self._journal.turn(self._account(source))
            while self._view and not self._orders.empty():
                self._orders.get()(self._view, source)
                next_tick = 0  # whoever gave it waits to see it

    def _pause_s(self, now_us: int, *due_us: int | None) -> float:
        at_leisure = self._in_crowds() and self._plan.sites == "off"
        pause_s = _LOOK_AT_LEISURE_S if at_leisure else _LOOK_EVERY_S
        return min([pause_s, *(max(0, due - now_us) / 1e6 for due in due_us if due is not None)])

    def _order(self, order: Order) -> None:
        self._orders.put(order)
        self._wake()

    def _wake(self) -> None:
        if self._source:
            self._source.wake()

    def _account(self, source: LiveSource) -> Counters:
        """The run's account, once all that it counts has been taken in; that is taken in, too."""
        counters = source.account(self._take)
        self._take(Reading([counters]))
        return counters

    def _in_crowds(self) -> bool:
        """Whether nobody asks for single events: neither a trace nor a filter of ours."""
        return self._view is not None and not (
            self._journal or self._view.recording or self._plan.filters.beyond_kernel
        )

    def _end_recording(self) -> None:
        if self._view and self._view.recording and self._source:
            self._view.end_recording(self._account(self._source))

    def _note_fallback(self, start: Start) -> None:
        source = start.hooks["source"]
        if self._plan.hooks != AUTO or source == BEST:
            return
        self.fallback = f"TIME_WAIT facts come from the {source} hooks; {start.hooks['why']}"
        if self._notify:
            self._notify(self.fallback)

    def _take(self, reading: Reading) -> None:
        if not reading:
            return
        wanted = replace(reading, events=self._plan.filters.passing(reading.events))
        if self._journal:
            self._journal.write(wanted.events)
        else:
            self._encoder.count(wanted)
        if self._view:
            self._view.take(wanted)


def _site_resolver() -> SiteResolver:
    from tracer.symbols.resolver import SiteResolver  # noqa: PLC0415 - for few runs

    return SiteResolver()


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Python's cyclic collector seldom, and never over what is there already."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
