"""A table whose lines have keys that the cursor stays on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Click
from textual.strip import Strip
from textual.widgets import DataTable

from tracer.tui import viewmodel
from tracer.tui.cells import Cell
from tracer.tui.listing import Table
from tracer.tui.scene import Scene, Sort
from tracer.tui.viewmodel import Heading, Line
from tracer.tui.widgets.paint import painted
from tracer.tui.widgets.panel import set_title
from tracer.tui.widgets.rows import HEADER, Rows

_LEAST_HEIGHT = 8
_ALL = 1 << 30

_DOUBLE = 2


class KeyedTable(DataTable[Text]):
    """Lines under headings, redrawn with as little work as the change allows."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "app.enter", "Into", key_display="⏎")]
    DEFAULT_CSS = """
    KeyedTable { height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
    KeyedTable > .datatable--fixed { background: transparent; color: $foreground; }
    KeyedTable:focus > .datatable--cursor, KeyedTable:focus > .datatable--fixed-cursor {
        background: $foreground; color: $background;
    }
    """

    def __init__(self, more: Callable[[], None] = lambda: None, *, sums: bool = False) -> None:
        """`more` shows the same again, with as many lines as are wanted by then."""
        super().__init__(
            cursor_type="row", cell_padding=0, show_header=not sums, show_cursor=not sums, fixed_columns=1
        )
        self.can_focus = not sums
        self._more = more
        self._has_all = True
        self._wants_all = False
        self._scrolls_sideways = False
        self._headings: tuple[Heading, ...] = ()
        self._lines: dict[str, Line] = {}
        self._rows = Rows(self)
        self._cells: dict[int, tuple[Cell, ...]] = {}
        """Those of each row, by the number it is drawn by."""
        self._cursor_left_at = 0
        self._cursor_chosen = False

    def show(self, headings: tuple[Heading, ...], lines: tuple[Line, ...], columns: int) -> None:
        """Draw the first of `lines`, as many as are wanted, where there are so many terminal columns.

        The cursor stays on its line wherever that goes, or at its height if that is gone.
        Until the user has moved it, it stays at the top: nobody wants to sink with the first line.
        """
        row, key = self.cursor_row, self.cursor_key
        self._cursor_chosen = self._cursor_chosen or row != self._cursor_left_at
        self._has_all = len(lines) < self.wanted
        self._scrolls_sideways = self.can_focus and sum(len(one.text) for one in headings) > columns
        old, self._lines = self._lines, {line.key: line for line in lines[: self.wanted]}
        with self.app.batch_update():
            if headings != self._headings or old.keys() != self._lines.keys():
                self._refill(headings)
            else:
                self._update(old)
            self._cells = dict(enumerate(line.cells for line in self._lines.values()))
            self._cells[HEADER] = tuple(Cell(heading.text) for heading in headings)
            if self._cursor_chosen and key in self._lines:
                row = self.get_row_index(key)
            if row != self.cursor_row:
                self.move_cursor(row=row)
        self._cursor_left_at = self.cursor_row

    def notify_style_update(self) -> None:
        """Draw all of it anew."""
        self._rows.forget()
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        row = y - self.show_header
        if row != HEADER:
            row += self.scroll_offset.y
        cells = self._cells.get(row)
        is_mouse_on_it = self.mouse_hover and row == self.hover_row
        return self._rows.draw(row, cells) if cells and not is_mouse_on_it else super().render_line(y)

    def on_data_table_row_highlighted(self) -> None:
        """Put in more lines before the cursor gets to the last one."""
        if not self._has_all and self.row_count < self.cursor_row + 2 * self._height:
            self._more()

    def on_resize(self) -> None:
        """Likewise before the last one comes into sight."""
        self.on_data_table_row_highlighted()

    @property
    def wanted(self) -> int:
        """Lines in the table: some more than are in sight, since each costs time at every change."""
        return _ALL if self._wants_all else self.cursor_row + 3 * self._height

    @property
    def _height(self) -> int:
        return max(self.size.height, _LEAST_HEIGHT)

    def on_mount(self) -> None:
        """From now on the theme may change."""
        self.app.theme_changed_signal.subscribe(self, lambda _theme: self._repaint())

    def _repaint(self) -> None:
        """Draw the same lines in the colours of another theme."""
        row, top = self.cursor_row, self.scroll_y
        with self.app.batch_update():
            self._refill(self._headings)
            self.move_cursor(row=row)
            self.scroll_to(y=top, animate=False, immediate=True)

    async def on_click(self, event: Click) -> None:
        """Into the line, at the second click."""
        if event.chain == _DOUBLE and event.style.meta.get("row", -1) >= 0:
            await self.run_action("app.enter")

    @property
    def cursor_key(self) -> str:
        """The key of the line under the cursor; empty without lines."""
        if not self.row_count:
            return ""
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value or ""

    @property
    def cursor_line(self) -> Line | None:
        """The line under the cursor."""
        return self._lines.get(self.cursor_key)

    def action_scroll_home(self) -> None:
        """To the first line."""
        self.move_cursor(row=0)

    def action_scroll_end(self) -> None:
        """To the last line, of all there are."""
        self._wants_all = True
        self._more()
        self._wants_all = False
        self.move_cursor(row=self.row_count - 1)

    action_scroll_bottom = action_scroll_end

    def action_cursor_left(self) -> None:
        """Sideways by a column: the first stays, and says whose the others are."""
        self._scroll_by_column(-1)

    def action_cursor_right(self) -> None:
        """Likewise."""
        self._scroll_by_column(1)

    def _scroll_by_column(self, way: int) -> None:
        edges = accumulate((len(heading.text) for heading in self._headings[1:]), initial=0)
        beyond = [edge for edge in edges if (edge - self.scroll_x) * way > 0]
        if beyond:
            self.scroll_to(x=min(beyond) if way > 0 else max(beyond), animate=False, immediate=True)

    def _refill(self, headings: tuple[Heading, ...]) -> None:
        top = self.scroll_y
        self.clear(columns=headings != self._headings)
        if headings != self._headings:
            self._headings = headings
            for heading in headings:
                self.add_column(Text(heading.text), width=len(heading.text), key=heading.key)
        for line in self._lines.values():
            self.add_row(*(painted((cell,), self.app) for cell in line.cells), key=line.key)
        self._limit_height()
        self.scroll_to(y=top, animate=False, immediate=True)

    def _limit_height(self) -> None:
        """What comes below stands right below the last line, or the scroll bar."""
        self.styles.overflow_x = "scroll" if self._scrolls_sideways else "hidden"
        self.styles.max_height = self.row_count + self.show_header + self._scrolls_sideways

    def _update(self, old: dict[str, Line]) -> None:
        for key, line in self._lines.items():
            for heading, before, cell in zip(self._headings, old[key].cells, line.cells, strict=True):
                if cell != before:
                    self.update_cell(key, heading.key, painted((cell,), self.app))
        if list(old) != list(self._lines):
            self._reorder()

    def _reorder(self) -> None:
        """Sort by the place of each line; DataTable hands a sort key the cells only, so they name it."""
        first = self._headings[0].key
        places = {id(self.get_cell(key, first)): place for place, key in enumerate(self._lines)}
        self.sort(first, key=lambda cell: places[id(cell)])


