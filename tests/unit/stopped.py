"""Processes stopped in a system call that closes a socket, by ptrace: what eBPF copies, without eBPF."""

from __future__ import annotations

import ctypes as ct
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import cache
from io import BytesIO
from typing import NamedTuple

from tracer.symbols.module import Module
from tracer.symbols.registers import Registers
from tracer.symbols.unwind import Frame, Located

# include/uapi/linux/ptrace.h
_TRACEME, _SYSCALL, _SETOPTIONS, _GETEVENTMSG, _GETREGSET = 0, 24, 0x4200, 0x4201, 0x4204
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x100000  # TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, EXITKILL
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_NT_PRSTATUS = 1
_WALL = 0x40000000

_X86_64 = platform.machine() == "x86_64"
_CLOSE, _SHUTDOWN = (3, 48) if _X86_64 else (57, 210)
_NAMES = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs gs ds es"
    if _X86_64
    else " ".join(f"x{number}" for number in range(31)) + " sp pc"
).split()

_libc = ct.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ct.c_long, ct.c_long, ct.c_void_p, ct.c_void_p)
_libc.ptrace.restype = ct.c_long


class Mapping(NamedTuple):
    """An executable line of /proc/PID/maps."""

    start: int
    end: int
    offset: int
    path: str


class Stopped(NamedTuple):
    """One thread at a system call."""

    command: str
    registers: Registers
    stack: bytes
    mappings: list[Mapping]
    vdso: bytes

    def modules(self, address: int) -> Located | None:
        """What `unwind` asks for; files stay open from one process to the next."""
        for start, end, offset, path in self.mappings:
            if start <= address < end:
                module = _vdso(self.vdso) if path == "[vdso]" else _file(path)
                return Located(module, module.bias(start, offset) or 0) if module else Located(None, 0)
        return None

    def found(self, frame: Frame) -> tuple[int, str]:
        """A frame's address in the process, and its file."""
        for mapping in self.mappings:
            located = self.modules(mapping.start)
            if located and located.module is frame.module:
                return frame.address + located.bias, mapping.path
        return frame.address, ""


@cache
def _file(path: str) -> Module | None:
    return Module(open(path, "rb")) if os.path.exists(path) else None


@cache
def _vdso(image: bytes) -> Module:
    return Module(BytesIO(image))


def closing(
    command: list[str], *, stack: int = 16384, files: bool = False, seconds: float = 30
) -> Generator[Stopped, None, None]:
    """Run it and stop at each close() and shutdown() of a socket; with `files`, at each close().

    When no more are asked for, or after `seconds`, it is killed with all its children.
    """
    process = subprocess.Popen(
        command,
        preexec_fn=lambda: _libc.ptrace(_TRACEME, 0, None, None),  # noqa: PLW1509 - one call, no lock
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    tracing = _Tracing(process.pid)
    try:
        yield from tracing.stops(
            lambda pid, fd: files or _is_socket(pid, fd), stack, time.monotonic() + seconds
        )
    finally:
        tracing.kill()
        process.returncode = 0


class _Tracing:
    def __init__(self, pid: int) -> None:
        self.threads = {pid}
        os.waitpid(pid, _WALL)
        self._ptrace(_SETOPTIONS, pid, _OPTIONS)
        self._ptrace(_SYSCALL, pid, 0)
        self.entered: set[int] = set()

    def stops(
        self, wanted: Callable[[int, int], bool], stack: int, until: float
    ) -> Generator[Stopped, None, None]:
        while self.threads and time.monotonic() < until:
            stopped = [(thread, status) for thread in [*self.threads] if (status := self._changed(thread))]
            for thread, status in stopped:
                deliver = 0
                if os.WSTOPSIG(status) == _SYSCALL_STOP:
                    self.entered ^= {thread}
                    registers = self._registers(thread)
                    if (
                        thread in self.entered
                        and registers["orig_rax" if _X86_64 else "x8"] in {_CLOSE, _SHUTDOWN}
                        and wanted(thread, registers["rdi" if _X86_64 else "x0"])
                    ):
                        yield _stopped(thread, registers, stack)
                elif status >> 16:
                    self._event(thread)
                elif os.WSTOPSIG(status) not in {signal.SIGSTOP, signal.SIGTRAP}:
                    deliver = os.WSTOPSIG(status)
                with suppress(ProcessLookupError):
                    self._ptrace(_SYSCALL, thread, deliver)
            if not stopped:
                time.sleep(0.0003)

    def _changed(self, thread: int) -> int:
        """The status of a thread that has stopped; 0: it runs, or is gone."""
        try:
            changed, status = os.waitpid(thread, _WALL | os.WNOHANG)
        except ChildProcessError:
            changed, status = thread, 0
        if changed and not os.WIFSTOPPED(status):
            self.threads.discard(thread)
        return status if changed and os.WIFSTOPPED(status) else 0

    def _event(self, thread: int) -> None:
        """It has a new thread or child; after the end of an exec the message is no thread."""
        new = ct.c_ulong()
        self._ptrace(_GETEVENTMSG, thread, ct.addressof(new))
        self.threads.add(new.value)

    def kill(self) -> None:
        for thread in self.threads:
            with suppress(ProcessLookupError):
                os.kill(thread, signal.SIGKILL)
        # A leader is told of only after its threads.
        while self.threads:
            for thread in [*self.threads]:
                self._changed(thread)
            time.sleep(0.0003)

    def _registers(self, thread: int) -> dict[str, int]:
        values = (ct.c_uint64 * 64)()
        vector = (ct.c_uint64 * 2)(ct.addressof(values), ct.sizeof(values))
        self._ptrace(_GETREGSET, thread, ct.addressof(vector), _NT_PRSTATUS)
        return dict(zip(_NAMES, values, strict=False))

    def _ptrace(self, request: int, thread: int, data: int, address: int = 0) -> None:
        if _libc.ptrace(request, thread, address, data) < 0:
            error = ct.get_errno()
            raise OSError(error, os.strerror(error))


def _is_socket(pid: int, fd: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    except OSError:
        return False


def _stopped(pid: int, values: dict[str, int], stack: int) -> Stopped:
    if _X86_64:
        names = ("rip", "rsp", "rbp", "rbx", "r12", "r13", "r14", "r15")
        registers = Registers.x86_64(**{name: values[name] for name in names})
    else:
        registers = Registers.aarch64(**{name: values[name] for name in ("pc", "sp", "x29", "x30")})
    sp = values["rsp" if _X86_64 else "sp"]
    mappings, end, vdso = [], sp, b""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            extent, rights, offset, _, _, *rest = line.split(maxsplit=5)
            low, high = (int(part, 16) for part in extent.split("-"))
            path = rest[0].rstrip() if rest else ""
            if "x" in rights and path != "[vsyscall]":
                mappings.append(Mapping(low, high, int(offset, 16), path))
            if path == "[vdso]":
                memory.seek(low)
                vdso = memory.read(high - low)
            if low <= sp < high:
                end = high
        memory.seek(sp)
        piece = memory.read(min(stack, end - sp))
    with open(f"/proc/{pid}/comm") as comm:
        return Stopped(comm.read().rstrip(), registers, piece, mappings, vdso)
