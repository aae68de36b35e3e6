"""The top line and the bottom line."""

from __future__ import annotations

from rich.text import Text
from textual.events import Click
from textual.widget import Widget

from tracer.tui import viewmodel
from tracer.tui.cells import Cell
from tracer.tui.scene import Scene
from tracer.tui.widgets.lines import Lines

_STARTING = (Cell("twtrace  starting …"),)


class StatusLine(Lines):
    """Host, kernel, live or not, filter, what was lost."""

    DEFAULT_CSS = "StatusLine { dock: top; height: 1; padding: 0 1; background: $panel; }"

    def __init__(self) -> None:
        super().__init__()
        self.scene: Scene | None = None
        """What is in view."""

    def show(self, scene: Scene | None) -> None:
        """Draw the line for `scene`."""
        self.scene = scene
        line = viewmodel.header(scene, self.content_size.width) if scene else _STARTING
        self.put((line,))

    def on_resize(self) -> None:
        """Draw anew."""
        self.show(self.scene)


_KEY = "twtrace_key"
"""What a piece of text is for, out of sight."""


class Keys(Widget):
    """The keys that are used most; a click on one presses it.

    Textual's own footer is made of widgets, and made anew whenever a key comes or goes.
    """

    DEFAULT_CSS = "Keys { dock: bottom; height: 1; background: $panel; }"

    def __init__(self) -> None:
        super().__init__()
        self._drawn = Text()

    def on_mount(self) -> None:
        """From now on keys come and go."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _screen: self._update())

    def _update(self) -> None:
        """Draw them anew if they are others: with each snapshot they may be, and hardly ever are."""
        if self._keys() != self._drawn:
            self.refresh()

    def render(self) -> Text:
        """Draw the keys."""
        self._drawn = self._keys()
        return self._drawn

    def _keys(self) -> Text:
        """All there are, closer together where there is little room."""
        active = (one.binding for one in self.screen.active_bindings.values() if one.binding.show)
        bindings = {binding.action: binding for binding in active}.values()
        keys = [
            Text.assemble(
                (self.app.get_key_display(one), "bold"), f" {one.description}", meta={_KEY: one.key}
            )
            for one in bindings
        ]
        loose = Text("  ").join(keys)
        line = loose if loose.cell_len < self.size.width - 1 else Text(" ").join(keys)
        return Text.assemble(" ", line, no_wrap=True, end="")

    def on_click(self, event: Click) -> None:
        """Press it."""
        if key := event.style.meta.get(_KEY):
            self.app.simulate_key(key)
