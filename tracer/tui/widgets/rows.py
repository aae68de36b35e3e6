"""Rows of a table, drawn one by one."""

from __future__ import annotations

from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip
from textual.widgets import DataTable

from tracer.tui.cells import Cell, Severity
from tracer.tui.widgets.paint import style_of

HEADER = -1
"""The number that DataTable gives the row of headings."""

_FIXED = "datatable--fixed"
_CURSOR = "datatable--cursor"
_FIXED_CURSOR = "datatable--fixed-cursor"


class _Row(NamedTuple):
    """All that a row is drawn of, but for the theme."""

    number: int
    cells: tuple[Cell, ...]
    is_cursor: bool
    base: Style
    x: int
    width: int


class Rows:
    """Draws rows of a table with one fixed column, and again those only that have changed.

    They look as DataTable draws them. When one cell has changed it draws all others anew, too, and each in
    seven steps: half of what the screen used.
    """

    def __init__(self, table: DataTable[Text]) -> None:
        self._table = table
        self._drawn: dict[int, tuple[_Row, Strip]] = {}
        self._brushes: dict[tuple[int, int, Severity, bool, Style], Style] = {}

    def forget(self) -> None:
        """Draw all of them anew: in other colours, or other ones."""
        self._drawn.clear()
        self._brushes.clear()

    def draw(self, number: int, cells: tuple[Cell, ...]) -> Strip:
        """Draw a row of so many cells, one at least, without the mouse on it."""
        table = self._table
        is_cursor = table.show_cursor and number == table.cursor_row
        row = _Row(number, cells, is_cursor, table.rich_style, table.scroll_offset.x, table.size.width)
        before, strip = self._drawn.get(number, (None, Strip([])))
        if before != row:
            strip = self._strip(row)
            self._drawn[number] = row, strip
        return strip

    def _strip(self, row: _Row) -> Strip:
        first, *others = (
            Segment(cell.text, self._brush(row, column, cell.severity))
            for column, cell in enumerate(row.cells)
        )
        beyond = self._under(row, self._table.fixed_columns) + self._over(row, self._table.fixed_columns)
        beyond += Style.from_meta({"row": row.number, "column": 0, "out_of_bounds": True})
        others.append(Segment(" " * max(0, row.width - Strip(others).cell_length), beyond))
        return Strip([first, *Strip(others).crop(row.x)]).adjust_cell_length(row.width, row.base)

    def _brush(self, row: _Row, column: int, severity: Severity) -> Style:
        """The style of a cell; by it DataTable knows which was clicked."""
        key = row.number, column, severity, row.is_cursor, row.base
        brush = self._brushes.get(key)
        if brush is None:
            over = self._over(row, column)
            brush = (
                self._under(row, column)
                + Style.from_meta({"row": row.number, "column": column})
                + over
                + style_of(severity, self._table.app).rich_style
                + Style.from_color(over.color)
            )
            self._brushes[key] = brush
        return brush

    def _under(self, row: _Row, column: int) -> Style:
        if row.number == HEADER:
            return self._table.get_component_styles("datatable--header").rich_style
        if column < self._table.fixed_columns:
            return self._table.get_component_styles(_FIXED).rich_style + Style.from_meta({"fixed": True})
        return row.base

    def _over(self, row: _Row, column: int) -> Style:
        if not row.is_cursor:
            return Style.null()
        style = self._table.get_component_rich_style(_CURSOR)
        if column < self._table.fixed_columns:
            style += self._table.get_component_rich_style(_FIXED_CURSOR)
        return style
