"""The screen itself, driven by keys."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import pytest
import textual.constants
from textual.pilot import Pilot

from tests.tui.samples import CURL, DEADLINE_S, JAVA, ORDERS, TOTAL, UNKNOWN, FakeEngine, row, snapshot, until
from tracer.model import Snapshot
from tracer.text import width
from tracer.tui.app import TwtraceApp, run_app
from tracer.tui.engine import EngineThread
from tracer.tui.scene import Scene
from tracer.tui.widgets.status import StatusLine
from tracer.tui.widgets.table import KeyedTable, Who

Steps = Callable[["Screen"], Awaitable[None]]


class Screen:
    """What a test sees and does."""

    def __init__(self, app: TwtraceApp, pilot: Pilot[str]) -> None:
        self.app = app
        self.press = pilot.press
        self.who = app.screen.query_one(Who)

    @property
    def status(self) -> str:
        """The top line."""
        return str(self.app.screen.query_one(StatusLine).render())

    @property
    def title(self) -> str:
        """The title of the table."""
        return str(self.who.border_title)

    @property
    def lines(self) -> list[str]:
        """Both tables as they stand on the screen."""
        return [
            line
            for table in (self.who.processes, self.who.sums)
            for y in range(table.size.height)
            if (line := table.render_line(y).text).strip()
        ]

    @property
    def order(self) -> list[str]:
        """The keys of the processes, from the top."""
        return keys(self.who.processes)

    async def show(self, shown: Snapshot) -> None:
        """Publish `shown` and wait until it is in view."""
        self.app.publish(shown)
        await until(lambda: shown_now(self.app) is shown)


def shown_now(app: TwtraceApp) -> Snapshot | None:
    """What the screen on top shows."""
    scene = app.screen.query_one(StatusLine).scene
    return scene.snapshot if scene else None


def keys(table: KeyedTable) -> list[str]:
    """The keys of a table, from the top."""
    return [one.key.value or "" for one in table.ordered_rows]


def drive(steps: Steps, engine: FakeEngine | None = None, size: tuple[int, int] = (80, 24)) -> FakeEngine:
    """Run the screen with `steps`, a usual snapshot in view unless the engine is given."""
    engine = engine or FakeEngine()

    async def run() -> None:
        app = TwtraceApp(engine)
        async with app.run_test(size=size) as pilot:
            screen = Screen(app, pilot)
            await screen.show(snapshot())
            await steps(screen)
        engine.stop()

    asyncio.run(run())
    return engine


def test_all_is_drawn_and_the_sums_are_last() -> None:
    async def steps(screen: Screen) -> None:
        await until(lambda: "Σ all" in screen.lines[-1])
        assert screen.order == [ORDERS.key, CURL.key, JAVA.key]
        assert keys(screen.who.sums) == [UNKNOWN.key, TOTAL.key]
        assert [line.split()[1] for line in screen.lines[1:]] == [
            "orders-api[4711]",
            "curl",
            "java[2290]",
            "unknown",
            "all",
        ]
        assert (
            screen.status == "twtrace  web-14  Linux 6.8  hooks:timer  ● LIVE 00:12:44  filter: none  lost 0"
        )
        assert screen.title == "1 WHO by process · sort TW NOW ▼ · 3 of 3"

    drive(steps)


@pytest.mark.parametrize(("size", "columns"), [((80, 24), 8), ((120, 36), 11), ((200, 50), 13)])
def test_columns_by_width(size: tuple[int, int], columns: int) -> None:
    async def steps(screen: Screen) -> None:
        await until(lambda: len(screen.who.processes.columns) == columns)
        assert len(screen.who.sums.columns) == columns
        assert screen.who.processes.virtual_size.width <= size[0] - 3

    drive(steps, size=size)


def test_columns_follow_a_resize() -> None:
    async def steps(screen: Screen) -> None:
        await screen.press("down")
        screen.who.styles.width = 50
        await until(lambda: len(screen.who.processes.columns) == 4)
        assert screen.who.processes.cursor_key == CURL.key

    drive(steps)


def test_s_sorts_by_the_next_column_and_shift_s_turns_it_round() -> None:
    async def steps(screen: Screen) -> None:
        await screen.press("s")
        assert screen.title == "1 WHO by process · sort HELD ▼ · 3 of 3"
        assert screen.order == [JAVA.key, ORDERS.key, CURL.key]
        await until(lambda: "▼HELD" in screen.lines[0])
        await screen.press("S")
        assert screen.title == "1 WHO by process · sort HELD ▲ · 3 of 3"
        assert screen.order == [ORDERS.key, CURL.key, JAVA.key]
        await until(lambda: "▲HELD" in screen.lines[0])
        assert keys(screen.who.sums) == [UNKNOWN.key, TOTAL.key]

    drive(steps)


def test_cursor_stays_on_its_row() -> None:
    async def steps(screen: Screen) -> None:
        table = screen.who.processes
        await screen.press("down")
        assert table.cursor_key == CURL.key
        await screen.show(snapshot(ORDERS, CURL._replace(time_wait_now=90_000), JAVA))
        assert (table.cursor_key, table.cursor_row) == (CURL.key, 0)
        await screen.show(snapshot(ORDERS, row("new", time_wait_now=99_999), CURL, JAVA))
        assert (table.cursor_key, table.cursor_row) == (CURL.key, 2)
        await screen.press("S")
        assert (table.cursor_key, table.cursor_row) == (CURL.key, 1)
        await screen.press("s")
        assert table.cursor_key == CURL.key
        await screen.show(snapshot(ORDERS, JAVA))
        assert table.cursor_key in (ORDERS.key, JAVA.key)

    drive(steps)


def test_cursor_never_moved_stays_at_the_top() -> None:
    async def steps(screen: Screen) -> None:
        await screen.show(snapshot(ORDERS._replace(time_wait_now=0), CURL, JAVA))
        assert screen.order == [CURL.key, ORDERS.key, JAVA.key]
        assert screen.who.processes.cursor_key == CURL.key

    drive(steps)


def test_scrolled_view_stays_when_rows_come_and_go() -> None:
    rows = [row(f"w[{pid}]", time_wait_now=pid) for pid in range(100)]

    async def steps(screen: Screen) -> None:
        table = screen.who.processes
        await screen.show(snapshot(*rows))
        await screen.press(*["pagedown"] * 2)
        await until(lambda: table.scroll_y > 0 and table.cursor_row > 0)
        top, key = table.scroll_y, table.cursor_key
        await screen.show(snapshot(*rows[1:]))
        assert (table.scroll_y, table.cursor_key) == (top, key)
        assert any(key in line for line in screen.lines)
        assert "Σ all" in screen.lines[-1]

    drive(steps)


def test_unchanged_cells_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(screen: Screen) -> None:
        touched: list[tuple[str, str]] = []
        update_cell = KeyedTable.update_cell

        def note(self: KeyedTable, key: str, column: str, value: object) -> None:
            touched.append((key, column))
            update_cell(self, key, column, value)  # type: ignore[arg-type]

        monkeypatch.setattr(KeyedTable, "update_cell", note)
        await screen.show(snapshot(ORDERS, CURL._replace(time_wait_now=79), JAVA))
        assert touched == [(CURL.key, "time_wait_now")]
        assert "      79 " in screen.lines[2]

    drive(steps)


def test_space_freezes_the_view_and_resumes_with_the_newest() -> None:
    async def steps(screen: Screen) -> None:
        await screen.press("space")
        assert "⏸ PAUSED at 00:12:44" in screen.status
        frozen = screen.status, screen.lines
        for second in range(765, 770):
            screen.app.publish(snapshot(ORDERS._replace(time_wait_now=second), elapsed_us=second * 1_000_000))
        await screen.press("down", "up")
        assert (screen.status, screen.lines) == frozen
        await screen.press("s")
        assert screen.order == [JAVA.key, ORDERS.key, CURL.key]
        await screen.press("space")
        assert "● LIVE 00:12:49" in screen.status
        assert screen.order == [ORDERS.key]
        await screen.show(snapshot())
        assert "● LIVE 00:12:44" in screen.status

    drive(steps)


def test_q_stops_the_engine_and_leaves() -> None:
    async def steps(screen: Screen) -> None:
        assert not engine.stopped.is_set()
        await screen.press("q")
        assert engine.stopped.is_set()
        await until(engine.returned.is_set)
        await until(lambda: not screen.app.is_running)

    engine = FakeEngine()
    drive(steps, engine)


def test_footer_names_the_keys() -> None:
    async def steps(screen: Screen) -> None:
        shown = {
            binding.binding.key for binding in screen.app.active_bindings.values() if binding.binding.show
        }
        assert shown == {"enter", "slash", "s", "a", "z", "space", "f", "question_mark", "q"}

    drive(steps)


def test_snapshots_in_a_burst_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(screen: Screen) -> None:
        seen: list[int] = []
        monkeypatch.setattr(Who, "show", lambda _, scene: seen.append(scene.snapshot.lost))
        for lost in range(1, 51):
            screen.app.publish(snapshot(lost=lost))
        await until(lambda: bool(seen))
        await screen.press("down")
        assert seen == [50]
        assert screen.status.endswith("  ▲ lost 50")

    drive(steps)


HOSTILE = (
    "[bold]x[/][1]",
    "[link=file:///etc/passwd]y",
    "[/nope]",
    "\x1b[31mred\x07",
    "\x9b2J",
    "日本語プロセス名前長い[4194304]",
    "e\u0301e\u0301e\u0301[2]",
    "\u202ertl\u2066",
    "a\tb\nc",
    "\udcff\udcfe",
    "\u1112\u1161\u11ab[3]",
)


@pytest.mark.parametrize("size", [(80, 45), (200, 50)])
def test_hostile_names_are_text_and_columns_stay_aligned(size: tuple[int, int]) -> None:
    async def steps(screen: Screen) -> None:
        rows = [
            row(name, key=name, cgroup=name, top_peer=name, time_wait_now=99_999 - index)
            for index, name in enumerate(HOSTILE)
        ]
        await screen.show(snapshot(*rows, host="[red]h\x1b[0m", filters="comms=[/]"))
        await until(lambda: len(screen.lines) == len(HOSTILE) + 3)
        lines = screen.lines
        assert "● [bold]x[/][1] " in lines[1]
        assert "● [link=file:///etc/p" in lines[2]
        assert "● [/nope] " in lines[3]
        assert "● \\x1b[31mred\\x07 " in lines[4]
        assert all(char.isprintable() for line in lines for char in line)
        starts = {width(line[: line.index(f"{99_999 - index:,}")]) for index, line in enumerate(lines[1:11])}
        assert len(starts) == 1
        cells = {screen.who.processes.render_line(y).cell_length for y in range(len(HOSTILE) + 1)}
        assert len(cells) == 1
        assert "[red]h\\x1b[0m" in screen.status
        assert "filter: comms=[/]" in screen.status

    drive(steps, size=size)


def test_no_color_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    async def steps(screen: Screen) -> None:
        await screen.show(snapshot(lost=3))
        await until(lambda: "Σ all" in screen.lines[-1])
        seen.append([screen.status, screen.title, *screen.lines])

    drive(steps)
    monkeypatch.setenv("NO_COLOR", "1")
    drive(steps)
    assert seen[0] == seen[1]
    assert "▲ lost 3" in seen[1][0]
    assert "▲43" in seen[1][5]


@pytest.fixture
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `run_app` do without a terminal."""
    monkeypatch.setattr(textual.constants, "DRIVER", "textual.drivers.headless_driver:HeadlessDriver")


