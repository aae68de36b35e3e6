"""The screen: thin widgets over `viewmodel`, fed by an engine that runs in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import ClassVar, Protocol

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import DataTable, Footer

from tracer.model import Snapshot
from tracer.tui import viewmodel
from tracer.tui.cells import Cell, Severity
from tracer.tui.viewmodel import Heading, Line, Sort

_STYLES = {
    Severity.PLAIN: "",
    Severity.FAINT: "dim",
    Severity.STRONG: "bold",
    Severity.WARN: "bold bright_yellow",
}


class Engine(Protocol):
    """Where snapshots come from: a live trace, a replay, a test."""

    def run(self, publish: Callable[[Snapshot], None]) -> None:
        """Publish snapshots, as often as wanted, until `stop()` or the engine's own end.

        Called once, in a thread of its own. `publish` returns at once and never fails.
        """

    def stop(self) -> None:
        """Have `run()` return soon.

        Called from another thread, perhaps more than once, perhaps before or after `run()`.
        """


class EngineThread(Thread):
    """Runs an engine and keeps what it failed with."""

    def __init__(
        self, engine: Engine, publish: Callable[[Snapshot], None], ended: Callable[[], None]
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self._engine = engine
        self._publish = publish
        self._ended = ended
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Run the engine to its end; then say so."""
        try:
            self._engine.run(self._publish)
        except BaseException as failure:  # noqa: BLE001  finish() raises it, where someone can act on it
            self.failure = failure
        finally:
            self._ended()

    def stop(self) -> None:
        """Have the engine end soon."""
        self._engine.stop()

    def finish(self) -> None:
        """End the engine, wait for that, and raise what it failed with."""
        self.stop()
        if self.is_alive():
            self.join()
        if self.failure:
            raise self.failure


def _text(cells: tuple[Cell, ...]) -> Text:
    """Cells as one line of text in which nothing is markup."""
    return Text.assemble(*((cell.text, _STYLES[cell.severity]) for cell in cells), no_wrap=True, end="")


class StatusLine(Widget):
    """The top line."""

    snapshot: reactive[Snapshot | None] = reactive(None)
    paused: reactive[bool] = reactive(False)

    def render(self) -> Text:
        """Draw the line for the snapshot in view."""
        if self.snapshot is None:
            return Text("twtrace  starting …")
        return _text(viewmodel.header(self.snapshot, self.paused, self.content_size.width))


class WhoTable(DataTable[Text]):
    """Lines under headings, redrawn with as little work as the change allows."""

    def __init__(self, *, sums: bool = False) -> None:
        super().__init__(cursor_type="row", cell_padding=0, show_header=not sums, show_cursor=not sums)
        self.can_focus = not sums
        self._headings: tuple[Heading, ...] = ()
        self._lines: dict[str, Line] = {}
        self._cursor_left_at = 0
        self._cursor_chosen = False

    def show(self, headings: tuple[Heading, ...], lines: tuple[Line, ...]) -> None:
        """Draw `lines`.

        The cursor stays on its line wherever that goes, or at its height if that is gone.
        Until the user has moved it, it stays at the top: nobody wants to sink with the first line.
        """
        row, key = self.cursor_row, self.cursor_key
        self._cursor_chosen = self._cursor_chosen or row != self._cursor_left_at
        old, self._lines = self._lines, {line.key: line for line in lines}
        with self.app.batch_update():
            if headings != self._headings or old.keys() != self._lines.keys():
                self._refill(headings)
            else:
                self._update(old)
            if self._cursor_chosen and key in self._lines:
                row = self.get_row_index(key)
            if row != self.cursor_row:
                self.move_cursor(row=row)
        self._cursor_left_at = self.cursor_row

    @property
    def cursor_key(self) -> str:
        """The key of the line under the cursor; empty without lines."""
        if not self.row_count:
            return ""
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value or ""

    def _refill(self, headings: tuple[Heading, ...]) -> None:
        top = self.scroll_y
        self.clear(columns=headings != self._headings)
        if headings != self._headings:
            self._headings = headings
            for heading in headings:
                self.add_column(Text(heading.text), width=len(heading.text), key=heading.key)
        for line in self._lines.values():
            self.add_row(*(_text((cell,)) for cell in line.cells), key=line.key)
        self.styles.max_height = self.row_count + self.show_header
        self.scroll_to(y=top, animate=False, immediate=True)

    def _update(self, old: dict[str, Line]) -> None:
        for key, line in self._lines.items():
            for heading, before, cell in zip(self._headings, old[key].cells, line.cells, strict=True):
                if cell != before:
                    self.update_cell(key, heading.key, _text((cell,)))
        if list(old) != list(self._lines):
            self._reorder()

    def _reorder(self) -> None:
        """Sort by the place of each line; DataTable hands a sort key the cells only, so they name it."""
        first = self._headings[0].key
        places = {id(self.get_cell(key, first)): place for place, key in enumerate(self._lines)}
        self.sort(first, key=lambda cell: places[id(cell)])


