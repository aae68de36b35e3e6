"""A trace with time under control: each moment as if it had been played up to there."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import jsonschema
import pytest

from tests.unit.samples import SECOND, T0, birth, close, death, held, owner, start
from tracer.aggregate import Aggregator
from tracer.cli import main
from tracer.errors import TwtraceError, UsageError
from tracer.habit import habit
from tracer.model import End, Event, Snapshot, Start
from tracer.record import Encoder
from tracer.replay import MAX_SPEED, Controls, Playback, Playhead, ReplayRun, Trace
from tracer.report.reading import read
from tracer.table import render
from tracer.tracelines import MAX_LINE
from tracer.verdict import judge

DEADLINE_S = 20
STILL_S = 3600.0
"""An interval in which nothing happens by itself."""

DURATION = 70
END = T0 + DURATION * SECOND

APP, OTHER = owner(1), owner(2, "other", "/other.service")

STORY: list[Event] = [
    close(1, APP, at=1),
    birth(1, APP, at=1),
    close(2, OTHER, at=3, first="remote"),
    close(3, APP, at=5, how="reset_sent"),
    held(4, OTHER, at=4),  # told late
    close(5, APP, at=20),
    birth(5, APP, at=20),
    death(1, APP, at=61),
    close(4, OTHER, at=65, first="remote"),
]

Write = Callable[..., str]


def lines_of(events: Iterable[Event], *, end_at: float | None = DURATION) -> list[bytes]:
    encoder = Encoder()
    lines = [encoder.start(start()), *map(encoder.event, events)]
    if end_at is not None:
        at = int(end_at * SECOND)
        lines.append(encoder.end(T0 + at, at, {}, {})[1])
    return lines


@pytest.fixture
def path(tmp_path: Path) -> str:
    """The story as a trace."""
    return written(tmp_path, lines_of(STORY))


def written(folder: Path, lines: Iterable[bytes]) -> str:
    file = folder / "run.ndjson"
    file.write_bytes(b"".join(lines))
    return str(file)


def as_of(at: float, by: str = "process", *, reset_at: float | None = None) -> Snapshot:
    """What someone saw who read the story up to there, line by line."""
    aggregator = Aggregator(start())
    told = [*takewhile(lambda event: event.ts_us <= T0 + at * SECOND, STORY)]
    before = [*takewhile(lambda event: event.ts_us <= T0 + (reset_at or 0) * SECOND, told)]
    aggregator.add(before)
    if reset_at is not None:
        aggregator.reset(T0 + int(reset_at * SECOND))
    aggregator.add(told[len(before) :])
    return aggregator.snapshot(T0 + int(at * SECOND), by)


class Viewer:
    """Runs a replay in a thread of its own and sees what it publishes."""

    def __init__(self, run: ReplayRun) -> None:
        self.run = run
        self.failure: BaseException | None = None
        self.seen: list[Snapshot] = []
        self._news = Condition()
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def do(self, action: Callable[[], None], until: Callable[[Snapshot], bool]) -> Snapshot:
        """Do something and wait for a snapshot like that which was not there before."""
        with self._news:
            before = len(self.seen)
        action()
        return self.wait_for(until, before)

    def wait_for(self, is_it: Callable[[Snapshot], bool], since: int = 0) -> Snapshot:
        def found() -> Iterator[Snapshot]:
            return (one for one in self.seen[since:] if is_it(one))

        with self._news:
            assert self._news.wait_for(lambda: any(found()), DEADLINE_S), "no such snapshot came"
            return next(found())

    def go(self, at: float) -> Snapshot:
        """Seek, and see that moment."""
        at_us = T0 + int(at * SECOND)
        return self.do(lambda: self.run.seek(at_us), is_as_of(at))

    def wait_for_end(self) -> None:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "run() did not return"

    def _run(self) -> None:
        try:
            self.run.run(self._publish)
        except TwtraceError as failure:
            self.failure = failure

    def _publish(self, snapshot: Snapshot) -> None:
        with self._news:
            self.seen.append(snapshot)
            self._news.notify_all()


@contextmanager
def viewing(run: ReplayRun) -> Iterator[Viewer]:
    viewer = Viewer(run)
    viewer.start()
    try:
        yield viewer
    finally:
        run.stop()
        viewer.wait_for_end()


def is_as_of(at: float) -> Callable[[Snapshot], bool]:
    return lambda one: one.ts_us == T0 + int(at * SECOND)


@pytest.fixture
def still(path: str) -> Iterator[Viewer]:
    """The story, paused at its first moment."""
    run = ReplayRun(path, interval_s=STILL_S)
    run.pause()
    with viewing(run) as viewer:
        viewer.wait_for(is_as_of(0))
        yield viewer


def test_played_to_its_end_it_is_what_report_reads(path: str) -> None:
    run = ReplayRun(path, MAX_SPEED, interval_s=0.01)
    assert run.playhead == Playhead(T0, T0, END, MAX_SPEED, playing=True, whole=True)
    with viewing(run) as viewer:
        last = viewer.wait_for(is_as_of(DURATION))
        moments = [one.ts_us for one in viewer.seen]
    assert last == read(lines_of(STORY)).snapshot == as_of(DURATION)
    assert moments[0] == T0
    assert len(moments) > 2
    assert moments == sorted(moments)
    assert run.playhead == Playhead(T0, END, END, MAX_SPEED, playing=False, whole=True)
    assert run.warning is None


def test_time_goes_as_fast_as_the_clock_times_speed(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 50.0
    monkeypatch.setattr("tracer.replay.time.monotonic", lambda: now)
    run = ReplayRun(path, 4, interval_s=0.001)
    with viewing(run) as viewer:
        viewer.wait_for(is_as_of(0))
        now += 2.5
        viewer.wait_for(is_as_of(10))
        now += 0.5
        viewer.wait_for(is_as_of(12))
        run.set_speed(0.5)
        now += 8
        viewer.wait_for(is_as_of(16))
        run.pause()
        now += 100
        run.play()
        now += 2
        viewer.wait_for(is_as_of(17))
        viewer.go(30)
        now += 2
        viewer.wait_for(is_as_of(31))
        run.interval_s = 10
        now += 4
        run.set_speed(2)
        now += 6
        run.interval_s = 5  # has it look at the clock
        viewer.wait_for(is_as_of(43))


def at_item(number: int, run: ReplayRun, action: Callable[[], None]) -> list[int]:
    """Have something happen as that item of the trace is read; returns the numbers of those read so far."""
    items, read = run._playback._items, []

    def watched() -> Iterator[Start | Event | End]:
        for at, item in enumerate(items):
            read.append(at)
            if at == number:
                action()
            yield item

    run._playback._items = watched()
    return read


@pytest.fixture
def line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each line it is asked whether the next is wanted."""
    monkeypatch.setattr("tracer.replay._STRETCH", 1)


