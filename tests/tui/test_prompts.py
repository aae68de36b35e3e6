"""What is asked for in a line or a list: filter, moment, file, columns."""

from __future__ import annotations

import csv
import json
import os
import re
import stat
import time
from pathlib import Path

import pytest
from textual.widgets import SelectionList

from tests.tui.driver import DATA, LARGE, MIDDLE, OVERVIEW, SMALL, User, drive, later, presses
from tests.tui.samples import CURL, DRILLED, JAVA, FakeReplay, drilled, until
from tracer.tracefile import create
from tracer.tui import app as app_module
from tracer.tui import viewmodel
from tracer.tui.app import Kept

BEGAN_US = drilled().ts_us - drilled().elapsed_us


def prompt_lines(user: User) -> list[str]:
    """What stands in the prompt, and what is said below it."""
    inside = user.text[user.text.rindex("┏━") :].split("\n")[1:]
    return [line.strip("┃ ") for line in inside if line.startswith("┃")]


async def ask(user: User, key: str, text: str) -> None:
    """Open a prompt, write `text` in the place of what is there, and give it."""
    await user.press(key)
    assert user.is_asked
    await user.press("ctrl+u", "ctrl+k")
    await user.paste(text)
    await user.press("enter")


# The filter


@presses("slash", on=DATA)
async def test_filter(user: User, where: str) -> None:
    await user.press("slash")
    assert user.is_asked
    await user.sees("┏━ FILTER ━", "proc:nginx dport:5432 tw/s>10")
    await user.paste("proc:curl")
    assert "filter: none" in user.status, where
    await user.press("enter")
    assert user.where == where
    assert "filter: proc:curl lost" in user.status
    while user.where != "overview":
        await user.press("escape")
        assert "filter: proc:curl lost" in user.status
    assert user.rows == [CURL.key]
    await user.sees("┏━ 1 WHO by process · sort TW NOW ▼ · 1 of 3 ")
    await user.press("z")
    assert "filter: proc:curl lost" in user.status
    await user.press("z", "escape")
    assert "filter: none" in user.status
    assert user.rows == [DRILLED.key, CURL.key, JAVA.key]


def test_filter_is_for_all_panels() -> None:
    async def steps(user: User) -> None:
        await user.sees("10.9.1.1:443", "40110")
        await ask(user, "/", "dport:5432")
        assert user.rows == [DRILLED.key]
        assert "40110" not in user.text
        await ask(user, "/", "")
        await user.sees("filter: none", "40110")

    one = drilled().recent[0]
    ends = one.close.ends._replace(conn=9, sport=40_110, dport=443)
    other = one._replace(close=one.close._replace(ends=ends))
    drive(steps, shown=drilled(recent=(*drilled().recent, other)), size=LARGE)


def test_what_is_no_filter_is_refused_and_stays() -> None:
    async def steps(user: User) -> None:
        before = user.rows
        await ask(user, "/", "whose:x")
        assert prompt_lines(user)[0] == "whose:x"
        assert prompt_lines(user)[1].startswith("proc:nginx dport:5432")
        assert "▲ filter whose:x: no key 'whose'; " in " ".join(prompt_lines(user))
        assert (user.is_asked, user.line, user.rows) == (True, "whose:x", before)
        await user.press("backspace", "enter")
        assert "▲ filter whose:: no key 'whose'" in " ".join(prompt_lines(user))
        await user.press(*["backspace"] * 6, *"[b]", "enter")
        assert not user.is_asked
        assert "filter: [b] lost" in user.status
        assert user.rows == []

    drive(steps)


def test_esc_leaves_the_filter_as_it_was() -> None:
    async def steps(user: User) -> None:
        await ask(user, "/", "orders")
        await user.press("/")
        assert user.line == "orders"
        await user.press(*"qsS!azwCnR", "escape")
        assert not user.is_asked
        assert "filter: orders lost" in user.status
        assert user.rows == [DRILLED.key]
        assert user.orders() == []
        await user.sees("┏━ 1 WHO by process · sort TW NOW ▼ · 1 of 3 ")

    drive(steps)


def test_earlier_filters_come_back() -> None:
    async def steps(user: User) -> None:
        for text in ("orders", "curl", "java", "orders"):
            await ask(user, "/", text)
        await user.press("/")
        seen = [user.line]
        for key in ("up", "up", "up", "down", "down", "down"):
            await user.press(key)
            seen.append(user.line)
        assert seen == ["orders", "java", "curl", "curl", "java", "orders", "orders"]
        await user.press("up", "enter")
        assert "filter: java lost" in user.status
        assert user.rows == [JAVA.key]
        await user.press("escape", "/")
        assert user.line == ""
        await user.press("up")
        assert user.line == "java"
        await user.press("escape", "!")
        assert "filter: none" in user.status
        await ask(user, "/", "curl")
        await user.press("!", "/")
        assert user.line == "!( curl )"
        await user.press("enter")
        assert "filter: !( curl ) lost" in user.status
        assert user.rows == [DRILLED.key, JAVA.key]

    drive(steps)


