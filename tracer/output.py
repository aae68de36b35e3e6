"""Standard output as a sink for views."""

from __future__ import annotations

import os
import select
import sys


class Output:
    """Standard output: coloured or not, and whether anybody still reads it."""

    def __init__(self, color: str) -> None:
        """`color` is auto, always or never."""
        self.color = color == "always" or (
            color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        )

    def write(self, text: str) -> None:
        """Write and flush; raises BrokenPipeError when the reader has gone."""
        sys.stdout.write(text)
        sys.stdout.flush()

    @staticmethod
    def reader_is_gone() -> bool:
        """Was the other end of the pipe closed? A quiet trace would not notice for long."""
        poll = select.poll()
        poll.register(1, 0)
        return any(happened & select.POLLERR for _, happened in poll.poll(0))


def fill_standard_streams() -> None:
    """Put /dev/null where one of the first three descriptors is closed.

    Else a file of ours would get that number, and be written to by whoever
    prints: the compiler, the command we run.
    """
    for fd, mode in ((0, "r"), (1, "w"), (2, "w")):
        if not _is_open(fd):
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            stream = os.fdopen(fd, mode, closefd=False)
            setattr(sys, ("stdin", "stdout", "stderr")[fd], stream)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def abandon_stdout() -> None:
    """Let go of what is still buffered: nobody takes it, and Python would complain at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
