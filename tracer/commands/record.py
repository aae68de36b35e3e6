"""`twtrace record`: a trace to a file."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time

from tracer.commands.options import Parser, add_common, command_parser
from tracer.commands.running import finish, notify, plan, run_until_signal
from tracer.duration import seconds
from tracer.errors import ExitCode, UsageError
from tracer.journal import Journal, Rotation
from tracer.kernel.loader import require_privilege
from tracer.live import LiveRun
from tracer.output import Output
from tracer.series import SECOND
from tracer.size import size_in_bytes
from tracer.tracefile import STDOUT, part_path

_EXAMPLES = """\
examples:
  sudo twtrace record -d 5m                    to twtrace-DATE-TIME.ndjson
  sudo twtrace record -o - -L 80,443 | jq .    as it happens
  sudo twtrace record -o run.ndjson.zst -- ./load-test --quick
  sudo twtrace record -o day.ndjson.zst --rotate-size 1GB --rotate-every 1h
"""


_PATIENCE_S = 5.0
"""What a command gets to end in after SIGTERM."""


def parser() -> Parser:
    """Its options."""
    parser = command_parser("record", "Write a trace: one JSON object a line (schema 1).", _EXAMPLES)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to; - is stdout (default: twtrace-DATE-TIME.ndjson)"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument(
        "--rotate-size",
        type=size_in_bytes,
        metavar="SIZE",
        help="begin a new file at 100MB, 64MiB or so: FILE.0001.ndjson, …; each is a trace",
    )
    parser.add_argument(
        "--rotate-every", type=seconds, metavar="TIME", help="begin a new file every so often: 10m, 1h"
    )
    parser.add_argument("--states", action="store_true", help="every state transition as a line")
    add_common(parser)
    return parser


def run(arguments: list[str]) -> int:
    """Run the command."""
    own, command = arguments, None
    if "--" in arguments:
        at = arguments.index("--")
        own, command = arguments[:at], arguments[at + 1 :]
    options = parser().parse_args(own)
    if command == []:
        parser().error("nothing follows --")
    path = options.output or time.strftime("twtrace-%Y%m%d-%H%M%S.ndjson")
    rotation = _rotation(options)
    if rotation and (path == STDOUT or _is_no_file(path)):
        parser().error(f"{path} cannot be written in parts: only a file can")
    planned = plan(options, ("twtrace", "record", *arguments), options.interval or 1.0)
    if command and not shutil.which(command[0]):
        raise UsageError(f"cannot run {command[0]}: not found", "give a command that exists after --")
    require_privilege()
    journal = Journal(path, force=options.force, rotation=rotation)
    child = _Child(command, quiet_stdout=path == STDOUT) if command else None
    output = Output("never")
    try:
        tracing = LiveRun(
            planned,
            journal,
            on_attached=child.start if child else None,
            is_over=child.is_over if child else output.reader_is_gone if path == STDOUT else None,
            notify=notify(options),
        )
        run_until_signal(tracing, None, child.kill if child else lambda: None)
    finally:
        journal.close()
        status = child.finish() if child else None
    written = f"{part_path(path, 1)} … {journal.path}" if rotation else path
    outcome = finish(tracing, options, written)
    if outcome != ExitCode.OK or tracing.stopped:
        return outcome
    return status or ExitCode.OK


def _rotation(options: argparse.Namespace) -> Rotation | None:
    size, every = options.rotate_size, options.rotate_every
    if size is None and every is None:
        return None
    if size is not None and size < _SMALLEST_PART:
        parser().error("--rotate-size is at least 64KiB: each part has a beginning and an end")
    if every is not None and every < _SHORTEST_PART_S:
        parser().error("--rotate-every is at least 1s")
    return Rotation(size, None if every is None else int(every * SECOND))


_SMALLEST_PART = 64 << 10
_SHORTEST_PART_S = 1.0


def _is_no_file(path: str) -> bool:
    return os.path.lexists(path) and not os.path.isfile(path)


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
