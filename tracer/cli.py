"""The command line of the contract."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from tracer import __version__
from tracer.demo import Demo
from tracer.duration import seconds
from tracer.errors import ExitCode, TwtraceError, UsageError, report, say
from tracer.expression import EVERYTHING, parse
from tracer.filters import Filters
from tracer.model import Balance, End
from tracer.narrow import with_rows
from tracer.output import Output, abandon_stdout, fill_standard_streams
from tracer.reader import open_trace
from tracer.record import STDOUT, TraceFile
from tracer.table import render

# What needs the kernel, BCC or a screen is imported by the commands that need it, each when it runs.
if TYPE_CHECKING:
    from tracer.kernel.loader import ProgramStats
    from tracer.live import LiveRun, Plan
    from tracer.liveview import Publish

_TUI_INTERVAL_S = 0.5
_TABLE_INTERVAL_S = 2.0
_PATIENCE_S = 5.0
"""What a command gets to end in after SIGTERM."""

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_OVERVIEW = """\
usage: twtrace [OPTIONS]            who holds these TIME_WAITs, live
       twtrace demo [OPTIONS]       the same on a small labelled workload
       twtrace record [OPTIONS] [-- CMD ...]
                                    write a trace
       twtrace report FILE          who, why, is it a problem, what to change
       twtrace replay FILE          the screen on a trace, with time under control
       twtrace doctor [--json]      what this kernel and user allow

`twtrace COMMAND --help` has the options of each; `twtrace live --help` those of the first.
"""

_EXAMPLES = {
    "live": """\
examples:
  sudo twtrace                       live view; a plain table when piped
  sudo twtrace -D 5432 -d 30s        half a minute of connections to PostgreSQL
  sudo twtrace -N blue -C nginx      nginx in the network namespace blue
""",
    "demo": """\
examples:
  sudo twtrace demo                  see each way of closing, until Ctrl-C
  sudo twtrace demo -d 10s | cat     the same as a table, for ten seconds
""",
    "record": """\
examples:
  sudo twtrace record -d 5m                    to twtrace-DATE-TIME.ndjson
  sudo twtrace record -o - -L 80,443 | jq .    as it happens
  sudo twtrace record -o run.ndjson -- ./load-test --quick
""",
    "report": """\
examples:
  twtrace report run.ndjson
  twtrace report run.ndjson --what-if keepalive --what-if port_range=1024-65535
  twtrace report run.ndjson --json | jq '.findings[] | select(.severity != "fine")'
""",
    "replay": """\
examples:
  twtrace replay run.ndjson
  twtrace replay run.ndjson --speed 10       ten minutes in one
  twtrace replay run.ndjson -D 5432 --filter 'proc:orders'
  zcat run.ndjson.gz | twtrace replay -      one that was compressed
""",
    "doctor": """\
examples:
  sudo twtrace doctor
  sudo twtrace doctor --json | jq '.checks[] | select(.status != "works")'
""",
}


class _Parser(argparse.ArgumentParser):
    """One command's options; what is wrong with them is an error like any other."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see `{self.prog} --help`")


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
    if command not in _COMMANDS:
        raise UsageError(
            f"no command {command!r}", f"commands are {', '.join(_COMMANDS)}; see `twtrace --help`"
        )
    rest = arguments[1:] if arguments[:1] == [command] else arguments
    return _COMMANDS[command](rest)


def _live(arguments: list[str]) -> int:
    options = _live_parser("live").parse_args(arguments)
    _require_privilege()
    return _show(options, ("twtrace", *arguments))


def _demo(arguments: list[str]) -> int:
    options = _live_parser("demo").parse_args(arguments)
    _require_privilege()
    demo = Demo()
    try:
        demo.start()
        options.netns = options.netns or str(demo.netns)
        return _show(options, ("twtrace", "demo", *arguments), on_attached=demo.go)
    finally:
        demo.stop()


