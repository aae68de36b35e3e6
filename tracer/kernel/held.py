"""Half-closed sockets that stay so: the kernel side's `held` map, read in batches."""

from __future__ import annotations

import ctypes as ct
import time
from collections.abc import Callable, Iterator

from tracer.crowd import Reading
from tracer.kernel.decode import HELD_RECORD, Decoder
from tracer.kernel.libbpf import load_libbpf
from tracer.model import Event, Held

SETTLED_US = 1_000_000
"""A socket half-closed for less is in the ordinary course of closing."""

_BATCH = 4096
_LOOK_SHARE = 50
"""Looking takes at most one part in this many of our time, however much hangs."""


class HeldSockets:
    """Tells of each socket once it has been half-closed for a second, and when the process let go."""

    def __init__(self, read_map: Callable[[], Iterator[bytes]], decoder: Decoder) -> None:
        self._read_map = read_map
        self._decoder = decoder
        self._told: dict[int, Held] = {}
        self._next_look = 0.0

    def look(self) -> dict[int, Held] | None:
        """Those that are half-closed now, by number; None if it is too early for another look.

        To be called before the events are read that `tell()` gets: then a socket
        that is not in the map any more has its `close` among them, if it has one.
        """
        started = time.monotonic()
        if started < self._next_look:
            return None
        found = {held.ends.conn: held for held in map(self._decoder.held, self._read_map())}
        elapsed = time.monotonic() - started
        self._next_look = started + max(1.0, elapsed * _LOOK_SHARE)
        return found

    def tell(self, found: dict[int, Held] | None, reading: Reading, now_us: int) -> list[Event]:
        """What has settled, and what the process has closed since but the peer not acknowledged."""
        if not found and not self._told:
            return []
        closed = reading.closed()
        for conn in closed & self._told.keys():
            del self._told[conn]
        if found is None:
            return []
        settled = {
            conn: held
            for conn, held in found.items()
            if now_us - held.ts_us >= SETTLED_US and conn not in closed
        }
        news: list[Event] = [held for conn, held in settled.items() if conn not in self._told]
        news += [
            held._replace(ts_us=now_us, state="LAST_ACK")
            for conn, held in self._told.items()
            if conn not in found and held.state == "CLOSE_WAIT"
        ]
        self._told = settled
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
