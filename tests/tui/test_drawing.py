"""What we draw ourselves looks as Textual would draw it, and is drawn only when it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import DataTable

from tests.tui.samples import CURL, JAVA, ORDERS, FakeEngine, snapshot, until
from tracer.model import Snapshot
from tracer.tui.app import TwtraceApp
from tracer.tui.widgets.lines import Lines
from tracer.tui.widgets.status import Keys, StatusLine
from tracer.tui.widgets.table import KeyedTable

SIZES = ((80, 24), (120, 36))
HOSTILE = ORDERS._replace(key="9|9", label="\u65e5\u672c\u8a9e e\u0301\x1b[31m[bold][9]")


def drive(steps: Callable[[TwtraceApp, Pilot[str]], Awaitable[None]], size: tuple[int, int]) -> None:
    """Run `steps` on the screen of four processes, of which one warns."""

    async def run() -> None:
        app = TwtraceApp(FakeEngine(snapshot(ORDERS, CURL, JAVA, HOSTILE)))
        async with app.run_test(size=size) as pilot:
            await until(lambda: app.scene is not None)
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(run())


async def show(app: TwtraceApp, pilot: Pilot[str], shown: Snapshot) -> None:
    """Publish `shown` and wait until it is drawn."""
    app.publish(shown)
    await until(lambda: app.scene is not None and app.scene.snapshot is shown)
    await pilot.pause()


def looks(strip: Strip) -> list[tuple[str, object]]:
    """Its pieces, with all that Textual knows of each."""
    return [(piece.text, piece.style) for piece in strip if piece.text]


def assert_as_textual(app: TwtraceApp) -> None:
    """All lines of all widgets in view that draw themselves."""
    for table in app.screen.query(KeyedTable):
        for y in range(table.size.height):
            assert looks(table.render_line(y)) == looks(DataTable.render_line(table, y)), (table, y)
    for lines in app.screen.query(Lines):
        for y in range(lines.size.height):
            drawn, textual = lines.render_line(y), Widget.render_line(lines, y)
            width = lines.size.width
            assert looks(drawn.adjust_cell_length(width)) == looks(textual.adjust_cell_length(width)), (
                lines,
                y,
            )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keys", ["", "end", "w right right", "2", "s down", "f", "enter", "enter 3 down"])
def test_it_looks_as_textual_draws_it(keys: str, size: tuple[int, int]) -> None:
    async def steps(app: TwtraceApp, pilot: Pilot[str]) -> None:
        for key in keys.split():
            await pilot.press(key)
            await pilot.pause()
        assert_as_textual(app)
        app.theme = "textual-light"
        await pilot.pause()
        assert_as_textual(app)
        await show(app, pilot, snapshot(JAVA, CURL._replace(time_wait_now=7), lost=3))
        assert_as_textual(app)

    drive(steps, size)


def test_the_mouse_shows_on_a_row() -> None:
    async def steps(app: TwtraceApp, pilot: Pilot[str]) -> None:
        table = app.screen.query(KeyedTable).first()
        before = looks(table.render_line(2))
        await pilot.hover(table, offset=(4, 2))
        await pilot.pause()
        assert looks(table.render_line(2)) != before
        await pilot.hover(StatusLine)
        await pilot.pause()
        assert looks(table.render_line(2)) == before

    drive(steps, (80, 24))


def test_marked_text_shows_and_is_copied() -> None:
    async def steps(app: TwtraceApp, pilot: Pilot[str]) -> None:
        status = app.screen.query_one(StatusLine)
        before = looks(status.render_line(0))
        await pilot.mouse_down(status, offset=(1, 0))
        await pilot.hover(status, offset=(8, 0))
        await pilot.mouse_up(status, offset=(8, 0))
        await pilot.pause()
        assert looks(status.render_line(0)) != before
        assert (app.screen.get_selected_text() or "").startswith("twtrace")

    drive(steps, (80, 24))


def test_lines_that_stay_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, int]] = []

    def noting(kind: type[Widget]) -> None:
        render_line = kind.render_line

        def note(self: Widget, y: int) -> Strip:
            drawn.append((self.id or type(self).__name__, y))
            return render_line(self, y)

        monkeypatch.setattr(kind, "render_line", note)

    async def steps(app: TwtraceApp, pilot: Pilot[str]) -> None:
        await show(app, pilot, snapshot(ORDERS, CURL, JAVA, HOSTILE))
        for kind in (Lines, Keys):
            noting(kind)
        await show(app, pilot, snapshot(ORDERS, CURL, JAVA, HOSTILE))
        assert not drawn
        await show(app, pilot, snapshot(ORDERS, CURL, JAVA, HOSTILE, lost=1))
        assert set(drawn) == {("StatusLine", 0)}

    drive(steps, (120, 36))
