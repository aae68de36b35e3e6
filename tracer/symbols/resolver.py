"""Captures to sites, in a thread of its own: what the stacks say, read by a process without privileges."""

from __future__ import annotations

import os
import struct
import threading
from queue import Queue, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING

from tracer.capture import Capture, Resolved
from tracer.model import Frame, Site
from tracer.symbols.heldfiles import HeldFile, HeldFiles, ProcessCode
from tracer.symbols.pool import Symbolizer

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

_MOST_WAITING = 512
_PATIENCE_S = 10.0
_MOST_FRAMES = 256

_X86_64 = {16: 128, 7: 152, 6: 32, 3: 40, 12: 24, 13: 16, 14: 8, 15: 0}
_AARCH64 = {32: 256, 31: 248, 29: 232, 30: 240}
_PLACES = _AARCH64 if os.uname().machine == "aarch64" else _X86_64
"""DWARF's numbers of the registers that an unwinder needs → where they lie in `struct pt_regs`, in bytes."""
_PC = next(iter(_PLACES))


class SiteResolver:
    """A context manager; its methods are for the thread that reads captures."""

    def __init__(self) -> None:
        self._files = HeldFiles()
        self._symbolizer = Symbolizer()
        self._waiting: Queue[Capture | None] = Queue()
        self._results: SimpleQueue[Resolved] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="twtrace-sites", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._thread.join(_PATIENCE_S)
        self._files.close()

    def meet(self, process: tuple[int, int]) -> None:
        """A process is new: hold its files, since it may be gone soon."""
        self._files.meet(process)

    def submit(self, capture: Capture) -> bool:
        """Have it looked at; false if too many wait already."""
        if self._waiting.unfinished_tasks >= _MOST_WAITING:
            return False
        self._waiting.put(capture)
        return True

    def results(self) -> list[Resolved]:
        """What was found since the last call."""
        return [self._results.get() for _ in range(self._results.qsize())]

    def finish(self) -> None:
        """Wait for those that are still looked at, for some seconds."""
        done = threading.Thread(target=self._waiting.join, daemon=True)
        done.start()
        done.join(_PATIENCE_S)

    def _run(self) -> None:
        with self._symbolizer:
            while (capture := self._waiting.get()) is not None:
                try:
                    self._results.put(self._resolved(capture))
                finally:
                    self._waiting.task_done()

    def _resolved(self, capture: Capture) -> Resolved:
        registers = {
            number: struct.unpack_from("=Q", capture.registers, at)[0] for number, at in _PLACES.items()
        }
        code = self._files.of(capture.process, registers[_PC])
        calls: tuple[tuple[int, bool], ...] = ()
        whole = False
        if code is not None:
            calls, whole = self._symbolizer.calls(registers, capture.stack, code.mapped())
        frames: list[Frame] = []
        for address, returns in calls or ((registers[_PC], True),):
            frames += self._frames(code, address - returns)
        site = Site(
            capture.ts_us, capture.site, capture.what, capture.owner, tuple(frames[:_MOST_FRAMES]), whole
        )
        return Resolved(capture, site, tuple(address for address, returns in calls if returns))

    def _frames(self, code: ProcessCode | None, address: int) -> list[Frame]:
        place = code.place(address) if code is not None else None
        if place is None:
            return [Frame(None, None, None, None, None, None)]
        file, offset = place
        try:
            found = self._symbolizer.frames(file, offset)
            build_id = self._symbolizer.build_id(file)
        except OSError:  # let go meanwhile
            found, build_id = (), None
        # In a perf map the offset is an address.
        module, at = (_words(file.path), offset) if isinstance(file, HeldFile) else (None, None)
        return [
            Frame(module, build_id, at, one.function, one.file, one.line, one.inlined) for one in found
        ] or [Frame(module, build_id, at, None, None, None)]


def _words(path: str) -> str:
    """Bytes that are no UTF-8 as in names."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")
