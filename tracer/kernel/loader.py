"""Compiles bpf/twtrace.c for the running kernel, loads and attaches it."""

from __future__ import annotations

import ctypes as ct
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from tracer.errors import KernelLacksError, NotPermittedError, TwtraceError
from tracer.kernel.btf import KernelTypes
from tracer.kernel.flags import LoadOptions, compile_flags, tick_us
from tracer.kernel.hooks import AUTO, LAST_RESORT, Attachment, Choice, Kind, Source, candidates, transitions

OPEN_SOCKET_SIZE = 80


class Counter(IntEnum):
    """`enum counter` of bpf/events.h, but for those that number the connections."""

    CLOSES = 0
    TW_BORN = 1
    TW_ENDED = 2
    TW_OVERFLOWED = 3
    SENT = 4
    LOST_STATE = 5
    LOST_CLOSE = 6
    LOST_TW_END = 7
    LOST_PROCESS = 8
    LOST_SOCKS = 9
    LOST_TWS = 10
    LOST_HELD = 11
    LOST_STEPS = 12
    LOST_ENDS = 13


@dataclass(frozen=True, slots=True)
class ProgramStats:
    """The kernel's own account of one program (`bpf_prog_info`)."""

    name: str
    run_time_ns: int
    """0 unless kernel.bpf_stats_enabled."""
    runs: int
    missed: int
    """Runs the kernel dropped because the program was interrupted by itself."""


def source_folder() -> Path:
    """`bpf/`, in a checkout or inside an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "bpf", package.parent / "bpf"):
        if (candidate / "twtrace.c").is_file():
            return candidate
    raise TwtraceError(
        "the eBPF sources (bpf/twtrace.c) are not beside the package",
        "install twtrace again: the wheel brings them",
    )


_PROG_TYPE_TRACING = 26
_PROG_TYPES = {
    Kind.RAW_TRACEPOINT: 17,
    Kind.FENTRY: _PROG_TYPE_TRACING,
    Kind.FEXIT: _PROG_TYPE_TRACING,
    Kind.KPROBE: 2,
}
"""`enum bpf_prog_type`, include/uapi/linux/bpf.h."""

_AT_ENTRY = 0
"""BPF_PROBE_ENTRY of BCC's `enum bpf_probe_attach_type`."""

_LOCAL_INCLUDE = re.compile(r'^#include "([\w/.]+)"$', re.MULTILINE)


def assemble(folder: Path, name: str = "twtrace.c", seen: set[str] | None = None) -> str:
    """`name` with its local headers in place, each once, under `#line` marks.

    BCC rewrites map calls in the main file alone, so the translation unit has
    to be one text.
    """
    seen = set() if seen is None else seen
    seen.add(name)
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate((folder / name).read_text(encoding="utf-8").splitlines(), 1):
        include = _LOCAL_INCLUDE.match(line)
        if include is None:
            lines.append(line)
        elif include[1] not in seen:
            lines += [assemble(folder, include[1], seen), f'#line {number + 1} "{name}"']
    return "\n".join(lines)


def require_privilege() -> None:
    """Raise NotPermittedError unless we may load eBPF programs."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    sys_admin, perfmon, bpf = 1 << 21, 1 << 38, 1 << 39
    if not effective & sys_admin and not (effective & perfmon and effective & bpf):
        raise NotPermittedError(
            "loading eBPF programs needs root, or CAP_BPF and CAP_PERFMON",
            "run it with sudo",
        )


def load(options: LoadOptions) -> LoadedPrograms:
    """Load with the best source of TIME_WAIT facts that the kernel takes, or with the one asked for.

    Raises NotPermittedError, or KernelLacksError when none is left.
    """
    require_privilege()
    reasons: list[str] = []
    for choice in candidates(options.hooks):
        why = "; ".join([choice.why, *reasons]) if reasons else choice.why
        try:
            return LoadedPrograms(options, replace(choice, why=why))
        except KernelLacksError as error:
            if options.hooks != AUTO or choice.source.name == LAST_RESORT:
                raise
            reasons.append(f"{choice.source.name}: {error.cause}")
    raise KernelLacksError("no source of TIME_WAIT facts works here", "see `twtrace doctor`")


def compile_programs(options: LoadOptions, source: Source, types: KernelTypes) -> Any:
    """The programs and their maps as BCC's object, none loaded yet. Raises KernelLacksError."""
    folder = source_folder()
    flags = compile_flags(options, source, types)
    os.environ["BCC_KERNEL_SOURCE"] = str(folder / "include")
    try:
        return _without_autoload(import_bcc())(text=assemble(folder), cflags=flags)
    except Exception as error:  # BCC raises nothing narrower
        raise KernelLacksError(
            f"the eBPF programs do not compile for this kernel: {error}",
            "see the compiler's messages above; please report them with `twtrace doctor --json`",
        ) from error