def test_keys_are_characters_in_a_prompt() -> None:
    async def steps(user: User) -> None:
        await user.press("/")
        for char in "qQ?fD:@[]<>+-=!xxR":
            await user.press(char)
        await user.press("space", "ctrl+p")
        assert user.line == "qQ?fD:@[]<>+-=!xxR "
        assert (user.is_asked, user.orders(), user.engine.stopped.is_set()) == (True, [], False)

    drive(steps)


# Whatever happens meanwhile


@pytest.mark.parametrize("key", ["/", "@", "e", "C"])
def test_nothing_disturbs_a_prompt(key: str) -> None:
    async def steps(user: User) -> None:
        await user.press(key)
        if key != "C":
            await user.paste("ab")
            await user.press("left")
        else:
            await user.press("down", "space", "down")
        inside = prompt_lines(user)
        for seconds, size in enumerate((LARGE, SMALL, MIDDLE), 1):
            await user.show(later(seconds, rows=(JAVA,)), later(seconds + 0.5))
            await user.resize(size)
            assert user.is_asked
            assert f"● LIVE 00:12:{44 + seconds}" in user.status
        assert prompt_lines(user) == inside
        if key == "C":
            await user.press("enter")
            assert "CLOSE/s" not in user.text
        else:
            await user.press("c")
            assert user.line.endswith("acb")
            await user.press("escape")
        assert not user.is_asked
        await user.sees("┏━ 1 WHO by process · sort TW NOW ▼ · 3 of 3 ")

    drive(steps)


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
def test_a_prompt_says_what_its_keys_are(size: tuple[int, int]) -> None:
    async def steps(user: User) -> None:
        await user.press("C")
        await user.sees("┏━ COLUMNS of WHO ━", "space: in or out   ⏎: done   esc: never mind", "HELD")
        await user.press("escape", "/")
        await user.sees("up: earlier ones")
        await user.press("escape", "@")
        await user.sees("-30s from here", "kept: from ")
        await user.press("escape", "e")
        await user.sees(".json, .csv or .svg decides what")

    drive(steps, size=size)


# Columns


@presses("C", on=OVERVIEW, size=MIDDLE)
async def test_columns(user: User, where: str) -> None:
    await user.press("C")
    chosen = user.app.screen.query_one(SelectionList)
    assert {*chosen.selected} == {key for key, _ in viewmodel.choices()}, where
    await user.press("space", "down", "down", "space", "end", "space", "enter")
    assert not user.is_asked
    (heading,) = (line for line in user.text.split("\n") if line.startswith("┃ PROCESS"))
    assert heading.strip("┃").split("  ")[0].strip() == "PROCESS"
    assert "ROLE" not in heading
    assert " TW/s" not in heading
    await user.press("w")
    assert "CONTAINER" in str([one.label for one in user.overview.who.processes.ordered_columns])
    assert "COMMAND LINE" not in str([one.label for one in user.overview.who.processes.ordered_columns])
    await user.press("w", "C", "space", "escape")
    assert "ROLE" not in user.text
    await user.press("C")
    assert {*user.app.screen.query_one(SelectionList).selected} == {key for key, _ in viewmodel.choices()} - {
        "role",
        "time_wait_rate",
        "cmdline",
    }
    await user.press("escape")


# Moments


