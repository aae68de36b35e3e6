"""A thread that writes a trace, so that a slow disk does not keep us from reading the kernel's ring."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from tracer.tracefile import TraceFile

ROOM = 64 << 20
"""Bytes of lines that may wait for the disk."""

_FLUSH_EVERY_S = 1.0


class Writer:
    """Takes lines without ever waiting, until close(); what went wrong is raised by the next call."""

    def __init__(self, file: TraceFile, room: int = ROOM) -> None:
        self._file = file
        self._room = room
        self._queue: deque[Sequence[bytes]] = deque()
        self._waiting = 0
        self._taken = 0
        self._ending = False
        self._flushing = False
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="twtrace-writer", daemon=True)
        self._thread.start()

    @property
    def path(self) -> str:
        """Where it goes."""
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes in the file so far, and about those that what waits will take there."""
        size, taken = self._file.size, self._taken
        return size + (self._waiting * size // taken if taken else self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether more lines wait already than there is room for; put() takes them all the same."""
        return self._waiting >= self._room

    def put(self, lines: Sequence[bytes]) -> None:
        """Have whole lines written. Raises what the thread met: BrokenPipeError, TwtraceError."""
        self.check()
        with self._changed:
            self._queue.append(lines)
            self._waiting += sum(map(len, lines))
            self._changed.notify()

    def check(self) -> None:
        """Raise what the thread met, if anything."""
        if self._failure is not None:
            raise self._failure

    def flush(self) -> None:
        """Have all that was put be in the file soon."""
        with self._changed:
            self._flushing = True
            self._changed.notify()

    def end(self) -> None:
        """Have the file closed once all is written."""
        with self._changed:
            self._ending = True
            self._changed.notify()

    @property
    def has_ended(self) -> bool:
        """Whether the file is closed."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Wait until all is written and the file closed. Raises what the thread met."""
        self.end()
        self._thread.join()
        self.check()

    def _run(self) -> None:
        try:
            self._write_all()
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            self._failure = error
        try:
            self._file.close()
        except Exception as error:  # noqa: BLE001
            self._failure = self._failure or error

    def _write_all(self) -> None:
        due: float | None = None
        while True:
            with self._changed:
                if not (self._queue or self._ending or self._flushing):
                    self._changed.wait(None if due is None else max(0.0, due - time.monotonic()))
                lines = self._queue.popleft() if self._queue else None
                if lines is None and self._ending:
                    return
                flush = self._flushing and not self._queue
                self._flushing = self._flushing and not flush
            if lines is not None:
                self._file.write(lines)
                due = due or time.monotonic() + _FLUSH_EVERY_S
                with self._changed:
                    size = sum(map(len, lines))
                    self._waiting -= size
                    self._taken += size
            if flush or (due is not None and time.monotonic() >= due):
                self._file.flush()
                due = None
