"""Who holds the sockets that no process context has named: open files, looked through.

An answer from here is `inferred`, never `certain`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from tracer.errors import NotPermittedError
from tracer.kernel import netns, sock_diag
from tracer.kernel.addresses import address
from tracer.kernel.processes import Processes
from tracer.kernel.procfs import decode_comm, is_same_process, start_ns_of
from tracer.model import STATES, UNKNOWN_OWNER, Endpoints, Owner

OPEN_SOCKET_RECORD = struct.Struct("=QI4x16s16sHHIBB6x16s")
"""`struct open_socket` of bpf/events.h."""

_RESCAN_AFTER_US = 2_000_000
_SCAN_SHARE = 50
"""Looking takes at most one part in this many of our time."""
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


class Holder(NamedTuple):
    """A process that holds sockets; one object for all of them."""

    pid: int
    start_ns: int
    comm: str


_ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


class OpenSockets:
    """The last look through all open files, and a new one when it has no answer."""

    def __init__(
        self,
        scan: Callable[[], Iterable[OpenSocket]],
        processes: Processes,
        now_us: Callable[[], int],
    ) -> None:
        self._scan = scan
        self._processes = processes
        self._now_us = now_us
        self._scanned_us = 0
        self._next_scan_us = 0
        self._holders: dict[Tuple, Holder] = {}
        self._listeners: dict[tuple[int, int], list[OpenSocket]] = {}

    def rescan(self, states: frozenset[str] = frozenset()) -> list[OpenSocket]:
        """Look through all open files; returns one holder of each socket found in one of `states`."""
        self._scanned_us = self._now_us()
        # Those of the last look go first: of very many sockets not two lists at once.
        holders, listeners = self._holders, self._listeners
        holders.clear()
        listeners.clear()
        wanted: dict[Tuple, OpenSocket] = {}
        # Of very many sockets what they share is kept once.
        processes: dict[Holder, Holder] = {}
        namespaces: dict[int, int] = {}
        for found in self._scan():
            netns = namespaces.setdefault(found.netns, found.netns)
            if found.state == "LISTEN":
                listeners.setdefault((netns, found.sport), []).append(found)
                continue
            # Of a parent and its child the child.
            ends = (netns, found.saddr, found.sport, found.daddr, found.dport)
            held = holders.get(ends)
            if held is None or found.start_ns > held.start_ns:
                holder = Holder(found.pid, found.start_ns, found.comm)
                holders[ends] = processes.setdefault(holder, holder)
                if found.state in states:
                    wanted[ends] = found
        now_us = self._now_us()
        elapsed = now_us - self._scanned_us
        self._next_scan_us = now_us + max(_RESCAN_AFTER_US, elapsed * _SCAN_SHARE)
        return list(wanted.values())

    def owner_of(self, ends: Endpoints, role: str, opened_us: int) -> Owner:
        """Who holds it, else who listens on its port if it may be a server's; or unknown.

        `opened_us`: since when there has been this connection; 0 if it is older
        than the trace.
        """
        found = self._look_up(ends, role, opened_us)
        if found is None and self._now_us() >= self._next_scan_us:
            self.rescan()
            found = self._look_up(ends, role, opened_us)
        if found is None:
            return UNKNOWN_OWNER
        return self._processes.inferred(found.pid, found.start_ns, found.comm)

    def is_listening(self, ends: Endpoints) -> bool:
        """Was its local port a listening one at the last look?"""
        return self._listener(ends) is not None

    def _look_up(self, ends: Endpoints, role: str, opened_us: int) -> Holder | None:
        holder = self._holders.get((ends.netns, ends.saddr, ends.sport, ends.daddr, ends.dport))
        # Those four may have been another's before.
        if holder is not None and self._scanned_us >= opened_us:
            return holder
        listener = None if role == "client" else self._listener(ends)
        if listener is not None and is_same_process(listener.pid, listener.start_ns):
            return Holder(listener.pid, listener.start_ns, listener.comm)
        return None

    def _listener(self, ends: Endpoints) -> OpenSocket | None:
        listening = self._listeners.get((ends.netns, ends.sport), ())
        exact = [found for found in listening if found.saddr == ends.saddr]
        candidates = exact or [found for found in listening if found.saddr in _ANY]
        # Of a master and its workers the one that started first.
        return min(candidates, key=lambda found: found.start_ns, default=None)


def from_iterator(records: Iterable[bytes]) -> Iterator[OpenSocket]:
    """What the BPF iterator wrote (bpf/openfiles.h)."""
    for record in records:
        start, pid, saddr, daddr, sport, dport, inode, family, state, comm = OPEN_SOCKET_RECORD.unpack(record)
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
        with suppress(netns.NamespaceGoneError, NotPermittedError):
            for entry in netns.run_inside(path, lambda: list(sock_diag.dump(_OPEN_STATES))):
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
