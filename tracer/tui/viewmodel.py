"""What the screen says, as plain text: Snapshot, sort and width in, cells out. No Textual here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from operator import attrgetter

from tracer.habit import habit
from tracer.model import Row, Snapshot
from tracer.replay import Playhead
from tracer.text import duration, fit, percent, printable, width
from tracer.tui.cells import GLYPHS, NOTHING, WARNING, Cell, Severity, clip, cut, cut_before, figure
from tracer.tui.scene import Scene, Sort

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
    wide_only: bool = False


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


def header(scene: Scene, columns: int) -> tuple[Cell, ...]:
    """Write the top line, `columns` wide.

    When that is too narrow, hooks, kernel and our name go, in this order; then the filter is cut.
    The host, whether the view is live, a filter and what was lost always stay.
    """
    snapshot = scene.snapshot
    lost = _lost(snapshot.lost)
    state = _state(scene)
    record = (
        (Cell(f"REC {printable(scene.recording)}", Severity.STRONG), Cell(_FIELD_GAP))
        if scene.recording
        else ()
    )
    wanted_filter = " ".join(filter(None, (printable(snapshot.filters), printable(scene.expression.text))))
    filters = f"filter: {wanted_filter or 'none'}"
    fixed = sum(width(part.text) for part in (state, lost, *record)) + 2 * len(_FIELD_GAP)
    about = _about(snapshot, columns - fixed - len(_FIELD_GAP) - min(width(filters), 30))
    left = columns - fixed - width(about) - len(_FIELD_GAP)
    gap = Cell(_FIELD_GAP)
    severity = Severity.STRONG if wanted_filter else Severity.PLAIN
    return clip(
        (Cell(about), gap, state, gap, Cell(fit(filters, max(left, 1)), severity), gap, *record, lost),
        columns,
    )


def _lost(count: int) -> Cell:
    if count:
        return Cell(f"{WARNING} lost {count:,}", Severity.WARN)
    return Cell("lost 0")


def _state(scene: Scene) -> Cell:
    snapshot, playhead = scene.snapshot, scene.playhead
    if playhead is not None:
        return _replay_state(playhead)
    if scene.paused:
        behind = max(scene.newest_us - snapshot.ts_us, 0) // 1_000_000
        later = f" (live +{behind} s)" if behind else ""
        return Cell(f"⏸ PAUSED at {_elapsed(snapshot.elapsed_us)}{later}", Severity.WARN)
    return Cell(f"● LIVE {_elapsed(snapshot.elapsed_us)}", Severity.STRONG)


def _replay_state(playhead: Playhead) -> Cell:
    at = _elapsed(playhead.at_us - playhead.began_us)
    whole = "" if playhead.ended_us is None else f"/{_elapsed(playhead.ended_us - playhead.began_us)}"
    cut = "" if playhead.whole else f" {WARNING} cut off"
    if not playhead.playing:
        return Cell(f"⏸ REPLAY {at}{whole}{cut}", Severity.WARN)
    speed = "" if playhead.speed == 1 else f" ×{playhead.speed:g}"
    return Cell(f"▶ REPLAY {at}{whole}{speed}{cut}", Severity.STRONG)


def _elapsed(us: int) -> str:
    minutes, seconds = divmod(us // 1_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}"


def _about(snapshot: Snapshot, columns: int) -> str:
    """Name program, host, kernel and hooks: as many of them as fit; the host always."""
    host = cut(printable(snapshot.host), 24)
    kernel = f"Linux {printable(snapshot.kernel)}"
    hooks = f"hooks:{printable(snapshot.hooks)}"
    variants = (("twtrace", host, kernel, hooks), ("twtrace", host, kernel), ("twtrace", host))
    return next((text for text in map(_FIELD_GAP.join, variants) if width(text) <= columns), host)


def view(scene: Scene, rows: tuple[Row, ...], columns: int, most: int = MAX_ROWS) -> View:
    """Lay out the WHO table in `columns` terminal columns, or in more if it is to be wide.

    Of its rows the first `most`; the others cost nothing.
    """
    snapshot, sort = scene.snapshot, scene.sort
    laid_out = layout(columns, wide=scene.wide, hidden=scene.hidden)
    ordered = _ordered(rows, sort)[:MAX_ROWS]
    return View(
        title=(
            f"WHO by {snapshot.by} · sort {_BY_KEY[sort.column].title} {sort.marker}"
            f" · {len(ordered):,} of {len(snapshot.rows):,}"
        ),
        headings=tuple(_heading(column, size, scene) for column, size in laid_out),
        processes=tuple(_line(row, laid_out, scene.names) for row in ordered[:most]),
        sums=tuple(_line(row, laid_out, scene.names) for row in (snapshot.unknown, snapshot.total)),
    )


def layout(
    columns: int, *, wide: bool = False, hidden: frozenset[str] = frozenset()
) -> tuple[tuple[Column, int], ...]:
    """Choose the columns that fit in `columns` terminal columns, each with its width without the gap.

    Columns come in by importance; what is left over widens them in that same order. `wide`: all come in.
    """
    sizes: dict[str, int] = {}
    room = columns
    for column in _BY_IMPORTANCE:
        if column.key in hidden or (column.wide_only and not wide):
            continue
        if sizes and column.least + 1 > room and not wide:
            break
        sizes[column.key] = column.least
        room -= column.least + 1
    for key, least in sizes.items():
        extra = max(0, min(room, _BY_KEY[key].most - least))
        sizes[key] = least + extra
        room -= extra
    return tuple((column, sizes[column.key]) for column in COLUMNS if column.key in sizes)


def next_sort(scene: Scene, columns: int) -> Sort:
    """Move on to the next sortable column of those shown; figures fall, names rise."""
    sort, laid_out = scene.sort, layout(columns, wide=scene.wide, hidden=scene.hidden)
    keys = [column.key for column, _ in laid_out if column.value]
    following = keys[(keys.index(sort.column) + 1) % len(keys)] if sort.column in keys else keys[0]
    return Sort(following, descending=_BY_KEY[following].align == ">")


def sortable() -> frozenset[str]:
    """Columns that can be sorted by."""
    return frozenset(column.key for column in COLUMNS if column.value)


def choices() -> tuple[tuple[str, str], ...]:
    """Columns that may be left out, with their titles."""
    return tuple((column.key, column.title) for column in COLUMNS if column.key != "process")


def filter_for(by: str, row: Row) -> str:
    """The filter for the processes behind a row by something else."""
    process = row.process
    if by == "comm" and process and _quotable(process.comm):
        return f'proc="{process.comm}"'
    if by == "cgroup" and process and process.cgroup and _quotable(process.cgroup):
        return f'cgroup="{process.cgroup}"'
    if by in ("comm", "cgroup"):
        return f"pid:{','.join(map(str, row.pids))}"
    if by == "netns":
        return f"netns:{row.label.rpartition(' ')[2]}"
    if by == "peer":
        address, port = _peer_parts(row.label)
        return f"peer={address} port:{port}"
    return f"port:{row.label[1:].partition(' ')[0]}"


def _quotable(text: str) -> bool:
    return '"' not in text and "\\" not in text and text.isprintable()


def _peer_parts(label: str) -> tuple[str, str]:
    """Address and port of `10.0.0.1:80`, `[::1]:80`, `10.0.0.1 (:80)`."""
    if label.endswith(")"):
        address, _, port = label[:-1].partition(" (:")
        return address, port
    address, _, port = label.rpartition(":")
    return address.strip("[]"), port


def _ordered(rows: tuple[Row, ...], sort: Sort) -> list[Row]:
    value = _BY_KEY[sort.column].value
    if value is None:
        raise ValueError(f"{sort.column} cannot be sorted by")
    keyed = [(value(row), row) for row in rows]
    present = [(key, row) for key, row in keyed if key is not None]
    present.sort(key=lambda pair: pair[0], reverse=sort.descending)
    return [row for _, row in present] + [row for key, row in keyed if key is None]


def _heading(column: Column, size: int, scene: Scene) -> Heading:
    """Put the marker in the gap before the column, so that the title never moves."""
    marker = scene.sort.marker if column.key == scene.sort.column else " "
    title = scene.snapshot.by.upper() if column.key == "process" else column.title
    return Heading(column.key, fit(marker + title, size + 1, column.align))


def _line(row: Row, laid_out: tuple[tuple[Column, int], ...], names: Mapping[str, str]) -> Line:
    return Line(row.key, tuple(_cell(row, column, size, names) for column, size in laid_out))


def _cell(row: Row, column: Column, size: int, names: Mapping[str, str]) -> Cell:
    if names and column.key == "peer" and row.top_peer:
        row = row._replace(top_peer=named(row.top_peer, names))
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


def named(peer: str, names: Mapping[str, str]) -> str:
    """`10.0.0.1:80` or `10.0.0.1 (:80)` with its name in place of the address, if that is known."""
    for address, name in names.items():
        for form in (address, f"[{address}]"):
            if peer.startswith((f"{form}:", f"{form} ")):
                return name + peer[len(form) :]
    return peer


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


def _of_process(key: str, title: str, importance: int, size: int) -> Column:
    """Make a column of the wide table: what is known of the process, if the row is one."""

    def value(row: Row) -> Value:
        return getattr(row.process, key) if row.process and len(row.pids) == 1 else None

    def text(row: Row, columns: int) -> str:
        found = value(row)
        return NOTHING if found is None else cut(printable(str(found)), columns)

    return Column(key, title, importance, size, 2 * size, text, value, "<", wide_only=True)


COLUMNS = (
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
    Column(
        "life_p99",
        "p99",
        14,
        8,
        8,
        lambda row, _: duration(row.age_p99_us),
        lambda row: row.age_p99_us,
        wide_only=True,
    ),
    _of_process("uid", "UID", 15, 6),
    _of_process("unit", "UNIT", 16, 24),
    _of_process("container", "CONTAINER", 17, 12),
    _of_process("cmdline", "COMMAND LINE", 18, 40),
)
"""From left to right."""

_BY_IMPORTANCE = sorted(COLUMNS, key=lambda column: column.importance)
_BY_KEY = {column.key: column for column in COLUMNS}
