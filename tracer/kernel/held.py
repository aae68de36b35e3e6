"""Half-closed sockets that stay so: the kernel side's `held` map, read in batches."""

from __future__ import annotations

import ctypes as ct
import time
from collections.abc import Callable, Iterator

from tracer.kernel.decode import HELD_RECORD, Decoder
from tracer.kernel.libbpf import load_libbpf
from tracer.model import Close, Event, Held

SETTLED_US = 1_000_000
"""A socket half-closed for less is in the ordinary course of closing."""

_BATCH = 4096
_SCAN_SHARE = 50
"""Scanning takes at most one part in this many of our time, however much hangs."""


class HeldSockets:
    """Reports each socket once it has been half-closed for a second, and when it no longer is."""

    def __init__(self, read_map: Callable[[], Iterator[bytes]], decoder: Decoder) -> None:
        self._read_map = read_map
        self._decoder = decoder
        self._reported: dict[int, Held] = {}
        self._next_scan = 0.0

    def add(self, events: list[Event], now_us: int) -> list[Event]:
        """`events` and what has settled by `now_us`; call it often, it looks once a second."""
        if self._reported:
            for event in events:
                if isinstance(event, Close):
                    self._reported.pop(event.ends.conn, None)
        started = time.monotonic()
        if started < self._next_scan:
            return events
        found = self._scan(now_us)
        elapsed = time.monotonic() - started
        self._next_scan = started + max(1.0, elapsed * _SCAN_SHARE)
        return [*events, *found]

    def _scan(self, now_us: int) -> list[Event]:
        present: dict[int, Held] = {}
        news: list[Event] = []
        for record in self._read_map():
            held = self._decoder.held(record)
            conn = held.ends.conn
            if now_us - held.ts_us < SETTLED_US:
                continue
            if conn not in self._reported:
                news.append(held)
            present[conn] = held
        for conn, held in self._reported.items():
            if conn not in present:
                # Closed by the process but not acknowledged by the peer yet.
                news.append(held._replace(ts_us=now_us, state="LAST_ACK"))
        self._reported = present
        return news


def read_map(map_fd: int) -> Iterator[bytes]:
    """All values of the map, by BPF_MAP_LOOKUP_BATCH (Linux 5.6)."""
    lookup_batch = load_libbpf().bpf_map_lookup_batch
    keys = (ct.c_uint64 * _BATCH)()
    values = ct.create_string_buffer(_BATCH * HELD_RECORD.size)
    position, count = ct.c_uint32(), ct.c_uint32()
    first, more = True, True
    while more:
        count.value = _BATCH
        more = not lookup_batch(
            map_fd,
            None if first else ct.byref(position),
            ct.byref(position),
            ct.byref(keys),
            ct.byref(values),
            ct.byref(count),
            None,
        )
        first = False
        raw = values.raw
        for at in range(0, count.value * HELD_RECORD.size, HELD_RECORD.size):
            yield raw[at : at + HELD_RECORD.size]
