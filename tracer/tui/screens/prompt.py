"""One line to fill in, or a list to choose from, above the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, SelectionList

from tracer.errors import UsageError

_CSS = """
{name} {{ align: center bottom; background: $background 30%; }}
{name} > Vertical {{
    height: auto; max-height: 80%; padding: 0 1; background: $surface; border: heavy $accent; width: 100%;
}}
{name} Input {{ border: none; height: 1; padding: 0; background: $boost; }}
{name} Label {{ width: 100%; }}
{name} .refusal {{ color: $text-warning; display: none; }}
{name} SelectionList {{ height: auto; max-height: 16; border: none; }}
"""


class Prompt(ModalScreen[str | None]):
    """A line of text, checked before it is taken; None: never mind."""

    CSS = _CSS.format(name="Prompt")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Never mind"),
        Binding("up", "recall(-1)", "Earlier"),
        Binding("down", "recall(1)", "Later"),
    ]

    def __init__(
        self,
        title: str,
        hint: str,
        check: Callable[[str], object],
        value: str = "",
        earlier: Sequence[str] = (),
    ) -> None:
        """`check` raises UsageError on what is not wanted; up and down recall `earlier`, newest last."""
        super().__init__()
        self._title = title
        self._hint = hint
        self._check = check
        self._value = value
        self._earlier = (*(one for one in earlier if one != value), value)
        self._at = len(self._earlier) - 1

    def compose(self) -> ComposeResult:
        """What is wanted, the line, what is wrong with it."""
        with Vertical() as box:
            box.border_title = self._title
            yield Input(self._value, select_on_focus=False)
            yield Label(self._hint, markup=False)
            yield Label("", markup=False, classes="refusal")

    def on_mount(self) -> None:
        """The line has the keys."""
        line = self.query_one(Input)
        line.cursor_blink = False
        line.focus()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        try:
            self._check(event.value)
        except UsageError as error:
            refusal = self.query_one(".refusal", Label)
            refusal.update(f"▲ {error.cause}; {error.hint}")
            refusal.display = True
            return
        self.dismiss(event.value)

    def action_recall(self, way: int) -> None:
        """An earlier or later line."""
        self._at = min(max(self._at + way, 0), len(self._earlier) - 1)
        line = self.query_one(Input)
        line.value = self._earlier[self._at]
        line.cursor_position = len(line.value)


class Choice(ModalScreen[frozenset[str] | None]):
    """Some of several; None: never mind."""

    CSS = _CSS.format(name="Choice")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Never mind"),
        Binding("enter", "take", "Take", priority=True),
    ]

    def __init__(self, title: str, choices: Sequence[tuple[str, str]], chosen: frozenset[str]) -> None:
        """`choices` are keys with what they are called."""
        super().__init__()
        self._title = title
        self._choices = choices
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        """The list."""
        with Vertical() as box:
            box.border_title = self._title
            yield SelectionList[str](*((name, key, key in self._chosen) for key, name in self._choices))
            yield Label("space: in or out   ⏎: done   esc: never mind", markup=False)

    def on_mount(self) -> None:
        """The list has the keys."""
        self.query_one(SelectionList).focus()

    def action_take(self) -> None:
        """Those that are chosen."""
        self.dismiss(frozenset(self.query_one(SelectionList).selected))
