"""SOURCE PORTS: what each destination's pool holds, where that leads, and the table of TIME_WAITs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tracer.model import Grade, Pool, Snapshot
from tracer.text import duration, endpoint, percent, printable, width
from tracer.tui.cells import (
    GLYPHS,
    WARNING,
    Cell,
    Severity,
    TextLine,
    bar,
    clip,
    cut,
    cut_before,
    text_of,
)
from tracer.verdict import POOL_NEARLY_FULL

_MOST_BAR = 40
_PERCENT = 4
_GAP = "  "
_LEAST_NAME = 12
"""Columns without which an owner is not shown beside its pool."""


class Part(NamedTuple):
    """A piece of a line that stays whole or is left out."""

    importance: int
    """0 is the last to be left out."""
    cells: TextLine


def part(importance: int, text: str, severity: Severity = Severity.PLAIN) -> Part:
    """A piece of one severity; `text` is printable."""
    return Part(importance, (Cell(text, severity),))


def fitting(parts: Iterable[Part], columns: int, gap: str = _GAP) -> TextLine:
    """The most important of `parts` that fit side by side, in the order given; the very first may be cut."""
    wanted = list(parts)
    for limit in sorted({one.importance for one in wanted}, reverse=True):
        line = _joined([one.cells for one in wanted if one.importance <= limit], gap)
        if width(text_of(line)) <= columns:
            return line
    least = min(wanted, key=lambda one: one.importance, default=None)
    return clip(least.cells, columns) if least else ()


def _joined(pieces: list[TextLine], gap: str) -> TextLine:
    cells: list[Cell] = []
    for piece in pieces:
        cells += (Cell(gap), *piece) if cells else piece
    return tuple(cells)


def longest(forms: Sequence[str], columns: int) -> str:
    """The first of `forms` that fits; the last one cut if none does."""
    return next((form for form in forms if width(form) <= columns), cut(forms[-1], columns))


def named(label: str, grade: Grade | None, columns: int) -> str:
    """An owner in at most `columns`: its grade and name; that is cut before its pid or its number of pids.

    These are left out where little room is left beside them.
    """
    name, room = printable(label), columns - 2
    number = max(name.rfind("["), name.rfind(" ×"))
    shown = cut_before(name, number, room)
    if number > 0 and width(shown) > room:
        shown = name[:number]
    return cut(f"{GLYPHS[grade]} {shown}", columns)


def title(snapshot: Snapshot, columns: int) -> str:
    """The border's title."""
    del snapshot
    return longest(("SOURCE PORTS · held by TIME_WAIT and live connections", "SOURCE PORTS"), columns)


