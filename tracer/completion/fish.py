"""Completions for fish."""

from __future__ import annotations

from collections.abc import Sequence

from tracer.completion.model import Command, Kind, Word

_HEAD = r"""# Completions of twtrace for fish, made by `twtrace completions fish`.

function __twtrace_is -d 'Is it this command?'
    set -l words (commandline -opc)
    set -l command live
    if contains -- "$words[2]" $__twtrace_commands
        set command $words[2]
    end
    test $command = $argv[1]; or return
    not __twtrace_runs_another
end

function __twtrace_runs_another -d 'Is it the command line of another command, after --?'
    set -l words (commandline -opc)
    contains -- "$words[2]" $__twtrace_runners; and contains -- -- $words
end

function __twtrace_another -d 'What another command completes'
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words)
    set -l own (string escape -- $words[(math $at + 1)..-1])
    complete -C (string join ' ' -- $own (commandline -ct))
end

function __twtrace_first -d 'Is it the first word?'
    test (count (commandline -opc)) -eq 1
end

"""


def script(commands: Sequence[Command]) -> str:
    """The script for a directory of $fish_complete_path, or to be sourced."""
    lines = [
        f"set -g __twtrace_commands {' '.join(command.name for command in commands)}",
        f"set -g __twtrace_runners {' '.join(command.name for command in commands if command.runs_another)}",
        "",
        "complete -c twtrace -f",
        "complete -c twtrace -n __twtrace_runs_another -a '(__twtrace_another)'",
    ]
    lines += [
        f"complete -c twtrace -n __twtrace_first -a {command.name} -d {_quoted(command.about)}"
        for command in commands
    ]
    for command in commands:
        condition = f"complete -c twtrace -n '__twtrace_is {command.name}'"
        for option in command.options:
            names = " ".join(map(_name, option.names))
            lines.append(f"{condition} {names}{_propose(option)} -d {_quoted(option.about)}")
        lines += [f"{condition}{_propose(argument)}" for argument in command.arguments]
    return _HEAD + "\n".join(lines) + "\n"


def _name(option: str) -> str:
    return f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"


def _propose(word: Word) -> str:
    required = " -r" if word.names else ""
    if word.kind is Kind.NONE:
        return ""
    if word.kind is Kind.WORDS:
        return f"{required} -f -a {_quoted(' '.join(word.choices))}"
    if word.kind is Kind.FILES:
        return f"{required} -F"
    if word.kind is Kind.NETNS:
        return f"{required} -F -a '(command ls /run/netns 2>/dev/null)'"
    return f"{required} -f"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
