"""A recorded trace as what a screen draws: its time runs, stands still, and goes back."""

from __future__ import annotations

import io
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from threading import Condition
from typing import IO, Protocol, runtime_checkable

import orjson

from tracer.aggregate import Aggregator
from tracer.audit import NO_END
from tracer.errors import TwtraceError, UsageError
from tracer.filters import Filters
from tracer.lines import MAX_NUMBER
from tracer.model import End, Event, Snapshot, Start
from tracer.reader import Doubt, Reader
from tracer.series import SECOND
from tracer.tracelines import MAX_LINE, DamagedError, blocks_of, lines_of, unpacked

MAX_SPEED = 1000.0

_ALL = Filters()

_STRETCH = 500
"""Lines between two looks at whether they are still wanted: some milliseconds."""

_FOREVER = 1 << 63
_BLOCK = 1 << 18
_HINT = "give a file of `twtrace record`"


@dataclass(frozen=True, slots=True)
class Playhead:
    """Where a replay stands."""

    began_us: int
    at_us: int
    """The time of the last snapshot; while a seek is under way, where it leads."""
    ended_us: int | None
    """None while not known."""
    speed: float
    playing: bool
    whole: bool
    """False: the trace was cut off."""


@runtime_checkable
class Controls(Protocol):
    """What a replay can be told, from any thread. Of another moment there is a snapshot at once."""

    def play(self) -> None:
        """Let time run; at the end, from the beginning."""

    def pause(self) -> None:
        """Let time stand still."""

    def seek(self, at_us: int) -> None:
        """Go to that moment, or to the nearer end of the trace."""

    def step(self, intervals: int) -> None:
        """Pause, and go so many intervals of the trace's time on, or back."""

    def set_speed(self, speed: float) -> None:
        """Let time run so many times as fast: more than 0, at most MAX_SPEED."""


class Trace:
    """A trace that can be read again and again: one that comes through a pipe is copied first.

    It is what is there at the beginning, should someone still write to it.
    """

    def __init__(self, path: str) -> None:
        """Raises TwtraceError if that is no trace."""
        self.name = "standard input" if path == "-" else path
        if path == "-" and sys.stdin.isatty():
            raise UsageError("standard input is a terminal, no trace", _HINT)
        self._damage: str | None = None
        with ExitStack() as opened:
            source = opened.enter_context(unpacked(path))
            if (
                path != "-"
                and isinstance(source, io.BufferedReader)
                and stat.S_ISREG(os.fstat(source.fileno()).st_mode)
            ):
                self._file: IO[bytes] = source
            else:
                self._file = opened.enter_context(self._copy(blocks_of(source)))
            file = self._file
            self.start = self._read_start()
            last, self._size = _last_whole_line(file)
            self.ended_us, has_end = _end(last)
            """None: the last line is not one of a trace."""
            self.is_whole = has_end and self._size == file.seek(0, os.SEEK_END)
            self.opened = opened.pop_all()
            """To be left when all is read."""

    def lines(self) -> Iterator[bytes]:
        """All whole lines; of several such iterators only the newest goes on."""
        return lines_of(self._blocks())

    def _blocks(self) -> Iterator[bytes]:
        self._file.seek(0)
        left = self._size
        while left and (block := self._file.read(min(left, _BLOCK))):
            left -= len(block)
            yield block

    @contextmanager
    def _copy(self, blocks: Iterator[bytes]) -> Iterator[IO[bytes]]:
        with tempfile.TemporaryFile() as copy:
            is_line = False
            try:
                for block in blocks:
                    copy.write(block)
                    is_line = is_line or b"\n" in block
                    if not is_line and copy.tell() > MAX_LINE:  # it may be anything, and endless
                        break
            except DamagedError as error:  # it is cut off there
                self._damage = error.cause
            except OSError as error:
                raise TwtraceError(
                    f"cannot copy {self.name} to {tempfile.gettempdir()}: {error.strerror}",
                    "give a file, or a place with more room in TMPDIR",
                ) from error
            yield copy

    def _read_start(self) -> Start:
        self._file.seek(0)
        first = self._file.readline(MAX_LINE)
        if not first:
            raise UsageError(
                f"{self.name}: {self._damage}" if self._damage else f"{self.name} is empty", _HINT
            )
        for start in Reader().read([first]):
            if isinstance(start, Start):
                return start
        raise UsageError(f"{self.name} is empty", _HINT)


