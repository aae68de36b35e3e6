"""The trace of a whole run, in one file or in parts that are each a trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from secrets import token_hex

from tracer.errors import TwtraceError
from tracer.model import Counters, End, Event, Start, Totals
from tracer.recording import Here, Recording
from tracer.tracefile import TraceFile, part_path
from tracer.writing import Writer


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a part is full."""

    size: int | None = None
    """Bytes of its file."""
    every_us: int | None = None


class Journal:
    """Takes events from begin() to finish(); close() ends it as it is."""

    def __init__(self, path: str, *, force: bool = False, rotation: Rotation | None = None) -> None:
        """Create the first file. Raises UsageError."""
        self._path = path
        self._force = force
        self._rotation = rotation
        self._number = 1
        self._run = token_hex(8)
        self._here = Here()
        self._settings: dict[str, dict[str, int | str]] = {}
        self._ending: list[Writer] = []
        self._ends: list[End] = []
        self._start: Start | None = None
        self._recording: Recording | None = None
        self._writer = self._opened()

    @property
    def path(self) -> str:
        """Of the file that is written now."""
        return self._writer.path

    def begin(self, start: Start) -> None:
        """The first line. Raises as write() does."""
        self._start = replace(start, run=self._run) if self._rotation else start
        self._settings = dict(start.sysctl)
        self._recording = Recording(self._writer, self._start)
        self._recording.write([])

    def write(self, events: Sequence[Event]) -> None:
        """Have events written. Raises TwtraceError or BrokenPipeError once the writing has failed."""
        self._begun().write(events)
        if self._rotation:
            self._here.take(events)
            for event in events:
                if isinstance(event, Counters):
                    self._settings |= event.sysctl

    def check(self) -> None:
        """Raise what the writing met, if anything."""
        for writer in (*self._ending, self._writer):
            writer.check()

    def is_due(self, now_us: int) -> bool:
        """Whether the part is full."""
        if self._rotation is None:
            return False
        recording, size, every_us = self._begun(), self._rotation.size, self._rotation.every_us
        return (size is not None and recording.size >= size) or (
            every_us is not None and now_us - recording.began_us >= every_us
        )

    def turn(self, account: Counters) -> None:
        """End the part and begin the next; `account` is the run's as of now, and has been written."""
        recording = self._begun()
        self._number += 1
        try:
            writer = self._opened()
        except TwtraceError:
            recording.finish(account)
            raise
        self._ends.append(recording.finish(account, wait=False))
        ended = [one for one in self._ending if one.has_ended]
        for one in ended:
            one.check()
        self._ending = [*(one for one in self._ending if one not in ended), self._writer]
        self._writer = writer
        start = replace(self._begun_as(), part=self._number, sysctl=self._settings)
        self._recording = Recording(writer, start, self._here.now(), account)
        self._recording.write([])

    def finish(self, account: Counters) -> End:
        """Write the last line; how the whole of it ended. Raises as write() does."""
        self._ends.append(self._begun().finish(account))
        for writer in self._ending:
            writer.close()
        return _whole(self._ends, self._begun_as(), account)

    def so_far(self, now_us: int) -> End:
        """What has been written, but for the kernel's own account."""
        now = Counters(now_us, {}, {})
        return _whole([*self._ends, self._begun().so_far(now_us)], self._begun_as(), now)

    def flush(self) -> None:
        """Let all so far be in the file soon."""
        if self._recording:
            self._recording.flush()

    def close(self) -> None:
        """Close what is open, as it is."""
        for writer in (*self._ending, self._writer):
            with suppress(TwtraceError, OSError):
                writer.close()

    def _opened(self) -> Writer:
        path = part_path(self._path, self._number) if self._rotation else self._path
        return Writer(TraceFile(path, force=self._force))

    def _begun(self) -> Recording:
        if self._recording is None:
            raise ValueError("begin() comes first")
        return self._recording

    def _begun_as(self) -> Start:
        if self._start is None:
            raise ValueError("begin() comes first")
        return self._start


def _whole(ends: list[End], start: Start, account: Counters) -> End:
    if len(ends) == 1:
        return ends[0]
    lines: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for end in ends:
        lines.update(end.totals.lines)
        ended.update(end.totals.ended)
        lost.update(end.lost)
    totals = Totals(
        lines=dict(lines),
        born=sum(end.totals.born for end in ends),
        preexisting=ends[0].totals.preexisting,
        ended=dict(ended),
        kernel=account.kernel,
        overflowed=sum(end.totals.overflowed for end in ends),
        ledger=account.ledger,
    )
    return End(account.ts_us, totals, dict(lost), account.ts_us - start.ts_us)
