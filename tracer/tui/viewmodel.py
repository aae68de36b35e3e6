"""What the screen says, as plain text: Snapshot, sort and width in, cells out. No Textual here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from operator import attrgetter

from tracer.habit import habit
from tracer.model import Row, Snapshot
from tracer.text import duration, fit, percent, printable, width
from tracer.tui.cells import GLYPHS, NOTHING, WARNING, Cell, Severity, cut, cut_before, figure

MAX_ROWS = 200
"""Processes drawn; the sum covers all of them."""

SPARK_SECONDS = 120
"""What a sparkline spans."""

_FIELD_GAP = "  "
_BLOCKS = "▁▂▃▄▅▆▇█"
_ROLES = {"client": "cli", "server": "srv", "mixed": "mix"}

Value = float | str | None
"""What a cell sorts by; None sorts last, whatever the direction."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of WHO: which it is, how wide, and how it is filled."""

    key: str
    title: str
    importance: int
    """1 is shown first when there is little room."""
    least: int
    """Terminal columns without which it is left out."""
    most: int
    text: Callable[[Row, int], str]
    """Row and terminal columns → its text."""
    value: Callable[[Row], Value] | None
    """What it sorts by; None: it cannot be sorted by."""
    align: str = ">"
    warns: Callable[[Row], bool] = lambda _: False


@dataclass(frozen=True, slots=True)
class Sort:
    """The order of the processes."""

    column: str = "time_wait_now"
    descending: bool = True

    @property
    def marker(self) -> str:
        """The direction as an arrow."""
        return "▼" if self.descending else "▲"

    def reversed(self) -> Sort:
        """Give the same column, the other way round."""
        return Sort(self.column, not self.descending)


