"""Completions for zsh, by its own `_arguments`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from tracer.completion.model import Command, Kind, Word

_HEAD = r"""#compdef twtrace
# Completions of twtrace for zsh, made by `twtrace completions zsh`.

_twtrace_netns() {
  local -a names=(/run/netns/*(N:t))
  _alternative 'names:network namespace:compadd -a names' 'files:path:_files'
}

_twtrace() {
  local command=live
  local -i at
"""

_TAIL = r"""}

if [[ $funcstack[1] == _twtrace ]]; then
  _twtrace "$@"
else
  compdef _twtrace twtrace
fi
"""


def script(commands: Sequence[Command]) -> str:
    """The script, for a directory of $fpath or to be sourced."""
    names = "|".join(command.name for command in commands)
    lines = [
        "  local -a proposed=(",  # `commands` is zsh's own
        *(f"    {shlex.quote(f'{command.name}:{command.about}')}" for command in commands),
        "  )",
        "  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then",
        "    _describe -t commands command proposed",
        "    return",
        "  fi",
        f"  if [[ $words[2] == ({names}) ]]; then",
        "    command=$words[2]",
        "    shift words",
        "    (( CURRENT-- ))",
        "  fi",
        "  case $command in",
    ]
    for command in commands:
        lines.append(f"  {command.name})")
        if command.runs_another:
            lines += [
                "    at=$words[(i)--]",
                "    if (( at < CURRENT )); then",
                "      shift $at words",
                "      (( CURRENT -= at ))",
                "      _normal",
                "      return",
                "    fi",
            ]
        specs = [spec for option in command.options for spec in _option(option)]
        specs += [_argument(argument) for argument in command.arguments]
        lines += [
            "    _arguments -s \\",
            " \\\n".join(f"      {shlex.quote(spec)}" for spec in specs),
            "    ;;",
        ]
    lines.append("  esac")
    return _HEAD + "\n".join(lines) + "\n" + _TAIL


def _option(option: Word) -> list[str]:
    others = "*" if option.repeatable else f"({' '.join(option.names)})"
    value = "" if option.kind is Kind.NONE else f":{_escaped(option.metavar)}:{_propose(option)}"
    about = _escaped(option.about)
    return [f"{others}{name}{_joint(name, option)}[{about}]{value}" for name in option.names]


def _joint(name: str, option: Word) -> str:
    """A value may follow in the same word: `--option=value`, `-ovalue`."""
    if option.kind is Kind.NONE:
        return ""
    return "=" if name.startswith("--") else "+"


def _argument(argument: Word) -> str:
    place = "*" if argument.repeatable else ""
    return f"{place}:{_escaped(argument.metavar)}:{_propose(argument)}"


def _propose(word: Word) -> str:
    if word.kind is Kind.WORDS:
        return f"({' '.join(word.choices)})"
    if word.kind is Kind.FILES:
        return "_files"
    if word.kind is Kind.NETNS:
        return "_twtrace_netns"
    return " "


def _escaped(text: str) -> str:
    return re.sub(r"([\\\[\]:])", r"\\\1", text)
