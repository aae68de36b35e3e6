"""Half-closed sockets that stay so: an iterator over those that are followed, once a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from tracer.crowd import Reading
from tracer.kernel.decode import Decoder
from tracer.model import Event, Held

SETTLED_US = 1_000_000
"""A socket half-closed for less is in the ordinary course of closing."""

_LOOK_SHARE = 50
"""Looking takes at most one part in this many of our time, however many sockets are followed."""


class HeldSockets:
    """Tells of each socket once it has been half-closed for a second, and when the process let go."""

    def __init__(self, half_closed: Callable[[], Iterable[bytes]], decoder: Decoder) -> None:
        self._half_closed = half_closed
        self._decoder = decoder
        self._told: dict[int, Held] = {}
        self._missed: set[int] = set()
        """Those told that the last look did not find."""
        self._next_look = 0.0

    def look(self) -> dict[int, Held] | None:
        """Those that are half-closed now, by number; None if it is too early for another look.

        To be called before the events are read that `drop()` gets: then a socket
        that is not found any more has its `close` among them, if it has one. One in the way of
        another that goes just then may be passed over (bpf_hash_map_seq_find_next(),
        kernel/bpf/hashtab.c).
        """
        started = time.monotonic()
        if started < self._next_look:
            return None
        found = {held.ends.conn: held for held in map(self._decoder.held, self._half_closed())}
        elapsed = time.monotonic() - started
        self._next_look = started + max(1.0, elapsed * _LOOK_SHARE)
        return found

    def drop(self, found: dict[int, Held] | None, reading: Reading) -> None:
        """Those that the reading says are over."""
        if not found and not self._told:
            return
        closed = reading.closed()
        for listed in (self._told, found or {}):
            for conn in listed.keys() & closed:
                del listed[conn]

    def tell(self, found: dict[int, Held] | None, now_us: int) -> list[Event]:
        """What has settled, and what the process has closed since but the peer not acknowledged."""
        if found is None:
            return []
        settled = {conn: held for conn, held in found.items() if now_us - held.ts_us >= SETTLED_US}
        news: list[Event] = [held for conn, held in settled.items() if conn not in self._told]
        missed = {conn: held for conn, held in self._told.items() if conn not in found}
        news += [
            held._replace(ts_us=now_us, state="LAST_ACK")
            for conn, held in missed.items()
            if conn in self._missed and held.state == "CLOSE_WAIT"
        ]
        missed = {conn: held for conn, held in missed.items() if conn not in self._missed}
        self._told = settled | missed
        self._missed = set(missed)
        return news