@dataclass(frozen=True, slots=True)
class Heading:
    """The top of a column, `len(text)` terminal columns wide."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table; `key` as in `Row.key`, one cell for each heading."""

    key: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The WHO table, ready to be drawn."""

    title: str
    headings: tuple[Heading, ...]
    processes: tuple[Line, ...]
    sums: tuple[Line, ...]
    """`? unknown` and `Σ all`, which no order moves."""


def sparkline(history: tuple[int, ...], columns: int) -> str:
    """Draw the last two minutes of per-second counts in `columns` blocks, the newest at the right.

    A block is the mean of its seconds. Blank means none; the smallest block, some.
    A full block is the highest of this row, or eight a second if none is as high.
    """
    recent = history[-SPARK_SECONDS:]
    seconds = (0,) * (SPARK_SECONDS - len(recent)) + recent
    edges = [index * SPARK_SECONDS // columns for index in range(columns + 1)]
    means = [sum(seconds[start:end]) / (end - start) for start, end in pairwise(edges)]
    full = max(len(_BLOCKS), *means)
    return "".join(_BLOCKS[ceil(mean * len(_BLOCKS) / full) - 1] if mean else " " for mean in means)


def header(snapshot: Snapshot, paused: bool, columns: int) -> tuple[Cell, ...]:
    """Write the top line, `columns` wide.

    When that is too narrow, hooks, kernel and our name go, in this order; then the filter is cut.
    The host, whether the view is live and what was lost always stay.
    """
    lost = _lost(snapshot.lost)
    state = _state(snapshot.elapsed_us, paused)
    filters = f"filter: {printable(snapshot.filters) or 'none'}"
    wanted = sum(width(part) + len(_FIELD_GAP) for part in (state.text, lost.text)) + min(width(filters), 30)
    about = _about(snapshot, columns - wanted - len(_FIELD_GAP))
    left = columns - sum(width(part) for part in (about, state.text, lost.text)) - 3 * len(_FIELD_GAP)
    gap = Cell(_FIELD_GAP)
    return (Cell(about), gap, state, gap, Cell(fit(filters, left)), gap, lost)


def _lost(count: int) -> Cell:
    if count:
        return Cell(f"{WARNING} lost {count:,}", Severity.WARN)
    return Cell("lost 0")


def _state(elapsed_us: int, paused: bool) -> Cell:
    minutes, seconds = divmod(elapsed_us // 1_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours:02}:{minutes:02}:{seconds:02}"
    return Cell(f"⏸ PAUSED {clock}", Severity.WARN) if paused else Cell(f"● LIVE {clock}", Severity.STRONG)


def _about(snapshot: Snapshot, columns: int) -> str:
    """Name program, host, kernel and hooks: as many of them as fit; the host always."""
    host = cut(printable(snapshot.host), 24)
    kernel = f"Linux {printable(snapshot.kernel)}"
    hooks = f"hooks:{printable(snapshot.hooks)}"
    variants = (("twtrace", host, kernel, hooks), ("twtrace", host, kernel), ("twtrace", host))
    return next((text for text in map(_FIELD_GAP.join, variants) if width(text) <= columns), host)


def view(snapshot: Snapshot, sort: Sort, columns: int) -> View:
    """Lay out the WHO table in `columns` terminal columns."""
    laid_out = layout(columns)
    shown = _ordered(snapshot.rows, sort)[:MAX_ROWS]
    return View(
        title=(
            f"WHO by process · sort {_BY_KEY[sort.column].title} {sort.marker}"
            f" · {len(shown):,} of {len(snapshot.rows):,} processes"
        ),
        headings=tuple(_heading(column, size, sort) for column, size in laid_out),
        processes=tuple(_line(row, laid_out) for row in shown),
        sums=tuple(_line(row, laid_out) for row in (snapshot.unknown, snapshot.total)),
    )


def layout(columns: int) -> tuple[tuple[Column, int], ...]:
    """Choose the columns that fit in `columns` terminal columns, each with its width without the gap.

    Columns come in by importance; what is left over widens them in that same order.
    """
    sizes: dict[str, int] = {}
    room = columns
    for column in _BY_IMPORTANCE:
        if sizes and column.least + 1 > room:
            break
        sizes[column.key] = column.least
        room -= column.least + 1
    for key, least in sizes.items():
        extra = max(0, min(room, _BY_KEY[key].most - least))
        sizes[key] = least + extra
        room -= extra
    return tuple((column, sizes[column.key]) for column in _COLUMNS if column.key in sizes)


def next_sort(sort: Sort, columns: int) -> Sort:
    """Move on to the next sortable column of those shown; figures fall, names rise."""
    keys = [column.key for column, _ in layout(columns) if column.value]
    following = keys[(keys.index(sort.column) + 1) % len(keys)] if sort.column in keys else keys[0]
    return Sort(following, descending=_BY_KEY[following].align == ">")


def _ordered(rows: tuple[Row, ...], sort: Sort) -> list[Row]:
    value = _BY_KEY[sort.column].value
    if value is None:
        raise ValueError(f"{sort.column} cannot be sorted by")
    keyed = [(value(row), row) for row in rows]
    present = [(key, row) for key, row in keyed if key is not None]
    present.sort(key=lambda pair: pair[0], reverse=sort.descending)
    return [row for _, row in present] + [row for key, row in keyed if key is None]


def _heading(column: Column, size: int, sort: Sort) -> Heading:
    """Put the marker in the gap before the column, so that the title never moves."""
    marker = sort.marker if column.key == sort.column else " "
    return Heading(column.key, fit(marker + column.title, size + 1, column.align))


def _line(row: Row, laid_out: tuple[tuple[Column, int], ...]) -> Line:
    return Line(row.key, tuple(_cell(row, column, size) for column, size in laid_out))


def _cell(row: Row, column: Column, size: int) -> Cell:
    text = " " + fit(column.text(row, size), size, column.align)
    if column.warns(row):
        return Cell(text, Severity.WARN)
    if column.value and column.value(row) in (None, 0):
        return Cell(text, Severity.FAINT)
    return Cell(text, Severity.STRONG if row.grade is None else Severity.PLAIN)


def _process(row: Row, columns: int) -> str:
    """Write grade and label; a long name is cut before its pid or its number of pids, which tell it apart."""
    label = printable(row.label)
    return f"{GLYPHS[row.grade]} {cut_before(label, max(label.rfind('['), label.rfind(' ×')), columns - 2)}"


def _role(row: Row) -> str:
    return "" if row.grade is None else _ROLES.get(row.role, "?")


def _held(row: Row) -> int:
    return row.held_close_wait + row.held_fin_wait2


def _held_text(row: Row, columns: int) -> str:
    mark = WARNING if row.held_close_wait else ""
    return mark + figure(_held(row), columns - len(mark))


def _outside(text: str | None) -> str:
    return NOTHING if text is None else printable(text)


def _peer(row: Row, columns: int) -> str:
    """Write a peer; its port is never cut."""
    peer = _outside(row.top_peer)
    return cut_before(peer, peer.rfind(":"), columns)


def _path(row: Row, columns: int) -> str:
    """Cut a cgroup at its beginning, which says less than its end."""
    path = _outside(row.cgroup)
    return fit(path[::-1], columns)[::-1] if width(path) > columns else path


def _figures(key: str, title: str, importance: int, decimals: int = 0) -> Column:
    """Make a column of the figures in the field `key` of a row."""
    value = attrgetter(key)
    return Column(key, title, importance, 7, 7, lambda row, size: figure(value(row), size, decimals), value)


def _shares(key: str, title: str, importance: int, size: int, part: Callable[[Row], int]) -> Column:
    """Make a column of the percentages that `part` is of a row's closes."""
    return Column(
        key,
        title,
        importance,
        size,
        size,
        lambda row, _: percent(part(row), row.closes),
        lambda row: part(row) / row.closes if row.closes else None,
    )


_COLUMNS = (
    Column("process", "PROCESS", 1, 22, 32, _process, lambda row: row.label, "<"),
    Column("role", "ROLE", 6, 4, 4, lambda row, _: _role(row), _role, "<"),
    _figures("close_rate", "CLOSE/s", 5, decimals=1),
    _figures("time_wait_rate", "TW/s", 3, decimals=1),
    _figures("time_wait_now", "TW NOW", 2),
    Column("history", "TW, 2 min", 8, 10, 24, lambda row, size: sparkline(row.history, size), None, "<"),
    Column("held", "HELD", 4, 7, 7, _held_text, _held, warns=lambda row: row.held_close_wait > 0),
    _shares("first", "FIRST", 7, 5, lambda row: row.first_local),
    _shares("reset", "RST", 9, 4, lambda row: row.resets_sent + row.resets_received),
    Column("life", "LIFE p50", 10, 8, 8, lambda row, _: duration(row.age_p50_us), lambda row: row.age_p50_us),
    Column("peer", "TOP PEER", 11, 21, 30, _peer, lambda row: row.top_peer, "<"),
    Column("habit", "HOW IT ENDS", 12, 17, 17, lambda row, _: habit(row), habit, "<"),
    Column("cgroup", "CGROUP", 13, 20, 80, _path, lambda row: row.cgroup, "<"),
)
"""From left to right."""

_BY_IMPORTANCE = sorted(_COLUMNS, key=lambda column: column.importance)
_BY_KEY = {column.key: column for column in _COLUMNS}
