"""Compiles bpf/twtrace.c for the running kernel, loads and attaches it."""

from __future__ import annotations

import ctypes as ct
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tracer.errors import KernelLacksError, NotPermittedError, TwtraceError
from tracer.filters import Filters
from tracer.kernel.btf import KernelTypes
from tracer.kernel.kallsyms import SymbolRange, find_functions

EVENT_STRIDE = 184
OPEN_SOCKET_SIZE = 80

_LAYOUT = {
    "ns_common": ("inum",),
    "net": ("ns",),
    "sock_common": (
        "skc_daddr",
        "skc_rcv_saddr",
        "skc_hash",
        "skc_dport",
        "skc_family",
        "skc_state",
        "skc_net",
        "skc_v6_daddr",
        "skc_v6_rcv_saddr",
    ),
    "socket": ("file", "sk"),
    "socket_lock_t": ("owned",),
    "sock": ("sk_lock", "sk_err", "sk_shutdown", "sk_protocol", "sk_socket"),
    "inet_sock": ("inet_sport",),
    "timer_list": ("expires", "function"),
    "inet_timewait_sock": ("tw_substate", "tw_sport", "tw_timer"),
    "mm_struct": ("arg_start", "arg_end"),
    "task_struct": ("flags", "tgid", "group_leader", "start_boottime", "mm", "comm"),
}
"""Every struct member that bpf/kernel.h reads."""

_EITHER = {"file": ("f_ref", "f_count")}
"""Of these, the first that the kernel has."""

_HANDLER = "tw_timer_handler"
_STACK_SYMBOLS = (
    "mod_timer",
    "mod_timer_pending",
    "__mod_timer",
    "timers_dead_cpu",
    "run_timer_softirq",
    "__run_timers",
    "expire_timers",
    "timer_expire_remote",
    "tcp_time_wait",
    "tcp_timewait_state_process",
    "tcp_v4_rcv",
    "tcp_v6_rcv",
    "__inet_hash_connect",
    "__inet_check_established",
    "__inet6_check_established",
    "tcp_abort",
    "inet_twsk_purge",
)
"""Functions by which bpf/hooks/timer.h reads a stack."""

_ATTACHMENTS = (
    # The timers first: a TIME_WAIT born while we attach then has no full
    # socket, rather than a full socket having no TIME_WAIT.
    ("timer_expire_entry", "timer_expired", True),
    ("timer_cancel", "timer_cancelled", True),
    ("timer_start", "timer_started", True),
    ("inet_sock_set_state", "transition_in_process", True),
    ("inet_sock_set_state", "transition_in_softirq", True),
    ("inet_sock_set_state", "transition_in_softirq_again", True),
    ("tcp_rcv_space_adjust", "tcp_read", True),
    ("sock_send_length", "socket_used", False),
    ("sock_recv_length", "socket_used", False),
)
"""(raw tracepoint, program, needed); those not needed came with Linux 6.3."""

TRACEPOINTS = {tracepoint: needed for tracepoint, _, needed in _ATTACHMENTS}
"""Raw tracepoints in use → whether it does not go without."""


