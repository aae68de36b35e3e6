"""Symbols for a process with privileges, which reads none of the files itself: a worker does.

A file that the worker hangs or dies on costs its own symbols: the worker is killed, and a fresh one serves
the other files.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from tracer.symbols.facts import DebugLink, Frame
from tracer.symbols.mapfile import PerfMapFile
from tracer.symbols.protocol import (
    Attach,
    Attached,
    Failed,
    Found,
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
    unpack_reply,
    wait_until,
)

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

DEADLINE_S = 5.0
_START = "from tracer.symbols.worker import main; main()"
"""Not imported here: what reads ELF files is no part of a process with privileges."""
_SOFT = 0.6
"""The part of the time after which the worker says what it knows without DWARF."""
_MOST_RESULTS = 1 << 16
_MOST_CHARACTERS = 1 << 25
_MOST_FILES = 1 << 12
_FAREWELL_S = 1.0
_MOST_FAILED_STARTS = 3
_MOST_LOADS = 24
"""Files that one stack goes through, at most."""
_LAST_OFFSET = (1 << 63) - 1

Answer = TypeVar("Answer", bound=Reply)


class File(Protocol):
    """A file that is opened when it is needed. The methods may raise OSError."""

    @property
    def identity(self) -> Hashable:
        """Equal as long as the file is the same and unchanged."""

    def open(self) -> int:
        """A descriptor for reading; the Symbolizer closes it."""

    def debug_files(self, build_id: str | None, link: DebugLink | None) -> Iterator[int]:
        """Descriptors of what may be its debug file, the likeliest first; the Symbolizer closes each."""


class _LostError(Exception):
    """The worker is of no use any more."""


class _DiedError(_LostError):
    """It has ended."""


class _BrokenError(Exception):
    """The file cannot be read; the worker is well."""


class _NotReadyError(Exception):
    """There is no worker, yet or at all; no file is to blame."""


class _Worker:
    """The process and the way to it."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair()
        # Isolated: whoever runs us as root from a folder that others write to runs none of their modules.
        home = Path(__file__).resolve().parents[2]
        script = f"import sys; sys.path.insert(0, {str(home)!r}); {_START}"
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-I", "-c", script],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Not what root's environment holds.
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                cwd="/",
            )
        self._is_ready = False

    def begin(self, until: float) -> None:
        """Wait for it to give up its privileges. Raises _NotReadyError: not yet, _LostError: it cannot."""
        if self._is_ready:
            return
        try:
            wait_until(self.channel, until)
            self.channel.recv(1, socket.MSG_PEEK)
            reply = unpack_reply(self.channel, until)
        except TimeoutError:
            raise _NotReadyError from None
        except (OSError, EOFError, msgspec.DecodeError):
            raise _LostError("the reader of symbols does not start") from None
        if not isinstance(reply, Ready):
            raise _LostError(reply.reason if isinstance(reply, Failed) else "the reader of symbols is none")
        self._is_ready = True

    def lend(self, fd: int, request: Request, until: float) -> Reply:
        """ask() with a descriptor, which is closed here."""
        try:
            return self.ask(request, until, fd)
        finally:
            os.close(fd)

    def ask(self, request: Request, until: float, fd: int | None = None) -> Reply:
        """The answer, by then. Raises _LostError."""
        message = pack(request)
        try:
            wait_until(self.channel, until)
            sent = socket.send_fds(self.channel, [message], [] if fd is None else [fd])
            self.channel.sendall(message[sent:])
            return unpack_reply(self.channel, until)
        except TimeoutError:
            raise _LostError("it takes too long to read") from None
        except (OSError, EOFError):
            raise _DiedError("its reader died") from None
        except msgspec.DecodeError:
            raise _LostError("its reader answered nonsense") from None

    def kill(self) -> None:
        """End it, without waiting."""
        self.channel.close()
        self.process.kill()