class LoadedPrograms:
    """The programs, attached; detached by close(), or by the kernel when we die."""

    def __init__(self, options: LoadOptions, choice: Choice) -> None:
        """Compile, load, attach. Raises KernelLacksError when the kernel refuses a needed part."""
        bcc = import_bcc()
        self.choice = choice
        self.tick_us = tick_us()
        with KernelTypes() as types:
            self._bpf = compile_programs(options, choice.source, types)
            # 4f19cab76136 "bpf: Add a bpf_sock_from_file helper" (v5.11)
            self._has_iterator = types.function("bpf_sock_from_file") is not None
            attachments = _present((*choice.source.attachments, *transitions()), types)
        self._lib = bcc.lib
        self._links: list[int] = []
        self._programs: dict[str, int] = {}
        try:
            # All are loaded before the first is attached: what happens between
            # the first and the last is seen by some only.
            ready = [(attachment, self._load(attachment)) for attachment in attachments]
            for attachment, fd in ready:
                self._attach(attachment, fd)
        except BaseException:
            self.close()
            raise

    def map_fd(self, name: str) -> int:
        """The file descriptor of a map."""
        fd: int = self._bpf[name].map_fd
        return fd

    def counters(self) -> dict[Counter, int]:
        """The kernel-side counters, summed over CPUs."""
        table = self._bpf["counters"]
        return {which: int(sum(table[ct.c_int(which)])) for which in Counter}

    def stats(self) -> tuple[ProgramStats, ...]:
        """The kernel's account of every program."""
        return tuple(self._program_stats(name, fd) for name, fd in self._programs.items())

    def open_sockets(self) -> Iterator[bytes] | None:
        """`struct open_socket` of every TCP socket in a process's files.

        None where the kernel has no such iterator; the caller then reads /proc.
        """
        if not self._has_iterator:
            return None
        try:
            program = self._bpf.load_func(b"bpf_iter__task_file", _PROG_TYPE_TRACING)
        except Exception:  # BCC raises nothing narrower  # noqa: BLE001
            return None
        attach = self._lib.bcc_iter_attach
        attach.argtypes = [ct.c_int, ct.c_void_p, ct.c_uint]
        link = attach(program.fd, None, 0)
        return None if link < 0 else self._iterate(link)

    def _iterate(self, link: int) -> Iterator[bytes]:
        try:
            with os.fdopen(self._lib.bcc_iter_create(link), "rb", buffering=0) as file:
                pending = b""
                while chunk := file.read(1 << 16):
                    pending += chunk
                    whole = len(pending) - len(pending) % OPEN_SOCKET_SIZE
                    for at in range(0, whole, OPEN_SOCKET_SIZE):
                        yield pending[at : at + OPEN_SOCKET_SIZE]
                    pending = pending[whole:]
        finally:
            os.close(link)

    def detach(self) -> None:
        """Stop the programs, the last attached first; the maps stay.

        A close that is still seen needs the birth of its TIME_WAIT.
        """
        for fd in reversed(self._links):
            with suppress(OSError):
                os.close(fd)
        self._links.clear()

    def close(self) -> None:
        """Detach everything and free programs and maps."""
        self.detach()
        self._bpf.cleanup()

    def _load(self, attachment: Attachment) -> int:
        try:
            fd: int = self._bpf.load_func(attachment.program.encode(), _PROG_TYPES[attachment.kind]).fd
        except Exception as error:  # BCC raises nothing narrower
            raise KernelLacksError(
                f"the kernel refuses the eBPF program {attachment.program}: {error}",
                "see the verifier's messages above; `twtrace doctor` says what this kernel allows",
            ) from error
        self._programs[attachment.program] = fd
        return fd

    def _attach(self, attachment: Attachment, fd: int) -> None:
        target = attachment.target.encode()
        if attachment.kind is Kind.RAW_TRACEPOINT:
            link = self._lib.bpf_attach_raw_tracepoint(fd, target)
        elif attachment.kind in (Kind.FENTRY, Kind.FEXIT):
            link = self._lib.bpf_attach_kfunc(fd)
        else:
            link = self._lib.bpf_attach_kprobe(fd, _AT_ENTRY, b"twtrace", target, 0, 0)
        if link < 0:
            place = f"{attachment.kind.value} {attachment.target}"
            raise KernelLacksError(
                f"cannot attach to {place}: {os.strerror(ct.get_errno())}",
                "`twtrace doctor` says what this kernel and user allow",
            )
        self._links.append(link)

    def _program_stats(self, name: str, fd: int) -> ProgramStats:
        info = _ProgramInfo()
        size = ct.c_uint32(ct.sizeof(info))
        if self._lib.bpf_obj_get_info(fd, ct.byref(info), ct.byref(size)):
            raise TwtraceError(
                f"the kernel gives no account of {name}: {os.strerror(ct.get_errno())}",
                "this is a defect: please report it",
            )
        return ProgramStats(name, info.run_time_ns, info.run_cnt, info.recursion_misses)


class _ProgramInfo(ct.Structure):
    """The head of `struct bpf_prog_info`, include/uapi/linux/bpf.h."""

    _fields_ = (
        ("before", ct.c_uint8 * 192),
        ("run_time_ns", ct.c_uint64),
        ("run_cnt", ct.c_uint64),
        ("recursion_misses", ct.c_uint64),
    )


def import_bcc() -> ModuleType:
    """The bcc module, or an error that says how to get it."""
    try:
        return import_module("bcc")
    except ImportError as error:
        raise KernelLacksError(
            "BCC's Python bindings cannot be imported",
            "install python3-bpfcc, and make the virtual environment from /usr/bin/python3 "
            "with --system-site-packages (`make` does both)",
        ) from error


def _without_autoload(bcc: ModuleType) -> type:
    """bcc.BPF, but it does not attach programs by itself, one by one, for what they are called."""
    return type("BPF", (bcc.BPF,), {"_trace_autoload": lambda _self: None})


def _present(attachments: Iterable[Attachment], types: KernelTypes) -> list[Attachment]:
    """Those whose place this kernel has. Raises KernelLacksError without a needed one."""
    present = []
    for attachment in attachments:
        if attachment.kind is Kind.RAW_TRACEPOINT:
            there = types.tracepoint_arguments(attachment.target) is not None
        else:
            there = types.function(attachment.target) is not None
        if there:
            present.append(attachment)
        elif attachment.needed:
            raise KernelLacksError(
                f"this kernel has no {attachment.kind.value} {attachment.target}",
                "use Linux 5.10 or later, built with tracepoints and BTF; `twtrace doctor` lists them",
            )
    return present