def _last_whole_line(file: IO[bytes]) -> tuple[bytes, int]:
    """That line, and where it ends."""
    at = file.seek(0, os.SEEK_END)
    tail = b""
    while at and tail.count(b"\n") < 2 and len(tail) <= 2 * MAX_LINE:  # noqa: PLR2004 - its own, and that of the line before
        block = min(at, _BLOCK)
        at -= block
        file.seek(at)
        tail = file.read(block) + tail
    end = tail.rfind(b"\n") + 1
    return tail[tail.rfind(b"\n", 0, max(end - 1, 0)) + 1 : end], at + end


def _end(line: bytes) -> tuple[int | None, bool]:
    """When a trace with this last line ended, if it tells, and whether that is its `end` line."""
    try:
        value = orjson.loads(line)
        ended_us, kind = value["ts_us"], value["type"]
    except (ValueError, TypeError, KeyError):
        return None, False
    is_time = isinstance(ended_us, int) and 0 <= ended_us <= MAX_NUMBER
    return (ended_us, kind == "end") if is_time else (None, False)


class Playback:
    """The aggregate of a trace as of one moment of it, which may be moved forth and back.

    As of a moment are the lines before the first that tells of a later one. Lines are nearly in order of
    time; one that is late was told late when the trace was taken, too.
    """

    def __init__(self, trace: Trace, filters: Filters = _ALL) -> None:
        self._trace = trace
        self._filters = filters
        self._reader = Reader()
        self._doubts: list[Doubt] = []
        self._reset_us: int | None = None
        self.began_us = trace.start.ts_us
        self.ended_us = None if trace.ended_us is None else max(trace.ended_us, self.began_us)
        """When it is over; None while not known."""
        self._rewind()

    def go(self, to_us: int, is_unwanted: Callable[[], bool] = lambda: False) -> bool:
        """Go to a moment, or to the end if that is earlier.

        Asks now and then whether that `is_unwanted` by now; returns False then, at a moment on the way.
        Raises TwtraceError if a line cannot be read, as of the line before.
        """
        if self._reset_us is not None and to_us < self._reset_us:
            self._reset_us = None
        if to_us < self.at_us:
            self._rewind()
        if self._reset_us is not None and not self._is_reset:
            if not self._advance(self._reset_us, is_unwanted):
                return False
            self.reset()
        return self._advance(to_us, is_unwanted)

    def reset(self) -> None:
        """Count anew from this moment on; earlier moments are as they were."""
        self._aggregator.reset(self.at_us)
        self._reset_us = self.at_us
        self._is_reset = True

    @property
    def doubts(self) -> list[Doubt]:
        """The first of those that came up so far, however often it was read."""
        return max(self._doubts, self._reader.doubts, key=len)

    def snapshot(self, by: str = "process") -> Snapshot:
        """As of this moment."""
        return self._aggregator.snapshot(self.at_us, by)

    def _rewind(self) -> None:
        self._aggregator = Aggregator(self._trace.start, self._filters.describe())
        self._doubts = self.doubts
        self._items = self._reader.read(self._trace.lines())
        next(self._items, None)  # the `start` line
        self._ahead: Event | End | None = None
        self._is_reset = False
        self._latest_us = self.began_us
        self.at_us: int = self.began_us
        self.is_over = False
        """Are there no more lines?"""

    def _advance(self, to_us: int, is_unwanted: Callable[[], bool]) -> bool:
        # At the end all lines count, also those that tell of a later moment than the last one.
        limit = inf if self.ended_us is not None and to_us >= self.ended_us else to_us
        try:
            while self._take_stretch(limit):
                if is_unwanted():
                    return False
        finally:
            self.at_us = max(self.at_us, self._latest_us)
        if self.is_over:
            self.ended_us = self.at_us
        else:
            self.at_us = max(self.at_us, to_us)
        return True

    def _take_stretch(self, limit: float) -> bool:
        """Take in some lines; False if those were all up to `limit`."""
        events: list[Event] = []
        try:
            for _ in range(_STRETCH):
                item = self._ahead or self._next()
                if item is None or item.ts_us > limit:
                    self._ahead = item
                    self.is_over = item is None
                    return False
                self._ahead = None
                self._latest_us = max(self._latest_us, item.ts_us)
                if not isinstance(item, End):
                    events.append(item)
        finally:
            self._aggregator.add(self._filters.passing(events))
        return True

    def _next(self) -> Event | End | None:
        item = next(self._items, None)
        return None if isinstance(item, Start) else item


