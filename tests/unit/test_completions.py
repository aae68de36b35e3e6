"""Completions: each shell itself says what it proposes."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tracer.cli import COMMANDS, main
from tracer.commands.parsers import parser_of

DEADLINE_S = 30


def script(shell: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The script, with network namespaces that are files of ours."""
    assert main(["completions", shell]) == 0
    text = capsys.readouterr().out
    assert "/run/netns" in text
    path = directory / f"twtrace.{shell}"
    path.write_text(text.replace("/run/netns", str(directory / "netns")))
    return path


def words(line: str) -> list[str]:
    """As bash has them: = is a word of its own."""
    return [part for word in line.split(" ") for part in re.split("(=)", word) if part] + (
        [""] if line.endswith(" ") else []
    )


def ask_bash(path: Path, line: str, before: str = "") -> set[str]:
    program = f"""
        compopt() {{ :; }}
        {before}
        source {path}
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        _twtrace
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-euc", program, "bash", *words(line)],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
        cwd=path.parent,
    )
    assert done.stderr == ""
    return set(done.stdout.split("\n")) - {""}


def ask_fish(path: Path, line: str) -> set[str]:
    environment = {**os.environ, "HOME": str(path.parent), "XDG_CONFIG_HOME": str(path.parent)}
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {path}; complete -C $argv[1]", line],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
        cwd=path.parent,
        env=environment,
    )
    assert done.stderr == ""
    found = {proposal.partition("\t")[0] for proposal in done.stdout.splitlines()}
    return {proposal.rpartition("=")[2].removeprefix("./") for proposal in found}


ASK = {"bash": ask_bash, "fish": ask_fish}


@pytest.fixture(params=["bash", "fish"])
def ask(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], set[str]]:
    """What a shell proposes at the end of a line, where there are two traces and two network namespaces."""
    shell: str = request.param
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    path = script(shell, tmp_path, capsys)
    fill(tmp_path)
    return lambda line: ASK[shell](path, line)


def fill(directory: Path) -> None:
    (directory / "netns").mkdir()
    for name in ("netns/blue", "netns/bronze", "run.ndjson", "rerun one.ndjson"):
        (directory / name).touch()


def test_commands(ask: Callable[[str], set[str]]) -> None:
    assert ask("twtrace ") == set(COMMANDS)
    assert ask("twtrace re") == {"record", "report", "replay"}
    assert ask("twtrace rex") == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_options(command: str, ask: Callable[[str], set[str]]) -> None:
    options = {name for action in parser_of(command).actions() for name in action.option_strings}
    assert ask(f"twtrace {command} -") - {"--"} == options
    assert ask(f"twtrace {command} --") - {"--"} == {name for name in options if name.startswith("--")}


def test_options_without_a_command_are_those_of_live(ask: Callable[[str], set[str]]) -> None:
    assert ask("twtrace --hoo") == {"--hooks"}
    assert ask("twtrace --hooks ") == {"auto", "fentry", "kprobe", "timer"}
    assert ask("twtrace --sta") == set()


def test_values(ask: Callable[[str], set[str]]) -> None:
    assert ask("twtrace record --color ") == {"auto", "always", "never"}
    assert ask("twtrace record --color=a") == {"auto", "always"}
    assert ask("twtrace record --color=") == {"auto", "always", "never"}
    assert ask("twtrace replay --color nev") == {"never"}
    assert ask("twtrace completions ") == {"bash", "fish", "zsh"}
    assert ask("twtrace record -d ") == set()


def test_files(ask: Callable[[str], set[str]]) -> None:
    assert ask("twtrace report r") == {"run.ndjson", "rerun one.ndjson"}
    assert ask("twtrace replay --speed 10 ru") == {"run.ndjson"}
    assert ask("twtrace record -o ru") == {"run.ndjson"}
    assert ask("twtrace record ru") == set()
    assert ask("twtrace doctor ru") == set()


def test_network_namespaces(ask: Callable[[str], set[str]]) -> None:
    assert ask("twtrace -N b") == {"blue", "bronze"}
    assert ask("twtrace record --netns=bl") == {"blue"}


def test_another_command(ask: Callable[[str], set[str]]) -> None:
    assert "mkfifo" in ask("twtrace record --states -- mkfif")
    assert ask("twtrace record -- cat ru") == {"run.ndjson"}
    assert ask("twtrace record -- cat --col") & {"--color"} == set()
    assert "mkfifo" not in ask("twtrace report -- mkfif")


def test_a_file_name_is_no_program_for_bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script("bash", tmp_path, capsys)
    fill(tmp_path)
    (tmp_path / "netns/b$(touch taken)").touch()
    (tmp_path / "r`touch taken`").touch()
    assert ask_bash(path, "twtrace -N b") == {"blue", "bronze", "b$(touch taken)"}
    assert "r`touch taken`" in ask_bash(path, "twtrace report r")
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize("name", ["_comp_command_offset", "_command_offset"])
def test_bash_completion_does_the_other_command_if_it_is_there(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script("bash", tmp_path, capsys)
    before = f'{name}() {{ COMPREPLY=("from $1"); }}'
    assert ask_bash(path, "twtrace record --states -- git che", before) == {"from 4"}


class Zsh:
    """An interactive zsh, whose line is told after a Tab."""

    def __init__(self, path: Path) -> None:
        self._terminal, its_own = pty.openpty()
        self._process = subprocess.Popen(
            ["zsh", "-f", "-i"],
            stdin=its_own,
            stdout=its_own,
            stderr=its_own,
            cwd=path.parent,
            env={**os.environ, "TERM": "dumb", "HOME": str(path.parent), "PS1": "", "RPS1": ""},
            start_new_session=True,
        )
        os.close(its_own)
        self._write(
            "unsetopt promptsp promptcr; autoload -U compinit; compinit -u -D\n"
            f"source {path}\n"
            # The mark is not in what is typed here, which the terminal echoes.
            'tell() { print -r "<${:-mark}>$BUFFER<${:-mark}>"; BUFFER= }; zle -N tell; bindkey "^X" tell\n'
            'bindkey "^I" complete-word; setopt nolistbeep nobeep noautolist noautomenu\n'
            "print ${:-rea}dy\n"
        )
        self._read("ready")

    def _write(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _read(self, pattern: str) -> re.Match[str]:
        text = ""
        until = time.monotonic() + DEADLINE_S
        while not (found := re.search(pattern, text, re.DOTALL)):
            ready, _, _ = select.select([self._terminal], [], [], until - time.monotonic())
            assert ready, text
            text += os.read(self._terminal, 4096).decode()
        return found

    def complete(self, line: str) -> str:
        """The line after a Tab."""
        self._write(f"{line}\t\x18")
        return self._read("<mark>(.*?)<mark>")[1]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


def test_zsh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which("zsh"):
        pytest.skip("no zsh here")
    path = script("zsh", tmp_path, capsys)
    fill(tmp_path)
    shell = Zsh(path)
    try:
        for typed, completed in (
            ("twtrace rec", "twtrace record "),
            ("twtrace re", "twtrace re"),
            ("twtrace --hoo", "twtrace --hooks="),
            ("twtrace --hooks=fen", "twtrace --hooks=fentry "),
            ("twtrace --hooks kp", "twtrace --hooks kprobe "),
            ("twtrace --sta", "twtrace --sta"),
            ("twtrace record --sta", "twtrace record --states "),
            ("twtrace record -o ru", "twtrace record -o run.ndjson "),
            ("twtrace record ru", "twtrace record ru"),
            ("twtrace replay --speed 10 ru", "twtrace replay --speed 10 run.ndjson "),
            ("twtrace report rer", "twtrace report rerun\\ one.ndjson "),
            ("twtrace completions f", "twtrace completions fish "),
            ("twtrace -N bl", "twtrace -N blue "),
            ("twtrace demo --netns=br", "twtrace demo --netns=bronze "),
            ("twtrace record -p 1 -p 2 --pi", "twtrace record -p 1 -p 2 --pid="),
            ("twtrace record --strict --stric", "twtrace record --strict --stric"),
            ("twtrace record --states -- mkfif", "twtrace record --states -- mkfifo "),
            ("twtrace record -- cat ru", "twtrace record -- cat run.ndjson "),
        ):
            assert shell.complete(typed) == completed
    finally:
        shell.close()
