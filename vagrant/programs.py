"""Other programs: run within a time limit, gone when we are; and the errors of the matrix."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

stopping = threading.Event()
"""Set when everything is to end; whoever waits for a program looks at it."""

_LOOK_SECONDS = 0.2
_STOP_SECONDS = 10
_NOT_FOUND = 127  # setpriv's status for a program that is not there
_LINES = 10


class MatrixError(Exception):
    """A failure with a cause for people and a hint: what they can do."""

    def __init__(self, cause: str, hint: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint


class StoppedError(Exception):
    """Given up, since `stopping` was set."""


def say(message: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"vagrant: {message}\n")
    sys.stderr.flush()


@contextmanager
def started(
    argv: Sequence[str],
    output: int,
    errors: int,
    *,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A program in a process group of its own, all of which is gone at the end."""
    # A signal to us alone, even SIGKILL, ends it too.
    guarded = ["setpriv", "--pdeathsig", "TERM", *argv]
    process = subprocess.Popen(  # noqa: S603 - the callers' programs
        guarded,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        text=True,
        errors="replace",
        start_new_session=True,
        cwd=cwd,
        env={**os.environ, **(variables or {})},
    )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, number)
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    continue


def run(
    argv: Sequence[str | Path],
    hint: str,
    *,
    seconds: float,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """What the program prints; MatrixError, with its last lines, if it fails or takes longer."""
    words = [str(word) for word in argv]
    deadline = time.monotonic() + seconds
    with started(words, subprocess.PIPE, subprocess.PIPE, cwd=cwd, variables=variables) as process:
        while (printed := _printed(process)) is None:
            if stopping.is_set():
                raise StoppedError
            if time.monotonic() > deadline:
                raise MatrixError(f"{words[0]} took longer than {seconds:.0f} s", hint)
    if process.returncode == _NOT_FOUND:
        raise MatrixError(f"{words[0]} is not installed", "scripts/setup kernels installs what is needed")
    if process.returncode:
        said = "\n".join((printed[1] or printed[0]).strip().splitlines()[-_LINES:])
        raise MatrixError(f"{words[0]} failed with status {process.returncode}:\n{said}", hint)
    return printed[0]


def _printed(process: subprocess.Popen[str]) -> tuple[str, str] | None:
    """Standard output and error, once the program has ended."""
    try:
        return process.communicate(timeout=_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None