class Who(Vertical):
    """WHO: the processes, and below them, always in sight, unknown and sum."""

    def __init__(self) -> None:
        super().__init__()
        self._snapshot: Snapshot | None = None
        self._sort = Sort()
        self.processes = WhoTable()
        self.sums = WhoTable(sums=True)

    def compose(self) -> ComposeResult:
        """Both tables."""
        yield self.processes
        yield self.sums

    def show(self, snapshot: Snapshot) -> None:
        """Draw `snapshot`."""
        self._snapshot = snapshot
        self._draw()

    def next_sort(self) -> None:
        """Sort by the next column."""
        self._sort = viewmodel.next_sort(self._sort, self._columns)
        self._draw()

    def reverse_sort(self) -> None:
        """Sort the other way round."""
        self._sort = self._sort.reversed()
        self._draw()

    def on_resize(self) -> None:
        """Choose the columns anew."""
        self._draw()

    @property
    def _columns(self) -> int:
        """Terminal columns for cells; one is kept for the scroll bar, needed or not."""
        return self.content_size.width - 1

    def _draw(self) -> None:
        if self._snapshot is None:
            return
        view = viewmodel.view(self._snapshot, self._sort, self._columns)
        self.border_title = view.title
        self.processes.show(view.headings, view.processes)
        self.sums.show(view.headings, view.sums)


class TwtraceApp(App[None]):
    """The whole screen."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "next_sort", "Sort"),
        Binding("S", "reverse_sort", "Reverse"),
        Binding("space", "pause", "Pause/resume"),
        Binding("q,ctrl+c", "quit", "Quit", key_display="q"),
    ]
    CSS = """
    StatusLine { height: 1; padding: 0 1; background: $panel; }
    Who { border: solid $primary; border-title-color: $foreground; }
    WhoTable { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    """

    class Arrived(Message):
        """There is a newer snapshot."""

    class Ended(Message):
        """The engine has ended."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = EngineThread(engine, self.publish, lambda: self._tell(self.Ended()))
        self._newest: Snapshot | None = None
        self._status = StatusLine()
        self._who = Who()

    def compose(self) -> ComposeResult:
        """Top line, table, keys."""
        yield self._status
        yield self._who
        yield Footer()

    def on_mount(self) -> None:
        """Start the engine: from now on there is someone to tell."""
        self.engine.start()

    def publish(self, snapshot: Snapshot) -> None:
        """Hand over the newest snapshot; from any thread, as often as wanted."""
        self._newest = snapshot
        self._tell(self.Arrived())

    def _tell(self, message: Message) -> None:
        with suppress(RuntimeError):  # the event loop closed a moment ago: nobody is left to be told
            self.post_message(message)

    @on(Arrived)
    def _show_newest(self) -> None:
        newest = self._newest  # several messages may have come for it: all but the first find it shown
        if newest is None or self._status.paused or newest is self._status.snapshot:
            return
        self._status.snapshot = newest
        self._who.show(newest)

    @on(Ended)
    def _leave(self) -> None:
        self.exit()

    def action_next_sort(self) -> None:
        """Sort by the next column."""
        self._who.next_sort()

    def action_reverse_sort(self) -> None:
        """Sort the other way round."""
        self._who.reverse_sort()

    def action_pause(self) -> None:
        """Freeze the view, or show the newest snapshot again; the data never stops."""
        self._status.paused = not self._status.paused
        self._show_newest()

    async def action_quit(self) -> None:
        """Stop the engine and leave; `run_app` waits for it."""
        self.engine.stop()
        self.exit()


def run_app(engine: Engine) -> None:
    """Show what `engine` publishes until it ends or the user quits; raises what it failed with.

    The engine has ended and the terminal is as before when this returns or raises.
    """
    app = TwtraceApp(engine)
    try:
        app.run()
    finally:
        app.engine.finish()
    if app.return_code:
        raise RuntimeError("the screen failed")  # Textual has said how