class Counter(IntEnum):
    """`enum counter` of bpf/events.h."""

    CLOSES = 0
    TW_BORN = 1
    TW_ENDED = 2
    CONNS_PROCESS = 3
    CONNS_SOFTIRQ = 4
    CONNS_TIMER = 5
    SENT = 6
    LOST_STATE = 7
    LOST_CLOSE = 8
    LOST_TW_END = 9
    LOST_PROCESS = 10
    LOST_SOCKS = 11
    LOST_TWS = 12
    LOST_HELD = 13
    LOST_ENDS = 14


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What is decided at compile time of the programs."""

    filters: Filters = Filters()
    with_states: bool = False
    ring_mib: int = 32
    """Event ring, a power of two; 184 bytes a record."""
    max_socks: int = 131_072
    """Connections followed at a time."""
    max_tws: int = 262_144
    """TIME_WAITs followed at a time."""


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


_BPF_F_NO_PREALLOC = 1
_PROG_TYPE_TRACING = 26
_CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; the time module has no name for it

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


def kernel_release() -> tuple[int, int]:
    """Major and minor version of the running kernel."""
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


def tick_us() -> int:
    """Length of a kernel tick in microseconds: the resolution of the coarse clock is 1/HZ."""
    return round(time.clock_getres(_CLOCK_MONOTONIC_COARSE) * 1_000_000)


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


class LoadedPrograms:
    """The programs, attached; detached by close(), or by the kernel when we die."""

    def __init__(self, options: LoadOptions) -> None:
        require_privilege()
        bcc = import_bcc()
        folder = source_folder()
        with KernelTypes() as types:
            flags = [*_layout_flags(types), *_option_flags(options)]
            if types.tracepoint_arguments("timer_start") == 2:  # noqa: PLR2004 - (timer, bucket_expiry)
                flags.append("-DHAVE_BUCKET_EXPIRY")
            self._tracepoints = {
                name for name, *_ in _ATTACHMENTS if types.tracepoint_arguments(name) is not None
            }
        symbols = find_functions((_HANDLER, *_STACK_SYMBOLS))
        if _HANDLER not in symbols:
            raise KernelLacksError(
                f"/proc/kallsyms has no {_HANDLER}: TIME_WAIT timers cannot be told from others",
                "use a kernel with CONFIG_KALLSYMS=y",
            )
        flags += _symbol_flags(symbols)
        os.environ["BCC_KERNEL_SOURCE"] = str(folder / "include")
        self._lib = bcc.lib
        self.tick_us = tick_us()
        try:
            self._bpf = bcc.BPF(text=assemble(folder), cflags=flags)
        except Exception as error:  # BCC raises nothing narrower
            raise KernelLacksError(
                f"the eBPF programs do not compile for this kernel: {error}",
                "see the compiler's messages above; please report them with `twtrace doctor --json`",
            ) from error
        self._links: list[int] = []
        self._programs: dict[str, int] = {}
        try:
            # All are loaded before the first is attached: what happens between
            # the first and the last is seen by some only.
            ready = [
                (tracepoint, self._load(program))
                for tracepoint, program, needed in _ATTACHMENTS
                if self._has(tracepoint, needed)
            ]
            for tracepoint, fd in ready:
                self._attach(tracepoint, fd)
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

        None where the kernel has no such iterator (bpf_sock_from_file came with
        5.11); the caller then reads /proc.
        """
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
        """Stop the programs; the maps stay."""
        for fd in self._links:
            with suppress(OSError):
                os.close(fd)
        self._links.clear()

    def close(self) -> None:
        """Detach everything and free programs and maps."""
        self.detach()
        self._bpf.cleanup()

    def _has(self, tracepoint: str, needed: bool) -> bool:
        there = tracepoint in self._tracepoints
        if needed and not there:
            raise KernelLacksError(
                f"this kernel has no tracepoint {tracepoint}",
                "use Linux 5.10 or later, built with tracepoints; `twtrace doctor` lists them",
            )
        return there

    def _load(self, program: str) -> int:
        try:
            fd: int = self._bpf.load_func(program.encode(), self._bpf.RAW_TRACEPOINT).fd
        except Exception as error:  # BCC raises nothing narrower
            raise KernelLacksError(
                f"the kernel refuses the eBPF program {program}: {error}",
                "see the verifier's messages above; `twtrace doctor` says what this kernel allows",
            ) from error
        self._programs[program] = fd
        return fd

    def _attach(self, tracepoint: str, fd: int) -> None:
        link = self._lib.bpf_attach_raw_tracepoint(fd, tracepoint.encode())
        if link < 0:
            raise KernelLacksError(
                f"cannot attach to the raw tracepoint {tracepoint}: {os.strerror(ct.get_errno())}",
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


def _layout_flags(types: KernelTypes) -> Iterator[str]:
    for struct, members in _LAYOUT.items():
        for member in members:
            offset = types.offset(struct, member)
            if offset is None:
                raise KernelLacksError(
                    f"struct {struct} of this kernel has no {member}",
                    "this kernel is newer or older than twtrace knows: please report it",
                )
            yield f"-DOFFSET_{struct}__{member}={offset}"
    for struct, alternatives in _EITHER.items():
        for member in alternatives:
            offset = types.offset(struct, member)
            if offset is not None:
                yield f"-DOFFSET_{struct}__{member}={offset}"
                break


def _option_flags(options: LoadOptions) -> Iterator[str]:
    ring_bytes = options.ring_mib << 20
    yield f"-DEVENT_RING_PAGES={ring_bytes // 4096}"
    # Counted by each CPU for itself; together they wake us before a quarter is full.
    yield f"-DEVENTS_PER_WAKEUP={max(64, ring_bytes // EVENT_STRIDE // 4 // (os.cpu_count() or 1))}"
    yield "-DPROCESS_RING_PAGES=256"
    yield f"-DMAX_SOCKS={options.max_socks}"
    yield f"-DMAX_TWS={options.max_tws}"
    # Entries on demand where the allocator is safe in any context: 7c8199e24fa0
    # "bpf: Introduce any context BPF specific memory allocator." (v6.1).
    yield f"-DBIG_MAP_FLAGS={_BPF_F_NO_PREALLOC if kernel_release() >= (6, 1) else 0}"
    yield f"-DKERNEL_HZ={round(1_000_000 / tick_us())}"
    if options.with_states:
        yield "-DWITH_STATES"
    filters = options.filters
    if filters.netns is not None:
        yield f"-DFILTER_NETNS={filters.netns}U"
    if filters.family is not None:
        yield f"-DFILTER_FAMILY={filters.family}"
    for name, ports in (("LOCAL", filters.local_ports), ("REMOTE", filters.remote_ports)):
        if ports:
            yield f"-DFILTER_{name}_PORTS(p)=" + "||".join(f"(p)=={port}" for port in sorted(ports))


def _symbol_flags(symbols: dict[str, SymbolRange]) -> Iterator[str]:
    yield f"-DTW_TIMER_HANDLER={symbols[_HANDLER].start:#x}ULL"
    for name in _STACK_SYMBOLS:
        start, end = symbols.get(name, SymbolRange(0, 0))
        yield f"-DSTART_{name}={start:#x}ULL"
        yield f"-DEND_{name}={end:#x}ULL"
