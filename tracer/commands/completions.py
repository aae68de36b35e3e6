"""`twtrace completions`: for bash, zsh and fish."""

from __future__ import annotations

import re
import sys

from tracer.cli import COMMANDS
from tracer.commands.options import Parser, command_parser
from tracer.commands.parsers import parser_of
from tracer.completion import bash, fish, zsh
from tracer.completion.model import Command, command
from tracer.errors import ExitCode

_EXAMPLES = """\
examples:
  source <(twtrace completions bash)         for this shell, or for every one:
  twtrace completions bash > ~/.local/share/bash-completion/completions/twtrace
  twtrace completions zsh > ~/.zfunc/_twtrace      a directory of $fpath
  twtrace completions fish > ~/.config/fish/completions/twtrace.fish
"""

_SCRIPTS = {"bash": bash.script, "fish": fish.script, "zsh": zsh.script}


def parser() -> Parser:
    """Its options."""
    parser = command_parser("completions", "Completions of the command line for a shell.", _EXAMPLES)
    parser.add_argument("shell", metavar="SHELL", choices=sorted(_SCRIPTS), help="bash, fish or zsh")
    return parser


def run(arguments: list[str]) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    sys.stdout.write(_SCRIPTS[options.shell]([_described(name) for name in COMMANDS]))
    return ExitCode.OK


def _described(name: str) -> Command:
    of = parser_of(name)
    about, *_ = re.split(r"[:;.] |\.$", of.description or name)
    return command(name, about, of.actions(), runs_another=name == "record")
