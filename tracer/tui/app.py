"""The app: what is known now, what the user wants to see of it, and a method for each key."""

from __future__ import annotations

import gc
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

from textual import on
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from tracer import export
from tracer.errors import TwtraceError, UsageError
from tracer.expression import EVERYTHING, Expression, parse
from tracer.model import GROUPINGS, Row, Snapshot, Start
from tracer.narrow import with_rows, without_others
from tracer.replay import MAX_SPEED, Controls
from tracer.tracefile import create
from tracer.tui import fixes, viewmodel
from tracer.tui.clock import local_time
from tracer.tui.engine import Engine, EngineThread, Recorder, Replay
from tracer.tui.keys import KEYS, Key
from tracer.tui.moment import parse_moment
from tracer.tui.names import Names
from tracer.tui.scene import Scene, Sort
from tracer.tui.screens.detail import Detail
from tracer.tui.screens.overview import Overview
from tracer.tui.screens.pages import doctor_page, fix_page, help_page
from tracer.tui.screens.prompt import Choice, Prompt
from tracer.tui.screens.ready import Ready
from tracer.tui.widgets.status import StatusLine
from tracer.verdict import Finding, judge

Doctor = Callable[[], dict[str, object]]
"""What this kernel and user allow, as `twtrace doctor --json` has it; takes seconds."""

_SHORTEST_S, _LONGEST_S = 0.125, 16.0
_MAX_KEPT = 240
"""Snapshots that `[` goes back to, ..."""
_MAX_KEPT_ROWS = 40_000
"""... unless they are large: then as many as have so many rows."""
_GARBAGE = 50_000
"""New objects after which the collector looks for cycles."""
_HUNDRED_KB = 100_000
_PANELS = 5
"""Of either screen that has panels."""
_TWICE_S = 2.0
"""Within which a key that destroys is to be pressed again."""


class Taken(NamedTuple):
    """A snapshot and its verdict, made in the engine's thread."""

    snapshot: Snapshot
    findings: tuple[Finding, ...]


class Kept:
    """The last snapshots of a live run, in bounded memory."""

    def __init__(self) -> None:
        self._taken: deque[Taken] = deque()
        self._rows = 0

    def add(self, taken: Taken) -> None:
        """Keep one more."""
        self._taken.append(taken)
        self._rows += len(taken.snapshot.rows)
        while len(self._taken) > _MAX_KEPT or (self._rows > _MAX_KEPT_ROWS and len(self._taken) > 1):
            self._rows -= len(self._taken.popleft().snapshot.rows)

    def beside(self, at_us: int, way: int) -> Taken | None:
        """The next one before (way -1) or after (1) a moment."""
        taken = reversed(self._taken) if way < 0 else iter(self._taken)
        return next((one for one in taken if (one.snapshot.ts_us - at_us) * way > 0), None)

    @property
    def oldest_us(self) -> int:
        """The moment of the first that is still there; 0 if none is."""
        return self._taken[0].snapshot.ts_us if self._taken else 0

    def nearest(self, at_us: int) -> Taken | None:
        """The one nearest to a moment."""
        return min(self._taken, key=lambda one: abs(one.snapshot.ts_us - at_us), default=None)