@dataclass(frozen=True, slots=True)
class _Order:
    """What the run's thread does next, and publishes then."""

    by: str
    goal_us: int | None = None
    """Where to go; None: stay."""
    until: float | None = None
    """By the clock, when to publish whatever is reached; None: not before the goal is."""
    reset: bool = False


class ReplayRun:
    """A replay, from the trace's first moment until it is stopped; an Engine and its Controls.

    run() may be called once, in any thread; everything else at any time, from any thread.
    """

    def __init__(
        self, path: str, speed: float = 1.0, *, interval_s: float = 0.5, filters: Filters = _ALL
    ) -> None:
        """Raises TwtraceError if there is no trace at `path`; `-` is standard input, read to its end."""
        self._speed = _checked(speed)
        self._interval_s = interval_s
        self._trace = Trace(path)
        self._playback = Playback(self._trace, filters)
        # Reentrant: a signal handler may call stop() while its thread is in here.
        self._changed = Condition()
        self._stopped = False
        self._playing = True
        self._at_us = self._playback.began_us
        self._ended_us = self._playback.ended_us
        self._goal_us: int | None = self._at_us
        self._by = "process"
        self._redraw = False
        self._reset = False
        self._since = self._ticked = 0.0
        """When, by the clock, it was `_at_us`; and the last tick's turn."""

    @property
    def start(self) -> Start:
        """What the trace was taken on, and how."""
        return self._trace.start

    @property
    def warning(self) -> str | None:
        """What is wrong with the trace, for when the screen is gone."""
        found = []
        if not self._trace.is_whole:
            found.append(f"{self._trace.name} was cut off: played up to its last whole line")
        doubts = [doubt for doubt in self._playback.doubts if self._trace.is_whole or doubt.text != NO_END]
        if doubts:
            more = f", and {len(doubts) - 1} more" if len(doubts) > 1 else ""
            found.append(f"{self._trace.name}: {doubts[0]}{more}")
        return f"warning: {'; '.join(found)}" if found else None

    @property
    def playhead(self) -> Playhead:
        """Where it stands."""
        with self._changed:
            return Playhead(
                self._playback.began_us,
                self._stands_at_us,
                self._ended_us,
                self._speed,
                self._playing,
                self._trace.is_whole,
            )

    @property
    def interval_s(self) -> float:
        """Between two snapshots while time runs; of a step, in the trace's time."""
        return self._interval_s

    @interval_s.setter
    def interval_s(self, interval_s: float) -> None:
        with self._changed:
            self._interval_s = interval_s
            self._changed.notify_all()

    def stop(self) -> None:
        """Have run() return soon."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def group_by(self, by: str) -> None:
        """Have rows stand for that, one of GROUPINGS."""
        with self._changed:
            self._by = by
            self._redraw = True
            self._changed.notify_all()

    def reset(self) -> None:
        """Count anew from here on; going back to before here undoes it."""
        with self._changed:
            self._reset = self._redraw = True
            self._changed.notify_all()

    def play(self) -> None:
        """Let time run; at the end, from the beginning."""
        with self._changed:
            if not self._playing and self._stands_at_us == self._ended_us:
                self._goal_us = self._playback.began_us
            self._playing = True
            self._since = self._ticked = time.monotonic()
            self._changed.notify_all()

    def pause(self) -> None:
        """Let time stand still."""
        with self._changed:
            self._playing = False
            self._changed.notify_all()

    def seek(self, at_us: int) -> None:
        """Go to that moment, or to the nearer end of the trace."""
        with self._changed:
            last = at_us if self._ended_us is None else min(at_us, self._ended_us)
            self._goal_us = max(last, self._playback.began_us)
            self._changed.notify_all()

    def step(self, intervals: int) -> None:
        """Pause, and go so many intervals of the trace's time on, or back."""
        with self._changed:
            self._playing = False
            self.seek(self._stands_at_us + int(intervals * self._interval_s * SECOND))

    def set_speed(self, speed: float) -> None:
        """Let time run so many times as fast: more than 0, at most MAX_SPEED."""
        with self._changed:
            self._speed = _checked(speed)
            self._since = time.monotonic()
            self._changed.notify_all()

    def run(self, publish: Callable[[Snapshot], None]) -> None:
        """Publish a snapshot every interval while time runs, and of each moment gone to, until stop().

        At the end of the trace time stands still. Raises TwtraceError if a line cannot be read; what came
        before is published.
        """
        with self._trace.opened:
            while order := self._next_order():
                try:
                    is_worth_seeing = self._carry_out(order)
                except TwtraceError:
                    publish(self._playback.snapshot(order.by))
                    raise
                if is_worth_seeing:
                    publish(self._playback.snapshot(order.by))

    def at_end(self) -> Snapshot:
        """As of the end of the trace; instead of run()."""
        with self._trace.opened:
            self._playback.go(_FOREVER)
            return self._playback.snapshot()

    @property
    def _stands_at_us(self) -> int:
        return self._at_us if self._goal_us is None else self._goal_us

    def _next_order(self) -> _Order | None:
        """Wait for something to do; None: stop."""
        with self._changed:
            while not self._stopped:
                if self._goal_us is not None:
                    return _Order(self._by, self._goal_us)
                if self._redraw:
                    reset, self._reset, self._redraw = self._reset, False, False
                    return _Order(self._by, reset=reset)
                now = time.monotonic()
                due = self._ticked + self._interval_s
                if self._playing and now >= due:
                    passed_us = int((now - self._since) * self._speed * SECOND)
                    self._since = self._ticked = now
                    return _Order(self._by, self._at_us + passed_us, until=now + self._interval_s)
                self._changed.wait(due - now if self._playing else None)
        return None

    def _carry_out(self, order: _Order) -> bool:
        """Do it; False if something else was wanted before there was anything to see."""
        if order.goal_us is None:
            if order.reset:
                self._playback.reset()
            return True
        if order.until is not None:
            is_there = self._playback.go(order.goal_us, partial(self._is_due, order.until))
            self._note(is_behind=not is_there)
            return True
        is_there = self._playback.go(order.goal_us, partial(self._is_superseded, order.goal_us))
        if is_there:
            self._note(goal_us=order.goal_us)
        return is_there

    def _is_due(self, until: float) -> bool:
        with self._changed:
            is_over = self._stopped or not self._playing or self._goal_us is not None
        return is_over or time.monotonic() >= until

    def _is_superseded(self, goal_us: int) -> bool:
        with self._changed:
            return self._stopped or self._goal_us != goal_us

    def _note(self, *, goal_us: int | None = None, is_behind: bool = False) -> None:
        """Tell where the playback has come to."""
        with self._changed:
            self._at_us, self._ended_us = self._playback.at_us, self._playback.ended_us
            if self._goal_us == goal_us:
                self._goal_us = None
            if is_behind:
                self._since = time.monotonic()
            elif goal_us is not None:
                self._since = self._ticked = time.monotonic()
            if self._playback.is_over and self._goal_us is None:
                self._playing = False


def _checked(speed: float) -> float:
    if not 0 < speed <= MAX_SPEED:
        raise ValueError(f"speed {speed} is not above 0 and at most {MAX_SPEED:g}")
    return speed
