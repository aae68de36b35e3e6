"""What is kept of a live run for those who look at it: the aggregate, and a trace begun on the way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from tracer.aggregate import Aggregator
from tracer.crowd import Reading
from tracer.errors import TwtraceError
from tracer.model import Counters, Snapshot, Start
from tracer.recording import Here, Recording
from tracer.writing import Writer

Publish = Callable[[Snapshot], None]


class LiveView:
    """In the run's own thread, but for the attributes."""

    def __init__(self, start: Start, filters: str, publish: Publish, *, with_recent: bool = True) -> None:
        self._start = start
        self._publish = publish
        self._aggregator = Aggregator(start, filters, with_recent=with_recent)
        self._here = Here()
        self.by = "process"
        self.recording: Recording | None = None
        self.recording_failed: TwtraceError | None = None
        """What ended the last recording too early, if anything did."""

    def take(self, reading: Reading) -> None:
        """Take in events; while a trace is written none of them are in crowds."""
        self._aggregator.take(reading)
        self._here.take(reading.events)
        for closes in reading.closes:
            self._here.forget(closes.conns)
        for ends in reading.ends:
            self._here.forget(ends.conns)
        if self.recording:
            self._or_abandon(self.recording.write, reading.events)

    def publish(self, now_us: int) -> None:
        """Hand out a snapshot."""
        self._publish(self._aggregator.snapshot(now_us, self.by))

    def reset(self, now_us: int) -> None:
        """Count anew."""
        self._aggregator.reset(now_us)

    def record(self, writer: Writer, account: Counters) -> None:
        """Begin a trace; `account` is the run's as of now."""
        self.recording_failed = None
        start = replace(self._start, sysctl=self._settings())
        self.recording = Recording(
            writer, start, [*self._here.now(), *self._aggregator.crowd_waits()], account
        )
        self._or_abandon(self.recording.write, [])

    def end_recording(self, account: Counters) -> None:
        """End it, if there is one."""
        if self.recording:
            self._or_abandon(self.recording.finish, account)
            self.recording = None

    def close(self) -> None:
        """Whatever still records ends where it is."""
        if self.recording:
            with suppress(TwtraceError, OSError):  # which has been told, or nobody is there to be
                self.recording.abandon()
            self.recording = None

    def _settings(self) -> dict[str, dict[str, int | str]]:
        return {str(netns): values for netns, values in self._aggregator.settings.items()}

    def _or_abandon(self, write: Callable[..., object], what: object) -> None:
        """Have it written; a full disk ends the trace, not the view."""
        try:
            write(what)
        except (TwtraceError, BrokenPipeError) as error:
            if isinstance(error, BrokenPipeError):
                error = TwtraceError("the trace's reader has gone", "record to a file")
            self.recording_failed = error
            self.close()