def _show(
    options: argparse.Namespace, argv: tuple[str, ...], on_attached: Callable[[], None] | None = None
) -> int:
    from tracer.live import LiveRun  # noqa: PLC0415

    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    interval = options.interval or (_TUI_INTERVAL_S if interactive else _TABLE_INTERVAL_S)
    plan = _plan(options, argv, interval)
    always = plan.filters.expression.for_rows()
    if interactive:
        from tracer.tui.app import run_app  # noqa: PLC0415 - takes a third of a second to import

        run = LiveRun(plan, on_attached=on_attached)
        for number in _STOPPING[1:]:  # the screen reads Ctrl-C as a key
            signal.signal(number, lambda *_: run.stop())
        run_app(run, always=always, doctor=_examined)
        if run.fallback and not options.quiet:
            say(run.fallback)
    else:
        output = Output(options.color)
        run = LiveRun(plan, on_attached=on_attached, is_over=output.reader_is_gone, notify=_notify(options))
        _run_until_signal(
            run, lambda snapshot: output.write(render(with_rows(snapshot, always), color=output.color))
        )
        if output.reader_is_gone():
            return ExitCode.OK
    return _finish(run, options)


def _examined() -> dict[str, object]:
    from tracer.doctor import as_dict  # noqa: PLC0415

    return as_dict()


def _record(arguments: list[str]) -> int:
    from tracer.live import LiveRun  # noqa: PLC0415

    own, command = arguments, None
    if "--" in arguments:
        at = arguments.index("--")
        own, command = arguments[:at], arguments[at + 1 :]
    parser = _parser("record", "Write a trace: one JSON object a line (schema 1).")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to; - is stdout (default: twtrace-DATE-TIME.ndjson)"
    )
    parser.add_argument("--states", action="store_true", help="every state transition as a line")
    _add_common(parser)
    options = parser.parse_args(own)
    if command == []:
        parser.error("nothing follows --")
    path = options.output or time.strftime("twtrace-%Y%m%d-%H%M%S.ndjson")
    if path.endswith((".gz", ".zst")):
        parser.error("compressed traces are not in this version yet: write plain .ndjson and compress it")
    plan = _plan(options, ("twtrace", "record", *arguments), options.interval or 1.0)
    if command and not shutil.which(command[0]):
        raise UsageError(f"cannot run {command[0]}: not found", "give a command that exists after --")
    _require_privilege()
    trace = TraceFile(path)
    child = _Child(command, quiet_stdout=path == STDOUT) if command else None
    output = Output("never")
    try:
        run = LiveRun(
            plan,
            trace,
            on_attached=child.start if child else None,
            is_over=child.is_over if child else output.reader_is_gone if path == STDOUT else None,
            notify=_notify(options),
        )
        _run_until_signal(run, None, child)
    finally:
        trace.close()
        status = child.finish() if child else None
    outcome = _finish(run, options, path)
    if outcome != ExitCode.OK or run.stopped:
        return outcome
    return status or ExitCode.OK