class Symbolizer:
    """Functions and lines of places in files. For one thread at a time.

    No call takes much longer than the deadline. What is not known by then is nothing: no frames.
    """

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._worker: _Worker | None = None
        self._failed_starts = 0
        self._dying: list[subprocess.Popen[bytes]] = []
        self._numbers: OrderedDict[Hashable, int] = OrderedDict()
        self._last_number = 0
        self._results: OrderedDict[tuple[Hashable, int], tuple[Frame, ...]] = OrderedDict()
        self._characters = 0
        self._broken: OrderedDict[Hashable, str] = OrderedDict()
        """Files that are not asked for again, and why."""
        self._faults: OrderedDict[Hashable, str] = OrderedDict()
        """Files of which parts are not read, and why."""
        self._build_ids: OrderedDict[Hashable, str] = OrderedDict()
        self.trouble: str | None = None
        """Why there is no worker, if there can be none."""

    def __enter__(self) -> Self:
        self._worker = _Worker()  # it is ready when it is needed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dismiss()
        for process in self._dying:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_FAREWELL_S)

    @property
    def worker_pid(self) -> int | None:
        """The process that reads, if it runs."""
        return self._worker.process.pid if self._worker is not None else None

    def frames(self, file: File, offset: int) -> tuple[Frame, ...]:
        """The functions at an offset of a file, the innermost first; none if nothing is known.

        For a return address ask for the byte before: what comes after the call may be another line.
        """
        until = time.monotonic() + self._deadline_s
        try:
            identity = file.identity
        except OSError:
            return ()
        kept = self._results.get((identity, offset))
        if kept is not None:
            self._results.move_to_end((identity, offset))
            return kept
        if not 0 <= offset <= _LAST_OFFSET or identity in self._broken:
            return ()
        found: tuple[Frame, ...] = ()
        try:
            found = self._look_twice(file, identity, offset, until)
            self._keep((identity, offset), found)
        except (OSError, _NotReadyError):
            pass  # another time, maybe
        except _BrokenError as error:
            self._note(self._broken, identity, str(error))
        return found

    def calls(
        self, registers: dict[int, int], stack: bytes, mapped: Sequence[tuple[int, int, int, File | None]]
    ) -> tuple[tuple[tuple[int, bool], ...], bool]:
        """The calls that led to a place, innermost first, and whether that is all of them.

        `registers` by DWARF's numbers, `stack` from the stack pointer upwards, `mapped` what is executable:
        (start, end, offset, file). A call is an address in the process, and whether it is a return address.
        """
        until = time.monotonic() + self._deadline_s
        try:
            return self._walk(registers, stack, mapped, until)
        except (OSError, _NotReadyError, _BrokenError):
            pass
        except _LostError:
            self._dismiss()
        return (), False

    def build_id(self, file: File) -> str | None:
        """Of a file that was looked at; hexadecimal."""
        return self._build_ids.get(file.identity)

    def fault(self, file: File) -> str | None:
        """What of a file could not be read, and why: foreign text."""
        try:
            identity = file.identity
        except OSError as error:
            return str(error)
        return self._broken.get(identity) or self._faults.get(identity)

    def _look_twice(self, file: File, identity: Hashable, offset: int, until: float) -> tuple[Frame, ...]:
        """_look(), again if the worker died: it may have been for another reason than this file."""
        try:
            return self._look(file, identity, offset, until)
        except _DiedError:
            self._dismiss()
        except _LostError as error:
            self._dismiss()
            raise _BrokenError(str(error)) from None
        try:
            return self._look(file, identity, offset, until)
        except _LostError as error:
            self._dismiss()
            raise _BrokenError(str(error)) from None

    def _look(self, file: File, identity: Hashable, offset: int, until: float) -> tuple[Frame, ...]:
        worker = self._ready_worker(until)
        number = self._number(identity)
        reply = worker.ask(Look(number, offset, _patience(until)), until)
        if isinstance(reply, Unknown):
            self._load(worker, file, number, until)
            reply = worker.ask(Look(number, offset, _patience(until)), until)
        found = _expected(reply, Found)
        if found.fault is not None:
            self._note(self._faults, identity, found.fault)
        return tuple(one.frame() for one in found.frames)

    def _walk(
        self,
        registers: dict[int, int],
        stack: bytes,
        mapped: Sequence[tuple[int, int, int, File | None]],
        until: float,
    ) -> tuple[tuple[tuple[int, bool], ...], bool]:
        worker = self._ready_worker(until)
        files: dict[int, File] = {}
        lines = []
        for start, end, offset, file in mapped:
            number = 0
            if file is not None and file.identity not in self._broken:
                number = self._number(file.identity)
                files[number] = file
            lines.append(Mapped(start, end, offset, number))
        for _ in range(_MOST_LOADS):
            reply = worker.ask(Walk(registers, stack, lines, _patience(until)), until)
            if not isinstance(reply, Unknown):
                walked = _expected(reply, Walked)
                if any(address >> 64 for address, _ in walked.calls):
                    raise _LostError("its reader answered nonsense")
                return tuple(walked.calls), walked.whole
            if reply.file not in files:
                raise _LostError("its reader answered nonsense")
            try:
                self._load(worker, files[reply.file], reply.file, until)
            except (OSError, _BrokenError) as error:
                self._note(self._broken, files[reply.file].identity, str(error))
                lines = [
                    msgspec.structs.replace(line, file=0) if line.file == reply.file else line
                    for line in lines
                ]
        return (), False

    def _load(self, worker: _Worker, file: File, number: int, until: float) -> None:
        loaded = _expected(
            worker.lend(file.open(), Load(number, isinstance(file, PerfMapFile)), until), Loaded
        )
        if loaded.build_id is not None:
            self._note(self._build_ids, file.identity, loaded.build_id)
        if loaded.has_lines:
            return
        for fd in file.debug_files(loaded.build_id, loaded.debuglink):
            if _expected(worker.lend(fd, Attach(number), until), Attached).fits:
                return

    def _number(self, identity: Hashable) -> int:
        """What the worker calls that file."""
        number = self._numbers.get(identity)
        if number is None:
            self._last_number += 1
            number = self._numbers[identity] = self._last_number
            if len(self._numbers) > _MOST_FILES:
                self._numbers.popitem(last=False)
        return number

    def _keep(self, key: tuple[Hashable, int], frames: tuple[Frame, ...]) -> None:
        self._results[key] = frames
        self._characters += _weight(frames)
        while len(self._results) > _MOST_RESULTS or self._characters > _MOST_CHARACTERS:
            _, oldest = self._results.popitem(last=False)
            self._characters -= _weight(oldest)

    @staticmethod
    def _note(notes: OrderedDict[Hashable, str], identity: Hashable, reason: str) -> None:
        notes[identity] = reason
        if len(notes) > _MOST_FILES:
            notes.popitem(last=False)

    def _ready_worker(self, until: float) -> _Worker:
        """A worker without privileges. Raises _NotReadyError."""
        if self._worker is not None and self._worker.process.poll() is not None:
            self._dismiss()  # it has retired, or somebody killed it
        if self._worker is None:
            if self.trouble is not None:
                raise _NotReadyError
            self._worker = _Worker()
        try:
            self._worker.begin(until)
        except _LostError as error:
            self._dismiss()
            self._failed_starts += 1
            if self._failed_starts == _MOST_FAILED_STARTS:
                self.trouble = str(error)
            raise _NotReadyError from None
        self._failed_starts = 0
        return self._worker

    def _dismiss(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._dying.append(self._worker.process)
            self._worker = None
        # Not waited for: what reads from a dead server's disk dies when that disk answers.
        self._dying = [process for process in self._dying if process.poll() is None]


def _patience(until: float) -> float:
    return max(0.001, _SOFT * (until - time.monotonic()))


def _weight(frames: tuple[Frame, ...]) -> int:
    return 100 + sum(100 + len(one.function or "") + len(one.file or "") for one in frames)


def _expected(reply: Reply, kind: type[Answer]) -> Answer:
    if isinstance(reply, Failed):
        raise _BrokenError(reply.reason)
    if not isinstance(reply, kind):
        raise _LostError("its reader answered nonsense")
    return reply
