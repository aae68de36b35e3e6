"""Tables of the drill-down: items and a width in, headings and keyed lines out. No Textual here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tracer.text import fit
from tracer.tui.cells import Cell, Severity
from tracer.tui.viewmodel import Heading, Line

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Field(Generic[Item]):
    """One column: how wide, and how it is filled."""

    key: str
    title: str
    importance: int
    """1 is shown first when there is little room."""
    least: int
    """Terminal columns without which it is left out."""
    most: int
    text: Callable[[Item, int], str]
    """Item and terminal columns → its text."""
    align: str = "<"
    severity: Callable[[Item], Severity] = lambda _: Severity.PLAIN


@dataclass(frozen=True, slots=True)
class Table:
    """Headings, and one line for each item that is shown."""

    title: str
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    total: int
    """Items there are, shown or not."""


def table(
    title: str, fields: tuple[Field[Item], ...], items: Iterable[tuple[str, Item]], total: int, columns: int
) -> Table:
    """Lay out `items`, given with their keys, in `columns` terminal columns."""
    laid_out = layout(fields, columns)
    return Table(
        title,
        tuple(Heading(field.key, " " + fit(field.title, size, field.align)) for field, size in laid_out),
        tuple(Line(key, tuple(_cell(field, size, item) for field, size in laid_out)) for key, item in items),
        total,
    )


def layout(fields: tuple[Field[Item], ...], columns: int) -> list[tuple[Field[Item], int]]:
    """The fields that fit, each with its width without the gap before it.

    They come in by importance; what is left over widens them in that same order.
    """
    sizes: dict[str, int] = {}
    room = columns
    wanted = sorted(fields, key=lambda field: field.importance)
    for field in wanted:
        least = field.least if sizes else min(field.least, max(room - 1, 1))
        if sizes and least + 1 > room:
            break
        sizes[field.key] = least
        room -= least + 1
    for field in wanted[: len(sizes)]:
        extra = max(0, min(room, field.most - sizes[field.key]))
        sizes[field.key] += extra
        room -= extra
    return [(field, sizes[field.key]) for field in fields if field.key in sizes]


def _cell(field: Field[Item], size: int, item: Item) -> Cell:
    return Cell(" " + fit(field.text(item, size), size, field.align), field.severity(item))