@pytest.mark.usefixtures("line_by_line")
def test_it_does_not_run_after_time_that_it_lost(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 50.0
    monkeypatch.setattr("tracer.replay.time.monotonic", lambda: now)

    def slow() -> None:
        nonlocal now
        now += 100

    run = ReplayRun(path, 2, interval_s=10)
    at_item(3, run, slow)
    with viewing(run) as viewer:
        viewer.wait_for(is_as_of(0))
        now += 15
        run.interval_s = 10  # has it look at the clock
        viewer.wait_for(is_as_of(5))
        now += 15
        run.interval_s = 10
        viewer.wait_for(is_as_of(35))


@pytest.mark.usefixtures("line_by_line")
def test_a_stop_is_not_kept_waiting_by_a_seek(path: str) -> None:
    run = ReplayRun(path, interval_s=STILL_S)
    read = at_item(3, run, run.stop)
    run.seek(END)
    with viewing(run) as viewer:
        viewer.wait_for_end()
    assert read == [0, 1, 2, 3]


@pytest.mark.usefixtures("line_by_line")
def test_a_seek_is_not_kept_waiting_by_another(path: str) -> None:
    run = ReplayRun(path, interval_s=STILL_S)
    at_item(5, run, lambda: run.seek(T0 + 3 * SECOND))
    run.seek(END)
    with viewing(run) as viewer:
        assert viewer.wait_for(is_as_of(3)) == as_of(3)
    assert viewer.seen == [as_of(3)]


def test_a_seek_is_not_lost_to_one_that_just_arrived(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ReplayRun(path, interval_s=STILL_S)
    go = run._playback.go

    def go_and_be_asked(to_us: int, is_unwanted: Callable[[], bool]) -> bool:
        is_there = go(to_us, is_unwanted)
        if to_us == END:
            run.seek(T0 + 3 * SECOND)
        return is_there

    monkeypatch.setattr(run._playback, "go", go_and_be_asked)
    run.seek(END)
    with viewing(run) as viewer:
        assert viewer.wait_for(is_as_of(3)) == as_of(3)


@pytest.mark.usefixtures("line_by_line")
def test_a_pause_is_not_kept_waiting_by_speed(path: str) -> None:
    run = ReplayRun(path, MAX_SPEED, interval_s=0.1)
    read = at_item(5, run, run.pause)
    with viewing(run) as viewer:
        viewer.wait_for(is_as_of(20))
    assert read == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("speed", [0, -1, MAX_SPEED + 1, float("nan"), float("inf")])
def test_a_speed_that_is_none(still: Viewer, speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        still.run.set_speed(speed)
    assert still.run.playhead.speed == 1


def test_at_the_beginning_is_what_was_there_then(still: Viewer) -> None:
    assert still.seen == [as_of(0)]


@pytest.mark.parametrize("moments", [(70, 5, 20, 61, 60.5, 3, 4, 0, 70), (20, 19.999999, 0.5, 69)])
def test_every_moment_is_as_if_played_up_to_there(still: Viewer, moments: tuple[float, ...]) -> None:
    for at in moments:
        assert still.go(at) == as_of(at)
        assert still.run.playhead.at_us == T0 + int(at * SECOND)


def test_no_moment_is_outside_the_trace(path: str) -> None:
    run = ReplayRun(path, interval_s=STILL_S)
    for asked, at in ((END + 1, DURATION), (T0 - 1, 0)):
        run.seek(asked)
        assert run.playhead.at_us == T0 + at * SECOND
    run.seek(END + 1)
    with viewing(run) as viewer:
        assert viewer.wait_for(is_as_of(DURATION)) == as_of(DURATION)


def test_a_seek_leaves_time_running_or_still(path: str) -> None:
    run = ReplayRun(path, interval_s=STILL_S)
    with viewing(run) as viewer:
        viewer.go(20)
        assert run.playhead.playing
        run.pause()
        viewer.go(10)
        assert not run.playhead.playing


def test_steps_pause_and_add_up(path: str) -> None:
    run = ReplayRun(path, interval_s=2.5)
    run.step(1)
    run.step(3)
    assert run.playhead == Playhead(T0, T0 + 10 * SECOND, END, 1, playing=False, whole=True)
    with viewing(run) as viewer:
        assert viewer.wait_for(is_as_of(10)) == as_of(10)
        assert viewer.do(lambda: run.step(-3), is_as_of(2.5)) == as_of(2.5)
        run.interval_s = 10
        assert viewer.do(lambda: run.step(1), is_as_of(12.5)) == as_of(12.5)
        assert viewer.do(lambda: run.step(-2), is_as_of(0)) == as_of(0)
        assert viewer.do(lambda: run.step(100), is_as_of(DURATION)) == as_of(DURATION)
        assert not run.playhead.playing


def test_paused_time_stands_still(path: str) -> None:
    run = ReplayRun(path, 100, interval_s=0.001)
    with viewing(run) as viewer:
        viewer.wait_for(lambda one: one.ts_us > T0)
        run.pause()
        where = viewer.do(lambda: run.group_by("comm"), lambda one: one.by == "comm").ts_us
        for by in ("port", "peer", "netns") * 5:
            again = viewer.do(lambda by=by: run.group_by(by), lambda one, by=by: one.by == by)  # type: ignore[misc]
            assert again.ts_us == where == run.playhead.at_us


def test_grouping_shows_at_once(still: Viewer) -> None:
    still.go(20)
    by_comm = still.do(lambda: still.run.group_by("comm"), lambda one: one.by == "comm")
    assert by_comm == as_of(20, "comm")
    assert still.go(5) == as_of(5, "comm")


def test_counting_anew(still: Viewer) -> None:
    run = still.run
    still.go(3.5)
    anew = still.do(run.reset, lambda _: True)
    assert anew == as_of(3.5, reset_at=3.5)
    assert (anew.total.closes, anew.total.time_wait_now) == (0, 1)
    assert still.go(30) == as_of(30, reset_at=3.5)
    assert still.go(10) == as_of(10, reset_at=3.5), "back to after it"
    assert still.go(3) == as_of(3), "back to before it"
    assert still.go(30) == as_of(30), "it is undone"


def test_play_at_the_end_begins_anew(still: Viewer) -> None:
    still.go(DURATION)
    still.run.set_speed(MAX_SPEED)
    still.run.interval_s = 0.01
    began = len(still.seen)
    still.do(still.run.play, is_as_of(0))
    assert still.wait_for(is_as_of(DURATION), began) == as_of(DURATION)


def test_lines_out_of_order(tmp_path: Path) -> None:
    """At the end all count; before, those up to the first that is of later."""
    events = [close(1, APP, at=5), close(2, APP, at=3), close(3, APP, at=12), close(4, APP, at=8)]
    lines = lines_of(events, end_at=None)
    playback = Playback(Trace(written(tmp_path, lines)))
    assert playback.ended_us == T0 + 8 * SECOND
    for at, closes in ((4, 0), (5, 2), (7.9, 2)):
        playback.go(T0 + int(at * SECOND))
        assert playback.snapshot().total.closes == closes
    playback.go(playback.ended_us)
    assert playback.snapshot() == read(lines).snapshot
    assert playback.at_us == playback.ended_us == T0 + 12 * SECOND


def test_a_long_way_can_be_left(tmp_path: Path) -> None:
    events = [close(number, APP, at=number / 100) for number in range(5000)]
    playback = Playback(Trace(written(tmp_path, lines_of(events))))
    assert not playback.go(END, lambda: True)
    assert T0 < playback.at_us < END
    closes = playback.snapshot().total.closes
    assert 0 < closes < 1000
    assert not playback.go(END, lambda: True)
    assert playback.snapshot().total.closes == 2 * closes
    assert playback.go(END, lambda: False)
    assert playback.snapshot() == read(lines_of(events)).snapshot


@pytest.mark.parametrize("cut", [0, 1, 200])
def test_cut_off(tmp_path: Path, cut: int, capsys: pytest.CaptureFixture[str]) -> None:
    *told, last = lines_of(STORY, end_at=None)
    path = written(tmp_path, [*told, last[:cut]])
    run = ReplayRun(path, interval_s=STILL_S)
    assert run.playhead == Playhead(T0, T0, T0 + 61 * SECOND, 1, playing=True, whole=False)
    with viewing(run) as viewer:
        assert viewer.do(lambda: run.seek(END), is_as_of(61)) == as_of(61)
    assert viewer.failure is None
    assert run.warning == f"warning: {path} was cut off: played up to its last whole line"
    assert capsys.readouterr().err == "", "nothing is written over the screen"


@pytest.mark.parametrize("at", [len(STORY) - 1, len(STORY) + 1], ids=["in the middle", "at the end"])
@pytest.mark.parametrize("speed", [1, MAX_SPEED])
def test_a_second_trace_in_it(tmp_path: Path, at: int, speed: float) -> None:
    """What came before it is seen; then it is told."""
    lines = lines_of(STORY, end_at=None)
    run = ReplayRun(written(tmp_path, [*lines[:at], lines[0], *lines[at:]]), speed, interval_s=0.01)
    with viewing(run) as viewer:
        if speed == 1:
            run.seek(END)
        viewer.wait_for_end()
    assert isinstance(viewer.failure, TwtraceError)
    assert viewer.failure.cause == "a second `start` line"
    good = Aggregator(start())
    good.add(STORY[: at - 1])
    newest = viewer.seen[-1]
    assert newest == good.snapshot(newest.ts_us)
    assert newest.ts_us >= STORY[at - 2].ts_us


def test_lines_that_are_none_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *told = lines_of(STORY)
    path = written(tmp_path, [first, b"\xff\n", *told[:-1], b"{}\n", told[-1]])
    run = ReplayRun(path, interval_s=STILL_S)
    with viewing(run) as viewer:
        assert viewer.go(DURATION) == as_of(DURATION)
        assert viewer.go(5) == as_of(5)
    said = f"warning: {path}: line 2: left out: JSON is malformed: invalid character (byte 0), and 2 more"
    assert run.warning == said
    assert capsys.readouterr().err == "", "nothing is written over the screen"


def test_what_follows_the_last_line_is_cut_off_too(tmp_path: Path) -> None:
    assert not Trace(written(tmp_path, [*lines_of(STORY), b"{"])).is_whole


def test_lines_that_come_later_are_not_read(tmp_path: Path) -> None:
    lines = lines_of(STORY)
    path = written(tmp_path, lines[:-2])
    playback = Playback(Trace(path))
    with Path(path).open("ab") as file:
        file.writelines(lines[-2:])
    playback.go(END)
    assert playback.snapshot() == as_of(61)


@pytest.mark.parametrize("size", [1, 200_000, 262_144, 900_000])
def test_a_last_line_of_any_size(tmp_path: Path, size: int) -> None:
    line = json.loads(lines_of([])[-1])
    line["lost"] = {"x" * size: 1}
    trace = Trace(written(tmp_path, [*lines_of(STORY)[:-1], json.dumps(line).encode() + b"\n"]))
    assert (trace.ended_us, trace.is_whole) == (END, True)
    assert len([*trace.lines()]) == len(STORY) + 2


def test_standard_input_can_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"".join(lines_of(STORY)))))
    run = ReplayRun("-", interval_s=STILL_S)
    with viewing(run) as viewer:
        assert viewer.go(DURATION) == as_of(DURATION)
        assert viewer.go(5) == as_of(5)