@pytest.mark.usefixtures("headless")
def test_run_app_returns_when_the_engine_ends() -> None:
    engine = FakeEngine(snapshot(), lasts=False)
    run_app(engine)
    assert engine.returned.is_set()


@pytest.mark.usefixtures("headless")
def test_run_app_raises_what_the_engine_raised() -> None:
    failure = OSError("the ring buffer is gone")
    with pytest.raises(OSError, match="the ring buffer is gone") as caught:
        run_app(FakeEngine(snapshot(), failure=failure))
    assert caught.value is failure


@pytest.mark.usefixtures("headless")
def test_run_app_stops_the_engine_when_the_screen_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a bug in drawing")

    monkeypatch.setattr(Who, "show", fail)
    engine = FakeEngine(snapshot())
    with pytest.raises(RuntimeError, match="the screen failed"):
        run_app(engine)
    assert engine.returned.is_set()


def running(engine: FakeEngine) -> EngineThread:
    """Its thread, which has published all there is."""
    thread = EngineThread(engine)
    thread.start()
    assert engine.published.wait(DEADLINE_S)
    return thread


def test_the_newest_snapshot_of_an_engine_that_runs_is_told_at_once() -> None:
    told: list[Snapshot | str] = []
    older, newer = snapshot(), snapshot(lost=1)
    thread = running(FakeEngine(older, newer))
    thread.tell(told.append, lambda: told.append("ended"))
    assert told == [newer]
    thread.finish()
    assert told == [newer, "ended"]


