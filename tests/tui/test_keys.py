"""The key map: sound in itself, and what is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from textual.keys import Keys, _character_to_key

from tests.tui.samples import COLUMNS, HOSTILE, fitted
from tracer.expression import KEYS as FILTER_KEYS
from tracer.expression import parse
from tracer.tui import keys
from tracer.tui.keys import KEYS

SCREENS = ("overview", "detail", "fix", "doctor", "help", "page")
MANY = 10_000

WANTED = [*"12345[]@/!RsSeafzcywC+-n:?qQD<>", "tab", "⏎", "esc", "space", "x x"]
"""Those of the design, and Doctor's and a replay's."""


def help_of(screen: str, columns: int = 76, *, replay: bool = False) -> list[str]:
    return fitted(keys.help_lines(screen, replay, FILTER_KEYS, columns), columns, MANY)


def section(lines: list[str], title: str) -> list[str]:
    """The lines below a title."""
    below = lines[lines.index(title) + 1 :]
    return below[: below.index("")] if "" in below else below


def test_all_keys_are_there() -> None:
    assert sorted(key.shown for key in KEYS) == sorted(WANTED)


def test_keys_are_named_as_textual_names_them() -> None:
    known = {key.value for key in Keys} | {_character_to_key(chr(code)) for code in range(33, 127)}
    for key in KEYS:
        assert {*key.key.split(",")} <= known | {"space"}, key


@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_key_has_one_meaning_on_a_screen(screen: str, replay: bool) -> None:
    here = [
        name
        for key in KEYS
        if screen in key.screens and key.means(replay=replay)
        for name in key.key.split(",")
    ]
    assert sorted(here) == sorted(set(here))


def test_screens_are_known() -> None:
    assert {screen for key in KEYS for screen in key.screens} == set(SCREENS)
    everywhere = {key.shown for key in KEYS if key.screens == set(SCREENS)}
    assert everywhere == {"esc", ":", "q", "Q"}


def test_each_action_is_a_method_of_the_app() -> None:
    from tracer.tui.app import TwtraceApp  # noqa: PLC0415  heavy

    for key in KEYS:
        assert callable(getattr(TwtraceApp, f"action_{key.name.removeprefix('app.')}", None)), key


def test_live_and_replay() -> None:
    live, replayed = (
        {key.shown: key.means(replay=replay) for key in KEYS if key.means(replay=replay)}
        for replay in (False, True)
    )
    assert live.keys() - replayed.keys() == {"R"}
    assert replayed.keys() - live.keys() == {"<", ">"}
    assert {shown for shown in live.keys() & replayed.keys() if live[shown] != replayed[shown]} == {"space"}


def test_help_has_each_key_of_the_screen_once() -> None:
    for screen in SCREENS:
        for replay in (False, True):
            title = f"KEYS of the {screen} screen{' in a replay' if replay else ''}"
            told = [line.split("   ")[0] for line in section(help_of(screen, replay=replay), title)]
            assert told == [shown for shown, _ in keys.described(screen, replay=replay)]
            wanted = {key.shown for key in KEYS if screen in key.screens and key.means(replay=replay)}
            assert {*" ".join(told).replace("1–5", "1 2 3 4 5").split(" ")} == {
                part for shown in wanted for part in shown.split()
            }


def test_help() -> None:
    assert help_of("doctor") == [
        "KEYS of the doctor screen",
        "esc   out of a zoom, a screen, a filter",
        ":     all of this by name; ctrl+p too",
        "?     this",
        "q     leave",
        "Q     leave, and leave the view on the terminal",
        "",
        "SIGNS",
        "●         owner certain: seen in its own connect, read, write or close",
        "◐         owner inferred: found among its open files",
        "?         owner unknown: nobody was seen using it",
        "Σ         the sum of all, known and unknown",
        "▲         asks for attention",
        "–         nothing, or not known",
        "✔ · ▲ ✘   fine, notice, warn, critical",
    ]
    assert section(help_of("page", replay=True), "KEYS of the page screen in a replay")[:6] == [
        "esc     out of a zoom, a screen, a filter",
        "/       filter; up recalls earlier ones",
        "!       what the filter hides, instead",
        "n       names of peers, by DNS; at first addresses",
        "space   stop, or go on",
        "[ ]     one view back, on",
    ]


def test_help_stands_side_by_side_where_there_is_room() -> None:
    assert section(help_of("doctor", 102), "KEYS of the doctor screen") == [
        "esc   out of a zoom, a screen, a filter             q     leave",
        ":     all of this by name; ctrl+p too               Q     leave, and leave the view on the terminal",
        "?     this",
    ]
    assert len(section(help_of("overview", 196), "KEYS of the overview screen")) == 10


def test_help_has_the_filter_where_there_is_one() -> None:
    for screen in SCREENS:
        lines = help_of(screen)
        assert ("FILTER KEYS" in lines) == (screen in {"overview", "detail", "fix", "page"})
    told = [line.split("   ")[0] for line in section(help_of("overview"), "FILTER KEYS")]
    assert told == [name for name, _ in FILTER_KEYS]


def test_examples_of_filters_are_filters() -> None:
    title = "FILTER: terms with blanks between, of which all must hold"
    for line in section(help_of("overview"), title):
        assert parse(line.split("   ")[0]).terms


@given(columns=COLUMNS, name=HOSTILE, meaning=HOSTILE)
def test_hostile_text(columns: int, name: str, meaning: str) -> None:
    for screen in SCREENS:
        fitted(keys.help_lines(screen, True, [(name, meaning), ("a", "b")], columns), columns, MANY)
    fitted(keys.help_lines("overview", False, [], columns), columns, MANY)
