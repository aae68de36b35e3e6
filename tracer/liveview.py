"""What is kept of a live run for those who look at it: the aggregate, and a trace begun on the way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from tracer.aggregate import Aggregator
from tracer.errors import TwtraceError
from tracer.model import Close, Counters, Event, Held, Snapshot, Start, TimeWait, TimeWaitEnd
from tracer.recording import Recording
from tracer.tracefile import TraceFile

Publish = Callable[[Snapshot], None]


class LiveView:
    """In the run's own thread, but for the attributes."""

    def __init__(self, start: Start, filters: str, publish: Publish) -> None:
        self._start = start
        self._publish = publish
        self._aggregator = Aggregator(start, filters)
        self._here: dict[int, TimeWait | Held] = {}
        """What a trace that begins now finds there."""
        self.by = "process"
        self.recording: Recording | None = None
        self.recording_failed: TwtraceError | None = None
        """What ended the last recording too early, if anything did."""

    def add(self, events: list[Event]) -> None:
        """Take in events."""
        self._aggregator.add(events)
        here = self._here
        for event in events:
            if isinstance(event, TimeWait | Held):
                here[event.ends.conn] = event
            elif isinstance(event, Close | TimeWaitEnd):
                here.pop(event.ends.conn, None)
        if self.recording:
            self._or_abandon(self.recording.write, events)

    def publish(self, now_us: int) -> None:
        """Hand out a snapshot."""
        self._publish(self._aggregator.snapshot(now_us, self.by))

    def reset(self, now_us: int) -> None:
        """Count anew."""
        self._aggregator.reset(now_us)

    def record(self, trace: TraceFile, account: Counters) -> None:
        """Begin a trace; `account` is the run's as of now."""
        self.recording_failed = None
        start = replace(self._start, sysctl=self._settings())
        self.recording = Recording(trace, start, self._here.values(), account)
        self._or_abandon(self.recording.write, [])

    def end_recording(self, account: Counters) -> None:
        """End it, if there is one."""
        if self.recording:
            self._or_abandon(self.recording.finish, account)
            self.recording = None

    def close(self) -> None:
        """Whatever still records ends where it is."""
        if self.recording:
            self.recording.abandon()
            self.recording = None

    def _settings(self) -> dict[str, dict[str, int | str]]:
        return {str(netns): values for netns, values in self._aggregator.settings.items()}

    def _or_abandon(self, write: Callable[..., None], what: object) -> None:
        """Have it written; a full disk ends the trace, not the view."""
        try:
            write(what)
        except (TwtraceError, BrokenPipeError) as error:
            if isinstance(error, BrokenPipeError):
                error = TwtraceError("the trace's reader has gone", "record to a file")
            self.recording_failed = error
            with suppress(OSError):
                self.close()
