"""How fast records become rows and lines on this machine: `.venv/bin/python -m tests.bench.pipeline`.

From the kernel's ring to the aggregate or the file, on records of one client and one server that close
as fast as they can, in readings of 100 ms; by processor time, so of one core.
"""

from __future__ import annotations

import argparse
import gc
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

from tracer.aggregate import Aggregator
from tracer.crowd import Reading
from tracer.kernel.decode import ALIKE_RECORD, EVENT_RECORD, TIMES_RECORD, Decoder
from tracer.kernel.ledger import Ledger
from tracer.kernel.opensockets import OpenSockets
from tracer.kernel.processes import PROCESS_RECORD, Processes
from tracer.model import Start
from tracer.record import Encoder
from tracer.recording import Recording
from tracer.tracefile import TraceFile
from tracer.writing import Writer

CLOSE, TW_END = 2, 3
CONNECTIONS_PER_S = 15_000
LIFE_S = 2
"""Of a TIME_WAIT: its port comes round again."""
READINGS_PER_S = 10
_HEADER = b"\0" * 8
_NS = 1_000_000_000


@dataclass(frozen=True)
class Rate:
    """So much in so long."""

    what: str
    number: int
    seconds: float

    @property
    def per_second(self) -> int:
        return round(self.number / self.seconds)


def _address(text: str) -> bytes:
    return b"\0" * 10 + b"\xff\xff" + socket.inet_aton(text)


def _alike(kind: int, pid: int, **fields: int) -> bytes:
    given = {"flags": 0, "role": 0, "first": 0, "how": 0, "via": 0, "reason": 0, "seen": 0} | fields
    shared = (kind, 4, 5, 7, given["flags"], given["role"], given["first"], given["how"])
    rest = (given["via"], given["reason"], 0, 0, 4026531840, given["seen"], 443, 0)
    ends = _address("10.0.0.1"), _address("10.0.0.2")
    return ALIKE_RECORD.pack(*shared, *rest, *ends, pid, pid, pid, pid, 0, 0)


def records(seconds: int) -> Iterator[bytes]:
    """Readings: of each connection two closes, and some time later the end of its TIME_WAIT."""
    server = _alike(CLOSE, 11, flags=8, role=2, first=1, how=1, via=1, seen=0b0111_0010)
    client = _alike(CLOSE, 12, role=1, first=2, how=1, via=1, seen=0b11_0000_0010)
    ended = _alike(TW_END, 11, flags=16, reason=3)
    times = TIMES_RECORD.pack(40, 0, 3, 0, 5, 9, 0, 0, 0, 0)
    numbers = count(1)
    each = CONNECTIONS_PER_S // READINGS_PER_S
    for reading in range(seconds * READINGS_PER_S):
        made = []
        for place, conn in enumerate(islice(numbers, each)):
            ts = reading * _NS // READINGS_PER_S + place * _NS // CONNECTIONS_PER_S + 1
            port = 1024 + conn % (CONNECTIONS_PER_S * LIFE_S)
            made.append(EVENT_RECORD.pack(ts, 2 * conn, 90_000 + conn % 977, times, port, client))
            made.append(EVENT_RECORD.pack(ts, 2 * conn + 1, 90_000 + conn % 977, times, port, server))
            if conn > CONNECTIONS_PER_S * LIFE_S:
                old = 2 * (conn - CONNECTIONS_PER_S * LIFE_S) + 1
                made.append(EVENT_RECORD.pack(ts, old, LIFE_S * 1_000_000, times, port, ended))
        yield b"".join(_HEADER + one for one in made)


def started() -> Start:
    """A start line's facts."""
    settings: dict[str, int | str] = {"ip_local_port_range": "32768 60999", "tcp_tw_reuse": 2}
    return Start(
        0,
        "0",
        "host",
        "6.18",
        ("bench",),
        {},
        {"source": "timer"},
        {"tick_us": 4000},
        {"4026531840": settings},
    )


def decoder() -> Decoder:
    """One that knows the two processes."""
    processes = Processes()
    for pid, name in ((11, b"server"), (12, b"client")):
        processes.add_records(_HEADER + PROCESS_RECORD.pack(pid, pid, 0, 33, 4, name, b"argv"))
    return Decoder(0, processes, OpenSockets(list, processes, lambda: 0))


def to_rows(readings: Sequence[bytes]) -> Aggregator:
    """Decode, keep the ledger and the counts, aggregate."""
    reads, ledger, encoder, aggregator = decoder(), Ledger(), Encoder(), Aggregator(started())
    for at, raw in enumerate(readings, 1):
        reading = reads.read(raw)
        ledger.add(reading, at * 1_000_000 // READINGS_PER_S)
        encoder.count(reading)
        aggregator.take(reading)
    return aggregator


def to_lines(readings: Sequence[bytes], path: str = "/dev/null") -> int:
    """Decode, keep the ledger, write; returns how many lines."""
    reads, ledger = decoder(), Ledger()
    recording = Recording(Writer(TraceFile(path)), started())
    lines = 0
    for at, raw in enumerate(readings, 1):
        reading = Reading(reads.decode(raw))
        ledger.add(reading, at * 1_000_000 // READINGS_PER_S)
        recording.write(reading.events)
        lines += len(reading.events)
    recording.abandon()
    return lines


def measure(seconds: int = 6, rounds: int = 3) -> tuple[Rate, Rate]:
    """Records a second to rows, and lines a second; the best of several rounds."""
    readings = list(records(seconds))
    stride = len(_HEADER) + EVENT_RECORD.size
    number = sum(map(len, readings)) // stride
    gc.freeze()
    rows = min(_timed(lambda: to_rows(readings)) for _ in range(rounds))
    lines = min(_timed(lambda: to_lines(readings)) for _ in range(rounds))
    return Rate("records to rows", number, rows), Rate("lines to a file", to_lines(readings), lines)


def _timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=6, metavar="N", help="so much of a host's time")
    for rate in measure(parser.parse_args().seconds):
        sys.stdout.write(
            f"{rate.what}: {rate.per_second:,}/s, {rate.seconds / rate.number * 1e6:.2f} µs each\n"
        )


if __name__ == "__main__":
    main()
