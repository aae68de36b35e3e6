"""A user before the screen: presses keys, looks, and notes which keys were pressed where."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from textual.events import Key, Paste
from textual.keys import _character_to_key, _get_unicode_name_from_key
from textual.pilot import Pilot
from textual.widgets import Input

from tests.tui.samples import DEADLINE_S, FakeEngine, FakeRecorder, drilled, until
from tracer.model import Snapshot
from tracer.tui.app import Doctor, TwtraceApp
from tracer.tui.screens.overview import Overview
from tracer.tui.screens.prompt import Choice, Prompt
from tracer.tui.widgets.status import StatusLine

SMALL, MIDDLE, LARGE = (80, 24), (120, 36), (200, 50)

OVERVIEW = ("overview",)
TABLES = (*OVERVIEW, "detail")
DATA = (*TABLES, "page", "fix")
EVERYWHERE = (*DATA, "doctor", "help")

_WAY = {
    "overview": (),
    "detail": ("enter",),
    "page": ("enter", "2", "enter"),
    "fix": ("f",),
    "doctor": ("D",),
    "help": ("question_mark",),
}
"""From the overview to each screen."""


def later(seconds: float, **fields: object) -> Snapshot:
    """What `drilled()` is after so many seconds."""
    first = drilled()
    passed_us = int(seconds * 1e6)
    return drilled(
        **({"ts_us": first.ts_us + passed_us, "elapsed_us": first.elapsed_us + passed_us} | fields)
    )


class User:
    """What a test sees and does."""

    def __init__(self, app: TwtraceApp, pilot: Pilot[str], engine: FakeEngine) -> None:
        self.app = app
        self.pilot = pilot
        self.engine = engine
        self.pressed: set[tuple[str, str]] = set()
        """Keys with the screens on which they were pressed."""

    async def press(self, *keys: str) -> None:
        """Keys by their names, or characters; each when all that the one before has begun is done."""
        for key in keys:
            self.pressed.add((key, self.where))  # by its name, that is
            self.app.post_message(_event(key))
            await self.settle()

    async def paste(self, text: str) -> None:
        """Into what asks."""
        await until(lambda: isinstance(self.app.focused, Input))
        self.app.post_message(Paste(text))
        await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is under way.

        Pilot.press() and Pilot.pause() wait for an idle processor, for twenty milliseconds or more each time.
        """
        deadline = time.monotonic() + DEADLINE_S
        await self.pilot.pause(0)
        while _is_busy(self.app):
            assert time.monotonic() < deadline, "it does not come to rest"
            await self.pilot.pause(0.001)

    async def go(self, where: str) -> None:
        """To a screen, from the overview."""
        for key in _WAY[where]:
            await self.press(key)
            await until(lambda: self.shown is not None)
        assert self.where == where

    async def home(self) -> None:
        """To the overview, all of it, unfiltered."""
        while self.where != "overview" or "esc Back" in self.text:
            await self.press("escape")
        assert self.where == "overview"

    async def show(self, *shown: Snapshot) -> None:
        """Publish, and wait until the last is known, in view or not."""
        for one in shown:
            self.app.publish(one)
            await until(partial(self._knows, one))
        await self.settle()

    def _knows(self, shown: Snapshot) -> bool:
        return self.app._known is not None and self.app._known.snapshot is shown

    async def sees(self, *texts: str) -> None:
        """Wait until all that is on the screen."""
        try:
            await until(lambda: all(text in self.text for text in texts))
        except AssertionError:
            raise AssertionError(f"not all of {texts} is in\n{self.text}") from None

    async def resize(self, size: tuple[int, int]) -> None:
        """The terminal is so large from now on."""
        await self.pilot.resize_terminal(*size)
        await until(lambda: self.app.screen.size == size)
        await self.settle()

    def orders(self) -> list[tuple[object, ...]]:
        """What the engine was told since this was asked last."""
        told, self.engine.told = self.engine.told, []
        return told

    def notes(self) -> list[str]:
        """What the user was told since this was asked last, the oldest first."""
        told = [one.message for one in self.app._notifications]
        self.app.clear_notifications()
        return told

    @property
    def text(self) -> str:
        """The screen."""
        return self.app.screen_text()

    @property
    def status(self) -> str:
        """The top line, each blank once."""
        return " ".join(self.text.split("\n", 1)[0].split())

    @property
    def panels(self) -> list[int]:
        """The numbers of the panels that have the keys, as their frames tell."""
        return [int(number) for number in re.findall(r"┏━ (\d) ", self.text)]

    @property
    def where(self) -> str:
        """The screen on top."""
        return str(getattr(self.app.screen, "name_of_keys", ""))

    @property
    def overview(self) -> Overview:
        """The first screen."""
        screen = self.app.screen_stack[0]
        assert isinstance(screen, Overview)
        return screen

    @property
    def rows(self) -> list[str]:
        """The keys of the rows of WHO, from the top."""
        return [str(row.key.value) for row in self.overview.who.processes.ordered_rows]

    @property
    def shown(self) -> Snapshot | None:
        """What the screen on top shows."""
        lines = self.app.screen.query(StatusLine)
        return lines.first().scene.snapshot if lines and lines.first().scene else None  # type: ignore[union-attr]

    @property
    def is_asked(self) -> bool:
        """Is there a prompt?"""
        return isinstance(self.app.screen, Prompt | Choice)

    @property
    def line(self) -> str:
        """What stands in the prompt."""
        return self.app.screen.query_one(Input).value


