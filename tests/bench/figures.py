"""Figures of several runs, and tables of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NONE = "–"


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some values, and how far they are apart."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of those that are there; None: none is."""
    there = [value for value in values if value is not None]
    return Spread(statistics.median(there), min(there), max(there)) if there else None


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Each against the base of the same round."""
    return [value / against for value, against in zip(values, base, strict=True)]


def number(value: float | None) -> str:
    """To three figures, whole from a hundred on."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    size = abs(value)
    places = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.0995 else 3
    return f"{value:,.{places}f}"


def middle(values: Spread | None, scale: float = 1) -> str:
    """The median alone."""
    return number(values.median * scale if values else None)


def percent(values: Spread | None) -> str:
    """With how far they are apart: 92 % (90–94)."""
    if values is None:
        return NONE
    median, low, high = (f"{100 * value:.0f}" for value in (values.median, values.low, values.high))
    return f"{median} %" if low == high else f"{median} % ({low}–{high})"


def around(values: Spread | None) -> str:
    """1.20 (1.10–1.30)."""
    if values is None:
        return NONE
    low, high = number(values.low), number(values.high)
    return number(values.median) if low == high else f"{number(values.median)} ({low}–{high})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; figures to the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)) + "\n"
