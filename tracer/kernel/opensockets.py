"""Who holds the sockets that no process context has named: open files, looked through.

An answer from here is `inferred`, never `certain`.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from tracer.kernel import netns, sock_diag
from tracer.kernel.addresses import address
from tracer.kernel.processes import Processes, decode_comm
from tracer.kernel.procfs import start_ns_of
from tracer.model import STATES, UNKNOWN_OWNER, Endpoints, Owner

OPEN_SOCKET_RECORD = struct.Struct("=QI4x16s16sHHIBBHI16s")
"""`struct open_socket` of bpf/events.h."""

_RESCAN_AFTER_S = 2.0
_OPEN_STATES = frozenset(
    {"ESTABLISHED", "SYN_SENT", "FIN_WAIT1", "FIN_WAIT2", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING"}
)

Tuple = tuple[int, str, int, str, int]
"""(netns, saddr, sport, daddr, dport)."""


class OpenSocket(NamedTuple):
    """One open file that is a TCP socket."""

    pid: int
    start_ns: int
    comm: str
    netns: int
    family: int
    state: str
    saddr: str
    sport: int
    daddr: str
    dport: int


class OpenSockets:
    """The last look through all open files, and a new one when it has no answer."""

    def __init__(
        self,
        scan: Callable[[], Iterable[OpenSocket]],
        processes: Processes,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scan = scan
        self._processes = processes
        self._clock = clock
        self._scanned_at = -_RESCAN_AFTER_S
        self._holders: dict[Tuple, OpenSocket] = {}
        self._listeners: dict[tuple[int, int], OpenSocket] = {}

    def rescan(self) -> list[OpenSocket]:
        """Look through all open files; returns one holder of each socket found."""
        self._scanned_at = self._clock()
        holders: dict[Tuple, OpenSocket] = {}
        listeners: dict[tuple[int, int], OpenSocket] = {}
        for found in self._scan():
            if found.state == "LISTEN":
                # Of a master and its workers the one that started first.
                key = (found.netns, found.sport)
                known = listeners.get(key)
                if known is None or found.start_ns < known.start_ns:
                    listeners[key] = found
            else:
                # Of a parent and its child the child.
                ends = (found.netns, found.saddr, found.sport, found.daddr, found.dport)
                held = holders.get(ends)
                if held is None or found.start_ns > held.start_ns:
                    holders[ends] = found
        self._holders, self._listeners = holders, listeners
        return list(holders.values())

    def owner_of(self, ends: Endpoints, role: str) -> Owner:
        """Who holds it, else who listens on its port if it is a server's; or unknown."""
        found = self._look_up(ends, role)
        if found is None and self._clock() - self._scanned_at >= _RESCAN_AFTER_S:
            self.rescan()
            found = self._look_up(ends, role)
        if found is None:
            return UNKNOWN_OWNER
        return self._processes.inferred(found.pid, found.start_ns, found.comm)

    def is_listening(self, ends: Endpoints) -> bool:
        """Was its local port a listening one at the last look?"""
        return (ends.netns, ends.sport) in self._listeners

    def _look_up(self, ends: Endpoints, role: str) -> OpenSocket | None:
        holder = self._holders.get((ends.netns, ends.saddr, ends.sport, ends.daddr, ends.dport))
        if holder is None and role != "client":
            return self._listeners.get((ends.netns, ends.sport))
        return holder


def from_iterator(records: Iterable[bytes]) -> Iterator[OpenSocket]:
    """What the BPF iterator wrote (bpf/openfiles.h)."""
    for record in records:
        start, pid, saddr, daddr, sport, dport, inode, family, state, _, _, comm = OPEN_SOCKET_RECORD.unpack(
            record
        )
        yield OpenSocket(
            pid,
            start,
            decode_comm(comm),
            inode,
            family,
            STATES[state],
            address(saddr, family),
            sport,
            address(daddr, family),
            dport,
        )


def from_proc() -> Iterator[OpenSocket]:
    """The same from /proc/*/fd and sock_diag, for kernels without the iterator's helper."""
    by_inode: dict[int, tuple[int, sock_diag.DiagSocket]] = {}
    for inode, path in netns.find_all().items():
        for entry in netns.run_inside(path, lambda: sock_diag.dump(_OPEN_STATES)):
            if entry.inode:
                by_inode[entry.inode] = (inode, entry)
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError):  # a process that ended
            yield from _of_process(pid, by_inode)


def _of_process(pid: int, by_inode: dict[int, tuple[int, sock_diag.DiagSocket]]) -> Iterator[OpenSocket]:
    start_ns = start_ns_of(pid)
    with open(f"/proc/{pid}/comm", "rb") as file:
        comm = decode_comm(file.read().rstrip(b"\n"))
    if start_ns is None:
        return
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with suppress(OSError):  # a descriptor that was closed
            kind, _, number = os.readlink(entry.path).partition(":")
            found = by_inode.get(int(number[1:-1])) if kind == "socket" else None
            if found is not None:
                inode, sock = found
                yield OpenSocket(
                    pid,
                    start_ns,
                    comm,
                    inode,
                    sock.family,
                    sock.state,
                    sock.saddr,
                    sock.sport,
                    sock.daddr,
                    sock.dport,
                )