def render(snapshot: Snapshot, columns: int, rows: int) -> tuple[TextLine, ...]:
    """Two lines for each pool, the fullest first, and one for the table of TIME_WAITs.

    The bar is of the ports in use; `│` on it is where that settles, `▶` that it does so beyond its end.
    """
    if rows < 1:
        return ()
    pools = snapshot.pools[: (rows - 1) // 2]
    lines = [line for pool in pools for line in _pool(pool, snapshot, columns)]
    if not snapshot.pools and rows > 1:
        lines.append(clip((Cell("no client on this host holds a source port", Severity.FAINT),), columns))
    lines.append(_table(snapshot, columns, len(snapshot.pools) - len(pools)))
    return tuple(lines)


def _pool(pool: Pool, snapshot: Snapshot, columns: int) -> tuple[TextLine, TextLine]:
    return _who(pool, snapshot, columns), _figures(pool, columns)


def _who(pool: Pool, snapshot: Snapshot, columns: int) -> TextLine:
    """Destination, owner and, if there are several, the namespace."""
    where = _destination(pool, columns)
    parts = [part(0, where, Severity.STRONG)]
    room = columns - width(where) - len(_GAP)
    if room >= _LEAST_NAME:
        parts.append(part(1, named(pool.who.label, pool.who.grade or Grade.UNKNOWN, room)))
    if len({one.netns for one in snapshot.pools} | set(snapshot.settings)) > 1:
        parts.append(part(2, f"netns {pool.netns}", Severity.FAINT))
    return fitting(parts, columns)


def _destination(pool: Pool, columns: int) -> str:
    """From where to where; a source that does not fit is left out, an address cut before its port."""
    if pool.daddr is None or pool.dport is None:
        there = "any destination (bind())"
        port = ""
    else:
        there = printable(endpoint(pool.daddr, pool.dport))
        port = f":{pool.dport}"
    here = printable(pool.saddr)
    if width(f"{here} → {there}") <= columns:
        return f"{here} → {there}"
    short = f"→ {there}"
    return cut(cut_before(short, len(short) - len(port), columns), columns)


def _figures(pool: Pool, columns: int) -> TextLine:
    """The bar, and in figures what it shows."""
    if pool.size is None:
        unknown = part(1, "of how many is not known", Severity.FAINT)
        return fitting((part(0, f"{pool.used:,} ports in use"), unknown), columns)
    severity = Severity.WARN if is_warned(pool) else Severity.PLAIN
    parts = _facts(pool, _room(columns))
    gauge = _gauge(pool.used, pool.size, pool.settles, severity, columns)
    return clip((gauge, *fitting(parts, _room(columns))), columns)


def is_warned(pool: Pool) -> bool:
    """Whether connect() has just failed here, or the ports in use settle near or beyond their number."""
    nearly = pool.size is not None and pool.settles >= POOL_NEARLY_FULL * pool.size
    return nearly or pool.failures_lately > 0


def _facts(pool: Pool, room: int) -> list[Part]:
    used = f"{pool.used:,} of {pool.size:,}"
    verb = "settles" if pool.settles <= (pool.size or 0) else "heads for"
    settles = f"{verb} {pool.settles:,.0f}"
    warning = _warning(pool, room - len(used) - len(_GAP))
    parts = [part(1, used)]
    if warning:
        parts.append(part(0, warning, Severity.WARN))
    if is_warned(pool) and not warning:
        parts.append(part(0, f"{WARNING} {settles}", Severity.WARN))
    else:
        parts.append(part(2, settles))
    parts.append(part(3, f"at {pool.birth_rate:,.1f}/s"))
    parts.append(part(4, f"{pool.time_waits:,} TIME_WAIT, {pool.live:,} live", Severity.FAINT))
    if pool.reuse:
        parts.append(part(5, f"reused after {duration(pool.reuse_after_us)}", Severity.FAINT))
    if pool.failures and not pool.failures_lately:
        parts.append(part(6, f"{pool.failures:,} connects failed earlier", Severity.FAINT))
    return parts


def _warning(pool: Pool, room: int) -> str:
    """The worst that can be said, in at most `room` columns if it can be; empty if it is not bad."""
    if pool.failures_lately:
        count = f"{pool.failures_lately:,}"
        forms = [f"{count} connects failed in 2 min", f"{count} connects failed", f"{count} failed"]
    elif pool.exhausts_in_us is not None:
        forms = [f"full in {duration(pool.exhausts_in_us)}"]
    else:
        return ""
    marked = [f"{WARNING} {form}" for form in forms]
    return next((form for form in marked if width(form) <= room), marked[-1])


def _table(snapshot: Snapshot, columns: int, left_out: int) -> TextLine:
    """How full the table of TIME_WAITs is, in the namespace where it is fullest."""
    table = _fullest(snapshot)
    skipped = sum(tally.lately for tally in snapshot.overflows)
    of = "" if table.limit is None else f" of {table.limit:,}"
    parts = [part(1, f"TW table {table.at_least}{table.held:,}{of}")]
    if skipped:
        parts.append(part(0, f"{WARNING} full: {skipped:,} left no TIME_WAIT", Severity.WARN))
    if left_out:
        parts.append(part(2, f"+{left_out:,} more", Severity.FAINT))
    if table.netns is not None:
        parts.append(part(3, f"netns {table.netns}", Severity.FAINT))
    if table.limit is None:
        return fitting(parts, columns)
    warns = skipped or table.held >= POOL_NEARLY_FULL * table.limit
    severity = Severity.WARN if warns else Severity.PLAIN
    gauge = _gauge(table.held, table.limit, 0, severity, columns)
    return clip((gauge, *fitting(parts, _room(columns))), columns)


class _Table(NamedTuple):
    netns: int | None
    """None: there is but one namespace."""
    held: int
    at_least: str
    """`≥` if there may be more."""
    limit: int | None


def _fullest(snapshot: Snapshot) -> _Table:
    """With one namespace all TIME_WAITs are its; with more, what the flows of each have is known."""
    limits = {netns: _limit(values) for netns, values in snapshot.settings.items()}
    if len(limits) <= 1:
        return _Table(None, snapshot.total.time_wait_now, "", next(iter(limits.values()), None))
    counts = Counter(dict.fromkeys(limits, 0))
    for flow in snapshot.flows:
        counts[flow.netns] += flow.time_wait_now
    netns = max(counts, key=lambda one: (counts[one] / max(limits.get(one) or 1 << 30, 1), counts[one]))
    return _Table(netns, counts[netns], "≥", limits.get(netns))


def _limit(values: dict[str, int | str]) -> int | None:
    limit = values.get("tcp_max_tw_buckets")
    return limit if isinstance(limit, int) else None


def _gauge(held: int, size: int, settles: float, severity: Severity, columns: int) -> Cell:
    """A bar, with a mark where it settles unless that is 0, and its percentage."""
    drawn = bar(held / max(size, 1), _bar_columns(columns))
    if settles:
        at = min(int(settles / max(size, 1) * len(drawn)), len(drawn) - 1)
        drawn = drawn[:at] + ("▶" if settles > size else "│") + drawn[at + 1 :]
    share = percent(min(held, size), size)
    return Cell(f"{drawn} {share:>{_PERCENT}}{_GAP}", severity)


def _bar_columns(columns: int) -> int:
    return min(columns // 5, _MOST_BAR)


def _room(columns: int) -> int:
    """Columns beside the bar and its percentage."""
    return max(columns - _bar_columns(columns) - 1 - _PERCENT - len(_GAP), 1)
