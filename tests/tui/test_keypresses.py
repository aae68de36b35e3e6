"""Every key of the map, on every screen it belongs to: what the user sees, or the engine is told."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import replace

import pytest
import textual.constants
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.command import CommandList, CommandPalette

from tests.tui import test_prompts  # noqa: F401  its keys count, too
from tests.tui.driver import (
    DATA,
    EVERYWHERE,
    LARGE,
    MIDDLE,
    OVERVIEW,
    SMALL,
    TABLES,
    TESTED,
    User,
    drive,
    later,
    presses,
)
from tests.tui.samples import (
    CURL,
    DEADLINE_S,
    DRILLED,
    JAVA,
    ORDERS,
    SITES,
    FakeEngine,
    FakeRecorder,
    FakeReplay,
    drilled,
    row,
    until,
)
from tracer.errors import TwtraceError, UsageError
from tracer.model import GROUPINGS
from tracer.text import width
from tracer.tui import app as app_module
from tracer.tui.app import TwtraceApp, run_app
from tracer.tui.clock import local_time
from tracer.tui.keys import KEYS, described
from tracer.tui.names import Names
from tracer.tui.widgets.status import Keys
from tracer.tui.widgets.table import KeyedTable

REUSE = "sysctl -w net.ipv4.tcp_tw_reuse=1"
RANGE = 'sysctl -w net.ipv4.ip_local_port_range="1024 65535"'


def test_every_key_has_a_test_on_every_screen_of_its() -> None:
    there_are = {(name, screen) for key in KEYS for name in key.key.split(",") for screen in key.screens}
    there_are |= {("ctrl+p", screen) for screen in EVERYWHERE}
    assert {screen for _, screen in there_are} == set(EVERYWHERE)
    assert there_are - TESTED == set()
    assert TESTED - there_are == {("shift+tab", screen) for screen in TABLES}


# Panels


@presses("1", "2", "3", "4", "5", on=TABLES, size=MIDDLE)
async def test_a_number_gives_that_panel_the_keys(user: User, where: str) -> None:
    for number in (2, 3, 4, 5, 1):
        await user.press(str(number))
        assert user.panels == [number], where
    assert {*re.findall(r"[┏┌]─ (\d) ", user.text)} == {"2", "3", "4", "5"}


@presses("1", "2", "3", "4", "5", on=TABLES, size=SMALL)
async def test_on_a_small_screen_it_brings_the_panel(user: User, where: str) -> None:
    beside = [] if where == "detail" else ["1"]
    for number in (2, 3, 4, 5, 1, 4):
        await user.press(str(number))
        assert user.panels == [number]
        others = re.findall(r"┌─ (\d) ", user.text)
        assert others == (beside if number != 1 else ["5"][: len(beside)]), number


@presses("tab", "shift+tab", on=TABLES, size=MIDDLE)
async def test_tab_goes_by_the_numbers(user: User, where: str) -> None:
    seen = [*user.panels]
    for _ in range(5):
        await user.press("tab")
        seen += user.panels
    assert seen == {"overview": [1, 2, 3, 4, 5, 1], "detail": [3, 4, 5, 1, 2, 3]}[where]
    await user.press("shift+tab")
    assert user.panels == [seen[-2]]


@presses("tab", on=TABLES, size=SMALL)
async def test_tab_brings_panels_that_are_not_seen(user: User, where: str) -> None:
    for number in (2, 3, 4, 5, 1):
        await user.press("tab")
        assert user.panels == [number], where


@presses("z", on=TABLES, size=MIDDLE)
async def test_z_gives_a_panel_the_whole_screen(user: User, where: str) -> None:
    whole = user.text
    for number in (2, 5):
        await user.press(str(number))
        before = user.text
        await user.press("z")
        lines = user.text.rstrip("\n").split("\n")
        assert lines[0].startswith(" twtrace  web-14"), where
        assert lines[1].startswith(f"┏━ {number} ")
        assert lines[1].endswith("┓")
        assert lines[-2] == f"┗{'━' * 118}┛"
        assert not re.findall(r"┌─ \d ", user.text)
        assert "esc Back" in lines[-1]
        await user.press("z")
        assert user.text == before
    await user.press("1" if where == "overview" else "3")
    assert user.text == whole


def test_a_zoomed_panel_shows_more() -> None:
    async def steps(user: User) -> None:
        closes = user.text.count(" ● orders-api[4711] ")
        await user.press("5", "z")
        assert user.text.count(" ● orders-api[4711] ") == len(drilled().recent) > closes
        await user.press("2")
        assert user.panels == [2]
        assert "FIN_WAIT1 → FIN_WAIT2" in user.text
        await user.press("tab")
        assert user.panels == [3]
        await user.press("1")
        assert user.panels == [1]
        await user.press("down", "c")
        assert user.app.clipboard.startswith("◐ curl ×412")
        await user.press("escape")
        assert user.text.count("┌─ ") == 5

    drive(steps)


def test_all_rows_can_be_reached_where_nothing_changes() -> None:
    rows = tuple(row(f"w[{number}]", time_wait_now=1000 - number) for number in range(150))

    def seen(user: User) -> list[int]:
        return [int(number) for number in re.findall(r"● w\[(\d+)\]", user.text)]

    async def steps(user: User) -> None:
        assert seen(user) == [*range(4)]
        await user.press("z")
        assert seen(user) == [*range(17)]
        await user.resize((120, 110))
        assert seen(user) == [*range(103)]
        await user.resize(SMALL)
        for _ in range(10):
            await user.press("pagedown")
        assert seen(user)[-1] == 149
        assert user.overview.selected() == "w[149]"
        for key, selected in (("home", 0), ("end", 149), ("ctrl+home", 0), ("ctrl+end", 149)):
            await user.press(key)
            assert user.overview.selected() == f"w[{selected}]"
        await user.press("home", "z", "s", "end")
        assert user.overview.selected() == "w[149]"
        assert seen(user)[-1] == 149

    drive(steps, FakeReplay(), size=SMALL, shown=drilled(rows=rows))


# In and out


def test_enter_goes_into_process_peer_and_connection() -> None:
    async def steps(user: User) -> None:
        await user.press("down", "enter")
        await user.sees(" Overview ▸ curl ×412\n", "2 PEERS  none so far")
        await user.press("enter")
        assert user.where == "detail"
        assert "⏎ Into" not in user.text
        await user.press("escape", "up", "enter")
        await user.sees(" Overview ▸ orders-api[4711]\n", "3 SOCKETS  newest first  13 of 29,670 closed")
        await user.press("down", "enter")
        await user.sees(
            "┌─ Overview ▸ orders-api[4711] ▸ 127.0.0.1:33522 → 127.0.0.1:6379 ─", "TIME_WAIT from"
        )
        await user.press("escape", "2", "down", "down", "enter")
        await user.sees(
            "┌─ Overview ▸ orders-api[4711] ▸ 127.0.0.1:6379 ─", "redis-server[880], on this host"
        )
        await user.press("escape", "1")
        assert user.panels == [1]
        assert "⏎ Into" not in user.text
        await user.press("enter")
        assert user.where == "detail"

    drive(steps)


@presses("enter", on=TABLES, size=MIDDLE)
async def test_enter_goes_one_screen_deeper(user: User, where: str) -> None:
    assert "⏎ Into" in user.text
    await user.press("enter")
    assert user.where == {"overview": "detail", "detail": "page"}[where]


def test_enter_without_rows_does_nothing() -> None:
    async def steps(user: User) -> None:
        await user.press("/")
        await user.paste("nobody")
        await user.press("enter")
        assert "· 0 of 3" in user.text
        assert "⏎ Into" not in user.text
        await user.press("enter")
        assert user.where == "overview"
        await user.press("f")
        await user.sees("ports_exhausting, confidence high")
        assert "nothing to change" not in user.text

    drive(steps)


@presses("escape", on=EVERYWHERE, size=MIDDLE)
async def test_escape_leaves_zoom_then_screens_then_the_filter(user: User, where: str) -> None:
    if where == "overview":
        await user.press("/")
        await user.paste("orders")
        await user.press("enter", "z")
        assert user.text.count("─ ") == 0
        await user.press("escape")
        await user.sees("┌─ VERDICT", "filter: orders")
        await user.press("escape")
        await user.sees("filter: none")
        assert "esc Back" not in user.text
        before = user.text
        await user.press("escape")
        assert user.text == before
        return
    if where == "detail":
        await user.press("z", "escape")
        assert user.where == "detail"
        assert "┌─ 5 IDENTITY" in user.text
    assert "esc Back" in user.text
    await user.press("escape")
    assert user.where == ("detail" if where == "page" else "overview")


# What of it


@presses("exclamation_mark", on=DATA)
async def test_invert(user: User, where: str) -> None:
    await user.press("exclamation_mark")
    assert user.notes() == ["there is no filter to invert; / sets one"], where
    assert "filter: none" in user.status
    await user.press("/")
    await user.paste("proc:orders tw>9")
    await user.press("enter", "exclamation_mark")
    assert "filter: !( proc:orders tw>9 )" in user.status
    assert user.notes() == []
    await user.press("exclamation_mark")
    assert "filter: proc:orders tw>9 lost" in user.status
    await user.press("exclamation_mark")
    while user.where != "overview":
        await user.press("escape")
    assert "filter: !( proc:orders tw>9 )" in user.status
    assert user.rows == [CURL.key, JAVA.key]


@presses("s", "S", on=OVERVIEW, size=MIDDLE)
async def test_sort(user: User, where: str) -> None:
    for title in ("TW NOW ▼", "HELD ▼", "FIRST ▼", "RST ▼", "LIFE p50 ▼", "TOP PEER ▲"):
        assert f"┏━ 1 WHO by process · sort {title} · 3 of 3 ━" in user.text, where
        assert title[-1] + title[:-2] in user.text.replace("▼  ", "▼").replace("▼ ", "▼")
        await user.press("s")
    assert "· sort PROCESS ▲ ·" in user.text
    assert user.rows == [CURL.key, JAVA.key, DRILLED.key]
    await user.press("S")
    assert "· sort PROCESS ▼ ·" in user.text
    assert user.rows == [DRILLED.key, JAVA.key, CURL.key]


GROUP = row("web.slice", key="by:web", pids=(4711, 4712), cgroup="/web.slice", time_wait_now=9)


@presses("a", on=OVERVIEW)
async def test_group(user: User, where: str) -> None:
    assert "┏━ 1 WHO by process · " in user.text
    for number, by in enumerate((*GROUPINGS[1:], GROUPINGS[0])):
        await user.press("a")
        assert user.orders() == [("group_by", by)], where
        await user.show(later(number, by=by))
        await user.sees(f"┏━ 1 WHO by {by} · ", f"┃ {by.upper()} ")


def test_a_group_opens_into_its_processes() -> None:
    async def steps(user: User) -> None:
        await user.press("/")
        await user.paste("tw>5")
        await user.press("enter", "a", "a")
        await user.show(later(1, by="cgroup", rows=(GROUP,)))
        user.orders()
        await user.press("enter")
        assert user.where == "overview"
        assert user.orders() == [("group_by", "process")]
        assert "filter: tw>5 pid:4711,4712 lost" in user.status
        await user.show(later(2))
        assert user.rows == [DRILLED.key]
        await user.sees("┏━ 1 WHO by process · sort TW NOW ▼ · 1 of 3 ")
        await user.press("exclamation_mark", "a")
        await user.show(later(3, by="comm", rows=(row("curl ×3", pids=(1, 2, 3)),)))
        await user.press("enter")
        assert "filter: pid:1,2,3 lost" in user.status

    drive(steps)


def test_a_group_of_whom_nothing_is_known_stays() -> None:
    async def steps(user: User) -> None:
        await user.press("a")
        await user.show(later(1, by="comm", rows=(row("web ×2"),)))
        user.orders()
        await user.press("enter")
        assert user.notes() == ["which processes these are is not known"]
        assert user.orders() == []
        assert "filter: none" in user.status

    drive(steps)


def test_what_is_to_change_is_not_denied_to_a_group() -> None:
    async def steps(user: User) -> None:
        await user.press("a")
        await user.show(later(1, by="comm", rows=(row("orders-api", pids=(4711,)),)))
        await user.press("f")
        await user.sees("▲ WARN      ● orders-api[4711]")
        assert "nothing to change" not in user.text

    drive(steps)


def test_a_pause_goes_on_with_the_rows_that_are_wanted() -> None:
    async def steps(user: User) -> None:
        await user.press("space", "a")
        assert "⏸ PAUSED at 00:12:44" in user.status
        assert user.rows == [DRILLED.key, CURL.key, JAVA.key]
        await user.show(later(1))
        assert "⏸ PAUSED at 00:12:44 (live +1 s)" in user.status
        await user.show(later(2, by="comm", rows=(GROUP,)))
        assert "⏸ PAUSED at 00:12:46 filter" in user.status
        assert user.rows == [GROUP.key]
        await user.show(later(3, by="comm", rows=(ORDERS,)))
        assert user.rows == [GROUP.key]

    drive(steps)


@presses("w", on=OVERVIEW, size=SMALL)
async def test_wide(user: User, where: str) -> None:
    def columns() -> list[str]:
        return user.text.split("┃ PROCESS", 1)[1].split("┃", 1)[0].split()

    assert columns() == ["ROLE", "CLOSE/s", "TW/s", "▼TW", "NOW", "TW,", "2", "min", "HELD", "FIRST"]
    before = user.text
    await user.press("w", "end", *["right"] * 20)
    assert columns() == ["CONTAINER", "COMMAND", "LINE"], where
    lines = user.text.split("\n")
    assert [line.split()[1:4] for line in lines if "[4711]" in line][1] == ["●", "orders-api[4711]", "–"]
    assert sum("gunicorn orders.wsgi -w 8" in line for line in lines) == 1
    for label in ("● java[2290]", "? unknown", "Σ all"):
        (line,) = [line for line in lines if label in line]
        assert line.index("–") == lines[6].index("CONTAINER")
    await user.press("left", "left")
    assert columns()[:2] == ["UID", "UNIT"]
    await user.press("w")
    await until(lambda: user.text == before)


@presses("n", on=DATA)
async def test_names(user: User, where: str) -> None:
    user.app._names = Names(lambda: None, {"10.2.0.9": "db.example", "10.9.1.1": "[b]"}.get)
    await user.press("n")
    assert user.notes() == ["names are looked up (DNS)"]
    await until(lambda: user.app._names.known == {"10.2.0.9": "db.example"})
    await user.press("n")
    assert user.notes() == ["addresses as they are"], where


def test_names_stand_where_addresses_stood() -> None:
    asked: list[str] = []

    def resolve(address: str) -> str | None:
        asked.append(address)
        return "db.[b]\x1b" if address == "10.2.0.9" else None

    async def steps(user: User) -> None:
        user.app._names = Names(user.app._names._told, resolve)
        await user.press("space")
        assert asked == []
        await user.press("n")  # and no newer snapshot comes
        await user.sees(r"db.[b]\x1b:5432")
        assert user.overview.who.processes.cursor_key == DRILLED.key
        await until(lambda: sorted(asked) == ["10.2.0.10", "10.2.0.9", "127.0.0.1"])
        await user.press("n")
        await user.sees(" 10.2.0.9:5432 ")
        assert "db.[b]" not in user.text

    drive(steps)


# When


@presses("space", on=DATA)
async def test_pause(user: User, where: str) -> None:
    await user.press("space")
    assert "⏸ PAUSED at 00:12:44 filter" in user.status
    frozen = user.text.split("\n", 1)[1]
    for seconds in range(1, 4):
        await user.show(later(seconds, rows=(JAVA, CURL), flows=(), recent=(), pools=()))
    assert "⏸ PAUSED at 00:12:44 (live +3 s)" in user.status
    assert user.text.split("\n", 1)[1] == frozen, where
    assert user.orders() == []
    await user.press("space")
    assert "● LIVE 00:12:47" in user.status
    assert user.text.split("\n", 1)[1] != frozen
    await user.show(drilled())


@presses("space", on=DATA, engine=FakeReplay)
async def test_pause_of_a_replay_is_one_of_time(user: User, where: str) -> None:
    replay = user.engine
    assert isinstance(replay, FakeReplay)
    assert "▶ REPLAY 00:12:44/00:15:00" in user.status
    await user.press("space")
    assert user.orders() == [("pause",)], where
    replay.head = replace(replay.head, playing=False)
    await user.press("space")
    assert "⏸ REPLAY 00:12:44/00:15:00" in user.status
    assert user.orders() == [("play",)]
    replay.head = replace(replay.head, playing=True)
    shown = later(1)
    await user.show(shown)
    assert user.shown is shown


@presses("left_square_bracket", "right_square_bracket", on=DATA)
async def test_steps(user: User, where: str) -> None:
    await user.show(later(100), later(101), later(102))
    await user.press("left_square_bracket")
    assert "⏸ PAUSED at 00:14:25 (live +1 s)" in user.status, where
    await user.press("left_square_bracket")
    assert "⏸ PAUSED at 00:14:24 (live +2 s)" in user.status
    await user.show(later(103))
    assert "⏸ PAUSED at 00:14:24 (live +3 s)" in user.status
    await user.press("right_square_bracket", "right_square_bracket", "right_square_bracket")
    assert "⏸ PAUSED at 00:14:27 filter" in user.status
    await user.press("right_square_bracket")
    assert "⏸ PAUSED at 00:14:27 filter" in user.status
    await user.press("space")
    assert "● LIVE 00:14:27" in user.status
    assert user.orders() == []
    user.app._kept = app_module.Kept()
    user.app._shown = user.app._newest = None
    await user.show(drilled())


@presses("left_square_bracket", "right_square_bracket", on=DATA, engine=FakeReplay)
async def test_steps_of_a_replay(user: User, where: str) -> None:
    await user.press("left_square_bracket", "right_square_bracket")
    assert user.orders() == [("step", -1), ("step", 1)], where
    assert "▶ REPLAY" in user.status


def test_the_oldest_that_is_kept_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "_MAX_KEPT", 3)

    async def steps(user: User) -> None:
        await user.show(*map(later, range(1, 6)))
        await user.press(*"[[[[[[")
        assert "⏸ PAUSED at 00:12:47 (live +2 s)" in user.status
        monkeypatch.setattr(app_module, "_MAX_KEPT_ROWS", 5)  # there are three in each
        await user.show(later(6))
        await user.press("]")
        assert "⏸ PAUSED at 00:12:50 filter" in user.status
        await user.press("[")
        assert "⏸ PAUSED at 00:12:50 filter" in user.status

    drive(steps)


@presses("less_than_sign", "greater_than_sign", on=DATA, engine=FakeReplay)
async def test_speed_of_a_replay(user: User, where: str) -> None:
    replay = user.engine
    assert isinstance(replay, FakeReplay)
    for speed, slower, faster in ((1.0, 0.5, 2.0), (800.0, 400.0, 1000.0), (1 / 50, 1 / 64, 1 / 25)):
        replay.head = replace(replay.head, speed=speed)
        await user.press("less_than_sign", "greater_than_sign")
        assert user.orders() == [("set_speed", slower), ("set_speed", faster)], where
    assert "▶ REPLAY 00:12:44/00:15:00 ×0.02" in user.status
    replay.head = replace(replay.head, speed=1.0)


@presses("less_than_sign", "greater_than_sign", on=OVERVIEW)
async def test_live_has_one_speed(user: User, where: str) -> None:
    before = user.text
    await user.press("less_than_sign", "greater_than_sign")
    assert (user.orders(), user.notes(), user.text) == ([], [], before), where


@presses("plus", "equals_sign", "minus", on=DATA)
async def test_interval(user: User, where: str) -> None:
    user.engine.interval_s = 0.5
    for key, seconds in (("plus", 0.25), ("equals_sign", 0.125), ("plus", 0.125), ("minus", 0.25)):
        await user.press(key)
        assert user.engine.interval_s == seconds, where
        assert user.notes() == [f"every {seconds} s"]
    user.engine.interval_s = 10.0
    await user.press("minus")
    assert user.engine.interval_s == 16.0
    assert user.notes() == ["every 16 s"]


# What comes out of it


@presses("f", on=TABLES)
async def test_fix_is_for_the_selection_first(user: User, where: str) -> None:
    await user.press("f")
    assert user.where == "fix"
    await user.sees("┌─ FIX  what to change, the worst first; twtrace changes nothing ─")
    heads = re.findall(r"(?:WARN|NOTICE) +[●◐] (\S+)", user.text)
    assert heads[0] == "orders-api[4711]", where
    await user.press("escape")
    if where == "overview":
        await user.press("down", "f")
        await user.sees("│ ✔ nothing to change for curl ×412", "ELSEWHERE ON THIS HOST")
        await user.press("escape", "up")


@presses("y", on=DATA)
async def test_copy_commands(user: User, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "_TWICE_S", 60.0)  # however slow the machine is
    for command in (REUSE, RANGE, REUSE):
        await user.press("y")
        assert user.app.clipboard == command, where
        assert user.notes() == [f"copied: {command}"]
    await user.press("y")
    assert user.app.clipboard == RANGE
    monkeypatch.setattr(app_module, "_TWICE_S", 0.0)  # some time later
    await user.press("y")
    assert user.app.clipboard == REUSE
    user.notes()
    user.app._pressed = ("", 0.0)


def test_without_a_command_none_is_copied() -> None:
    async def steps(user: User) -> None:
        await user.press("y")
        assert user.notes() == ["nothing here is mended by a command"]
        assert user.app.clipboard == ""

    drive(steps, shown=drilled(pools=(), flows=(), held=()))


@presses("c", on=TABLES, size=MIDDLE)
async def test_copy_row(user: User, where: str) -> None:
    overview = "● orders-api[4711] cli 415.0 412.0 24,720 ▁▂▃▃▄▅▆▇██ 0 99% <1% 9.1 ms 10.2.0.9:5432"
    closed = local_time(1_699_999_999_500_000)
    detail = f"● {closed} 127.0.0.1:33524 127.0.0.1:6379 ▲ overflow 4.0 ms – close()"
    await user.press("c")
    assert " ".join(user.app.clipboard.split()) == {"overview": overview, "detail": detail}[where]
    assert user.app.clipboard in user.text
    assert user.notes() == ["copied, if the terminal allows it (OSC 52)"]
    if where == "detail":
        await user.press("2", "down", "c")
        assert user.app.clipboard.startswith("10.2.0.10:5432 ")
        await user.press("1", "c")
        assert user.notes()[1:] == ["no line is under a cursor here"]
        assert user.app.clipboard.startswith("10.2.0.10:5432 ")


@presses("R", on=DATA)
async def test_record(user: User, where: str) -> None:
    await user.press("R")
    ((order, path),) = user.orders()
    assert order == "start_recording"
    assert re.fullmatch(r"twtrace-\d{8}-\d{6}\.ndjson", str(path)), where
    assert user.notes() == [f"recording to {path}; R ends it"]
    assert f"REC {path} 41.0 MB" in user.status
    await user.press("R")
    assert user.orders() == [("stop_recording",)]
    assert user.notes() == [f"recorded to {path}"]
    assert "REC" not in user.status


@presses("R", on=OVERVIEW, engine=FakeReplay)
async def test_a_replay_is_not_recorded(user: User, where: str) -> None:
    before = user.text
    await user.press("R")
    assert (user.orders(), user.notes(), user.text) == ([], [], before), where


def test_a_refused_recording_is_told() -> None:
    async def steps(user: User) -> None:
        await user.press("R")
        assert user.notes() == ["cannot create [x]: no; give a place"]
        assert "REC" not in user.status
        await user.press("s")
        assert "sort HELD" in user.text

    drive(steps, FakeRecorder(refusal=UsageError("cannot create [x]: no", "give a place")))


def test_a_recording_that_failed_is_told_once() -> None:
    engine = FakeRecorder()

    async def steps(user: User) -> None:
        engine.recording_failed = TwtraceError("cannot write x: No space left on device", "free space")
        await user.press("space")
        await user.show(later(1), later(2))
        assert user.notes() == ["cannot write x: No space left on device; free space"]
        engine.recording_failed = TwtraceError("again", "the same")
        await user.show(later(3), later(4))
        assert user.notes() == ["again; the same"]

    drive(steps, engine)


@presses("x", on=DATA)
async def test_reset_takes_two(user: User, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "_TWICE_S", 60.0)
    await user.press("x")
    assert user.orders() == []
    assert user.notes() == ["x again counts anew from here"]
    await user.press("x")
    assert user.orders() == [("reset",)], where
    assert user.notes() == ["counted anew from here"]
    await user.press("x")
    assert user.orders() == []
    monkeypatch.setattr(app_module, "_TWICE_S", 0.0)
    await user.press("x")
    assert user.orders() == []
    user.notes()
    user.app._pressed = ("", 0.0)


def test_another_key_between_them_is_no_second_press() -> None:
    async def steps(user: User) -> None:
        await user.press("x", "y", "x")
        assert user.orders() == []

    drive(steps)


ANSWER: dict[str, object] = {
    "kernel": "6.8.0-test",
    "hooks": "fentry",
    "why": "it works",
    "checks": [
        {"name": "BTF", "status": "works", "detail": "there", "needed": True, "hint": None},
    ],
    "sysctl": {"tcp_tw_reuse": 2},
}


class Doctor:
    """Answers when it is let, and counts how often it was asked, in which threads."""

    def __init__(self, *answers: dict[str, object] | Exception) -> None:
        self.answers = [*answers]
        self.may = threading.Event()
        self.threads: list[int] = []

    def __call__(self) -> dict[str, object]:
        self.threads.append(threading.get_ident())
        assert self.may.wait(DEADLINE_S)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@presses("D", on=DATA)
async def test_doctor_without_one_tells_what_the_trace_says(user: User, where: str) -> None:
    await user.press("D")
    assert user.where == "doctor", where
    await user.sees(
        "┌─ DOCTOR  what this kernel and user allow ─", "This host has not answered yet", "web-14"
    )


def test_doctor_is_asked_once_and_not_here() -> None:
    doctor = Doctor(ANSWER)

    async def steps(user: User) -> None:
        await user.press("D", "escape", "s", "D")
        await user.sees("This host has not answered yet")
        await until(lambda: len(doctor.threads) == 1)
        doctor.may.set()
        await user.sees(
            "✔ twtrace works here: TIME_WAIT facts come from the fentry hooks", "Linux 6.8.0-test"
        )
        await user.press("escape", "D")
        await user.sees("✔ twtrace works here")
        assert len(doctor.threads) == 1
        assert doctor.threads[0] != threading.get_ident()

    drive(steps, doctor=doctor)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("a [b]ug"), "▲ the doctor failed: ValueError: a [b]ug; esc D: ask again"),
        (UsageError("no root", "be root"), "▲ the doctor failed: no root; be root; esc D: ask again"),
    ],
)
def test_a_doctor_that_fails_is_no_end(error: Exception, told: str) -> None:
    doctor = Doctor(error, ANSWER)
    doctor.may.set()

    async def steps(user: User) -> None:
        await user.press("D")
        await user.sees(told, "Linux 6.8 ")
        await user.show(later(1))
        assert "● LIVE 00:12:45" in user.status
        await user.press("escape", "D")
        await user.sees("✔ twtrace works here")

    drive(steps, doctor=doctor)


def offered(user: User) -> set[str]:
    """What the palette has."""
    return {str(option.prompt).split("\n")[0] for option in user.app.screen.query_one(CommandList).options}


async def open_palette(user: User, key: str = "colon") -> None:
    """With all it has."""
    await user.press(key)
    assert isinstance(user.app.screen, CommandPalette)
    await until(lambda: "Theme" in offered(user))


async def take(user: User, command: str) -> None:
    """Have the palette do it."""
    await user.paste(command)
    await until(lambda: offered(user) == {command})
    await user.press("enter")
    await until(lambda: not isinstance(user.app.screen, CommandPalette))
    await user.settle()


@presses("colon", "ctrl+p", on=EVERYWHERE)
async def test_palette_has_the_keys_of_the_screen(user: User, where: str) -> None:
    left_out = {"Back", "Next panel", "Palette", "Slower", "Faster", *(f"Panel {n}" for n in range(1, 6))}
    wanted = {
        f"{key.label} ({key.shown})" for key in KEYS if where in key.screens and key.label not in left_out
    }
    for key in ("colon", "ctrl+p"):
        await open_palette(user, key)
        assert offered(user) == wanted | {"Theme"}
        await user.press("escape")
        await until(lambda: user.where == where)


def test_palette_does_it() -> None:
    async def steps(user: User) -> None:
        await open_palette(user)
        await take(user, "Sort (s)")
        await user.sees("sort HELD ▼")
        await open_palette(user)
        await take(user, "Filter (/)")
        await until(lambda: user.is_asked)
        await user.press("escape", "enter")
        await open_palette(user, "ctrl+p")
        assert "Sort (s)" not in offered(user)
        await take(user, "Fix (f)")
        assert user.where == "fix"
        await open_palette(user)
        await take(user, "Pause (space)")
        assert "⏸ PAUSED" in user.status

    drive(steps)


def test_palette_of_a_replay_has_the_keys_of_a_replay() -> None:
    async def steps(user: User) -> None:
        await open_palette(user)
        assert {"Slower (<)", "Faster (>)"} < offered(user)
        assert "Record (R)" not in offered(user)
        await take(user, "Faster (>)")
        assert user.orders() == [("set_speed", 2.0)]

    drive(steps, FakeReplay())


def test_palette_changes_the_theme() -> None:
    async def steps(user: User) -> None:
        await open_palette(user)
        await user.paste("Theme")
        await until(lambda: offered(user) == {"Theme"})
        await user.press("enter")
        await until(lambda: "textual-light" in user.text or "solarized-light" in user.text)
        await take(user, "textual-light")
        assert user.app.theme == "textual-light"

    drive(steps)


@presses("question_mark", on=[screen for screen in EVERYWHERE if screen != "help"], size=(120, 60))
async def test_help_is_of_the_screen(user: User, where: str) -> None:
    await user.press("question_mark")
    assert user.where == "help"
    await user.sees(f"┌─ HELP  keys of the {where} screen ─", f"KEYS of the {where} screen ")
    for shown, means in described(where, replay=False):
        assert re.search(rf"{re.escape(shown)} +{re.escape(means)}", user.text), shown
    assert ("sort by the next column" in user.text) == (where == "overview")
    assert ("dport:80,8000-8999" in user.text) == (where in DATA)
    assert "half the speed" not in user.text


def test_help_of_a_replay() -> None:
    async def steps(user: User) -> None:
        await user.press("question_mark")
        await user.sees("KEYS of the overview screen in a replay", "half the speed, twice")
        assert "begin a trace" not in user.text

    drive(steps, FakeReplay(), size=(120, 60))


@presses("q", "ctrl+c", "Q", on=EVERYWHERE)
async def test_leave(user: User, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[object] = []
    monkeypatch.setattr(TwtraceApp, "exit", lambda _, result=None: left.append(result))
    for key, text in (("q", None), ("ctrl+c", None), ("Q", user.text)):
        await user.press(key)
        assert left[0] == text, where
        assert user.engine.stopped.is_set()
        left.clear()
        user.engine.stopped.clear()


def test_what_is_kept_is_not_lost_when_the_engine_ends_at_once() -> None:
    kept: list[str] = []

    async def steps(user: User) -> None:
        kept.append(user.text)
        user.app.action_quit_and_keep()
        user.app._leave()

    assert drive(steps).app.return_value == kept[0]


@pytest.fixture
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `run_app` do without a terminal."""
    monkeypatch.setattr(textual.constants, "DRIVER", "textual.drivers.headless_driver:HeadlessDriver")


