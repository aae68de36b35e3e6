"""The command line of the contract."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from tracer import __version__
from tracer.errors import ExitCode, TwtraceError, UsageError, report
from tracer.output import abandon_stdout, fill_standard_streams

_OVERVIEW = """\
usage: twtrace [OPTIONS]            who holds these TIME_WAITs, live
       twtrace demo [OPTIONS]       the same on a small labelled workload
       twtrace record [OPTIONS] [-- CMD ...]
                                    write a trace
       twtrace report FILE          who, why, is it a problem, what to change
       twtrace replay FILE          the screen on a trace, with time under control
       twtrace schema               the format of a trace, as JSON Schema
       twtrace doctor [--json]      what this kernel and user allow
       twtrace completions SHELL    for bash, fish or zsh

`twtrace COMMAND --help` has the options of each; `twtrace live --help` those of the first.
"""

COMMANDS = ("live", "demo", "record", "report", "replay", "schema", "doctor", "completions")
"""Each a module of tracer.commands, imported when it is to run: some need the kernel, BCC or a screen."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    fill_standard_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
        return status
    except TwtraceError as error:
        return report(error)
    except KeyboardInterrupt:  # before there was anything to stop
        return ExitCode.INTERRUPTED_TWICE
    except BrokenPipeError:
        abandon_stdout()
        return ExitCode.OK
    except OSError as error:
        abandon_stdout()
        return report(
            TwtraceError(
                f"cannot write to standard output: {error.strerror}", "free space, or redirect it elsewhere"
            )
        )


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(_OVERVIEW)
        return ExitCode.OK
    if arguments[:1] == ["--version"]:
        sys.stdout.write(f"twtrace {__version__}\n")
        return ExitCode.OK
    command = arguments[0] if arguments and not arguments[0].startswith("-") else "live"
    if command not in COMMANDS:
        raise UsageError(
            f"no command {command!r}", f"commands are {', '.join(COMMANDS)}; see `twtrace --help`"
        )
    rest = arguments[1:] if arguments[:1] == [command] else arguments
    run = import_module(f"tracer.commands.{command}").run
    status: int = run(rest)
    return status
