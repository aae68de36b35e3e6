"""The top line."""

from __future__ import annotations

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from tracer.tui import viewmodel
from tracer.tui.scene import Scene
from tracer.tui.widgets.paint import painted


class StatusLine(Widget):
    """Host, kernel, live or not, filter, what was lost."""

    DEFAULT_CSS = "StatusLine { height: 1; padding: 0 1; background: $panel; }"

    scene: reactive[Scene | None] = reactive(None)

    def render(self) -> Text:
        """Draw the line for the scene in view."""
        if self.scene is None:
            return Text("twtrace  starting …")
        return painted(viewmodel.header(self.scene, self.content_size.width), self.app)
