"""The process that reads ELF files of strangers: without privileges, and expendable."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO

from tracer.symbols.confine import confine
from tracer.symbols.elf import ElfFile
from tracer.symbols.ending import End, UnwindError
from tracer.symbols.facts import MOST_CALLS, Frame
from tracer.symbols.module import Module
from tracer.symbols.perfmap import PerfMap
from tracer.symbols.protocol import (
    Attach,
    Attached,
    Failed,
    Found,
    FrameWords,
    Load,
    Loaded,
    Look,
    Mapped,
    Ready,
    Reply,
    Request,
    Unknown,
    Walk,
    Walked,
    pack,
    unpack_request,
)
from tracer.symbols.registers import AARCH64, X86_64, Registers
from tracer.symbols.trampolines import Trampolines
from tracer.symbols.unwind import Code, Located, unwind

_MOST_FILES = 24
_MOST_BYTES = 1 << 28
_RETIRES_AFTER_S = 1800
"""Seconds on a processor, after which another one takes over."""
_LONGEST_REASON = 400
_MACHINE = AARCH64 if os.uname().machine == "aarch64" else X86_64
_CHANNEL = 0
"""The descriptor it is started with."""


class TooSlowError(Exception):
    """Patience is over: say what is known by now."""


class _Kept:
    """A file, with what must stay open for it."""

    def __init__(self, file: BinaryIO) -> None:
        self._open = [file]
        self._file = file
        self.elf = ElfFile(file)
        self._module: Module | None = None

    @property
    def module(self) -> Module:
        """The same file, for unwinding."""
        if self._module is None:
            self._module = Module(self._file)
        return self._module

    def attach(self, file: BinaryIO) -> bool:
        fits = self.elf.attach(file)
        if fits:
            self._open.append(file)
        else:
            file.close()
        return fits

    def code(self, start: int, offset: int, _address: int) -> Located:
        """What is mapped of it at `start`, from `offset` on."""
        try:
            bias = self.module.bias(start, offset)
        except UnwindError:
            bias = None
        return Located(self.module, bias) if bias is not None else _OF_NO_FILE

    def frames(self, offset: int) -> tuple[Frame, ...]:
        return self.elf.frames(offset)

    @property
    def faults(self) -> dict[str, str]:
        return self.elf.faults

    @property
    def size(self) -> int:
        return self.elf.size

    def close(self) -> None:
        for file in self._open:
            file.close()


class _KeptMap:
    """A perf map, read."""

    def __init__(self, file: BinaryIO) -> None:
        with file:
            self._map = PerfMap(file)
        self.faults: dict[str, str] = {}
        self.size = self._map.size

    def code(self, _start: int, _offset: int, address: int) -> Located:
        """What is known of code made at run time."""
        return Located(_TRAMPOLINES, 0) if self._map.is_trampoline(address) else _OF_NO_FILE

    def frames(self, address: int) -> tuple[Frame, ...]:
        found = self._map.find(address)
        return (found,) if found else ()

    def close(self) -> None:
        pass


_TRAMPOLINES = Trampolines()
_OF_NO_FILE = Located(None, 0)


class Worker:
    """Answers requests, and keeps the files that were asked for last."""

    def __init__(self) -> None:
        self._files: OrderedDict[int, _Kept | _KeptMap] = OrderedDict()

    def answer(self, request: Request, descriptors: list[int]) -> Reply:
        """The reply; never raises for what a file says."""
        try:
            return self._answer(request, [os.fdopen(fd, "rb") for fd in descriptors])
        except Exception as error:  # noqa: BLE001 - a malformed file breaks its reader in any way
            kept = self._files.pop(request.file, None)
            if kept is not None:
                kept.close()
            return Failed(f"{type(error).__name__}: {error}"[:_LONGEST_REASON])

    def _answer(self, request: Request, files: Sequence[BinaryIO]) -> Reply:
        if isinstance(request, Load):
            return self._load(request, files[0])
        if isinstance(request, Walk):
            return self._walk(request)
        kept = self._files.get(request.file)
        if kept is None:
            return Unknown()
        self._files.move_to_end(request.file)
        if isinstance(request, Attach):
            return Attached(isinstance(kept, _Kept) and kept.attach(files[0]))
        return self._look(kept, request)

    def _load(self, request: Load, file: BinaryIO) -> Loaded:
        if request.is_map:
            self._files[request.file] = _KeptMap(file)
            self._make_room()
            return Loaded(None, None, 0, has_lines=True)
        self._files[request.file] = kept = _Kept(file)
        self._make_room()
        link = kept.elf.debuglink
        return Loaded(
            kept.elf.build_id,
            link.name if link else None,
            link.crc if link else 0,
            kept.elf.has_lines,
        )

    def _look(self, kept: _Kept | _KeptMap, request: Look) -> Found:
        # And once more: what was going on may have caught the first.
        signal.setitimer(signal.ITIMER_REAL, request.patience_s, request.patience_s / 2)
        try:
            frames = kept.frames(request.offset)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._make_room()
        fault = "; ".join(f"{what}: {why}" for what, why in kept.faults.items())[:_LONGEST_REASON]
        return Found(
            [FrameWords(one.function, one.file, one.line, one.inlined) for one in frames], fault or None
        )

    def _walk(self, request: Walk) -> Reply:
        modules = _Modules(request.mapped, self._files)
        signal.setitimer(signal.ITIMER_REAL, request.patience_s, request.patience_s / 2)
        try:
            walked = unwind(Registers(_MACHINE, request.registers), request.stack, modules, MOST_CALLS)
        except _MissingError as error:
            return Unknown(error.file)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        calls = [(frame.address + modules.bias(frame.module), frame.returns) for frame in walked.frames]
        return Walked(calls, walked.end is End.OUTERMOST)

    def _make_room(self) -> None:
        """Let the files go that were not asked for the longest."""
        while len(self._files) > 1 and (
            len(self._files) > _MOST_FILES or sum(one.size for one in self._files.values()) > _MOST_BYTES
        ):
            _, oldest = self._files.popitem(last=False)
            oldest.close()


class _MissingError(Exception):
    """The unwinding needs a file that is not here."""

    def __init__(self, file: int) -> None:
        super().__init__(file)
        self.file = file


class _Modules:
    """What is mapped in the process whose stack is followed."""

    def __init__(self, mapped: list[Mapped], files: OrderedDict[int, _Kept | _KeptMap]) -> None:
        self._mapped = mapped
        self._files = files
        self._biases: dict[Code, int] = {}

    def __call__(self, address: int) -> Located | None:
        """The module at an address. Raises _MissingError."""
        found = next((one for one in self._mapped if one.start <= address < one.end), None)
        if found is None or not found.file:
            return _OF_NO_FILE if found else None
        kept = self._files.get(found.file)
        if kept is None:
            raise _MissingError(found.file)
        self._files.move_to_end(found.file)
        located = kept.code(found.start, found.offset, address)
        if located.module is not None:
            self._biases[located.module] = located.bias
        return located

    def bias(self, module: Code | None) -> int:
        """Of a module that was found; 0 for none."""
        return self._biases[module] if module is not None else 0


def _give_up(_number: int, _frame: object) -> None:
    raise TooSlowError("it took too long")


def main() -> None:
    """Serve the one at the other end of descriptor 0, to its end."""
    channel = socket.socket(fileno=_CHANNEL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from the terminal: it is for the parent
    signal.signal(signal.SIGALRM, _give_up)
    try:
        confine()
    except OSError as error:
        channel.sendall(pack(Failed(f"cannot give up privileges: {error}"[:_LONGEST_REASON])))
        sys.exit(1)
    worker = Worker()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        channel.sendall(pack(Ready()))
        while time.process_time() < _RETIRES_AFTER_S:
            request, descriptors = unpack_request(channel)
            channel.sendall(pack(worker.answer(request, descriptors)))
