"""How a report for people is set."""

from __future__ import annotations

import re
import textwrap

from tracer.text import duration, printable

COLUMNS = 99

_GLUE = "\x1f"
"""Nothing printable() lets through, and no place for a break."""
_UNIT = re.compile(r"(?<=\d) (?=(?:µs|ms|s|min|h|%)\b)")

_MINUTE_US = 60_000_000


def wrapped(text: str, *, indent: str = "  ", hang: str = "    ") -> list[str]:
    """Lines of foreign text, made harmless; a figure stays with its unit."""
    glued = _UNIT.sub(_GLUE, printable(text))
    lines = textwrap.wrap(glued, COLUMNS, initial_indent=indent, subsequent_indent=hang)
    return [line.replace(_GLUE, " ") for line in lines]


def lasting(us: int) -> str:
    """As duration(), but minutes with their seconds: a TIME_WAIT of 62 s is none of 60 s."""
    if _MINUTE_US <= us < 10 * _MINUTE_US:
        return f"{us // 100_000 / 10:.1f} s"
    return duration(us)


def more(number: int) -> list[str]:
    """What is left out."""
    return [f"  … and {number:,} more: --json has them"] if number > 0 else []


def spans(numbers: tuple[int, ...]) -> str:
    """`1-4, 6`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)
