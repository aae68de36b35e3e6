"""A trace begun amid a run: whole, and with an account of its own time."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import orjson

from tests.unit.samples import SECOND, T0, birth, close, death, held, owner, start
from tests.unit.test_crowd import ALIKE, decoder, many
from tracer.crowd import Reading
from tracer.liveview import LiveView
from tracer.model import Balance, Counters, Snapshot
from tracer.report.reading import read
from tracer.tracefile import TraceFile
from tracer.writing import Writer

APP = owner(7)


def account(at: float, born: int, ended: int, kernel: int) -> Counters:
    """As of the run's beginning, with three TIME_WAITs before it."""
    expected = born + 3 - ended
    balance = Balance(born, 3, ended, expected, kernel, expected - kernel)
    return Counters(T0 + int(at * SECOND), {"closes": 100 + born}, {"1": balance})


def test_a_recording_amid_a_run(tmp_path: Path) -> None:
    shots: list[Snapshot] = []
    view = LiveView(start(), "", shots.append)
    view.take(Reading([close(1, APP, at=1), birth(1, APP, at=1), held(2, APP, at=1), held(3, APP, at=1)]))
    view.take(Reading([close(3, APP, at=2, first="remote"), birth(4, APP, at=2), death(4, APP, at=3)]))
    path = tmp_path / "trace"
    view.record(Writer(TraceFile(str(path))), account(10, born=2, ended=1, kernel=4))
    assert view.recording is not None
    view.take(Reading([close(5, APP, at=11), birth(5, APP, at=11), death(1, APP, at=61)]))
    view.end_recording(account(70, born=3, ended=2, kernel=4))
    assert view.recording is None
    view.take(Reading([close(6, APP, at=71)]))

    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["type"] for line in lines] == [
        "start", "time_wait", "held", "counters", "close", "time_wait", "time_wait_end", "end",
    ]  # fmt: skip
    assert {line["ts_us"] for line in lines[:4]} == {T0 + 10 * SECOND}
    assert [line["owner"]["grade"] for line in lines[1:3]] == ["unknown", "certain"]
    assert [line.get("preexisting", False) for line in lines[1:7]] == [True, True, False, False, False, True]
    assert lines[3]["ledger"]["1"] == {
        "born": 0, "preexisting": 4, "ended": 0, "expected": 4, "kernel": 4, "residue": 0,
    }  # fmt: skip
    totals = lines[-1]["totals"]
    assert totals["time_wait"] == {
        "born": 1, "preexisting": 1, "ended": {"expired": 1}, "remaining": 1, "overflowed": 0,
    }  # fmt: skip
    assert totals["ledger"]["1"] == {
        "born": 1, "preexisting": 4, "ended": 1, "expected": 4, "kernel": 4, "residue": 0,
    }  # fmt: skip
    assert totals["kernel"] == {"closes": 1}
    assert lines[-1]["duration_us"] == 60 * SECOND
    with path.open("rb") as file:
        assert read(file).snapshot.total.closes == 1


def test_a_recording_over_a_crowd(tmp_path: Path) -> None:
    """Before it the connections were no events; from then on each is one, and none is missing."""
    shots: list[Snapshot] = []
    view = LiveView(start(), "", shots.append)
    reads = decoder()
    view.take(reads.read(many(50)))
    path = tmp_path / "trace"
    view.record(Writer(TraceFile(str(path))), account(10, born=50, ended=0, kernel=53))
    ends = b"".join(ALIKE.ended(conn, conn, 600_000_000, 1, 7) for conn in range(1, 51))
    view.take(Reading(reads.decode(many(5, 51) + ends)))
    view.end_recording(account(20, born=55, ended=50, kernel=8))
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    found = Counter((line["type"], line.get("preexisting", False)) for line in lines)
    assert found == {
        ("start", False): 1,
        ("time_wait", True): 50,
        ("counters", False): 1,
        ("close", False): 5,
        ("time_wait", False): 5,
        ("time_wait_end", True): 50,
        ("end", False): 1,
    }
    assert lines[-1]["totals"]["time_wait"]["remaining"] == 5
    view.publish(T0)
    assert (shots[0].total.closes, shots[0].total.time_wait_now) == (55, 5)


def test_a_full_disk_ends_the_recording_and_not_the_view(tmp_path: Path) -> None:
    shots: list[Snapshot] = []
    view = LiveView(start(), "", shots.append)
    view.record(Writer(TraceFile("/dev/full")), account(1, born=0, ended=0, kernel=3))
    deadline = time.monotonic() + 10
    while view.recording is not None:
        assert time.monotonic() < deadline
        view.take(Reading([close(2, APP, at=1)]))
    assert "No space left" in str(view.recording_failed)
    view.take(Reading([close(1, APP, at=2)]))
    view.publish(T0 + 3 * SECOND)
    assert shots[0].total.closes > 1
    view.record(Writer(TraceFile(str(tmp_path / "next"))), account(4, born=0, ended=0, kernel=3))
    assert view.recording_failed is None
    assert view.recording is not None