def test_a_pipe_can_go_back(tmp_path: Path) -> None:
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    writer = Thread(target=lambda: Path(pipe).write_bytes(b"".join(lines_of(STORY))))
    writer.start()
    run = ReplayRun(pipe, interval_s=STILL_S)
    writer.join(DEADLINE_S)
    with viewing(run) as viewer:
        assert viewer.go(DURATION) == as_of(DURATION)
        assert viewer.go(5) == as_of(5)


@pytest.mark.parametrize(
    "before",
    [
        lambda _run: None,
        lambda run: run.pause(),
        lambda run: run.set_speed(MAX_SPEED),
        lambda run: run.seek(END),
        lambda run: run.step(-1),
    ],
    ids=["playing", "paused", "fast", "seeking", "stepping"],
)
def test_stop_at_any_time(path: str, before: Callable[[ReplayRun], None]) -> None:
    run = ReplayRun(path, interval_s=STILL_S)
    with viewing(run) as viewer:
        viewer.wait_for(is_as_of(0))
        before(run)
        run.stop()
        viewer.wait_for_end()
        run.stop()
    assert viewer.failure is None


def test_stopped_before_it_ran(path: str) -> None:
    run = ReplayRun(path)
    run.stop()
    with viewing(run) as viewer:
        viewer.wait_for_end()
    assert viewer.seen == []


