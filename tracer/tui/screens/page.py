"""A screen of text that scrolls: Fix, Doctor, Help, a peer, a socket."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.screen import Screen

from tracer.tui.cells import TextLine
from tracer.tui.scene import Scene
from tracer.tui.screens.ready import Ready
from tracer.tui.widgets.lines import Lines
from tracer.tui.widgets.status import Keys, StatusLine

Content = Callable[[Scene, int], tuple[TextLine, ...]]
"""Scene and columns → all lines there are."""

_LEAST = 20
"""Columns."""


class _Content(Lines):
    DEFAULT_CSS = "_Content { height: auto; width: 100%; }"

    def __init__(self, content: Content) -> None:
        super().__init__()
        self._content = content
        self._scene: Scene | None = None

    def show(self, scene: Scene) -> None:
        """Draw `scene`."""
        self._scene = scene
        lines = self._laid_out(self.content_size.width)
        if len(lines) != len(self._lines):
            self.refresh(layout=True)
        self.put(lines)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        """As many lines as there are with that width, which need not be the one of now."""
        return len(self._laid_out(width))

    def _laid_out(self, columns: int) -> tuple[TextLine, ...]:
        return self._content(self._scene, max(columns, _LEAST)) if self._scene else ()

    def on_resize(self) -> None:
        """Draw anew."""
        if self._scene:
            self.show(self._scene)


class Page(Screen[None]):
    """Lines under a title."""

    DEFAULT_CSS = """
    Page VerticalScroll { border: solid $primary; border-title-color: $foreground; padding: 0 1; }
    """

    def __init__(self, name_of_keys: str, title: str, content: Content) -> None:
        super().__init__()
        self.name_of_keys = name_of_keys
        self._title = title
        self._lines = _Content(content)

    def compose(self) -> ComposeResult:
        """Top line, text, keys."""
        yield StatusLine()
        with VerticalScroll() as scroll:
            scroll.border_title = self._title
            yield self._lines
        yield Keys()

    def on_mount(self) -> None:
        """The text has the keys, to scroll it."""
        self.query_one(VerticalScroll).focus()

    def on_screen_resume(self) -> None:
        """Nothing was drawn while another screen was on top."""
        self.post_message(Ready())

    def show(self, scene: Scene) -> None:
        """Draw `scene`."""
        self.query_one(StatusLine).show(scene)
        self._lines.show(scene)
