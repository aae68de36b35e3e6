"""The first screen: verdict, who, and four panels on why and how long."""

from __future__ import annotations

from typing import ClassVar, Protocol

from textual.app import ComposeResult
from textual.containers import Container
from textual.events import DescendantFocus
from textual.screen import Screen
from textual.widget import Widget

from tracer.model import Snapshot
from tracer.tui import banner, feed, lifetimes, paths, ports
from tracer.tui.cells import TextLine, text_of
from tracer.tui.scene import Scene
from tracer.tui.screens.ready import Ready
from tracer.tui.widgets.panel import Panel
from tracer.tui.widgets.status import Keys, StatusLine
from tracer.tui.widgets.table import Who

_PANELS = ("paths", "ports", "lifetimes", "closes")
"""In the order of their numbers, from 2 on."""
_MIDDLE = (110, 30)
"""Columns and rows from which on all panels are seen, ..."""
_LARGE = (170, 40)
"""... and from which on three stand side by side."""


class Overview(Screen[None]):
    """Who holds these TIME_WAITs, why, is it a problem, what to change."""

    DEFAULT_CSS = """
    Overview #banner { height: 4; }
    Overview #who { height: 1fr; }
    Overview #panels { height: 9; layout: horizontal; }
    Overview #right { width: 1fr; height: 1fr; layout: vertical; }
    Overview #closes { height: 9; width: 100%; }
    Overview.-middle #panels { height: 15; }
    Overview.-middle #paths { width: 11fr; }
    Overview.-middle #right { width: 9fr; }
    Overview.-middle #closes { height: 5; }
    Overview.-large #banner { height: 5; }
    Overview.-large #panels { height: 16; }
    Overview.-large #paths { width: 70; }
    Overview.-large #right { layout: horizontal; }
    Overview.-large #closes { height: 8; }
    """
    name_of_keys: ClassVar[str] = "overview"

    def __init__(self) -> None:
        super().__init__()
        self.who = Who()
        self._chosen = "ports"
        """The one panel there is room for on a small screen."""
        self._scene: Scene | None = None

    def compose(self) -> ComposeResult:
        """Top line, verdict, rows, panels, keys."""
        yield StatusLine()
        yield Panel(_banner, lambda _scene, _columns: "VERDICT", id="banner")
        yield self.who
        with Container(id="panels"):
            yield _panel(paths, "paths", 2)
            with Container(id="right"):
                yield _panel(ports, "ports", 3)
                yield _panel(lifetimes, "lifetimes", 4)
        yield _panel(feed, "closes", 5)
        yield Keys()

    def on_mount(self) -> None:
        """The rows come first."""
        self.query_one("#banner").can_focus = False
        self.who.processes.focus()

    def on_screen_resume(self) -> None:
        """Nothing was drawn while another screen was on top."""
        self.post_message(Ready())

    def show(self, scene: Scene) -> None:
        """Draw `scene`."""
        self._scene = scene
        self.query_one(StatusLine).show(scene)
        self.who.show(scene)
        for panel in self.query(Panel):
            panel.show(scene)

    def on_resize(self) -> None:
        """Choose what there is room for."""
        columns, rows = self.size
        large = columns >= _LARGE[0] and rows >= _LARGE[1]
        middle = columns >= _MIDDLE[0] and rows >= _MIDDLE[1]
        self.set_class(large, "-large")
        self.set_class(middle and not large, "-middle")
        self._choose(None if middle else self._chosen)

    @property
    def is_small(self) -> bool:
        """Is there room for one panel only?"""
        return not (self.has_class("-large") or self.has_class("-middle"))

    def focus_panel(self, number: int) -> Widget:
        """Give the panel of that number the keys; it comes back."""
        if number == 1:
            self.who.processes.focus()
            return self.who
        name = _PANELS[number - 2]
        if self.is_small:
            self._choose(name)
        return self.query_one(f"#{name}", Panel).focus()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Should there be room for one panel only: this one."""
        if event.widget.id in _PANELS:
            self._chosen = event.widget.id

    @property
    def focused_number(self) -> int:
        """That of the panel that has the keys."""
        focused = self.focused
        return _PANELS.index(focused.id) + 2 if focused and focused.id in _PANELS else 1

    def focused_panel(self) -> Widget | None:
        """The panel that has the keys."""
        focused = self.focused
        return self.who if focused is self.who.processes else focused

    def selected(self) -> str:
        """The key of the row under the cursor."""
        return self.who.processes.cursor_key

    @property
    def is_at_row(self) -> bool:
        """Is there a row to go into?"""
        return bool(self.selected())

    def copied(self) -> str:
        """The line under the cursor as text."""
        line = self.who.processes.cursor_line
        return text_of(line.cells).strip() if line else ""

    def _choose(self, only: str | None) -> None:
        """Show that panel alone, or all."""
        seen = {name: only in (None, name) for name in _PANELS}
        seen |= {"right": only in (None, "ports", "lifetimes"), "panels": only != "closes"}
        for name, is_seen in seen.items():
            self.query(f"#{name}").set(display=is_seen)
        if self._scene:
            self.show(self._scene)


def _banner(scene: Scene, columns: int, rows: int) -> tuple[TextLine, ...]:
    return banner.render(scene.findings, scene.snapshot, columns, rows)


class _Content(Protocol):
    """A panel's view-model."""

    def render(self, snapshot: Snapshot, columns: int, rows: int) -> tuple[TextLine, ...]:
        """Its lines."""

    def title(self, snapshot: Snapshot, columns: int) -> str:
        """Its title."""


def _panel(content: _Content, name: str, number: int) -> Panel:
    return Panel(
        lambda scene, columns, rows: content.render(scene.shown, columns, rows),
        lambda scene, columns: content.title(scene.shown, columns),
        id=name,
        number=number,
    )