class Who(Vertical):
    """WHO: the rows, and below them, always in sight, unknown and sum."""

    ALLOW_MAXIMIZE = True
    DEFAULT_CSS = """
    Who { border: solid $primary; border-title-color: $foreground; }
    Who:focus-within { border: heavy $accent; }
    Who > KeyedTable { scrollbar-gutter: stable; }
    Who > #sums { height: 2; }
    """

    def __init__(self) -> None:
        super().__init__(id="who")
        self._scene: Scene | None = None
        self.processes = KeyedTable(self._show_again)
        self.sums = KeyedTable(sums=True)
        self.sums.id = "sums"

    def compose(self) -> Iterator[KeyedTable]:
        """Both tables."""
        yield self.processes
        yield self.sums

    def on_mount(self) -> None:
        """Both scroll sideways as one."""
        self.watch(self.processes, "scroll_x", self._scroll_sums)

    def _scroll_sums(self, x: float) -> None:
        self.sums.scroll_to(x=x, animate=False, force=True, immediate=True)

    def on_click(self) -> None:
        """Wherever it is clicked, its table has the keys."""
        self.processes.focus()

    def show(self, scene: Scene) -> None:
        """Draw `scene`."""
        self._scene = scene
        found = viewmodel.view(scene, scene.rows(), self._columns, self.processes.wanted)
        set_title(self, f"1 {found.title}")
        self.processes.show(found.headings, found.processes, self._columns)
        self.sums.show(found.headings, found.sums, self._columns)

    def on_data_table_row_highlighted(self) -> None:
        """Make more rows before the cursor gets to the last one."""
        if self._scene and self.processes.row_count < min(
            self.processes.wanted, len(self._scene.snapshot.rows)
        ):
            self.show(self._scene)

    def next_sort(self, scene: Scene) -> Sort:
        """The order by the next column of those in sight."""
        return viewmodel.next_sort(scene, self._columns)

    def on_resize(self) -> None:
        """Choose the columns anew."""
        self._show_again()

    def _show_again(self) -> None:
        if self._scene:
            self.show(self._scene)

    @property
    def _columns(self) -> int:
        """Terminal columns for cells; one is kept for the scroll bar, needed or not."""
        return self.content_size.width - 1


class Listed(Vertical):
    """A table under a title."""

    ALLOW_MAXIMIZE = True
    DEFAULT_CSS = """
    Listed { border: solid $primary; border-title-color: $foreground; height: 1fr; width: 1fr; }
    Listed:focus-within { border: heavy $accent; }
    """

    def __init__(self, draw: Callable[[Scene, int], Table], *, id: str, number: int) -> None:  # noqa: A002
        super().__init__(id=id)
        self._draw = draw
        self._number = number
        self._scene: Scene | None = None
        self.table = KeyedTable(self._show_again)

    def compose(self) -> Iterator[KeyedTable]:
        """The table."""
        yield self.table

    def on_click(self) -> None:
        """Wherever it is clicked, its table has the keys."""
        self.table.focus()

    def show(self, scene: Scene) -> None:
        """Draw `scene`, unless nobody sees it."""
        self._scene = scene
        if not self.display:
            return
        columns = max(self.content_size.width - 1, 10)
        found = self._draw(scene, columns)
        set_title(self, f"{self._number} {found.title}")
        self.table.show(found.headings, found.lines, columns)

    def on_resize(self) -> None:
        """Choose the columns anew."""
        self._show_again()

    def _show_again(self) -> None:
        if self._scene:
            self.show(self._scene)