@pytest.mark.usefixtures("headless")
def test_run_app_shows_an_engine_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, seen = FakeEngine(snapshot()), list[Snapshot]()

    def show(_who: Who, scene: Scene) -> None:
        seen.append(scene.snapshot)
        engine.stop()

    monkeypatch.setattr(Who, "show", show)
    run_app(engine, thread=running(engine))
    assert seen


@pytest.mark.usefixtures("headless")
def test_run_app_raises_what_the_engine_raised_before() -> None:
    failure = OSError("no source of TIME_WAIT facts works here")
    engine = FakeEngine(failure=failure)
    thread = running(engine)
    thread.join(DEADLINE_S)
    with pytest.raises(OSError, match="no source") as caught:
        run_app(engine, thread=thread)
    assert caught.value is failure


PROGRAM = """
import sys
from tests.tui.samples import FakeEngine, snapshot
from tracer.tui.app import run_app
failure = ValueError("boom") if sys.argv[1] == "fail" else None
engine = FakeEngine(snapshot(), failure=failure)
try:
    run_app(engine)
finally:
    print("returned", engine.returned.is_set())
"""
LEAVE_ALTERNATE_SCREEN = b"\x1b[?1049l"


def in_terminal(mode: str, keys: bytes) -> tuple[int, bytes]:
    """Run the screen in a terminal of its own; returns its exit status and all it wrote.

    `keys` are typed once the table is there.
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color"}
    command = [sys.executable, "-c", PROGRAM, mode]
    deadline = time.monotonic() + DEADLINE_S
    written, typed = b"", not keys
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        try:
            while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
                written += os.read(ours, 65536)
                if not typed and "Σ".encode() in written:
                    os.write(ours, keys)
                    typed = True
        except OSError:  # EIO: the other side is closed
            pass
        finally:
            process.kill()
            os.close(ours)
    return process.returncode, written


@pytest.mark.parametrize(("mode", "typed", "status"), [("run", b"q", 0), ("fail", b"", 1)])
def test_terminal_is_as_before(mode: str, typed: bytes, status: int) -> None:
    code, written = in_terminal(mode, typed)
    assert code == status
    _, left, after = written.rpartition(LEAVE_ALTERNATE_SCREEN)
    assert left
    assert b"returned True" in after
    assert (b"ValueError: boom" in after) == (mode == "fail")
