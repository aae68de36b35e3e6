"""The running kernel as a source of events: loads, reads, accounts."""

from __future__ import annotations

import io
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, TypeVar

from tracer import __version__
from tracer.crowd import Reading
from tracer.errors import NotPermittedError, say
from tracer.kernel import netns, sock_diag
from tracer.kernel.decode import EVENT_RECORD, Decoder
from tracer.kernel.flags import SITE_RING_BYTES, LoadOptions
from tracer.kernel.held import HeldSockets
from tracer.kernel.hooks import transitions
from tracer.kernel.ledger import Key, Ledger, key_of
from tracer.kernel.liveports import Destination, live_ports
from tracer.kernel.loader import Counter, ProgramStats, load
from tracer.kernel.opensockets import OpenSocket, OpenSockets, from_iterator, from_proc
from tracer.kernel.processes import PROCESS_RECORD, Processes
from tracer.kernel.ring import Ring
from tracer.kernel.sites import SITE_RECORD, Resolver, Sites
from tracer.kernel.sockstat import count_time_waits
from tracer.kernel.sysctl import read_settings
from tracer.model import (
    UNKNOWN_OWNER,
    Balance,
    Counters,
    Endpoints,
    Event,
    Held,
    LivePorts,
    Lost,
    Start,
    TimeWait,
)

Found = TypeVar("Found")

_PROCESS_RING_BYTES = 4 << 20
"""For thirteen thousand processes that come while one reading is made."""
_BUSY_TRIES = 1000
"""Another CPU writes a process record for less than these take."""
_MOST_DESTINATIONS = 64
"""Whose live ports are told."""
_ONE = (1).to_bytes(8, sys.byteorder)
"""As eventfd(2) takes it."""
_HALF_CLOSED = frozenset({"CLOSE_WAIT", "FIN_WAIT2"})

_LOST = {
    Counter.LOST_STATE: "state records, event ring full",
    Counter.LOST_CLOSE: "close records (and the time_wait that follows one), event ring full",
    Counter.LOST_TW_END: "time_wait_end records, event ring full",
    Counter.LOST_PROCESS: "process descriptions, process ring full",
    Counter.LOST_SOCKS: "connections, map full",
    Counter.LOST_TWS: "time_waits, map full",
    Counter.LOST_STEPS: "transitions of connections, not shown by the kernel",
    Counter.LOST_ENDS: "ends of connections (and the time_wait that follows one), not shown by the kernel",
    Counter.LOST_BIRTHS: "births of time_waits, chain in the kernel's table too long to follow",
    Counter.LOST_SITES: "stacks of call sites, ring full",
}
_UNSEEN = "stacks of call sites, no time to look at them"
_MISSED = "kernel events of any namespace, program interrupted by itself"


