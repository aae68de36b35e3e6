"""`twtrace replay`: the screen on a trace."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from tracer.commands.options import Parser, add_filters, command_parser, filters_of, inode_in_trace
from tracer.duration import seconds
from tracer.errors import ExitCode, say
from tracer.narrow import with_rows
from tracer.output import Output
from tracer.replay import MAX_SPEED, ReplayRun
from tracer.table import render

_TUI_INTERVAL_S = 0.5
_STOPPING = (signal.SIGTERM, signal.SIGHUP)
"""The screen reads Ctrl-C as a key."""


_EXAMPLES = """\
examples:
  twtrace replay run.ndjson
  twtrace replay run.ndjson --speed 10       ten minutes in one
  twtrace replay run.ndjson -D 5432 --filter 'proc:orders'
  zcat run.ndjson.gz | twtrace replay -      one that was compressed
"""


def parser() -> Parser:
    """Its options."""
    parser = command_parser(
        "replay",
        "The screen on a recorded trace; when piped, the table as of its end. Needs no privileges.",
        _EXAMPLES,
    )
    parser.add_argument("file", metavar="FILE", help="a trace; - is stdin")
    parser.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="N",
        help=f"so many times as fast as it happened (1), up to {MAX_SPEED:g}",
    )
    parser.add_argument(
        "-i",
        "--interval",
        type=seconds,
        default=_TUI_INTERVAL_S,
        metavar="TIME",
        help="between two views (500ms)",
    )
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="NO_COLOR is honoured"
    )
    add_filters(parser)
    return parser


def run(arguments: list[str]) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    filters = filters_of(options, inode_in_trace)
    replayed = ReplayRun(options.file, options.speed, interval_s=options.interval, filters=filters)
    always = filters.expression.for_rows()
    if sys.stdout.isatty() and (_take_keyboard() if options.file == "-" else sys.stdin.isatty()):
        from tracer.tui.app import run_app  # noqa: PLC0415 - takes a third of a second to import

        for number in _STOPPING:
            signal.signal(number, lambda *_: replayed.stop())
        run_app(replayed, always=always)
    else:
        output = Output(options.color)
        output.write(render(with_rows(replayed.at_end(), always), color=output.color))
    if replayed.warning:
        say(replayed.warning)
    return ExitCode.OK


def _take_keyboard() -> bool:
    """Put the terminal in the place of standard input, which was the trace; False if there is none."""
    try:
        keyboard = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        return False
    os.dup2(keyboard, 0)
    os.close(keyboard)
    return True


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= MAX_SPEED:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0, {MAX_SPEED:g} at most")
    return speed