def test_it_has_the_controls(path: str) -> None:
    assert isinstance(ReplayRun(path), Controls)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "{} is empty"),
        (b"hello\n", "this is no trace: its first line is not a `start` line"),
        (
            b"\x1f\x8b\x08\x00" * 100,
            "{}: the rest cannot be read: Error -3 while decompressing data: invalid stored block lengths",
        ),
        (b"[]\n", "this is no trace: its first line is not a `start` line"),
        (lines_of(STORY)[1], "this is no trace: its first line is not a `start` line"),
        (lines_of(STORY)[0][:-1], "this is no trace: its first line is not a `start` line"),
        (b'{"type":"start","schema":2}\n', "this trace is of schema 2, not 1"),
    ],
)
def test_what_is_no_trace(
    tmp_path: Path, content: bytes, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, [content])
    with pytest.raises(TwtraceError) as raised:
        ReplayRun(path)
    assert raised.value.cause == cause.format(path)
    assert raised.value.hint
    assert capsys.readouterr().err == ""


def test_a_pipe_without_lines_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.BytesIO):
        left = 3 * MAX_LINE

        def readinto(self, buffer: Any) -> int:
            self.left -= len(buffer)
            assert self.left > 0, "nobody wants more of it"
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Endless()))
    with pytest.raises(UsageError, match="this is no trace"):
        ReplayRun("-")


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ("/nowhere", "cannot read /nowhere: No such file or directory"),
        ("/", "cannot read /: Is a directory"),
        ("/dev/null", "/dev/null is empty"),
    ],
)
def test_a_file_that_cannot_be_one(path: str, cause: str) -> None:
    with pytest.raises(UsageError) as raised:
        ReplayRun(path)
    assert raised.value.cause == cause
    assert "twtrace record" in raised.value.hint


