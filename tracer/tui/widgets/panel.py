"""A bordered panel of text lines."""

from __future__ import annotations

from collections.abc import Callable

from textual.widget import Widget

from tracer.tui.cells import TextLine
from tracer.tui.scene import Scene
from tracer.tui.widgets.lines import Lines

Draw = Callable[[Scene, int, int], tuple[TextLine, ...]]
"""Scene, columns and rows → at most so many lines, each at most so wide."""
Title = Callable[[Scene, int], str]


def set_title(widget: Widget, title: str) -> None:
    """Change the title in the border; the same one again would be drawn again, with all of the widget."""
    if widget.border_title != title:
        widget.border_title = title


class Panel(Lines, can_focus=True):
    """Draws what a pure function says, and only when that has changed."""

    DEFAULT_CSS = """
    Panel { border: solid $primary; border-title-color: $foreground; height: 1fr; width: 1fr; }
    Panel:focus { border: heavy $accent; }
    """

    def __init__(self, draw: Draw, title: Title, *, id: str, number: int | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._draw = draw
        self._title = title
        self._number = number
        self._scene: Scene | None = None

    def show(self, scene: Scene) -> None:
        """Draw `scene`, unless nobody sees it."""
        self._scene = scene
        if not self.display:
            return
        title = self._title(scene, max(self.size.width - 8, 10))
        set_title(self, f"{self._number} {title}" if self._number else title)
        self.put(self._draw(scene, max(self.content_size.width, 1), max(self.content_size.height, 1)))

    def on_resize(self) -> None:
        """Draw anew: another room, another choice of what to say."""
        if self._scene:
            self.show(self._scene)
