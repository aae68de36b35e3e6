"""Lines of text on the screen, drawn one by one."""

from __future__ import annotations

from itertools import zip_longest

from rich.segment import Segment
from rich.style import Style as RichStyle
from rich.text import Text
from textual.geometry import Region
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

from tracer.tui.cells import Severity, TextLine
from tracer.tui.widgets.paint import painted_lines, style_of


class Lines(Widget):
    """Draws lines, and again those only that have changed.

    Textual would lay out and draw the whole text for one figure in it, five times as long.
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: tuple[TextLine, ...] = ()
        self._brushes: dict[tuple[Severity, int, int], RichStyle] = {}
        self._brushes_for: tuple[Style, str] | None = None

    def put(self, lines: tuple[TextLine, ...]) -> None:
        """Draw these from now on."""
        pairs = zip_longest(self._lines, lines)
        others = [Region(0, y, self.size.width, 1) for y, (old, new) in enumerate(pairs) if old != new]
        self._lines = lines
        if others:
            self.refresh(*others)

    def render(self) -> Text:
        """All lines, as Textual has them when text is marked to be copied."""
        return painted_lines(self._lines, self.app)

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        if self.text_selection:
            return super().render_line(y)
        base = self.visual_style
        if y >= len(self._lines):
            return Strip.blank(self.size.width, base.rich_style)
        if self._brushes_for != (base, self.app.theme):
            self._brushes.clear()
            self._brushes_for = base, self.app.theme
        x, segments = 0, list[Segment]()
        for severity, text in _runs(self._lines[y]):
            segments.append(Segment(text, self._brush(base, severity, x, y)))
            x += len(text)
        return Strip(segments)

    def _brush(self, base: Style, severity: Severity, x: int, y: int) -> RichStyle:
        """Its style at a place, which Textual wants to know when text is marked."""
        key = severity, x, y
        brush = self._brushes.get(key)
        if brush is None:
            brush = (base + style_of(severity, self.app)).rich_style_with_offset(x, y)
            self._brushes[key] = brush
        return brush


def _runs(line: TextLine) -> list[tuple[Severity, str]]:
    """Its pieces as Textual has them: neighbours that are plain are one, and there is at least one."""
    runs, plain = list[tuple[Severity, str]](), ""
    for cell in line:
        if cell.severity is Severity.PLAIN:
            plain += cell.text
        elif cell.text:
            if plain:
                runs.append((Severity.PLAIN, plain))
                plain = ""
            runs.append((cell.severity, cell.text))
    if plain or not runs:
        runs.append((Severity.PLAIN, plain))
    return runs