def _is_busy(app: TwtraceApp) -> bool:
    stack = app.screen_stack
    pumps = [app, *(node for screen in stack for node in screen.walk_children(with_self=True))]
    return any(pump.message_queue_size or pump._next_callbacks for pump in pumps) or any(
        screen._callbacks or screen._dirty_widgets or screen._layout_required for screen in stack[-1:]
    )


def _event(key: str) -> Key:
    """A key by its name, or a character."""
    if len(key) == 1:
        return Key(_character_to_key(key), key)
    try:
        return Key(key, unicodedata.lookup(_get_unicode_name_from_key(key)))
    except KeyError:
        return Key(key, None)


Steps = Callable[[User], Awaitable[None]]


def drive(
    steps: Steps,
    engine: FakeEngine | None = None,
    *,
    size: tuple[int, int] = MIDDLE,
    shown: Snapshot | None = None,
    doctor: Doctor | None = None,
) -> User:
    """Run the screen with `steps`, `shown` in view, on an engine that can record unless another is given."""
    engine = engine or FakeRecorder()
    first = shown or drilled()
    app = TwtraceApp(engine, doctor=doctor)

    async def run() -> User:
        async with app.run_test(size=size) as pilot:
            user = User(app, pilot, engine)
            await user.show(first)
            await until(lambda: user.shown is first)
            await user.settle()
            await steps(user)
        engine.stop()
        return user

    return asyncio.run(run())


TESTED: set[tuple[str, str]] = set()
"""Each key that has a test, with the screen."""

OnScreen = Callable[..., Awaitable[None]]
"""User and screen → what is done and expected there."""


def presses(
    *keys: str,
    on: Sequence[str],
    engine: Callable[[], FakeEngine] = FakeRecorder,
    size: tuple[int, int] = SMALL,
    doctor: Doctor | None = None,
) -> Callable[[OnScreen], Callable[..., None]]:
    """Make a test of what is done on one screen: it is done on all of these, and has to press these keys."""

    def marked(test: OnScreen) -> Callable[..., None]:
        signature = inspect.signature(test)
        fixtures = [one for one in signature.parameters.values() if one.name not in ("user", "where")]

        def run(**values: object) -> None:
            async def tour(user: User) -> None:
                for where in on:
                    print(f"on the {where} screen")  # noqa: T201  pytest shows it if the test fails
                    await user.go(where)
                    await test(user=user, where=where, **values)
                    await user.home()

            user = drive(tour, engine(), size=size, doctor=doctor)
            assert {(key, where) for key in keys for where in on} <= user.pressed, "some are not pressed"

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        run.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]
        TESTED.update((key, where) for key in keys for where in on)
        return run

    return marked
