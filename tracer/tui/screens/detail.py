"""One process: who it is, why it closes as it does, with whom, and its last connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen
from textual.widget import Widget

from tracer.model import Row, Snapshot
from tracer.text import width
from tracer.tui import detail, drill, fixes, peers, sockets, typical
from tracer.tui.cells import WARNING, Cell, Severity, TextLine, text_of
from tracer.tui.clock import local_time
from tracer.tui.listing import Table
from tracer.tui.scene import Scene
from tracer.tui.screens.page import Page
from tracer.tui.screens.ready import Ready
from tracer.tui.widgets.panel import Panel
from tracer.tui.widgets.status import Keys, StatusLine
from tracer.tui.widgets.table import Listed
from tracer.tui.wrapping import paragraph

_PANELS = ("why", "peers", "sockets", "typical", "identity")
"""In the order of their numbers, from 1 on."""
_ROOMY = (110, 30)
"""Columns and rows from which on all panels are seen."""

_LARGE = 45
"""Rows from which on its remedies are seen too."""

OfRow = Callable[[Snapshot, Row, int, int], tuple[TextLine, ...]]


class Detail(Screen[None]):
    """A process, from the same snapshot as all else."""

    DEFAULT_CSS = """
    Detail #crumbs { height: 1; border: none; padding: 0 1; }
    Detail #identity { height: 5; }
    Detail #middle { height: 11; layout: horizontal; }
    Detail #typical { height: 5; }
    Detail #fixes { height: 8; display: none; }
    Detail.-large #fixes { display: block; }
    Detail.-large.-sites #middle { height: 16; }
    Detail.-small #identity, Detail.-small #middle, Detail.-small #typical { height: 1fr; }
    """
    name_of_keys: ClassVar[str] = "detail"

    def __init__(self, row_key: str) -> None:
        super().__init__()
        self.row_key = row_key
        self._row: Row | None = None
        """As it was seen last."""
        self._chosen = "why"
        self._scene: Scene | None = None

    def compose(self) -> ComposeResult:
        """Top line, the way here, panels, keys."""
        yield StatusLine()
        yield Panel(self._crumbs, lambda _scene, _columns: "", id="crumbs")
        yield self._panel(detail.identity, "IDENTITY", "identity", 5)
        with Container(id="middle"):
            yield self._panel(detail.why, "WHY  how it ends connections", "why", 1)
            yield Listed(self._peers, id="peers", number=2)
        yield self._panel(typical.typical, "A TYPICAL CONNECTION", "typical", 4)
        yield Panel(self._fixes, lambda _scene, _columns: "FIX  f: all of it", id="fixes")
        yield Listed(self._sockets, id="sockets", number=3)
        yield Keys()

    def on_mount(self) -> None:
        """Its connections come first."""
        self.query_one("#crumbs").can_focus = False
        self.query_one("#fixes").can_focus = False
        self.focus_panel(3 if self._is_roomy else 1)

    def on_screen_resume(self) -> None:
        """Nothing was drawn while another screen was on top."""
        self.post_message(Ready())

    def show(self, scene: Scene) -> None:
        """Draw `scene`."""
        self._scene = scene
        self._row = scene.row(self.row_key) or self._row
        has_sites = self._row is not None and drill.sites_of(scene.snapshot, self._row) is not None
        self.set_class(has_sites, "-sites")
        self.query_one(StatusLine).show(scene)
        for panel in self.query(Panel):
            panel.show(scene)
        for listed in self.query(Listed):
            listed.show(scene)

    def on_resize(self) -> None:
        """Choose what there is room for."""
        self.set_class(not self._is_roomy, "-small")
        self.set_class(self._is_roomy and self.size.height >= _LARGE, "-large")
        self._choose(None if self._is_roomy else self._chosen)

    def focus_panel(self, number: int) -> Widget:
        """Give the panel of that number the keys; it comes back."""
        name = _PANELS[number - 1]
        if not self._is_roomy:
            self._choose(name)
        panel = self.query_one(f"#{name}")
        (panel.table if isinstance(panel, Listed) else panel).focus()
        return panel

    def on_descendant_focus(self) -> None:
        """Should there be room for one panel only: this one."""
        self._chosen = _PANELS[self.focused_number - 1]

    @property
    def focused_number(self) -> int:
        """That of the panel that has the keys."""
        panel = self.focused_panel()
        return _PANELS.index(panel.id) + 1 if panel and panel.id in _PANELS else 1

    def focused_panel(self) -> Widget | None:
        """The panel that has the keys."""
        focused = self.focused
        return next((listed for listed in self.query(Listed) if listed.table is focused), focused)

    @property
    def is_at_row(self) -> bool:
        """Is there a peer or a connection to go into?"""
        panel = self.focused_panel()
        return isinstance(panel, Listed) and bool(panel.table.cursor_key)

    def inner(self, scene: Scene) -> Page | None:
        """The page of the peer or the connection under the cursor."""
        row = scene.row(self.row_key)
        panel = self.focused_panel()
        if row is None or not isinstance(panel, Listed):
            return None
        key = panel.table.cursor_key
        if panel.id == "peers":
            flow = drill.find_flow(scene.snapshot, key)
            return Page("page", text_of(drill.crumbs(200, row, flow)), _peer_page(key)) if flow else None
        closed = drill.find_closed(scene.snapshot, key)
        if closed is None:
            return None
        # One that is over changes no more, but for the end of its TIME_WAIT: what is known now stays.
        return Page(
            "page",
            text_of(drill.crumbs(200, row, None, closed)),
            lambda now, columns: sockets.socket(
                drill.find_closed(now.snapshot, key) or closed,
                now.snapshot,
                columns,
                _MOST_LINES,
                local_time,
            ),
        )

    def copied(self) -> str:
        """The line under the cursor as text."""
        panel = self.focused_panel()
        line = panel.table.cursor_line if isinstance(panel, Listed) else None
        return text_of(line.cells).strip() if line else ""

    @property
    def _is_roomy(self) -> bool:
        return self.size.width >= _ROOMY[0] and self.size.height >= _ROOMY[1]

    def _choose(self, only: str | None) -> None:
        seen = {name: only in (None, name) for name in _PANELS} | {"middle": only in (None, "why", "peers")}
        for name, is_seen in seen.items():
            self.query(f"#{name}").set(display=is_seen)
        if self._scene:
            self.show(self._scene)

    def _crumbs(self, scene: Scene, columns: int, _rows: int) -> tuple[TextLine, ...]:
        if self._row is None:
            return ()
        way = drill.crumbs(columns - width(_AWAY), self._row)
        is_here = scene.row(self.row_key) is not None
        return (way if is_here else (*way, Cell(_AWAY, Severity.WARN)),)

    def _panel(self, draw: OfRow, title: str, name: str, number: int) -> Panel:
        def of_row(scene: Scene, columns: int, rows: int) -> tuple[TextLine, ...]:
            row = scene.row(self.row_key)
            return draw(scene.snapshot, row, columns, rows) if row else _gone(_NO_ROW, columns)[:rows]

        return Panel(of_row, lambda _scene, _columns: title, id=name, number=number)

    def _fixes(self, scene: Scene, columns: int, rows: int) -> tuple[TextLine, ...]:
        return fixes.brief(scene.findings, scene.snapshot, self.row_key, columns, rows)

    def _peers(self, scene: Scene, columns: int) -> Table:
        row = scene.row(self.row_key)
        return peers.peer_table(scene.snapshot, row, columns) if row else Table("PEERS", (), (), 0)

    def _sockets(self, scene: Scene, columns: int) -> Table:
        row = scene.row(self.row_key)
        if row is None:
            return Table("SOCKETS", (), (), 0)
        return sockets.socket_table(scene.snapshot, row, columns, local_time)


_MOST_LINES = 200
_AWAY = f"  {WARNING} no row now"
_NO_ROW = "this process has no row at this moment: it is one of many alike by now, or was not there yet"
_NO_PEER = "nothing is known of this peer at this moment: others are busier, or it was not there yet"


def _gone(why: str, columns: int) -> tuple[TextLine, ...]:
    return paragraph("", f"{WARNING} {why}; esc: back", columns, Severity.WARN)


def _peer_page(key: str) -> Callable[[Scene, int], tuple[TextLine, ...]]:
    def content(scene: Scene, columns: int) -> tuple[TextLine, ...]:
        flow = drill.find_flow(scene.snapshot, key)
        return peers.peer(scene.snapshot, flow, columns, _MOST_LINES) if flow else _gone(_NO_PEER, columns)

    return content
