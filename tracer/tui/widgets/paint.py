"""Cells to text in the colours of the theme."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text
from textual.app import App
from textual.color import Color
from textual.style import Style

from tracer.tui.cells import Severity, TextLine

_STYLES = {
    Severity.PLAIN: Style(),
    Severity.FAINT: Style(dim=True),
    Severity.STRONG: Style(bold=True),
}

_DARKER = 0.2


def painted(line: TextLine, app: App[object]) -> Text:
    """Cells as one line of text in which nothing is markup."""
    return Text.assemble(
        *((cell.text, style_of(cell.severity, app).rich_style) for cell in line), no_wrap=True, end=""
    )


def style_of(severity: Severity, app: App[object]) -> Style:
    """How it looks, on top of what is around it."""
    if severity is Severity.WARN:
        return Style(foreground=_warning(app), bold=True)
    return _STYLES[severity]


def _warning(app: App[object]) -> Color:
    """The theme's colour for it, dark enough for light backgrounds: Textual's own is for darker ones."""
    color = Color.parse(app.theme_variables["text-warning"])
    return color if app.current_theme.dark else color.darken(_DARKER)


def painted_lines(lines: Iterable[TextLine], app: App[object]) -> Text:
    """Several lines."""
    return Text("\n", no_wrap=True, end="").join(painted(line, app) for line in lines)