@pytest.mark.usefixtures("headless")
@pytest.mark.parametrize("key", ["q", "Q"])
def test_what_is_left_on_the_terminal(
    key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    draw = TwtraceApp.draw
    drawn: list[str] = []

    def look_and_press(app: TwtraceApp) -> None:
        drawn.append(app.screen_text())
        app.simulate_key(key)

    def draw_and_press(app: TwtraceApp) -> None:
        draw(app)
        if not drawn and app.scene:
            app.call_after_refresh(look_and_press, app)

    monkeypatch.setattr(TwtraceApp, "draw", draw_and_press)
    engine = FakeEngine(drilled())
    run_app(engine)
    assert engine.returned.is_set()
    written = capsys.readouterr().out
    if key == "q":
        assert written == ""
    else:
        assert written == drawn[0]
        assert "● orders-api[4711]" in written
        assert max(map(len, written.split("\n"))) <= 100


# The mouse


def test_mouse() -> None:
    async def steps(user: User) -> None:
        table = user.overview.who.processes
        await user.pilot.click(table, offset=(5, 2))
        assert table.cursor_key == CURL.key
        assert user.where == "overview"
        await user.pilot.click("#ports", offset=(4, 2))
        assert user.panels == [3]
        await user.pilot.click("#lifetimes", offset=(0, 0))
        assert user.panels == [4]
        await user.pilot.click(table, offset=(5, 0))
        assert user.panels == [1]
        await user.pilot.click("#closes", offset=(4, 2))
        await user.pilot.click("#who", offset=(10, 0))
        assert user.panels == [1]
        assert table.cursor_key == CURL.key
        await user.pilot.double_click(table, offset=(5, 0))
        assert user.where == "overview"
        await user.pilot.double_click(table, offset=(5, 1))
        await user.sees(" Overview ▸ orders-api[4711]\n")
        await user.pilot.click("#peers", offset=(10, 0))
        assert user.panels == [2]
        await user.pilot.click("#identity", offset=(3, 2))
        assert user.panels == [5]
        await user.pilot.double_click(user.app.screen.query_one("#peers KeyedTable"), offset=(4, 2))
        await user.sees("┌─ Overview ▸ orders-api[4711] ▸ 10.2.0.10:5432 ─")
        await user.pilot.click(Keys, offset=(2, 0))
        await until(lambda: user.where == "detail")

    drive(steps)


# Whatever happens


SIZES = (SMALL, MIDDLE, LARGE)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_resizing_loses_nothing(where: str) -> None:
    seen: dict[tuple[int, int], str] = {}

    async def steps(user: User) -> None:
        await user.press("down", "up")
        await user.go(where)
        seen[SMALL] = user.text
        order = (MIDDLE, SMALL, LARGE, (20, 5), SMALL, MIDDLE)
        for number, size in enumerate(order):
            await user.resize(size)
            text = user.text
            assert seen.setdefault(size, text) == text, size
            lines = text.rstrip("\n").split("\n")
            assert len(lines) <= size[1]
            assert max(map(width, lines)) <= size[0]
            assert user.where == where
            if size in SIZES:
                assert "web-14" in lines[0]
                assert "Help" in lines[-1] or where == "help", number

    drive(steps, size=SMALL)


@pytest.mark.parametrize("where", TABLES)
def test_the_panel_with_the_keys_stays_in_sight(where: str) -> None:
    async def steps(user: User) -> None:
        await user.go(where)
        for number, sizes in ((2, (SMALL, MIDDLE)), (4, (SMALL,)), (5, (LARGE, SMALL))):
            await user.press(str(number))
            for size in sizes:
                await user.resize(size)
                assert user.panels == [number], size
            await user.press("z")
            for size in sizes:
                await user.resize(size)
                assert user.panels == [number], size
            await user.press("z")

    drive(steps)


def test_a_process_that_vanishes_says_so() -> None:
    async def steps(user: User) -> None:
        await user.press("enter")
        away = later(1, rows=(CURL, JAVA), flows=(), recent=())
        for size in (MIDDLE, SMALL):
            await user.resize(size)
            await user.show(away)
            await user.sees(" Overview ▸ orders-api[4711]  ▲ no row now\n")
            await user.press("1")
            await user.sees("▲ this process has no row at this moment: ")
            assert "back" in user.text.split("no row at this moment")[1]
            for number in "23":
                await user.press(number, "enter")
            assert user.where == "detail"
            await user.show(later(2))
            assert "no row" not in user.text
        await user.press("2", "enter")
        await user.show(later(3, flows=()))
        await user.sees("┌─ Overview ▸ orders-api[4711] ▸ 10.2.0.9:5432 ─", "▲ nothing is known of this peer")
        await user.press("escape", "3", "enter")
        await user.show(later(4, recent=()))
        await user.sees("socket    127.0.0.1:33524 → 127.0.0.1:6379")
        await user.press("escape", "escape")
        assert user.rows == [DRILLED.key, CURL.key, JAVA.key]

    drive(steps)


def luminance(color: Color) -> float:
    parts = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color.normalized
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def segments(user: User) -> list[Segment]:
    """What is drawn, by its styles."""
    return [segment for strip in user.app.screen._compositor.render_strips() for segment in strip]


def styled(user: User, text: str) -> Style:
    """The style of a piece of text that is on the screen."""
    style = next(one.style for one in segments(user) if text in one.text)
    assert style
    return style


@pytest.mark.parametrize("where", ["overview", "detail"])
def test_another_theme_is_one_for_tables_too(where: str) -> None:
    text = {"overview": "▲43", "detail": "▲ overflow"}[where]

    async def steps(user: User) -> None:
        await user.go(where)
        await user.press("down")
        dark = styled(user, text).color
        before = user.text
        table = user.app.focused
        assert isinstance(table, KeyedTable)
        assert table.cursor_row == 1
        user.app.theme = "textual-light"
        await until(lambda: styled(user, text).color != dark)
        await user.settle()
        assert user.text == before
        assert table.cursor_row == 1
        if where == "detail":
            await user.press("escape")
        await until(lambda: styled(user, "▲43").color == styled(user, "▲ WARN").color)
        await user.show(later(1))
        assert styled(user, "▲43").color == styled(user, "▲ WARN").color

    drive(steps, shown=drilled(rows=(CURL, DRILLED, JAVA)))


def contrast(style: Style) -> float:
    """As WCAG has it: 21 is black on white."""
    assert style.color
    assert style.bgcolor
    one, other = sorted(
        (luminance(Color.from_rich_color(color)) for color in (style.color, style.bgcolor)), reverse=True
    )
    return (one + 0.05) / (other + 0.05)


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
def test_all_is_readable(theme: str) -> None:
    async def steps(user: User) -> None:
        user.app.theme = theme
        await user.settle()
        await user.press("space")
        for where in EVERYWHERE:
            await user.go(where)
            for segment in segments(user):
                if segment.style and any(char.isalnum() for char in segment.text):
                    assert contrast(segment.style) >= 4.3, (where, segment)
            await user.home()

    drive(steps, shown=drilled(lost=5))


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
def test_call_sites_of_a_process(size: tuple[int, int]) -> None:
    async def steps(user: User) -> None:
        await user.go("detail")
        await user.sees(
            "call sites of 128 TIME_WAITs looked at, of 29,400", "71%  finish_request", "Pool::reap"
        )
        if size != MIDDLE:
            await user.sees("5%  not resolved")
        await user.show(drilled())
        assert "call sites" not in user.text

    drive(steps, shown=drilled(sites=(SITES,)), size=size)


def test_no_color_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def steps(user: User) -> None:
        for where in EVERYWHERE:
            await user.go(where)
            seen.append(user.text)
            if user.app.no_color:
                for segment in segments(user):
                    for color in (segment.style.color, segment.style.bgcolor) if segment.style else ():
                        assert color is None or len({*color.get_truecolor()}) == 1, segment
            await user.home()

    drive(steps, size=SMALL)
    monkeypatch.setenv("NO_COLOR", "1")
    drive(steps, size=SMALL)
    assert seen[:6] == seen[6:]


def test_what_is_told_is_on_the_screen_and_no_markup() -> None:
    engine = FakeRecorder(refusal=UsageError("cannot create [/nope][b]x", "give [a] place"))
    app = TwtraceApp(engine)

    async def run() -> None:
        async with app.run_test(size=MIDDLE, notifications=True) as pilot:
            user = User(app, pilot, engine)
            await user.show(drilled())
            await user.press("R")
            await user.sees("cannot create [/nope][b]x; give [a] place")
            await user.press("plus")
            await user.sees("every 0.25 s")
        engine.stop()

    asyncio.run(run())
