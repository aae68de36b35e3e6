"""`twtrace schema`: JSON Schema of the trace lines."""

from __future__ import annotations

import sys

import orjson

from tracer.commands.options import Parser, command_parser
from tracer.errors import ExitCode
from tracer.schema import json_schema

_EXAMPLES = """\
examples:
  twtrace schema > twtrace.schema.json
  twtrace schema | jq '."$defs".CloseLine.properties'
"""


def parser() -> Parser:
    """Its options."""
    return command_parser(
        "schema", "JSON Schema (2020-12) of every line of a trace. Needs no privileges.", _EXAMPLES
    )


def run(arguments: list[str]) -> int:
    """Run the command."""
    parser().parse_args(arguments)
    sys.stdout.write(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode() + "\n")
    return ExitCode.OK
