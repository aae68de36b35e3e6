"""`twtrace`: the screen, or a table every interval."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

from tracer.commands.options import Parser, add_common, command_parser
from tracer.commands.running import STOPPING, finish, notify, plan, run_until_signal
from tracer.errors import ExitCode, say
from tracer.expression import Expression
from tracer.kernel.loader import require_privilege
from tracer.live import LiveRun
from tracer.narrow import with_rows
from tracer.output import Output
from tracer.tui.engine import EngineThread

_EXAMPLES = """\
examples:
  sudo twtrace                       live view; a plain table when piped
  sudo twtrace -D 5432 -d 30s        half a minute of connections to PostgreSQL
  sudo twtrace -N blue -C nginx      nginx in the network namespace blue
"""


_TUI_INTERVAL_S = 0.5


_TABLE_INTERVAL_S = 2.0

_HEAD_START_S = 0.25
"""For what comes before the programs are loaded: more than it takes, unless they are to be compiled."""


def run(arguments: list[str]) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    require_privilege()
    return show(options, ("twtrace", *arguments))


def parser() -> Parser:
    """Its options."""
    parser = command_parser("live", "Who holds these TIME_WAITs, live.", _EXAMPLES)
    add_common(parser)
    return parser


def show(
    options: argparse.Namespace, argv: tuple[str, ...], on_attached: Callable[[], None] | None = None
) -> int:
    """Trace, on the screen or as a table."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    interval = options.interval or (_TUI_INTERVAL_S if interactive else _TABLE_INTERVAL_S)
    planned = replace(plan(options, argv, interval), with_recent=interactive)
    always = planned.filters.expression.for_rows()
    if interactive:
        run = LiveRun(planned, on_attached=on_attached)
        for number in STOPPING[1:]:  # the screen reads Ctrl-C as a key
            signal.signal(number, lambda *_: run.stop())
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # for a trace alone
            signal.signal(number, signal.SIG_IGN)
        _on_screen(run, always)
        if run.fallback and not options.quiet:
            say(run.fallback)
    else:
        from tracer.table import render  # noqa: PLC0415 - not for the screen

        output = Output(options.color)
        run = LiveRun(planned, on_attached=on_attached, is_over=output.reader_is_gone, notify=notify(options))
        run_until_signal(
            run, lambda snapshot: output.write(render(with_rows(snapshot, always), color=output.color))
        )
        if output.reader_is_gone():
            return ExitCode.OK
    return finish(run, options)


def _on_screen(run: LiveRun, always: Expression) -> None:
    """Run, and import the screen while the kernel verifies the programs: both take a fifth of a second."""
    loading = threading.Event()
    run.on_loading = loading.set
    engine = EngineThread(run)
    engine.start()
    try:
        # Not before that: two that want Python's lock get in each other's way.
        loading.wait(_HEAD_START_S)
        from tracer.doctor import as_dict  # noqa: PLC0415
        from tracer.tui.app import run_app  # noqa: PLC0415

        run_app(run, thread=engine, always=always, doctor=as_dict)
    finally:
        engine.finish()
