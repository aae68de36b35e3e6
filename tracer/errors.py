"""Every error the user can meet: a cause, a hint, an exit status.

This module is the only writer to standard error.
"""

from __future__ import annotations

import sys
from enum import IntEnum

from tracer.text import printable


class ExitCode(IntEnum):
    """Exit statuses of the contract."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_PERMITTED = 3
    KERNEL_LACKS = 4
    LOST = 5
    INTERRUPTED_TWICE = 130


class TwtraceError(Exception):
    """A failure with a cause for people and a hint: what they can do."""

    exit_code = ExitCode.FAILED

    def __init__(self, cause: str, hint: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint


class UsageError(TwtraceError):
    """The command line or a file it names cannot be used."""

    exit_code = ExitCode.USAGE


class NotPermittedError(TwtraceError):
    """The user may not load eBPF programs."""

    exit_code = ExitCode.NOT_PERMITTED


class KernelLacksError(TwtraceError):
    """The kernel, or this machine's BCC, lacks what is needed."""

    exit_code = ExitCode.KERNEL_LACKS


def say(message: str) -> None:
    """Write one line to standard error; a closed one is no reason to stop."""
    try:
        sys.stderr.write(f"twtrace: {printable(message)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def report(error: TwtraceError) -> ExitCode:
    """Tell the user about `error`; returns the status to exit with."""
    say(f"error: {error.cause}")
    say(f"hint: {error.hint}")
    return error.exit_code
