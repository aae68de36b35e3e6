"""What the commands that trace do alike: plan, run until a signal, tell how it ended."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable
from types import FrameType

from tracer.commands.options import filters_of
from tracer.errors import ExitCode, UsageError, say
from tracer.kernel import netns
from tracer.kernel.loader import ProgramStats
from tracer.live import LiveRun, Plan
from tracer.liveview import Publish
from tracer.model import Balance, End
from tracer.tracefile import STDOUT

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def plan(options: argparse.Namespace, argv: tuple[str, ...], interval_s: float) -> Plan:
    """What the options say. Raises UsageError."""
    filters = filters_of(options, netns.resolve)
    if filters.expression.row_level and argv[1:2] == ("record",):
        raise UsageError(
            f"filter {filters.expression.text}: this asks about rows of a view",
            "a trace has connections: use keys of owners and ends, as in `proc:nginx dport:443`",
        )
    return Plan(
        filters,
        argv,
        interval_s,
        options.ring,
        options.hooks,
        options.duration,
        getattr(options, "states", False),
        options.sites,
    )


def run_until_signal(
    run: LiveRun, publish: Publish | None, at_second: Callable[[], None] = lambda: None
) -> None:
    """Run; the first signal stops it, the second ends us at once, after `at_second`.

    USR1 has the counts so far told, USR2 the trace so far written, as with tcpdump.
    """

    def first(_number: int, _frame: FrameType | None) -> None:
        for number in STOPPING:
            signal.signal(number, second)
        run.stop()

    def second(_number: int, _frame: FrameType | None) -> None:
        at_second()
        os._exit(ExitCode.INTERRUPTED_TWICE)

    def counts(_number: int, _frame: FrameType | None) -> None:
        if so_far := run.so_far():
            say(f"so far: {_counts(so_far)}, in {so_far.duration_us / 1e6:.1f} s")

    def flush(_number: int, _frame: FrameType | None) -> None:
        run.flush()

    for number in STOPPING:
        signal.signal(number, first)
    signal.signal(signal.SIGUSR1, counts)
    signal.signal(signal.SIGUSR2, flush)
    run.run(publish)


def finish(run: LiveRun, options: argparse.Namespace, path: str | None = None) -> int:
    """Tell how it ended; the exit status."""
    if run.end and not options.quiet:
        say(_summary(run.end, path))
    lost = run.end.lost if run.end else {}
    for what, count in lost.items():
        say(f"warning: lost {count} {what}")
    if options.verbose:
        for program in run.programs:
            say(_account(program))
    return ExitCode.LOST if lost and options.strict else ExitCode.OK


def notify(options: argparse.Namespace) -> Callable[[str], None] | None:
    """How to tell what the user should know at once; None: quiet."""
    return None if options.quiet else say


def _account(program: ProgramStats) -> str:
    cost = "runs not counted (sysctl kernel.bpf_stats_enabled is 0)"
    if program.runs:
        cost = f"{program.runs} runs, {program.run_time_ns // program.runs} ns each"
    return f"{program.name}: {cost}, {program.missed} missed"


def _summary(end: End, path: str | None) -> str:
    return f"{_counts(end)}; {_residue(end.totals.ledger)}; in {end.duration_us / 1e6:.1f} s" + (
        f" → {path}" if path and path != STDOUT else ""
    )


def _counts(end: End) -> str:
    totals = end.totals
    ended = ", ".join(f"{count} {reason}" for reason, count in sorted(totals.ended.items())) or "none"
    return (
        f"{totals.lines.get('close', 0)} closes; TIME_WAIT: {totals.born} born"
        f" + {totals.preexisting} before, ended: {ended}, {totals.remaining} still there;"
        f" lost {sum(end.lost.values())}"
    )


def _residue(ledger: dict[str, Balance]) -> str:
    off = {
        netns: f"{balance.residue:+d} in netns {netns}"
        for netns, balance in ledger.items()
        if balance.residue
    }
    unasked = sum(balance.kernel is None for balance in ledger.values())
    told = f"ledger residue {', '.join(off.values()) or 0}"
    return f"{told} ({unasked} netns could not be asked)" if unasked else told
