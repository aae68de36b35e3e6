"""A run's trace in one file or several: each is a trace, and together they have every event once."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tests.unit.samples import SECOND, T0, birth, close, death, held, owner, start
from tracer.errors import TwtraceError, UsageError
from tracer.journal import Journal, Rotation
from tracer.model import (
    DROPPED,
    Balance,
    Close,
    Counters,
    End,
    Event,
    Held,
    Lost,
    Start,
    TimeWait,
    TimeWaitEnd,
)
from tracer.reader import Reader
from tracer.tracelines import open_trace
from tracer.writing import Writer

APP = owner(7)
EVERY = Rotation(every_us=10 * SECOND)


class Run:
    """A run in one namespace: connections that close, each with a TIME_WAIT of a minute or so."""

    def __init__(self) -> None:
        self.now = 0
        self.born = self.ended = self.closes = 0
        self.there: dict[int, int] = {}

    def step(self, seconds: int, closing: int, ending: int) -> list[Event]:
        """Time goes on; so many close, so many of those that wait end."""
        self.now += seconds
        events: list[Event] = []
        for _ in range(closing):
            self.closes += 1
            self.born += 1
            self.there[self.closes] = self.now
            events += [close(self.closes, APP, at=self.now), birth(self.closes, APP, at=self.now)]
        for conn in list(self.there)[:ending]:
            del self.there[conn]
            self.ended += 1
            events.append(death(conn, APP, at=self.now))
        return events

    def account(self) -> Counters:
        left = len(self.there)
        balance = Balance(self.born, 0, self.ended, self.born - self.ended, left, 0)
        return Counters(T0 + self.now * SECOND, {"closes": self.closes}, {"1": balance})


def read(path: Path) -> list[Start | Event | End]:
    reader = Reader()
    with open_trace(str(path)) as lines:
        items = list(reader.read(lines))
    assert reader.doubts == []
    return items


steps = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5), st.integers(0, 5)), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_each_part_balances_and_all_have_each_event_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    run, given_events = Run(), []
    journal = Journal(str(folder / "run.ndjson.gz"), rotation=EVERY)
    journal.begin(start())
    for step in steps:
        events = run.step(*step)
        given_events += events
        journal.write(events)
        if journal.is_due(run.account().ts_us):
            account = run.account()
            journal.write([account])
            journal.turn(account)
    end = journal.finish(run.account())

    parts = [read(path) for path in sorted(folder.iterdir())]
    assert journal.path == str(folder / f"run.{len(parts):04d}.ndjson.gz")
    told = []
    for number, (first, *middle, last) in enumerate(parts, 1):
        assert isinstance(first, Start)
        assert isinstance(last, End)
        assert (first.part, first.run) == (number, parts[0][0].run)  # type: ignore[union-attr]
        balance = last.totals.ledger["1"]
        assert balance.born + balance.preexisting - balance.ended == balance.expected == balance.kernel
        assert (last.totals.born, sum(last.totals.ended.values())) == (balance.born, balance.ended)
        assert last.totals.remaining == balance.expected
        told += [
            event
            for event in middle
            if isinstance(event, Close | TimeWaitEnd)
            or (isinstance(event, TimeWait) and not event.preexisting)
        ]
    plain = [event._replace(preexisting=False) if isinstance(event, TimeWaitEnd) else event for event in told]
    assert plain == given_events
    assert (end.totals.born, end.totals.ended.get("expired", 0)) == (run.born, run.ended)
    assert end.totals.lines.get("close", 0) == run.closes
    assert end.totals.remaining == len(run.there)
    assert end.duration_us == run.account().ts_us - start().ts_us


def test_a_part_begins_with_what_is_there_and_the_settings_as_they_are(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "run.ndjson"), rotation=EVERY)
    journal.begin(start())
    journal.write([held(1, APP, at=1), close(2, APP, at=2), birth(2, APP, at=2), held(3, APP, at=3)])
    journal.write([close(3, APP, at=4, first="remote")])
    account = Counters(
        T0 + 11 * SECOND, {}, {"1": Balance(1, 0, 0, 1, 1, 0)}, sysctl={"1": {"tcp_tw_reuse": 1}}
    )
    journal.write([account])
    journal.turn(account)
    journal.finish(account)
    first, *middle, _ = read(tmp_path / "run.0002.ndjson")
    assert isinstance(first, Start)
    assert first.sysctl["1"] == {"tcp_tw_reuse": 1}
    assert first.ts_us == account.ts_us
    assert [type(event) for event in middle] == [Held, TimeWait, Counters]
    assert [event.ends.conn for event in middle if isinstance(event, Held | TimeWait)] == [1, 2]


def test_by_size(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "run.ndjson"), rotation=Rotation(size=10_000))
    journal.begin(start())
    assert not journal.is_due(T0 + 10**9 * SECOND)
    run = Run()
    deadline = 1000
    while not journal.is_due(T0):
        journal.write(run.step(1, 1, 0))
        journal.flush()
        deadline -= 1
        assert deadline
    journal.finish(run.account())
    assert (tmp_path / "run.0001.ndjson").stat().st_size >= 10_000


def test_in_one_file_nothing_is_said_of_parts(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "run.ndjson"))
    journal.begin(start())
    assert not journal.is_due(T0 + 10**9 * SECOND)
    journal.finish(Run().account())
    assert b'"run"' not in (tmp_path / "run.ndjson").read_bytes()
    first, _ = read(tmp_path / "run.ndjson")
    assert isinstance(first, Start)
    assert (first.run, first.part) == (None, 1)


def test_a_part_that_cannot_be_made_ends_the_last_whole(tmp_path: Path) -> None:
    (tmp_path / "run.0002.ndjson").write_text("mine")
    journal = Journal(str(tmp_path / "run.ndjson"), rotation=EVERY)
    journal.begin(start())
    run = Run()
    journal.write(run.step(11, 3, 1))
    with pytest.raises(UsageError, match="already there"):
        journal.turn(run.account())
    journal.close()
    assert isinstance(read(tmp_path / "run.0001.ndjson")[-1], End)
    assert (tmp_path / "run.0002.ndjson").read_text() == "mine"


def test_what_the_disk_is_too_slow_for_is_lost_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.setattr("tracer.journal.Writer", lambda file: Writer(file, room=100_000))
    journal = Journal(str(path))
    journal.begin(start())
    run, given_events, told = Run(), 0, 0
    lost = Lost(T0, "close records", 3)
    while not told:
        events = run.step(1, 20, 10)
        given_events += len(events)
        journal.write(events)
        told = journal.so_far(T0).totals.born - journal.so_far(T0).totals.lines.get("time_wait", 0)
    journal.write([lost])
    copy = bytearray()

    def drain() -> None:
        os.set_blocking(reading, True)
        while data := os.read(reading, 1 << 20):
            copy.extend(data)

    reader = threading.Thread(target=drain)
    reader.start()
    end = journal.finish(run.account())
    reader.join()
    os.close(reading)
    lines = end.totals.lines
    written = sum(lines.get(kind, 0) for kind in ("close", "time_wait", "time_wait_end"))
    assert end.lost == {"close records": 3, DROPPED: given_events - written}
    assert end.lost[DROPPED] > 0
    assert (end.totals.born, sum(end.totals.ended.values())) == (run.born, run.ended)
    assert copy.count(b"\n") == sum(lines.values())
    assert copy.count(b'"type":"close"') == lines["close"]
    readback = Reader()
    *_, last = readback.read(bytes(copy).splitlines(keepends=True))
    assert isinstance(last, End)
    assert last.lost[DROPPED] == given_events - written
    assert readback.doubts == []


def test_an_error_of_the_writing_reaches_the_run() -> None:
    journal = Journal("/dev/full")
    deadline = time.monotonic() + 20

    def wait_for_it() -> None:
        journal.begin(start())
        while time.monotonic() < deadline:
            journal.check()

    with pytest.raises(TwtraceError, match="No space left"):
        wait_for_it()
    journal.close()


def test_so_does_one_of_a_part_that_was_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the next turn comes before anybody asks."""
    journal = Journal(str(tmp_path / "run.ndjson"), rotation=EVERY)
    journal.begin(start())
    account = Run().account()
    file = journal._writer._file
    deadline = time.monotonic() + 20
    while not file.size:
        assert time.monotonic() < deadline

    def fail(_data: bytes) -> None:
        raise TwtraceError("the disk is gone", "get another")

    monkeypatch.setattr(file, "_append", fail)
    journal.turn(account)
    (ending,) = journal._ending
    while not ending.has_ended:
        assert time.monotonic() < deadline
    with pytest.raises(TwtraceError, match="the disk is gone"):
        journal.turn(account)
    journal.close()
