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
