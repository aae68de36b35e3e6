"""Text with a severity, ready for the terminal; what all of the screen is made of. No Textual here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tracer.model import Grade
from tracer.text import fit, width

NOTHING = "–"
WARNING = "▲"
GLYPHS = {Grade.CERTAIN: "●", Grade.INFERRED: "◐", Grade.UNKNOWN: "?", None: "Σ"}
"""How an owner is known; None is a sum."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Severity(Enum):
    """How much a piece of text asks for attention; always said by the text as well."""

    PLAIN = "plain"
    FAINT = "faint"
    STRONG = "strong"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of text for the terminal: printable, and already as wide as its column."""

    text: str
    severity: Severity = Severity.PLAIN


TextLine = tuple[Cell, ...]
"""One line of a panel, from left to right."""


def text_of(line: TextLine) -> str:
    """A line without its severities."""
    return "".join(cell.text for cell in line)


def clip(line: TextLine, columns: int) -> TextLine:
    """The line in at most `columns` terminal columns; `…` stands for what is cut."""
    if width(text_of(line)) <= columns:
        return line
    kept, room = [], columns
    for cell in line:
        if width(cell.text) >= room:
            kept.append(Cell(fit(cell.text + "…", room), cell.severity))
            break
        kept.append(cell)
        room -= width(cell.text)
    return tuple(kept)


def bar(share: float, columns: int, rest: str = "░") -> str:
    """A bar of `columns` terminal columns, filled to `share` (0 to 1) in eighths; `rest` fills the others."""
    eighths = round(min(max(share, 0.0), 1.0) * columns * 8)
    if share > 0:
        eighths = max(eighths, 1)  # some is not none
    whole, part = divmod(eighths, 8)
    drawn = "█" * whole + (_EIGHTHS[part] if part else "")
    return drawn + rest * (columns - len(drawn))


def figure(value: float, columns: int, decimals: int = 0) -> str:
    """Write the most exact form that fits: `1,234.5`, `12,346`, `262k`."""
    exact = f"{value:,.{decimals}f}"
    forms = (exact, f"{value:,.0f}", f"{value / 1e3:,.0f}k", f"{value / 1e6:,.0f}M")
    return next((form for form in forms if len(form) <= columns), forms[-1])


def cut(text: str, columns: int) -> str:
    """`text` cut with `…` if it is wider; never padded."""
    return fit(text, columns) if width(text) > columns else text


def cut_before(text: str, tail_start: int, columns: int) -> str:
    """Cut `text` so that what stands from `tail_start` on stays, unless that fills half the room."""
    tail = text[tail_start:]
    if tail_start <= 0 or not width(text) > columns > 2 * width(tail):
        return text
    return fit(text[:tail_start], columns - width(tail)) + tail
