"""Loads the compiled programs and attaches them."""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum

from tracer.errors import KernelLacksError, NotPermittedError
from tracer.kernel import bpf
from tracer.kernel.btf import KernelTypes
from tracer.kernel.compiled import renumbered
from tracer.kernel.compiler import compile_programs
from tracer.kernel.decode import HELD_RECORD
from tracer.kernel.flags import LoadOptions, compile_flags, tick_us
from tracer.kernel.hooks import (
    AUTO,
    LAST_RESORT,
    Attachment,
    Choice,
    Kind,
    candidates,
    kernel_release,
    transitions,
)

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
    LOST_STEPS = 11
    LOST_ENDS = 12
    LOST_BIRTHS = 13
    LOST_SITES = 14


@dataclass(frozen=True, slots=True)
class ProgramStats:
    """The kernel's own account of one program (`bpf_prog_info`)."""

    name: str
    run_time_ns: int
    """0 unless kernel.bpf_stats_enabled."""
    runs: int
    missed: int
    """Runs the kernel dropped because the program was interrupted by itself."""


_LOADED_AS = {
    Kind.RAW_TRACEPOINT: (bpf.ProgramType.TRACING, bpf.AttachType.RAW_TRACEPOINT),
    Kind.FENTRY: (bpf.ProgramType.TRACING, bpf.AttachType.FENTRY),
    Kind.FEXIT: (bpf.ProgramType.TRACING, bpf.AttachType.FEXIT),
    Kind.KPROBE: (bpf.ProgramType.KPROBE, bpf.AttachType.NONE),
}


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


def load(options: LoadOptions, on_loading: Callable[[], None] = lambda: None) -> LoadedPrograms:
    """Load with the best source of TIME_WAIT facts that the kernel takes, or with the one asked for.

    `on_loading` is called before the kernel verifies them, which it does for long and without Python's lock.
    Raises NotPermittedError, or KernelLacksError when none is left.
    """
    require_privilege()
    reasons: list[str] = []
    for choice in candidates(options.hooks):
        why = "; ".join([choice.why, *reasons]) if reasons else choice.why
        try:
            return LoadedPrograms(options, replace(choice, why=why), on_loading)
        except KernelLacksError as error:
            if options.hooks != AUTO or choice.source.name == LAST_RESORT:
                raise
            reasons.append(f"{choice.source.name}: {error.cause}")
    raise KernelLacksError("no source of TIME_WAIT facts works here", "see `twtrace doctor`")


