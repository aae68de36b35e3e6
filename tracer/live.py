"""The pipeline on the running kernel: source → filter → trace and aggregate → views."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from tracer.aggregate import Aggregator
from tracer.filters import Filters
from tracer.kernel.flags import LoadOptions
from tracer.kernel.hooks import AUTO, BEST
from tracer.kernel.loader import ProgramStats
from tracer.kernel.source import LiveSource
from tracer.model import Counters, End, Event, Lost, Snapshot, Start
from tracer.record import Encoder, TraceFile

_LOOK_EVERY_S = 0.1
"""The kernel side wakes us only when a ring fills; so we look by ourselves."""

_ACCOUNT_EVERY_US = 10_000_000

Publish = Callable[[Snapshot], None]


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


class LiveRun:
    """One run, from attaching to the last line; run() may be called once, in any thread."""

    def __init__(
        self,
        plan: Plan,
        trace: TraceFile | None = None,
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
        self._trace = trace
        self._on_attached = on_attached
        self._is_over = is_over
        self._notify = notify
        self._encoder = Encoder()
        self._stop = threading.Event()
        self.fallback: str | None = None
        """Why the hooks are not the best, if so; after they are attached."""
        self.end: End | None = None
        """What the trace ended with, after run()."""
        self.programs: tuple[ProgramStats, ...] = ()
        """The kernel's account of our programs, after run()."""

    def stop(self) -> None:
        """Ask for the end: drain, write the last line, return."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Was it asked to end?"""
        return self._stop.is_set()

    def run(self, publish: Publish | None = None) -> None:
        """Run to the end; `publish` gets a Snapshot every interval and at the end.

        Raises TwtraceError, or BrokenPipeError when a reader has gone.
        """
        plan = self._plan
        source = LiveSource(
            LoadOptions(
                filters=plan.filters,
                hooks=plan.hooks,
                with_states=plan.with_states,
                ring_mib=plan.ring_mib,
            )
        )
        try:
            start = source.start(plan.argv)
            self._note_fallback(start)
            aggregator = Aggregator(start, plan.filters.describe()) if publish else None
            older = source.preexisting()
            # Written last: whoever sees it knows that all later events will be seen.
            if self._trace:
                self._trace.write([self._encoder.start(start)])
            self._take([*older, *source.account()], aggregator)
            if self._on_attached:
                self._on_attached()
            self._follow(source, start, aggregator, publish)
            self._take(source.account(), aggregator)
            events, ledger = source.stop()
            self._take(events, aggregator)
            now = source.now_us()
            if publish and aggregator:
                publish(aggregator.snapshot(now))
            self.end, line = self._encoder.end(now, now - start.ts_us, source.totals(), ledger)
            if self._trace:
                self._trace.write([line])
            self.programs = source.programs()
        finally:
            source.close()

    def _follow(
        self, source: LiveSource, start: Start, aggregator: Aggregator | None, publish: Publish | None
    ) -> None:
        plan = self._plan
        deadline = None if plan.duration_s is None else start.ts_us + int(plan.duration_s * 1e6)
        next_tick = start.ts_us
        next_account = start.ts_us + _ACCOUNT_EVERY_US
        while not self._stop.is_set():
            now = source.now_us()
            if now >= next_tick:
                self._take(source.lost(), aggregator)
                if publish and aggregator:
                    publish(aggregator.snapshot(now))
                next_tick = now + int(plan.interval_s * 1e6)
            if now >= next_account:
                self._take(source.account(), aggregator)
                # Asking goes namespace by namespace: a hundredth of our time at most.
                next_account = now + max(_ACCOUNT_EVERY_US, 100 * (source.now_us() - now))
            if (deadline is not None and now >= deadline) or (self._is_over and self._is_over()):
                break
            source.wait(min(_LOOK_EVERY_S, plan.interval_s))
            self._take(source.read(), aggregator)

    def _note_fallback(self, start: Start) -> None:
        source = start.hooks["source"]
        if self._plan.hooks != AUTO or source == BEST:
            return
        self.fallback = f"TIME_WAIT facts come from the {source} hooks; {start.hooks['why']}"
        if self._notify:
            self._notify(self.fallback)

    def _take(self, events: list[Event], aggregator: Aggregator | None) -> None:
        if not events:
            return
        passes = self._plan.filters
        wanted = [
            event
            for event in events
            if isinstance(event, Lost | Counters)
            or (passes.pass_ends(event.ends) and passes.pass_owner(event.owner))
        ]
        if self._trace:
            self._trace.write([self._encoder.event(event) for event in wanted])
        else:
            for event in wanted:
                self._encoder.note(event)
        if aggregator:
            aggregator.add(wanted)
