"""`twtrace report`: what a trace says."""

from __future__ import annotations

import sys

from tracer.commands.options import command_parser
from tracer.errors import ExitCode
from tracer.output import Output
from tracer.reader import open_trace
from tracer.report.data import as_json
from tracer.report.many import read_all
from tracer.report.reading import Part, Wanted
from tracer.report.text import render
from tracer.whatif import parse_change

_EXAMPLES = """\
examples:
  twtrace report run.ndjson
  twtrace report run.ndjson --what-if keepalive --what-if port_range=1024-65535
  twtrace report run.ndjson --json | jq '.findings[] | select(.severity != "fine")'
"""


def run(arguments: list[str]) -> int:
    """Run the command."""
    parser = command_parser(
        "report",
        "Who, why, is it a problem, what to change; from a trace. Needs no privileges.",
        _EXAMPLES,
    )
    parser.add_argument("file", metavar="FILE", help="a trace; - is stdin")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.add_argument(
        "--what-if",
        action="append",
        default=[],
        metavar="CHANGE",
        help="run its connections again under tw_reuse=0|1|2, port_range=LOW-HIGH, keepalive,"
        " peer-closes-first or max_tw_buckets=N; repeatable",
    )
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    options = parser.parse_args(arguments)
    changes = tuple(map(parse_change, options.what_if))
    with open_trace(options.file) as lines:
        found = read_all([Part(lines, options.file)], Wanted(changes=changes))
    output = Output(options.color)
    if options.json:
        sys.stdout.write(as_json(found).decode())
    else:
        output.write(render(found.reports[0], color=output.color))
    return ExitCode.OK