def test_a_terminal_is_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    with pytest.raises(UsageError, match="terminal"):
        ReplayRun("-")


def test_piped_it_is_the_table_as_of_the_end(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", path]) == 0
    assert capsys.readouterr() == (render(as_of(DURATION)), "")


def test_what_was_cut_off_is_told_after_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, [*lines_of(STORY)[:-2], b"{"])
    assert main(["replay", path]) == 0
    said = f"twtrace: warning: {path} was cut off: played up to its last whole line\n"
    assert capsys.readouterr() == (render(as_of(61)), said)


@pytest.mark.parametrize("has_terminal", [True, False])
def test_keys_come_from_the_terminal_when_the_trace_came_by_stdin(has_terminal: bool) -> None:
    terminal, its_end = pty.openpty()
    script = (
        "import os, sys\n"
        "from tracer.commands.replay import _take_keyboard\n"
        "for name in sys.argv[1:]: os.open(name, os.O_RDWR)\n"  # a session's first terminal controls it
        "print(_take_keyboard(), os.isatty(0))"
    )
    command = [sys.executable, "-c", script, *([os.ttyname(its_end)] if has_terminal else [])]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, check=True
    )
    os.close(terminal)
    os.close(its_end)
    assert done.stdout == f"{has_terminal} {has_terminal}\n"


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf", "1001", "max", "2x"])
def test_speeds_refused(path: str, speed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", path, f"--speed={speed}"]) == 2
    assert f"{speed!r}: give a number above 0, 1000 at most" in capsys.readouterr().err


EXAMPLE = Path(__file__).parents[2] / "examples/demo.ndjson"
CONTRACT = json.loads(Path(__file__).with_name("contract.schema.json").read_text())


def test_each_line_of_the_example_is_as_the_contract_says() -> None:
    validator = jsonschema.validators.validator_for(CONTRACT)(CONTRACT)
    for line in EXAMPLE.read_text().splitlines():
        validator.validate(json.loads(line))


def test_the_example_shows_each_habit(capsys: pytest.CaptureFixture[str]) -> None:
    run = ReplayRun(str(EXAMPLE))
    end = run.at_end()
    assert run.warning is None
    assert capsys.readouterr().err == ""
    assert end.host == "example-host"
    assert end.elapsed_us > 70 * SECOND
    assert EXAMPLE.stat().st_size < 1_500_000
    assert {row.label.partition("[")[0].partition(" ")[0]: habit(row) for row in end.rows} == {
        "srv-closes-1st": "closes first",
        "cli-waits": "peer closes first",
        "srv-waits": "peer closes first",
        "cli-closes-1st": "closes first",
        "srv-is-reset": "is reset by peer",
        "cli-resets": "resets",
        "srv-leaks": f"▲ {end.total.held_close_wait} never closed",
        "cli-gives-up": "closes first",
        "srv-sees-exit": "peer closes first",
        "cli-just-exits": "exits, no close()",
    }
    assert end.total.held_close_wait > 30
    assert end.ends["expired"].number > 100
    assert {finding.id for finding in judge(end)} >= {"close_wait_leak", "resets_sent"}


def test_filters_are_those_of_the_live_view(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", path, "-C", "other"]) == 0
    table = capsys.readouterr().out
    assert "other[2]" in table
    assert "app[1]" not in table
    assert main(["replay", path, "--filter", "!proc:other tw>0", "--color", "never"]) == 0
    table = capsys.readouterr().out
    assert "app[1]" in table
    assert "other[2]" not in table
    assert 'filter="!proc:other tw>0"' in table


def test_a_namespace_is_given_by_its_inode(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", path, "-N", "1"]) == 0
    assert "app[1]" in capsys.readouterr().out
    assert main(["replay", path, "-N", "blue"]) == 2
    assert "give the inode number that the trace has" in capsys.readouterr().err
