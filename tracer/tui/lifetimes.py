"""LIFETIME: how long connections lasted, as bars; and which of them left a TIME_WAIT. Pure."""

from __future__ import annotations

from tracer.model import AgeBucket, Snapshot
from tracer.series import SECOND
from tracer.text import duration, fit, width
from tracer.tui.cells import Cell, Severity, TextLine, bar, clip, figure
from tracer.tui.ports import fitting, longest, part

_LABEL = 8
_MOST_BAR = 100
_BOTH = 70
"""Columns from which on both kinds are counted, ..."""
_COUNTED = 30
"""... and from which on their sum is."""
_MILLISECOND = 1_000


def title(snapshot: Snapshot, columns: int) -> str:
    """The border's title."""
    count = sum(bucket.time_wait + bucket.other for bucket in snapshot.ages)
    return longest((f"LIFETIME · {count:,} connections so far", f"LIFETIME · {count:,}", "LIFETIME"), columns)


def render(snapshot: Snapshot, columns: int, rows: int) -> tuple[TextLine, ...]:
    """A line of figures and the legend, then a bar for each bucket; neighbours are one if rows are few."""
    head = _head(snapshot, columns)
    if not any(bucket.time_wait or bucket.other for bucket in snapshot.ages):
        none = clip((Cell("no connection has ended yet", Severity.FAINT),), columns)
        return (none,)[:rows]
    if rows == 1:
        return (head,)
    shown = merged(snapshot.ages, rows - 1)
    return (head, *_bars(shown, columns))[: max(rows, 0)]


def _head(snapshot: Snapshot, columns: int) -> TextLine:
    total = snapshot.total
    parts = [
        part(0, f"p50 {duration(total.age_p50_us)}", Severity.STRONG),
        part(1, f"p99 {duration(total.age_p99_us)}", Severity.STRONG),
        part(2, "█ left a TIME_WAIT"),
        part(2, "░ none"),
    ]
    return fitting(parts, columns)


def merged(buckets: tuple[AgeBucket, ...], most: int) -> tuple[AgeBucket, ...]:
    """At most so many buckets, at least one.

    Those at the ends that are empty go first, since nothing is lost with them; then the two neighbours
    with the fewest connections become one.
    """
    kept = list(buckets)
    while len(kept) > max(most, 1):
        if not _count(kept[-1]) and kept[-1] is not kept[0]:
            kept.pop()
        elif not _count(kept[0]):
            kept.pop(0)
        else:
            first = min(range(len(kept) - 1), key=lambda index: _count(kept[index]) + _count(kept[index + 1]))
            one, other = kept[first : first + 2]
            both = AgeBucket(other.below_us, one.time_wait + other.time_wait, one.other + other.other)
            kept[first : first + 2] = [both]
    return tuple(kept)


def _count(bucket: AgeBucket) -> int:
    return bucket.time_wait + bucket.other


def _bars(buckets: tuple[AgeBucket, ...], columns: int) -> list[TextLine]:
    beside = _LABEL + 2 + sum(width(cell.text) for cell in _figures(buckets[0], columns))
    room = min(columns - beside, _MOST_BAR)
    most = max(map(_count, buckets))
    lines = []
    for before, bucket in zip((None, *buckets), buckets, strict=False):
        severity = Severity.PLAIN if _count(bucket) else Severity.FAINT
        label = Cell(f"{_label(before, bucket):>{_LABEL}} ", severity)
        drawn = Cell(fit(_bar(bucket, most, room), room + 1), severity)
        lines.append(clip((label, drawn, *_figures(bucket, columns)), columns))
    return lines


def _label(before: AgeBucket | None, bucket: AgeBucket) -> str:
    if bucket.below_us is not None:
        return f"< {_bound(bucket.below_us)}"
    return "any" if before is None or before.below_us is None else f"≥ {_bound(before.below_us)}"


def _bound(us: int) -> str:
    """A bound in whole milliseconds or seconds."""
    return f"{us / SECOND:.0f} s" if us >= SECOND else f"{us / _MILLISECOND:.0f} ms"


def _bar(bucket: AgeBucket, most: int, columns: int) -> str:
    """As long as its share of `most`, filled as far as TIME_WAIT followed; some of either is not none."""
    count = _count(bucket)
    if not count or columns < 1:
        return ""
    cells = max(round(columns * count / most), 1)
    share = bucket.time_wait / count
    return bar(min(share, (cells - 1) / cells) if bucket.other and cells > 1 else share, cells)


def _figures(bucket: AgeBucket, columns: int) -> TextLine:
    """Counts, each as wide for all buckets: of both kinds if there is room, else of all."""
    if columns >= _BOTH:
        ended = Cell(f"{figure(bucket.time_wait, 9):>9} █", _faint_if_none(bucket.time_wait))
        return (ended, Cell(f"{figure(bucket.other, 9):>11} ░", _faint_if_none(bucket.other)))
    if columns >= _COUNTED:
        return (Cell(f"{figure(_count(bucket), 7):>7}", _faint_if_none(_count(bucket))),)
    return ()


def _faint_if_none(count: int) -> Severity:
    return Severity.PLAIN if count else Severity.FAINT
