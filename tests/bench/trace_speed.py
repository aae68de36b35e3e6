"""How fast traces are written and read on this machine: `.venv/bin/python -m tests.bench.trace_speed`.

Prints lines a second of one core, by its processor time, for the lines of examples/demo.ndjson over and over,
each connection with a number of its own. `--write FILE --lines N` leaves such a trace for other measurements.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from tracer.model import Counters, End, Event, Lost, Site, Start
from tracer.reader import Reader
from tracer.record import Encoder

DEMO = Path(__file__).parents[2] / "examples/demo.ndjson"


def events() -> tuple[Start, list[Event], End]:
    with DEMO.open("rb") as file:
        start, *middle, end = Reader().read(file)
    assert isinstance(start, Start)
    assert isinstance(end, End)
    return start, [event for event in middle if not isinstance(event, Start | End)], end


def endless(middle: list[Event], duration_us: int) -> Iterator[Event]:
    step = 0
    while True:
        for event in middle:
            ts_us = event.ts_us + step * duration_us
            if isinstance(event, Site):
                yield event._replace(ts_us=ts_us)
            elif isinstance(event, Lost | Counters):
                yield replace(event, ts_us=ts_us)
            else:
                conn = event.ends.conn + step * 10_000_000
                yield event._replace(ts_us=ts_us, ends=event.ends._replace(conn=conn))
        step += 1


def lines(count: int) -> Iterator[bytes]:
    start, middle, end = events()
    encoder = Encoder()
    yield encoder.start(start)
    last_us = start.ts_us
    for event in islice(endless(middle, end.duration_us), count - 2):
        last_us = max(last_us, event.ts_us)
        yield encoder.event(event)
    yield encoder.end(last_us, last_us - start.ts_us, {}, {})[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE")
    parser.add_argument("--lines", type=int, default=100_000)
    options = parser.parse_args()
    if options.write:
        with Path(options.write).open("wb") as file:
            file.writelines(lines(options.lines))
        return
    _, middle, end = events()
    given = list(islice(endless(middle, end.duration_us), options.lines))
    encoder = Encoder()
    began = time.process_time()
    for event in given:
        encoder.event(event)
    tell("written", len(given), time.process_time() - began)
    told = list(lines(options.lines))
    reader = Reader()
    began = time.process_time()
    for _ in reader.read(told):
        pass
    tell("read", len(told), time.process_time() - began)
    assert not reader.doubts, reader.doubts
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(
        f"{sum(map(len, told)) // len(told)} bytes a line; peak memory with all lines {peak} MiB\n"
    )


def tell(what: str, count: int, seconds: float) -> None:
    sys.stdout.write(f"{what}: {count / seconds:,.0f} lines/s, {seconds / count * 1e6:.2f} µs a line\n")


if __name__ == "__main__":
    main()
