"""The helps: what every one of them has."""

from __future__ import annotations

import re

import pytest

from tracer.cli import COMMANDS, main
from tracer.commands.parsers import parser_of

MAX_COLUMNS = 100


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(MAX_COLUMNS))
    monkeypatch.setenv("NO_COLOR", "1")


def helped(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_names_each_option_and_ends_in_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = helped(command, capsys)
    assert [line for line in text.splitlines() if len(line) >= MAX_COLUMNS] == []
    usage, options = text.split("\n\n", 1)
    assert usage.startswith(f"usage: twtrace {command} ")
    body, examples = options.split("\nexamples:\n")
    described = set(re.findall(r"^  (-.*?)(?:  |$)", body, re.MULTILINE))
    found = {word for names in described for word in re.findall(r"(?:^|(?<=, ))--?[\w-]+", names)}
    actions = parser_of(command).actions()
    assert found == {name for action in actions for name in action.option_strings}
    for argument in (action for action in actions if not action.option_strings):
        assert re.search(rf"^  {argument.metavar}  ", body, re.MULTILINE), argument.metavar
    lines = examples.splitlines()
    assert len(lines) >= 2
    assert all(re.match(r"  \S", line) and "twtrace" in line for line in lines)


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if len(line) >= MAX_COLUMNS] == []
    assert set(re.findall(r"^ +twtrace (\w+)", text, re.MULTILINE)) | {"live"} == set(COMMANDS)
