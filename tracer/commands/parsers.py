"""The options of each command, without running it."""

from __future__ import annotations

from importlib import import_module

from tracer.commands.options import Parser


def parser_of(command: str) -> Parser:
    """The parser of one of the command line's commands."""
    parser: Parser = import_module(f"tracer.commands.{command}").parser()
    return parser