class LiveSource:
    """Attached programs and their rings, from construction to close()."""

    def __init__(
        self,
        options: LoadOptions,
        resolver: Resolver | None = None,
        on_loading: Callable[[], None] = lambda: None,
    ) -> None:
        """Load and attach; a resolver if the options want sites. `on_loading` as `load()` has it."""
        self._filters = options.filters
        self._attached_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._offset_us = _realtime_us() - self._attached_ns // 1000
        self._programs = load(options, on_loading)
        attachments = (*self._programs.choice.source.attachments, *transitions())
        self._harmless = frozenset(one.program for one in attachments if one.told_otherwise)
        self._ledger = Ledger()
        self._events = Ring(self._programs.map_fd("events"), options.ring_mib << 20, EVENT_RECORD.size)
        self._process_ring = Ring(
            self._programs.map_fd("processes"), _PROCESS_RING_BYTES, PROCESS_RECORD.size
        )
        self._processes = Processes()
        self._open_sockets = OpenSockets(self._scan, self._processes, self.now_us)
        self._decoder = Decoder(self._offset_us, self._processes, self._open_sockets)
        self._all_sites = options.sites == "all"
        self._sites: Sites | None = None
        if resolver is not None:
            size = SITE_RING_BYTES[options.sites]
            self._site_ring = Ring(self._programs.map_fd("sites"), size, SITE_RECORD.size)
            self._sites = Sites(self._offset_us, self._processes, resolver)
            self._processes.on_new = resolver.meet
            self._decoder.closing, self._decoder.opening = self._sites.closing, self._sites.opening
        self._held = HeldSockets(self._programs.half_closed, self._decoder)
        self._bell = io.FileIO(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), "r+")
        self._poll = select.epoll()
        for fd in (self._events.fd, self._process_ring.fd, self._bell.fileno()):
            # Edges: at the level, what waits to be read would wake us again and again.
            self._poll.register(fd, select.EPOLLIN | select.EPOLLET)
        self._told_lost: dict[str, int] = {}
        self.in_crowds: Callable[[], bool] = lambda: False
        """Asked at each reading: whether events of which many are alike are to be crowds."""
        self._namespaces = self._find_namespaces()
        self._settings: dict[int, dict[str, int | str]] = {}

    def start(self, argv: tuple[str, ...]) -> Start:
        """The description of this host and of what we listen to."""
        choice = self._programs.choice
        return Start(
            ts_us=self.now_us(),
            version=__version__,
            host=socket.gethostname(),
            kernel=os.uname().release,
            argv=argv,
            filters=self._filters.as_dict(),
            hooks={"source": choice.source.name, "why": choice.why, **choice.source.facts},
            clock={"realtime_minus_monotonic_us": self._offset_us, "tick_us": self._programs.tick_us},
            sysctl=self._changed(dict(self._in_each_namespace(read_settings))),
        )

    def now_us(self) -> int:
        """This moment, on the clock of the events."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000 + self._offset_us

    def preexisting(self) -> list[Reading]:
        """What was there before us, and after it what happened while we looked."""
        now_us = self.now_us()
        older = [
            Held(
                now_us,
                self._decoder.add_older(ends),
                self._open_sockets.owner_of(ends, "unknown", 0),
                state,
                True,
            )
            for ends, state in self._half_closed()
        ]
        dumped = self._time_waits()
        since = list(self.read())
        # One born after we attached is in the dump as well as in the ring.
        ours = {
            event.ends[1:] for reading in since for event in reading.waits() if isinstance(event, TimeWait)
        }
        waiting = [
            TimeWait(now_us, self._decoder.add_older(ends), UNKNOWN_OWNER, substate, preexisting=True)
            for ends, substate in dumped
            if ends[1:] not in ours and self._filters.pass_ends(ends)
        ]
        before = Reading([*older, *waiting])
        self._ledger.add(before, self.now_us())
        return [before, *since]

    def wait(self, seconds: float) -> None:
        """Sleep until events should be read or somebody calls wake(), `seconds` at most.

        Processes are looked at as they come: they may soon be gone.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ready = self._poll.poll(left)
            self._meet_processes()
            if any(fd != self._process_ring.fd for fd, _ in ready):
                return

    def wake(self) -> None:
        """End a wait(), or else the next; from any thread, at any time."""
        with suppress(ValueError):  # closed
            self._bell.write(_ONE)

    def read(self) -> Iterator[Reading]:
        """All events since the last call, as many at a time as are worth holding at once."""
        half_closed = self._held.look()
        upto = self._events.written()
        # Read second, taken in first: who an event speaks of was told before it.
        self._meet_processes()
        if self._sites:
            for records in self._site_ring.read(self._site_ring.written()):
                self._sites.take(records)
        for records in self._events.read(upto):
            reading = self._decoded(records)
            self._ledger.add(reading, self.now_us())
            self._held.drop(half_closed, reading)
            yield reading
        also = self._held.tell(half_closed, self.now_us())
        if self._sites:
            also += self._sites.results()
        if also:
            yield Reading(also)

    def _meet_processes(self) -> None:
        told = self._process_ring.written()
        for _ in range(_BUSY_TRIES):
            for records in self._process_ring.read(told):
                self._processes.add_records(records)
            if self._process_ring.position >= told:
                break

    def _decoded(self, records: bytes) -> Reading:
        return self._decoder.read(records) if self.in_crowds() else Reading(self._decoder.decode(records))

    def lost(self) -> list[Event]:
        """What could not be told since the last call."""
        counters = self._programs.counters()
        lost = {what: counters[which] for which, what in _LOST.items()}
        if self._all_sites:
            lost[_UNSEEN] = self._sites.unseen if self._sites else 0
        else:  # some are enough
            del lost[_LOST[Counter.LOST_SITES]]
        lost[_MISSED] = sum(
            program.missed for program in self._programs.stats() if program.name not in self._harmless
        )
        news: list[Event] = [
            Lost(self.now_us(), what, count - self._told_lost.get(what, 0))
            for what, count in lost.items()
            if count > self._told_lost.get(what, 0)
        ]
        self._told_lost = lost
        return news

    def totals(self) -> dict[str, int]:
        """What the kernel side counted, whether or not it could be told."""
        counters = self._programs.counters()
        return {
            "closes": counters[Counter.CLOSES],
            "time_wait_born": counters[Counter.TW_BORN],
            "time_wait_ended": counters[Counter.TW_ENDED],
            "time_wait_overflowed": counters[Counter.TW_OVERFLOWED],
        }

    def programs(self) -> tuple[ProgramStats, ...]:
        """The kernel's account of our programs."""
        return self._programs.stats()

    def account(self, take: Callable[[Reading], None]) -> Counters:
        """A running account, of all events until now; `take` gets those not read before.

        In it each namespace's ledger against the kernel's own number of TIME_WAITs. The
        number is of the whole namespace: with a filter by port or family the kernel is
        not asked.
        """
        self._look_for_namespaces()
        self._read_to(take)
        since_us = self._ledger.watch(self.now_us())
        looks = dict(self._in_each_namespace(_look))
        self._read_to(take)
        counted = (
            {} if self._filters.by_endpoint else {inode: look.time_waits for inode, look in looks.items()}
        )
        balances = {
            inode: self._ledger.against_count(inode, counted.get(inode), since_us)
            for inode in self._ledger.namespaces()
        }
        self._ledger.settle()
        live = [
            LivePorts(inode, *destination, ports)
            for inode, look in looks.items()
            for destination, ports in look.live
        ]
        live.sort(key=lambda held: -held.ports)
        settings = self._changed({inode: look.settings for inode, look in looks.items()})
        return Counters(
            self.now_us(), self.totals(), _told(balances), tuple(live[:_MOST_DESTINATIONS]), settings
        )

    def stop(self, take: Callable[[Reading], None]) -> dict[str, Balance]:
        """Detach; `take` gets what was not read before.

        Returns the ledger against the kernel's own list.
        """
        self._look_for_namespaces()
        self._read_to(take)
        since_us = self._ledger.watch(self.now_us())
        listed: dict[int, set[Key]] = {inode: set() for inode in self._namespaces}
        for ends, _ in self._time_waits():
            if self._filters.pass_ends(ends):
                listed[ends.netns].add(key_of(ends))
        self._programs.detach()
        self._read_to(take)
        if self._sites:
            take(Reading(self._sites.finish()))
        take(Reading(self.lost()))
        balances = {
            inode: self._ledger.against_list(inode, listed.get(inode), since_us)
            for inode in self._ledger.namespaces() | {inode for inode, keys in listed.items() if keys}
        }
        return _told(balances)

    def close(self) -> None:
        """Free everything."""
        self._programs.detach()
        self._poll.close()
        self._bell.close()
        self._events.close()
        self._process_ring.close()
        if self._sites:
            self._site_ring.close()
        self._processes.close()
        self._programs.close()

    def _read_to(self, take: Callable[[Reading], None]) -> None:
        for reading in self.read():
            take(reading)

    def _scan(self) -> Iterator[OpenSocket]:
        records = self._programs.open_sockets()
        return from_proc() if records is None else from_iterator(records)

    def _changed(self, settings: dict[int, dict[str, int | str]]) -> dict[str, dict[str, int | str]]:
        """Those that were not told yet."""
        news = {inode: values for inode, values in settings.items() if self._settings.get(inode) != values}
        self._settings |= news
        return {str(inode): values for inode, values in news.items()}

    def _find_namespaces(self) -> dict[int, str]:
        wanted = self._filters.netns
        return {inode: path for inode, path in netns.find_all().items() if wanted in (None, inode)}

    def _look_for_namespaces(self) -> None:
        self._namespaces = self._find_namespaces()

    def _half_closed(self) -> list[tuple[Endpoints, str]]:
        return [
            (
                Endpoints(0, found.netns, found.family, found.saddr, found.sport, found.daddr, found.dport),
                found.state,
            )
            for found in self._open_sockets.rescan(_HALF_CLOSED)
        ]

    def _time_waits(self) -> list[tuple[Endpoints, str]]:
        return [
            (
                Endpoints(0, inode, entry.family, entry.saddr, entry.sport, entry.daddr, entry.dport),
                entry.state,
            )
            for inode, entries in self._in_each_namespace(sock_diag.dump_time_waits)
            for entry in entries
        ]

    def _in_each_namespace(self, look: Callable[[], Found]) -> Iterator[tuple[int, Found]]:
        for inode, path in list(self._namespaces.items()):
            found = self._look_into(inode, path, look)
            if found is not None:
                yield inode, found

    def _look_into(self, inode: int, path: str, look: Callable[[], Found]) -> Found | None:
        try:
            return netns.run_inside(path, look)
        except NotPermittedError as error:
            say(f"warning: {error.cause}: what was there before is not known; {error.hint}")
        except netns.NamespaceGoneError:
            pass
        del self._namespaces[inode]
        return None


class _Look(NamedTuple):
    """What is seen from inside a namespace."""

    time_waits: int
    settings: dict[str, int | str]
    live: list[tuple[Destination, int]]


def _look() -> _Look:
    settings = read_settings()
    return _Look(count_time_waits(), settings, live_ports(settings))


def _told(balances: dict[int, Balance]) -> dict[str, Balance]:
    """A namespace that is gone, and whose TIME_WAITs all are, needs no asking."""
    return {
        str(inode): replace(balance, kernel=0, residue=0)
        if balance.kernel is None and not balance.expected
        else balance
        for inode, balance in sorted(balances.items())
    }


def _realtime_us() -> int:
    return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1000
