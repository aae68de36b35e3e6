"""The processes behind the sockets, kept from the moment the kernel names them."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tracer.kernel.cgroups import CgroupPaths, container_of, unit_of
from tracer.kernel.procfs import (
    Facts,
    boot_offset_us,
    decode_cmdline,
    decode_comm,
    is_same_process,
    read_facts,
)
from tracer.model import UNKNOWN_OWNER, Grade, Owner, Process

PROCESS_RECORD = struct.Struct("=QI4xQII16s256s")
"""`struct process_event` of bpf/events.h, without the ring's header."""

_RING_RECORD = struct.Struct(f"=8x{PROCESS_RECORD.size}s")

_PRUNE_ABOVE = 65_536

ProcessId = tuple[int, int]
"""(pid, start in nanoseconds since boot)."""


class Processes:
    """All processes seen, by id; what the kernel told first, completed from /proc while they live."""

    def __init__(self) -> None:
        self._cgroups = CgroupPaths()
        self._boot_offset_us = boot_offset_us()
        self._certain: dict[ProcessId, Owner] = {}
        self._inferred: dict[ProcessId, Owner] = {}
        self._prune_above = _PRUNE_ABOVE
        self.on_new: Callable[[ProcessId], None] = lambda _process: None
        """Is called with each that is new, or has a new name."""
        self.changed = 0
        """How often one that had an owner already was named anew."""

    def add_records(self, records: bytes) -> None:
        """Take in the records of the process ring, ring headers included."""
        for (record,) in _RING_RECORD.iter_unpack(records):
            start, pid, cgroup, uid, length, comm, cmdline = PROCESS_RECORD.unpack(record)
            process = self._complete(
                (pid, start),
                comm=decode_comm(comm),
                uid=uid,
                cgroup=self._cgroups.path(cgroup),
                cmdline=decode_cmdline(cmdline[:length]),
            )
            self.changed += (pid, start) in self._certain
            self._certain[pid, start] = Owner(Grade.CERTAIN, process)
            self.on_new((pid, start))
        if len(self._certain) > self._prune_above:
            self._prune()

    def certain(self, pid: int, start: int) -> Owner:
        """The owner seen in its own context; unknown for pid 0 (nobody was)."""
        owner = self._certain.get((pid, start))
        if owner is None:
            if not pid:
                return UNKNOWN_OWNER
            # Its record was lost; who it was is certain all the same.
            owner = self._certain[pid, start] = Owner(Grade.CERTAIN, self._complete((pid, start)))
        return owner

    def inferred(self, pid: int, start: int, comm: str) -> Owner:
        """An owner found by looking through open files."""
        owner = self._inferred.get((pid, start))
        if owner is None:
            known = self._certain.get((pid, start))
            process = known.process if known else None
            if len(self._inferred) >= _PRUNE_ABOVE:
                self._inferred.clear()
            owner = Owner(Grade.INFERRED, process or self._complete((pid, start), comm=comm))
            self._inferred[pid, start] = owner
        return owner

    def close(self) -> None:
        """Let go of what is held open."""
        self._cgroups.close()

    def _prune(self) -> None:
        """Forget who has ended, but the latest: their TIME_WAITs still speak of them."""
        keys = list(self._certain)
        for pid, start in keys[: -_PRUNE_ABOVE // 2]:
            if not is_same_process(pid, start):
                del self._certain[pid, start]
        self._prune_above = max(_PRUNE_ABOVE, 2 * len(self._certain))

    def _complete(
        self,
        key: ProcessId,
        *,
        comm: str | None = None,
        uid: int | None = None,
        cgroup: str | None = None,
        cmdline: str | None = None,
    ) -> Process:
        """A process by what is given, the rest from /proc if it still lives."""
        pid, start = key
        # The root of the unified hierarchy says nothing where cgroup v1 is in use.
        told = Facts(comm, uid, None, cmdline, None if cgroup == "/" else cgroup)
        facts = read_facts(pid, start, told)
        known = self._certain.get(key)
        if facts is told and known and known.process:  # gone since, or mid-exit
            process = known.process
            facts = Facts(comm, uid, process.exe, cmdline or process.cmdline, told.cgroup or process.cgroup)
        return Process(
            pid=pid,
            start_us=start // 1000 + self._boot_offset_us,
            comm=facts.comm or "",
            uid=facts.uid,
            cgroup=facts.cgroup,
            unit=unit_of(facts.cgroup),
            container=container_of(facts.cgroup),
            exe=facts.exe,
            cmdline=facts.cmdline,
        )
