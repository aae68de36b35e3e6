"""Cells to Rich text in the colours of the theme."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text
from textual.app import App
from textual.color import Color

from tracer.tui.cells import Severity, TextLine

_STYLES = {Severity.PLAIN: "", Severity.FAINT: "dim", Severity.STRONG: "bold"}

_DARKER = 0.2


def painted(line: TextLine, app: App[object]) -> Text:
    """Cells as one line of text in which nothing is markup."""
    warn = f"bold {_warning(app)}"
    return Text.assemble(
        *((cell.text, _STYLES.get(cell.severity, warn)) for cell in line), no_wrap=True, end=""
    )


def _warning(app: App[object]) -> str:
    """The theme's colour for it, dark enough for light backgrounds: Textual's own is for darker ones."""
    color = Color.parse(app.theme_variables["text-warning"])
    return (color if app.current_theme.dark else color.darken(_DARKER)).hex


def painted_lines(lines: Iterable[TextLine], app: App[object]) -> Text:
    """Several lines."""
    return Text("\n", no_wrap=True, end="").join(painted(line, app) for line in lines)
