"""HTML and SVG elements: whatever text they are made of, nothing in it is markup, control or direction."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

from tracer.text import printable

Child = Element | str | None
"""What stands in an element; None: nothing."""

LONGEST = 1_000
"""Characters of one text; a line of a trace may have a million."""

_ON_A_LINE = frozenset(
    {"section", "h1", "h2", "h3", "p", "li", "tr", "table", "figure", "svg", "path", "div"}
)
"""Those after which a line ends, for whoever reads the source."""


def element(tag: str, *children: Child, **attributes: str | float | None) -> Element:
    """An element with what stands in it.

    `class_` and `stroke_width` are the attributes `class` and `stroke-width`; one that is None is left out.
    Text may be hostile: it is made printable here and escaped by whoever writes the elements.
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else number(value)
            made.set(name.rstrip("_").replace("_", "-"), short(text, LONGEST))
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            made.append(child)
            last = child
        elif child and last is None:
            made.text = (made.text or "") + short(child, LONGEST)
        elif child and last is not None:
            last.tail = (last.tail or "") + short(child, LONGEST)
    if tag in _ON_A_LINE:
        made.tail = "\n"
    return made


def short(text: str, longest: int) -> str:
    """Printable text of at most so many characters; what is not shown is not even looked at."""
    shown = printable(text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def number(value: float) -> str:
    """To a tenth, which is what a picture needs: `12`, `12.5`."""
    return f"{value:.1f}".removesuffix(".0")


def page(root: Element) -> str:
    """A whole document, in ASCII: whatever the locale of standard output, it can be written there."""
    return f"<!DOCTYPE html>\n{tostring(root, encoding='us-ascii', method='html').decode('ascii')}\n"