class LoadedPrograms:
    """The programs, attached; detached by close(), or by the kernel when we die."""

    def __init__(self, options: LoadOptions, choice: Choice, on_loading: Callable[[], None]) -> None:
        """Compile, load, attach. Raises KernelLacksError when the kernel refuses a needed part."""
        self.choice = choice
        self.tick_us = tick_us()
        self._maps: dict[str, int] = {}
        self._programs: dict[str, int] = {}
        self._links: dict[str, int] = {}
        self._half_closed: tuple[int, ...] = ()
        try:
            with KernelTypes() as types:
                self._compiled = compile_programs(compile_flags(options, choice.source, types))
                # 4f19cab76136 "bpf: Add a bpf_sock_from_file helper" (v5.11)
                self._has_iterator = types.function("bpf_sock_from_file") is not None
                attachments = _present((*choice.source.attachments, *transitions()), types)
                self._make_maps()
                on_loading()
                # All are loaded before the first is attached: what happens between
                # the first and the last is seen by some only.
                self._load_programs(attachments, types)
                where = (self._maps["slots"], self._maps["socks"])
                self._half_closed = self._iterators("bpf_iter__bpf_map_elem", types, where)
            self._tell_attaching(True)
            for attachment in attachments:
                self.attach(attachment)
            self._tell_attaching(False)
        except BaseException:
            self.close()
            raise

    def map_fd(self, name: str) -> int:
        """The file descriptor of a map."""
        return self._maps[name]

    def counters(self) -> dict[Counter, int]:
        """The kernel-side counters, summed over CPUs."""
        cpus = bpf.possible_cpus()
        fd = self._maps["counters"]
        return {
            which: sum(struct.unpack(f"={cpus}Q", bpf.look_up(fd, struct.pack("=I", which), 8 * cpus)))
            for which in Counter
        }

    def stats(self) -> tuple[ProgramStats, ...]:
        """The kernel's account of every program."""
        return tuple(ProgramStats(name, *bpf.program_info(fd)) for name, fd in self._programs.items())

    def half_closed(self) -> Iterator[bytes]:
        """`struct held_socket` of every half-closed socket that is followed and that a process holds."""
        in_slots, elsewhere = self._half_closed
        yield from _iterate(in_slots, HELD_RECORD.size)
        # mostly there are none, and an iterator takes forty times as long to find that out
        if not bpf.is_empty(self._maps["socks"], self._compiled.maps["socks"].key_size):
            yield from _iterate(elsewhere, HELD_RECORD.size)

    def open_sockets(self) -> Iterator[bytes] | None:
        """`struct open_socket` of every TCP socket in a process's files.

        None where the kernel has no such iterator; the caller then reads /proc.
        """
        if not self._has_iterator:
            return None
        try:
            with KernelTypes() as types:
                (link,) = self._iterators("bpf_iter__task_file", types)
        except KernelLacksError:
            return None
        return _iterate_once(link, OPEN_SOCKET_SIZE)

    def _iterators(
        self, name: str, types: KernelTypes, maps: Sequence[int | None] = (None,)
    ) -> tuple[int, ...]:
        """The links of an iterator's program, one for each map. Raises KernelLacksError."""
        target = types.function(name.replace("__", "_", 1)) or 0
        program = self._loaded(name, bpf.ProgramType.TRACING, bpf.AttachType.ITERATOR, target)
        links: list[int] = []
        try:
            links.extend(bpf.attach_iterator(program, one) for one in maps)
        except OSError as error:
            _close_all(links)
            raise _refused(f"the iterator {name}", error) from error
        finally:
            os.close(program)
        return tuple(links)

    def detach(self) -> None:
        """Stop the programs; the maps stay.

        First those on transitions, of which each sees to what those before it no longer do; then the
        mini-sockets' own, since a close that is still seen has a TIME_WAIT.
        """
        first = [self._links.pop(one.program) for one in transitions() if one.program in self._links]
        _close_all((*first, *reversed(self._links.values())))
        self._links.clear()

    def close(self) -> None:
        """Detach everything and free programs and maps."""
        self.detach()
        _close_all(self._half_closed)
        self._half_closed = ()
        for held in (self._programs, self._maps):
            _close_all(held.values())
            held.clear()

    def _load_programs(self, attachments: Iterable[Attachment], types: KernelTypes) -> None:
        """All of them, side by side: the verifier takes a fifth of a second for some."""
        with ThreadPoolExecutor() as pool:
            for loaded in [pool.submit(self.load_program, one, types) for one in attachments]:
                loaded.result()

    def load_program(self, attachment: Attachment, types: KernelTypes) -> None:
        """Load one, or load it anew. Raises KernelLacksError."""
        kind, attach = _LOADED_AS[attachment.kind]
        target = _btf_id(attachment, types) or 0 if attach else 0
        fd = self._loaded(attachment.program, kind, attach, target)
        if attachment.program in self._programs:
            os.close(self._programs[attachment.program])
        self._programs[attachment.program] = fd

    def _loaded(self, name: str, kind: bpf.ProgramType, attach: bpf.AttachType, target: int) -> int:
        try:
            return bpf.load_program(name, kind, self._code(name), attach, target)
        except OSError as error:
            raise _refused(f"the eBPF program {name}", error) from error

    def attach(self, attachment: Attachment) -> None:
        """Attach one that is loaded. Raises KernelLacksError."""
        program = self._programs[attachment.program]
        try:
            if attachment.kind is Kind.KPROBE:
                link = bpf.attach_kprobe(program, attachment.target)
            else:
                link = bpf.attach_tracing(program)
        except OSError as error:
            raise KernelLacksError(
                f"cannot attach to {attachment.kind.value} {attachment.target}: {error.strerror}",
                "`twtrace doctor` says what this kernel and user allow",
            ) from error
        self._links[attachment.program] = link

    def _tell_attaching(self, now: bool) -> None:
        bpf.update(self._maps["attaching"], bytes(4), struct.pack("=I", now))

    def _code(self, program: str) -> bytes:
        return renumbered(self._compiled.programs[program], dict(enumerate(self._maps.values())))

    def _make_maps(self) -> None:
        if kernel_release() < (5, 11):
            # d5299b67dd59 "bpf: Memcg-based memory accounting for bpf maps" and its like (v5.11)
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
        for name, kind in self._compiled.maps.items():
            self._maps[name] = _made(name, kind)


def _iterate(link: int, size: int) -> Iterator[bytes]:
    """The records, of so many bytes, that an iterator writes."""
    with os.fdopen(bpf.create_iterator(link), "rb", buffering=0) as file:
        pending = b""
        while chunk := file.read(1 << 16):
            pending += chunk
            whole = len(pending) - len(pending) % size
            for at in range(0, whole, size):
                yield pending[at : at + size]
            pending = pending[whole:]


def _iterate_once(link: int, size: int) -> Iterator[bytes]:
    try:
        yield from _iterate(link, size)
    finally:
        os.close(link)


def _refused(what: str, error: OSError) -> KernelLacksError:
    said = f" ({error.said})" if isinstance(error, bpf.RefusedError) and error.said else ""
    return KernelLacksError(
        f"the kernel refuses {what}: {error.strerror}{said}",
        "`twtrace doctor` says what this kernel and user allow",
    )


def _made(name: str, kind: bpf.MapKind) -> int:
    try:
        return bpf.create_map(name, kind)
    except OSError as error:
        raise KernelLacksError(
            f"the kernel refuses the eBPF map {name} ({kind.max_entries} entries): {error.strerror}",
            "if memory is short, give a smaller --ring; `twtrace doctor` says what is allowed",
        ) from error


def _close_all(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        with suppress(OSError):
            os.close(fd)


def _btf_id(attachment: Attachment, types: KernelTypes) -> int | None:
    if attachment.kind is Kind.RAW_TRACEPOINT:
        return types.tracepoint(attachment.target)
    return types.function(attachment.target)


def _present(attachments: Iterable[Attachment], types: KernelTypes) -> list[Attachment]:
    """Those whose place this kernel has. Raises KernelLacksError without a needed one."""
    present = []
    for attachment in attachments:
        if _btf_id(attachment, types) is not None:
            present.append(attachment)
        elif attachment.needed:
            raise KernelLacksError(
                f"this kernel has no {attachment.kind.value} {attachment.target}",
                "use Linux 5.10 or later, built with tracepoints and BTF; `twtrace doctor` lists them",
            )
    return present
