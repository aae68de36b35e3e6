"""Stacks that the kernel side took at closes and openings: which site each is, and who is to find out.

A site gets its number when its stack comes. What the stack says is found out by a `Resolver`, later; a
stack that has, at the same places, the return addresses of one that was followed is of that site.
"""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from typing import NamedTuple, Protocol

from tracer.capture import Capture, Resolved
from tracer.kernel.processes import Processes, ProcessId
from tracer.model import Site

SITE_RECORD = struct.Struct("=QQQI4xII272s16384s")
"""`struct site_event` of bpf/events.h, without the ring's header."""

WHATS = ("close", "accept", "use", "connect")

_RING_RECORD = struct.Struct("=8x" + SITE_RECORD.format[1:])
_X86_64_IP = 128
"""Of `struct pt_regs`, arch/x86/include/asm/ptrace.h, in bytes."""
_ARM64_PC = 256
_IP = _X86_64_IP if os.uname().machine == "x86_64" else _ARM64_PC

_MOST_CONNECTIONS = 131_072
_MOST_PROCESSES = 4_096
_MOST_TRAILS = 64
"""Of one process and program counter."""


class Trail(NamedTuple):
    """The return addresses of a stack that was followed."""

    site: int
    words: tuple[tuple[int, bytes], ...]
    """Where on the stack, and which."""


class Resolver(Protocol):
    """Finds out what captures say, in a thread of its own."""

    def meet(self, process: ProcessId) -> None:
        """A process is new: what it maps is to be held, since it may be gone soon."""

    def submit(self, capture: Capture) -> bool:
        """Have it looked at; false if too many wait already."""

    def results(self) -> list[Resolved]:
        """What was found since the last call."""

    def finish(self) -> None:
        """Wait for those that are still looked at, for some seconds."""


_Place = tuple[int, str]
"""Program counter, and what is done."""


class Sites:
    """Takes in captures in order; tells which site a connection was closed or opened at."""

    def __init__(self, realtime_offset_us: int, processes: Processes, resolver: Resolver) -> None:
        self._offset_us = realtime_offset_us
        self._processes = processes
        self._resolver = resolver
        self._trails: OrderedDict[ProcessId, dict[_Place, list[Trail]]] = OrderedDict()
        self._last_site = 0
        self.closing: dict[int, int] = {}
        """By connection, the site of the first FIN or reset; the close is still to come."""
        self.opening: dict[int, int] = {}
        """By connection, where it was accepted, first used or connected."""
        self.unseen = 0
        """Stacks that nobody had time to look at."""

    def take(self, records: bytes) -> None:
        """Take in the records of the ring, its headers included."""
        for ts, conn, start, pid, what, length, registers, stack in _RING_RECORD.iter_unpack(records):
            kind = WHATS[what]
            capture = Capture(
                self._last_site + 1,
                ts // 1000 + self._offset_us,
                kind,
                (pid, start),
                self._processes.certain(pid, start),
                registers,
                stack[:length],
            )
            site = self._site_of(capture)
            if site is not None:
                _put(self.closing if kind == "close" else self.opening, conn, site)

    def results(self) -> list[Site]:
        """Sites that have been found out since the last call."""
        found = self._resolver.results()
        for capture, _, calls in found:
            self._remember(capture, calls)
        return [site for _, site, _ in found]

    def finish(self) -> list[Site]:
        """The same, once all that was taken in has been looked at."""
        self._resolver.finish()
        return self.results()

    def _site_of(self, capture: Capture) -> int | None:
        for trail in self._trails.get(capture.process, {}).get(_place(capture), ()):
            if all(capture.stack.startswith(word, at) for at, word in trail.words):
                return trail.site
        if not self._resolver.submit(capture):
            self.unseen += 1
            return None
        self._last_site = capture.site
        return capture.site

    def _remember(self, capture: Capture, calls: tuple[int, ...]) -> None:
        words = []
        at = 0
        for call in calls:
            word = call.to_bytes(8, "little")
            at = _aligned(capture.stack, word, at)
            if at < 0:
                return  # it was kept in a register
            words.append((at, word))
            at += 8
        trails = self._trails.setdefault(capture.process, {}).setdefault(_place(capture), [])
        if len(self._trails) > _MOST_PROCESSES:
            self._trails.popitem(last=False)
        if words and len(trails) < _MOST_TRAILS:
            trails.append(Trail(capture.site, tuple(words)))


def _place(capture: Capture) -> _Place:
    return int.from_bytes(capture.registers[_IP : _IP + 8], "little"), capture.what


def _aligned(stack: bytes, word: bytes, at: int) -> int:
    """The next place of a word on the stack; -1 if there is none."""
    while (at := stack.find(word, at)) >= 0 and at % 8:
        at += 1
    return at


def _put(sites: dict[int, int], conn: int, site: int) -> None:
    if len(sites) >= _MOST_CONNECTIONS:
        del sites[next(iter(sites))]
    sites[conn] = site