@presses("at", on=DATA)
async def test_go_to_a_moment_that_is_kept(user: User, where: str) -> None:
    await user.show(later(10), later(20), later(30))
    await user.press("at")
    kept = time.strftime("kept: from %H:%M:%S on", time.localtime(drilled().ts_us // 1_000_000))
    await user.sees("┏━ GO TO ━", kept)
    await user.paste("-12s")
    await user.press("enter")
    assert "⏸ PAUSED at 00:13:04 (live +10 s)" in user.status, where
    await user.press("at", "escape")
    assert "⏸ PAUSED at 00:13:04 (live +10 s)" in user.status
    await user.press("space")
    user.app._kept = Kept()
    await user.show(drilled())


def test_moments() -> None:
    clock = time.strftime("%H:%M:%S", time.localtime(later(11).ts_us // 1_000_000))

    async def steps(user: User) -> None:
        await user.show(later(10), later(20), later(30))
        for text, at in (
            ("+6s", "00:13:14"),
            ("770", "00:12:54"),
            ("1h", "00:13:14"),
            (clock, "00:12:54"),
            ("0", "00:12:44"),
        ):
            await ask(user, "at", text)
            assert f"⏸ PAUSED at {at}" in user.status
        await ask(user, "at", "12m54s")
        assert "▲ 12m54s: no time; a time of day (12:04:31), " in " ".join(prompt_lines(user))
        assert user.line == "12m54s"

    drive(steps, size=SMALL)


@presses("at", on=DATA, engine=FakeReplay)
async def test_go_to_a_moment_of_a_replay(user: User, where: str) -> None:
    await ask(user, "at", "90s")
    assert user.orders() == [("seek", BEGAN_US + 90_000_000)], where
    await ask(user, "at", "-1.5m")
    assert user.orders() == [("seek", drilled().ts_us - 90_000_000)]
    await user.press("at")
    assert "kept" not in user.text
    await user.press("escape")
    assert user.orders() == []


# Files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@presses("e", on=DATA)
async def test_export_goes_into_this_directory(user: User, where: str, folder: Path) -> None:
    await user.press("e")
    name = user.line
    assert re.fullmatch(r"twtrace-\d{8}-\d{6}\.json", name), where
    await user.press("enter")
    assert user.where == where
    found = json.loads((folder / name).read_bytes())
    assert found["host"] == "web-14"
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert user.notes() == [f"{name}: {(folder / name).stat().st_size:,} bytes"]
    (folder / name).unlink()


def test_export_is_of_what_is_in_view(folder: Path) -> None:
    async def steps(user: User) -> None:
        await ask(user, "/", "dport:5432")
        await user.press("space")
        await user.show(later(9))
        for name in ("a.json", "a.csv", "a.svg"):
            await ask(user, "e", name)
        assert [note.split(":")[0] for note in user.notes()] == ["a.json", "a.csv", "a.svg"]

    drive(steps)
    found = json.loads((folder / "a.json").read_text())
    assert found["ts_us"] == drilled().ts_us
    assert (found["by"], found["filter"]) == ("process", "dport:5432")
    assert [row["label"] for row in found["rows"]] == ["orders-api[4711]", "unknown", "all"]
    assert {flow["port"] for flow in found["flows"]} == {5432}
    with (folder / "a.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["orders-api[4711]", "unknown", "all"]
    picture = (folder / "a.svg").read_text().replace("&#160;", " ")
    assert picture.startswith("<svg ")
    assert "orders-api[4711]" in picture
    assert "EXPORT" not in picture


def test_a_picture_by_the_palette_has_no_palette_in_it(folder: Path) -> None:
    async def steps(user: User) -> None:
        await user.press(":")
        await user.paste("Export (e)")
        await until(lambda: "what is in view as JSON" in user.text)
        await user.press("enter")
        await until(lambda: user.is_asked)
        await user.settle()
        await user.press(*["backspace"] * 4, *"svg", "enter")
        assert len(user.notes()) == 1

    drive(steps)
    (file,) = folder.iterdir()
    picture = file.read_text().replace("&#160;", " ")
    assert "VERDICT" in picture
    assert "orders-api[4711]" in picture
    assert "Export (e)" not in picture


def test_export_refuses_other_kinds(folder: Path) -> None:
    async def steps(user: User) -> None:
        await user.press("e")
        for name in ("", "x", "x.txt", "json", ".json", "x.JSON"):
            await user.press("ctrl+u")
            await user.paste(name)
            await user.press("enter")
            refusal = f"▲ {name or 'nothing'}: no such kind; end it in .json, .csv or .svg"
            assert prompt_lines(user)[2] == refusal
            assert user.line == name
        await user.press("escape")
        assert user.notes() == []

    drive(steps)
    assert [*folder.iterdir()] == []


def test_export_overwrites_nothing(folder: Path) -> None:
    (folder / "a.json").write_text("mine")
    (folder / "b.csv").symlink_to("a.json")
    (folder / "c.svg").symlink_to("nowhere")

    async def steps(user: User) -> None:
        for name in ("a.json", "b.csv", "c.svg"):
            await ask(user, "e", name)
            assert user.notes() == [f"{name} is already there; press e again and give another name"]
        await ask(user, "e", "/proc/nonexistent/[x].json")
        (note,) = user.notes()
        assert note.startswith("cannot create /proc/nonexistent/[x].json: No such file or directory; press e")
        await ask(user, "e", "a\0b.json")
        assert "embedded null byte" in user.notes()[0]
        await ask(user, "e", "new.json")
        assert "new.json: " in user.notes()[0]

    drive(steps)
    assert (folder / "a.json").read_text() == "mine"
    assert {one.name for one in folder.iterdir()} == {"a.json", "b.csv", "c.svg", "new.json"}


def test_a_full_disk_is_told_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str) -> int:
        os.close(create(path))
        return os.open("/dev/full", os.O_WRONLY)

    async def steps(user: User) -> None:
        monkeypatch.setattr(app_module, "create", full)
        for name in ("a.json", "a.csv", "a.svg"):
            await ask(user, "e", name)
            assert user.notes() == [
                f"cannot write {name}: No space left on device; free space, or give another place"
            ]
        assert os.listdir() == []
        monkeypatch.setattr(app_module, "create", create)
        await ask(user, "e", "a.json")
        assert "a.json: " in user.notes()[0]

    drive(steps)
    assert [one.name for one in folder.iterdir()] == ["a.json"]
