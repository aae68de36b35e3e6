"""Cells to Rich text in the colours of the theme."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text
from textual.app import App

from tracer.tui.cells import Severity, TextLine

_STYLES = {Severity.PLAIN: "", Severity.FAINT: "dim", Severity.STRONG: "bold"}


def painted(line: TextLine, app: App[object]) -> Text:
    """Cells as one line of text in which nothing is markup."""
    warn = f"bold {app.theme_variables['text-warning']}"
    return Text.assemble(
        *((cell.text, _STYLES.get(cell.severity, warn)) for cell in line), no_wrap=True, end=""
    )


def painted_lines(lines: Iterable[TextLine], app: App[object]) -> Text:
    """Several lines."""
    return Text("\n", no_wrap=True, end="").join(painted(line, app) for line in lines)
