"""Words and facts into lines: what every screen of running text is laid out with. No Textual here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tracer.text import fit, printable, width
from tracer.tui.cells import Cell, Severity, TextLine, clip, text_of

GLUE = "\u00a0"
"""A space at which no line is broken."""

LABEL = 10
"""Columns of labels that stand below one another."""

_LEAST = 16
"""Columns of text beside a label; with fewer it goes below."""


def wrap(text: str, columns: int) -> list[str]:
    """`text`, printable, in lines of at most `columns` terminal columns; broken at spaces where it can be.

    `GLUE` is drawn as a space.
    """
    lines: list[str] = []
    line = ""
    for word in filter(None, text.split(" ")):
        if line and width(f"{line} {word}") <= columns:
            line = f"{line} {word}"
            continue
        if line:
            lines.append(line)
        *full, line = _broken(word, max(columns, 2))
        lines += full
    lines += [line] if line else []
    return [one.replace(GLUE, " ") for one in lines]


def _broken(word: str, columns: int) -> Iterator[str]:
    """A word in pieces that fit, for want of spaces."""
    piece = ""
    for char in word:
        if piece and width(piece + char) > columns:
            yield piece
            piece = ""
        piece += char
    yield piece


def paragraph(
    label: str, text: str, columns: int, severity: Severity = Severity.PLAIN, indent: int = 0
) -> tuple[TextLine, ...]:
    """A label, and beside it (below it in a narrow place) `text`, foreign or not, with a hanging indent.

    `label` is padded to `indent` columns first, so that what stands below one another lines up.
    """
    head = fit(label, max(indent, width(label)))
    beside = columns - width(head)
    if beside < _LEAST:
        above: list[TextLine] = [(Cell(label.rstrip(), Severity.FAINT),)] if label.strip() else []
        below = ((Cell("  "), Cell(line, severity)) for line in wrap(printable(text), columns - 2))
        return tuple(clip(line, columns) for line in (*above, *below))
    first, *rest = wrap(printable(text), beside) or [""]
    blank = Cell(" " * width(head))
    return (
        (Cell(head, Severity.FAINT), Cell(first, severity)),
        *((blank, Cell(line, severity)) for line in rest),
    )


def flow(pieces: Iterable[TextLine], columns: int, gap: str = "   ") -> tuple[TextLine, ...]:
    """Pieces one after the other; one that does not fit goes to the next line, cut if that is too short."""
    lines: list[TextLine] = []
    for piece in pieces:
        if lines:
            joined = (*lines[-1], Cell(gap), *piece)
            if width(text_of(joined)) <= columns:
                lines[-1] = joined
                continue
        lines.append(clip(piece, columns))
    return tuple(lines)


def fact(label: str, text: str, severity: Severity = Severity.PLAIN) -> TextLine:
    """What it is, and beside it its value, foreign text or not."""
    return Cell(f"{label} ", Severity.FAINT), Cell(printable(text), severity)


def between(left: str, right: str, columns: int, severity: Severity = Severity.PLAIN) -> TextLine:
    """`left` at the left, cut if need be, and `right` at the right."""
    room = max(columns - width(right) - 1, 1)
    return Cell(fit(left, room), severity), Cell(f" {right}", severity)


def within(lines: Iterable[TextLine], columns: int, rows: int) -> tuple[TextLine, ...]:
    """The first `rows` lines, cut to `columns`."""
    return tuple(clip(line, columns) for line in lines)[: max(rows, 0)]