class TwtraceApp(App[str]):
    """The whole screen; ends with the text it showed last, if that is to stay."""

    TITLE = "twtrace"
    CSS = ".-maximized { height: 1fr; width: 1fr; }"
    ALLOW_IN_MAXIMIZED_VIEW = "StatusLine, Keys"
    ESCAPE_TO_MINIMIZE = False  # that is for `out`
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key.key, key.action, key.label, show=key.footer, key_display=key.shown) for key in KEYS),
        Binding("ctrl+p", "command_palette", show=False, priority=True),
    ]

    class Arrived(Message):
        """There is a newer snapshot."""

    class Ended(Message):
        """The engine has ended."""

    def __init__(
        self,
        engine: Engine,
        *,
        thread: EngineThread | None = None,
        always: Expression = EVERYTHING,
        doctor: Doctor | None = None,
    ) -> None:
        """`always` holds for the rows, whatever filter the user gives; `thread`: of an engine that runs."""
        super().__init__()
        self.source = engine
        # Asked once: protocols are looked through member by member, and each key asks.
        self.controls = engine if isinstance(engine, Controls) else None
        """Those of time, if the engine is a replay."""
        self._recorder = engine if isinstance(engine, Recorder) else None
        self.engine = thread or EngineThread(engine)
        self._doctor = doctor
        self._is_examining = False
        self.examined: dict[str, object] | str | None = None
        self._newest: Taken | None = None
        self._known: Taken | None = None
        self._shown: Taken | None = None
        self._kept = Kept()
        self._paused = False
        self._regroups = False
        self._always = always
        self._expression = EVERYTHING
        self._typed: list[str] = []
        self._sort = Sort()
        self._by = GROUPINGS[0]
        self._wide = False
        self._hidden: frozenset[str] = frozenset()
        self._named = False
        self._names = Names(lambda: self._tell(Ready()))
        self._yanked = 0
        self._pressed: tuple[str, float] = ("", 0.0)
        self._told_failure: TwtraceError | None = None

    # Drawing

    def get_default_screen(self) -> Screen[None]:
        """The overview."""
        return Overview()

    def on_mount(self) -> None:
        """Start the engine, unless it runs: from now on there is someone to tell."""
        self.theme_changed_signal.subscribe(self, lambda _theme: self.draw())
        self.engine.tell(self.publish, lambda: self._tell(self.Ended()))
        if self.engine.ident is None:
            self.engine.start()

    def publish(self, snapshot: Snapshot) -> None:
        """Hand over the newest snapshot; from any thread, as often as wanted."""
        self._newest = Taken(with_rows(snapshot, self._always), judge(snapshot))
        self._tell(self.Arrived())

    def _tell(self, message: Message) -> None:
        with suppress(RuntimeError):  # the event loop closed a moment ago: nobody is left to be told
            self.post_message(message)

    @on(Arrived)
    def _arrived(self) -> None:
        newest = self._newest  # several messages may have come for it: all but the first find it known
        if newest is None or newest is self._known:
            return
        self._known = newest
        if self.controls is None:
            self._kept.add(newest)
        self._tell_failed_recording()
        is_awaited = self._regroups and newest.snapshot.by == self._by
        if not self._paused or self._shown is None or is_awaited:
            self._shown = newest
        if is_awaited:
            self._regroups = False
        self.draw()

    @property
    def scene(self) -> Scene | None:
        """What is drawn; None before the first snapshot."""
        shown, newest = self._shown, self._newest
        if shown is None or newest is None:
            return None
        return Scene(
            snapshot=shown.snapshot,
            shown=without_others(shown.snapshot, self._expression),
            findings=shown.findings,
            newest_us=newest.snapshot.ts_us,
            expression=self._expression,
            sort=self._sort,
            paused=self._paused,
            playhead=self.source.playhead,
            recording=self._recording_text(),
            names=self._known_names(shown.snapshot),
            wide=self._wide,
            hidden=self._hidden,
        )

    def draw(self) -> None:
        """Have the screen on top show the scene."""
        self.refresh_bindings()
        scene = self.scene
        for screen in reversed(self.screen_stack):
            if show := getattr(screen, "show", None):
                if scene and screen.query(StatusLine):  # it has its widgets, still or already
                    show(scene)
                return

    @on(Ready)
    def _draw_screen(self) -> None:
        self.draw()

    @on(Ended)
    def _leave(self) -> None:
        if self.return_value is None:  # else it ended because the user left, and wants to see this text
            self.exit()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Is it one of the keys of the screen on top?"""
        keys = [key for key in KEYS if key.name == action]
        if not keys:
            return True
        if isinstance(self.screen, Prompt | Choice):
            return False
        screen = self.screen
        if action == "out" and len(self.screen_stack) == 1:
            return bool(self._expression or screen.maximized)
        if action == "enter" and isinstance(screen, Overview | Detail):
            return screen.is_at_row
        return any(map(self._is_here, keys))

    def _is_here(self, key: Key) -> bool:
        """Does it do anything on the screen on top?"""
        here = getattr(self.screen, "name_of_keys", "")
        return here in key.screens and bool(key.means(replay=self.controls is not None))

    # Where to

    def action_panel(self, number: int) -> None:
        """Give a panel the keys; if one is zoomed, that one is now."""
        screen = self.screen
        if isinstance(screen, Overview | Detail):
            panel = screen.focus_panel(number)
            if screen.maximized is not None:
                screen.maximize(panel)
                self.draw()

    def action_focus_next(self) -> None:
        """The next panel, seen or not."""
        self._next_panel(1)

    def action_focus_previous(self) -> None:
        """The panel before."""
        self._next_panel(-1)

    def _next_panel(self, way: int) -> None:
        screen = self.screen
        if isinstance(screen, Overview | Detail):
            self.action_panel((screen.focused_number - 1 + way) % _PANELS + 1)
        elif way > 0:
            super().action_focus_next()
        else:
            super().action_focus_previous()

    def action_enter(self) -> None:
        """Into what is under the cursor."""
        scene, screen = self.scene, self.screen
        if scene is None:
            return
        if isinstance(screen, Detail) and (page := screen.inner(scene)):
            self._go(page)
        elif isinstance(screen, Overview) and (row := scene.row(screen.selected())):
            if scene.snapshot.by == "process":
                self._go(Detail(row.key))
            else:
                self._narrow_to(scene.snapshot.by, row)

    def action_out(self) -> None:
        """Out again: of a zoomed panel, of the screen, of the filter."""
        if self.screen.maximized is not None:
            self.action_zoom()
        elif len(self.screen_stack) > 1:
            self.pop_screen()
        elif self._expression:
            self._set_filter("")

    def action_zoom(self) -> None:
        """One panel on the whole screen, or back."""
        screen = self.screen
        if screen.maximized is not None:
            screen.minimize()
        elif isinstance(screen, Overview | Detail) and (panel := screen.focused_panel()):
            screen.maximize(panel)
        self.draw()

    def action_fix(self) -> None:
        """What to change, for the selection first."""
        self._go(fix_page(self.selected_row()))

    def action_doctor(self) -> None:
        """What this kernel and user allow."""
        self._go(doctor_page(self))
        if self._doctor and not self._is_examining and not isinstance(self.examined, dict):
            self._is_examining = True
            self.run_worker(partial(self._examine, self._doctor), thread=True)

    @property
    def recorded_on(self) -> Start | None:
        """What a replay's trace was taken on, and how."""
        return self.source.start if isinstance(self.source, Replay) else None

    def action_help(self) -> None:
        """The keys of this screen, and the filter's grammar."""
        self._go(
            help_page(getattr(self.screen, "name_of_keys", "overview"), replay=self.controls is not None)
        )

    def _go(self, screen: Screen[None]) -> None:
        self.push_screen(screen)

    def _examine(self, doctor: Doctor) -> None:
        try:
            self.examined = doctor()
        except TwtraceError as error:
            self.examined = f"{error.cause}; {error.hint}"
        except Exception as error:  # noqa: BLE001  it is told, and all else goes on
            self.examined = f"{type(error).__name__}: {error}"
        self._is_examining = False
        self._tell(Ready())

    def selected_row(self) -> str | None:
        """The key of the row that this is about, if it is a process's."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, Detail):
                return screen.row_key
            if isinstance(screen, Overview) and self._shown and self._shown.snapshot.by == "process":
                return screen.selected() or None
        return None

    # What of it

    def action_sort(self) -> None:
        """By the next column."""
        scene = self.scene
        if scene and isinstance(self.screen, Overview):
            self._sort = self.screen.who.next_sort(scene)
            self.draw()

    def action_reverse(self) -> None:
        """The other way round."""
        self._sort = self._sort.reversed()
        self.draw()

    def action_group(self) -> None:
        """Rows by the next of process, command, cgroup, namespace, peer, port."""
        self._group_by(GROUPINGS[(GROUPINGS.index(self._by) + 1) % len(GROUPINGS)])

    def _group_by(self, by: str) -> None:
        self._by = by
        self.source.group_by(by)
        self._regroups = True  # the moment in view has no such rows: a pause goes on at the next that has

    def _narrow_to(self, by: str, row: Row) -> None:
        """From a group to its processes."""
        behind = viewmodel.filter_for(by, row)
        # A filter that is turned round as a whole has no place for another term.
        text = behind if self._expression.is_inverted else f"{self._expression.text} {behind}".strip()
        try:
            self._set_filter(text)
        except UsageError:
            self.notify("which processes these are is not known", severity="warning")
        else:
            self._group_by(GROUPINGS[0])

    def action_filter(self) -> None:
        """Ask for a filter; up recalls earlier ones."""

        def take(text: str | None) -> None:
            if text is not None:
                self._set_filter(text)

        hint = "proc:nginx dport:5432 tw/s>10 !cgroup:/lb/   empty: all   up: earlier ones   ? has the keys"
        self.push_screen(Prompt("FILTER", hint, parse, self._expression.text, self._typed), take)

    def action_invert(self) -> None:
        """All that the filter hides, instead."""
        if self._expression:
            self._expression = self._expression.inverted()
            self.draw()
        else:
            self.notify("there is no filter to invert; / sets one", timeout=2)

    def _set_filter(self, text: str) -> None:
        self._expression = parse(text)
        if text:
            self._typed = [*(one for one in self._typed if one != text), text][-50:]
        self.draw()

    def action_wide(self) -> None:
        """All columns, or those that fit."""
        self._wide = not self._wide
        self.draw()

    def action_columns(self) -> None:
        """Choose the columns of WHO."""

        def take(chosen: frozenset[str] | None) -> None:
            if chosen is not None:
                self._hidden = frozenset(key for key, _ in viewmodel.choices()) - chosen
                self.draw()

        choices = viewmodel.choices()
        chosen = frozenset(key for key, _ in choices) - self._hidden
        self.push_screen(Choice("COLUMNS of WHO", choices, chosen), take)

    def action_names(self) -> None:
        """Names of addresses, or the addresses; asks the resolver only from now on."""
        self._named = not self._named
        self.notify("names are looked up (DNS)" if self._named else "addresses as they are", timeout=2)
        self.draw()

    def _known_names(self, snapshot: Snapshot) -> Mapping[str, str]:
        if not self._named:
            return {}
        self._names.want(flow.remote for flow in snapshot.flows)
        return self._names.known

    # When

    def action_pause(self) -> None:
        """Freeze the view, or time in a replay; live data never stops."""
        playhead, controls = self.source.playhead, self.controls
        if controls and playhead:
            if playhead.playing:
                controls.pause()
            else:
                controls.play()
            self.draw()
            return
        self._paused = not self._paused
        if not self._paused:
            self._shown = self._newest
        self.draw()

    def action_step(self, way: int) -> None:
        """One snapshot back or on."""
        if self.controls:
            self.controls.step(way)
        elif self._shown and (found := self._kept.beside(self._shown.snapshot.ts_us, way)):
            self._stand_at(found)

    def action_goto(self) -> None:
        """Ask for a moment and go there."""
        if self._shown is None:
            return
        here_us = self._shown.snapshot.ts_us
        began_us = here_us - self._shown.snapshot.elapsed_us

        def moment(text: str) -> int:
            return parse_moment(text, began_us=began_us, here_us=here_us)

        def take(text: str | None) -> None:
            if text is None:
                return
            if self.controls:
                self.controls.seek(moment(text))
            elif found := self._kept.nearest(moment(text)):
                self._stand_at(found)

        hint = "12:04:31   90s from the beginning   -30s from here"
        if self.controls is None:
            hint += f"   kept: from {local_time(self._kept.oldest_us)[:8]} on"
        self.push_screen(Prompt("GO TO", hint, moment), take)

    def _stand_at(self, taken: Taken) -> None:
        self._paused, self._shown, self._regroups = True, taken, False
        self.draw()

    def action_slower(self) -> None:
        """Half the speed of a replay."""
        self._change_speed(0.5)

    def action_faster(self) -> None:
        """Twice the speed of a replay."""
        self._change_speed(2.0)

    def _change_speed(self, times: float) -> None:
        playhead = self.source.playhead
        if self.controls and playhead:
            self.controls.set_speed(min(max(playhead.speed * times, 1 / 64), MAX_SPEED))
            self.draw()

    def action_interval(self, times: float) -> None:
        """More or less often."""
        self.source.interval_s = min(max(self.source.interval_s * times, _SHORTEST_S), _LONGEST_S)
        self.notify(f"every {self.source.interval_s:g} s", timeout=2)

    def action_reset(self) -> None:
        """Count anew; twice, since it cannot be undone."""
        if self._twice("x"):
            self.source.reset()
            self.notify("counted anew from here", timeout=2)
        else:
            self.notify("x again counts anew from here", timeout=_TWICE_S)

    def _twice(self, key: str) -> bool:
        before, at = self._pressed
        now = time.monotonic()
        twice = before == key and now - at < _TWICE_S
        self._pressed = ("", 0.0) if twice else (key, now)
        return twice

    # Out of it

    def action_record(self) -> None:
        """Begin a trace of what comes, or end it."""
        source = self._recorder
        if source is None:
            self.notify("a replay is recorded already", severity="warning")
            return
        if source.recording:
            self.notify(f"recorded to {source.recording.path}", markup=False)
            source.stop_recording()
            self.draw()
            return
        path = time.strftime("twtrace-%Y%m%d-%H%M%S.ndjson")
        try:
            source.start_recording(path)
        except TwtraceError as error:
            self._tell_error(error)
        else:
            self.notify(f"recording to {path}; R ends it", markup=False)
            self.draw()

    def _recording_text(self) -> str:
        recording = self._recorder.recording if self._recorder else None
        return f"{Path(recording.path).name} {_megabytes(recording.size)}" if recording else ""

    def _tell_failed_recording(self) -> None:
        failure = self._recorder.recording_failed if self._recorder else None
        if failure and failure is not self._told_failure:
            self._told_failure = failure
            self._tell_error(failure)

    def action_export(self) -> None:
        """What is in view, as JSON, CSV or SVG."""
        scene = self.scene
        if scene is None:
            return
        picture = self.export_screenshot(title="twtrace").encode()

        def take(path: str | None) -> None:
            if path is None:
                return
            try:
                content = _exported(path, scene, picture)
                _write(path, content)
            except TwtraceError as error:
                self._tell_error(error)
            else:
                self.notify(f"{path}: {len(content):,} bytes", markup=False)

        name = time.strftime("twtrace-%Y%m%d-%H%M%S.json")
        self.push_screen(Prompt("EXPORT to", ".json, .csv or .svg decides what", _suffix, name), take)

    def action_copy(self) -> None:
        """The line under the cursor, to the terminal's clipboard."""
        line = self.screen.copied() if isinstance(self.screen, Overview | Detail) else ""
        if line:
            self.copy_to_clipboard(line)
            self.notify("copied, if the terminal allows it (OSC 52)", timeout=2)
        else:
            self.notify("no line is under a cursor here", timeout=2)

    def action_yank(self) -> None:
        """A command of the verdict to the clipboard; pressed again, the next one."""
        scene = self.scene
        if scene is None:
            return
        commands = fixes.commands(scene.findings, scene.snapshot, self.selected_row())
        if not commands:
            self.notify("nothing here is mended by a command", timeout=2)
            return
        self._yanked = (self._yanked + 1) % len(commands) if self._twice("y") else 0
        self._pressed = ("y", time.monotonic())
        self.copy_to_clipboard(commands[self._yanked])
        self.notify(f"copied: {commands[self._yanked]}", markup=False)

    def _tell_error(self, error: TwtraceError) -> None:
        self.notify(f"{error.cause}; {error.hint}", severity="warning", markup=False, timeout=10)

    async def action_quit(self) -> None:
        """Stop the engine and leave; `run_app` waits for it."""
        self.engine.stop()
        self.exit()

    def action_quit_and_keep(self) -> None:
        """Leave, and leave what is in view on the terminal."""
        self.engine.stop()
        self.exit(self.screen_text())

    def screen_text(self) -> str:
        """The screen as lines of text."""
        width, height = self.size
        strips = self.screen._compositor.render_strips()  # noqa: SLF001  Textual exports pictures only
        return "\n".join(strip.crop(0, width).text.rstrip() for strip in strips[:height]).rstrip() + "\n"

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The keys of this screen, and the themes, for the palette."""
        here = getattr(screen, "name_of_keys", "")
        for key in KEYS:
            means = key.means(replay=self.controls is not None)
            if here in key.screens and means and key.name not in _NOT_IN_PALETTE:
                yield SystemCommand(f"{key.label} ({key.shown})", means, self._doing(key.action))
        yield SystemCommand("Theme", "colours: dark, light, and others", self.action_change_theme)

    def _doing(self, action: str) -> Callable[[], None]:
        async def do() -> None:
            await self.run_action(action)

        def later() -> None:
            self.call_later(do)

        return later


_NOT_IN_PALETTE = ("command_palette", "out", "panel", "app.focus_next")


def _suffix(path: str) -> str:
    suffix = Path(path).suffix
    if suffix not in (".json", ".csv", ".svg"):
        raise UsageError(f"{path or 'nothing'}: no such kind", "end it in .json, .csv or .svg")
    return suffix


def _exported(path: str, scene: Scene, picture: bytes) -> bytes:
    kind = _suffix(path)
    if kind == ".svg":
        return picture
    shown = replace(scene.shown, rows=scene.rows())
    if kind == ".csv":
        return export.as_csv(shown)
    return export.as_json(shown, scene.findings, scene.expression)


def _write(path: str, content: bytes) -> None:
    """Write a new file of the invoking user's, all of it or none. Raises TwtraceError."""
    try:
        descriptor = create(path)
    except UsageError as error:
        raise TwtraceError(error.cause, "press e again and give another name") from error
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        if Path(path).is_file():  # no device
            Path(path).unlink()
        raise TwtraceError(
            f"cannot write {path}: {error.strerror}", "free space, or give another place"
        ) from error


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= _HUNDRED_KB else f"{size / 1e3:.0f} kB"


def run_app(
    engine: Engine,
    *,
    thread: EngineThread | None = None,
    always: Expression = EVERYTHING,
    doctor: Doctor | None = None,
) -> None:
    """Show what `engine` publishes until it ends or the user quits; raises what it failed with.

    The engine has ended and the terminal is as before when this returns or raises.
    """
    app = TwtraceApp(engine, thread=thread, always=always, doctor=doctor)
    # What is kept of 50,000 TIME_WAITs has no cycles, and takes 0.12 s to look through in vain.
    gc.set_threshold(_GARBAGE, *gc.get_threshold()[1:])
    try:
        kept = app.run()
    finally:
        app.engine.finish()
    if app.return_code:
        raise RuntimeError("the screen failed")  # Textual has said how
    if kept:
        sys.stdout.write(kept)