def _report(arguments: list[str]) -> int:
    from tracer import report  # noqa: PLC0415 - only this command needs it
    from tracer.whatif import parse_change  # noqa: PLC0415

    parser = _parser(
        "report", "Who, why, is it a problem, what to change; from a trace. Needs no privileges."
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
        found = report.read(lines, changes)
    output = Output(options.color)
    if options.json:
        sys.stdout.write(report.as_json(found).decode())
    else:
        output.write(report.render(found, color=output.color))
    return ExitCode.OK


def _replay(arguments: list[str]) -> int:
    from tracer.replay import MAX_SPEED, ReplayRun  # noqa: PLC0415 - only this command needs it

    parser = _parser(
        "replay", "The screen on a recorded trace; when piped, the table as of its end. Needs no privileges."
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
    _add_filters(parser)
    options = parser.parse_args(arguments)
    filters = _filters(options, _inode)
    run = ReplayRun(options.file, options.speed, interval_s=options.interval, filters=filters)
    always = filters.expression.for_rows()
    if sys.stdout.isatty() and (_take_keyboard() if options.file == "-" else sys.stdin.isatty()):
        from tracer.tui.app import run_app  # noqa: PLC0415 - takes a third of a second to import

        for number in _STOPPING[1:]:  # the screen reads Ctrl-C as a key
            signal.signal(number, lambda *_: run.stop())
        run_app(run, always=always)
    else:
        output = Output(options.color)
        output.write(render(with_rows(run.at_end(), always), color=output.color))
    if run.warning:
        say(run.warning)
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


def _doctor(arguments: list[str]) -> int:
    parser = _parser("doctor", "What this kernel and user allow; every hook is tried.")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    options = parser.parse_args(arguments)
    from tracer import doctor  # noqa: PLC0415 - only this command needs it

    return doctor.run(as_json=options.json)


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "live": _live,
    "demo": _demo,
    "record": _record,
    "report": _report,
    "replay": _replay,
    "doctor": _doctor,
}


class _Child:
    """The command of `record -- CMD`."""

    def __init__(self, command: list[str], *, quiet_stdout: bool) -> None:
        self._command = command
        # stdout is the trace's then; what the command prints must not tear it.
        self._stdout = sys.stderr.fileno() if quiet_stdout else None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        try:
            self._process = subprocess.Popen(self._command, stdout=self._stdout)  # noqa: S603 - the user's own
        except OSError as error:
            raise UsageError(
                f"cannot run {self._command[0]}: {error.strerror}", "give a command that exists after --"
            ) from error

    def is_over(self) -> bool:
        """Has it ended?"""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def finish(self) -> int | None:
        """Its status as a shell gives it; None if we ended it, or it never began."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            return None
        code = self._process.returncode
        return code if code >= 0 else 128 - code


def _run_until_signal(run: LiveRun, publish: Publish | None, child: _Child | None = None) -> None:
    def first(_number: int, _frame: FrameType | None) -> None:
        for number in _STOPPING:
            signal.signal(number, second)
        run.stop()

    def second(_number: int, _frame: FrameType | None) -> None:
        if child:
            child.kill()
        os._exit(ExitCode.INTERRUPTED_TWICE)

    for number in _STOPPING:
        signal.signal(number, first)
    run.run(publish)


def _finish(run: LiveRun, options: argparse.Namespace, path: str | None = None) -> int:
    if run.end and not options.quiet:
        say(_summary(run.end, path))
    lost = run.end.lost if run.end else {}
    for what, count in lost.items():
        say(f"warning: lost {count} {what}")
    if options.verbose:
        for program in run.programs:
            say(_account(program))
    return ExitCode.LOST if lost and options.strict else ExitCode.OK


def _notify(options: argparse.Namespace) -> Callable[[str], None] | None:
    return None if options.quiet else say


def _account(program: ProgramStats) -> str:
    cost = "runs not counted (sysctl kernel.bpf_stats_enabled is 0)"
    if program.runs:
        cost = f"{program.runs} runs, {program.run_time_ns // program.runs} ns each"
    return f"{program.name}: {cost}, {program.missed} missed"


def _summary(end: End, path: str | None) -> str:
    totals = end.totals
    ended = ", ".join(f"{count} {reason}" for reason, count in sorted(totals.ended.items())) or "none"
    return (
        f"{totals.lines.get('close', 0)} closes; TIME_WAIT: {totals.born} born"
        f" + {totals.preexisting} before, ended: {ended}, {totals.remaining} still there;"
        f" lost {sum(end.lost.values())}; {_residue(totals.ledger)}; in {end.duration_us / 1e6:.1f} s"
        + (f" → {path}" if path and path != STDOUT else "")
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


def _require_privilege() -> None:
    from tracer.kernel.loader import require_privilege  # noqa: PLC0415

    require_privilege()


def _filters(options: argparse.Namespace, resolve: Callable[[str], int]) -> Filters:
    return Filters(
        pids=frozenset(options.pid),
        comms=frozenset(options.comm),
        uids=frozenset(options.uid),
        cgroups=tuple(options.cgroup),
        netns=resolve(options.netns) if options.netns else None,
        local_ports=frozenset(options.local),
        remote_ports=frozenset(options.remote),
        family=options.family,
        expression=options.filter,
    )


def _inode(netns: str) -> int:
    """Of a namespace that was there when a trace was taken."""
    if not netns.isdigit():
        raise UsageError(
            f"{netns}: names and paths of namespaces are this host's, of this moment",
            "give the inode number that the trace has: `twtrace replay FILE`, then a until rows are by netns",
        )
    return int(netns)


def _plan(options: argparse.Namespace, argv: tuple[str, ...], interval_s: float) -> Plan:
    from tracer.kernel import netns  # noqa: PLC0415
    from tracer.live import Plan  # noqa: PLC0415

    filters = _filters(options, netns.resolve)
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
    )


def _live_parser(command: str) -> argparse.ArgumentParser:
    texts = {
        "live": "Who holds these TIME_WAITs, live.",
        "demo": "A small labelled workload on loopback, and its trace.",
    }
    parser = _parser(command, texts[command])
    _add_common(parser)
    return parser


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"twtrace {command}",
        description=description,
        epilog=_EXAMPLES[command],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"twtrace {__version__}")
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    wanted = parser.add_argument_group(
        "filters", "values of one option are alternatives, different options all apply"
    )
    wanted.add_argument("-p", "--pid", type=_number, action="append", default=[], metavar="PID")
    wanted.add_argument(
        "-C", "--comm", type=_comm, action="append", default=[], metavar="COMM", help="process name, as ps -C"
    )
    wanted.add_argument("-u", "--uid", type=_number, action="append", default=[], metavar="UID")
    wanted.add_argument("--cgroup", action="append", default=[], metavar="PATH", help="and those below it")
    wanted.add_argument("-N", "--netns", metavar="NAME|PATH|INODE", help="network namespace")
    wanted.add_argument(
        "-L", "--local", type=_ports, action="extend", default=[], metavar="PORT[,PORT]", help="local port"
    )
    wanted.add_argument(
        "-D", "--remote", type=_ports, action="extend", default=[], metavar="PORT[,PORT]", help="remote port"
    )
    family = wanted.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4, mapped addresses too")
    family.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6")
    wanted.add_argument(
        "--filter",
        type=parse,
        default=EVERYTHING,
        metavar="EXPR",
        help="'proc:nginx !dport:443 tw/s>10'; all keys: man twtrace",
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    from tracer.kernel.hooks import AUTO, SOURCES  # noqa: PLC0415

    _add_filters(parser)
    common = parser.add_argument_group("common")
    common.add_argument(
        "-d", "--duration", type=seconds, metavar="TIME", help="30s, 5m; default: until Ctrl-C"
    )
    common.add_argument(
        "-i", "--interval", type=seconds, metavar="TIME", help="between two views (screen 500ms, table 2s)"
    )
    common.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="NO_COLOR is honoured"
    )
    common.add_argument(
        "--hooks",
        choices=(AUTO, *SOURCES),
        default=AUTO,
        help="source of TIME_WAIT facts; auto: the best that works",
    )
    common.add_argument(
        "--ring",
        type=_ring_mib,
        default=32,
        metavar="MIB",
        help="room for bursts in the kernel, a power of two (32)",
    )
    common.add_argument("--strict", action="store_true", help="exit 5 if anything was lost")
    volume = common.add_mutually_exclusive_group()
    volume.add_argument("-q", "--quiet", action="store_true", help="no summary")
    volume.add_argument("-v", "--verbose", action="store_true", help="the kernel's account of the programs")


_MAX_COMM = 15  # TASK_COMM_LEN less its end


def _comm(text: str) -> str:
    if not 0 < len(os.fsencode(text)) <= _MAX_COMM:
        raise argparse.ArgumentTypeError(f"{text!r}: the kernel keeps the first {_MAX_COMM} bytes of a name")
    return text


def _number(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def _speed(text: str) -> float:
    from tracer.replay import MAX_SPEED  # noqa: PLC0415

    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= MAX_SPEED:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0, {MAX_SPEED:g} at most")
    return speed


def _ring_mib(text: str) -> int:
    mib = _number(text)
    if mib & (mib - 1) or not 0 < mib <= _MAX_RING_MIB:
        raise argparse.ArgumentTypeError(f"{text!r}: give 1, 2, 4 … {_MAX_RING_MIB}")
    return mib


_MAX_RING_MIB = 512
_MAX_PORT = 65535


def _ports(text: str) -> tuple[int, ...]:
    ports = tuple(_number(part) for part in text.split(","))
    if not all(0 < port <= _MAX_PORT for port in ports):
        raise argparse.ArgumentTypeError(f"{text!r}: ports are 1 to {_MAX_PORT}")
    return ports
