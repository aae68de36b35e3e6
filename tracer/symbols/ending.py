"""Why the unwinding of a stack ended, and the one exception that ends it."""

from __future__ import annotations

from enum import Enum


class End(str, Enum):
    """Why there are no more frames."""

    OUTERMOST = "outermost"
    """The last frame is the first of its thread: a full stack."""
    CUT = "stack cut"
    """What comes next lies outside the piece of the stack that was copied."""
    MOST = "most frames"
    """There are more frames than were asked for."""
    NO_INFO = "no unwind info"
    NO_MODULE = "no module"
    LOOP = "loop"
    """The next frame would lie at or below the last one."""
    BAD = "bad CFI"
    """An ELF file or its call frame information is not what it should be."""


class UnwindError(Exception):
    """Ends one stack."""

    def __init__(self, end: End = End.BAD) -> None:
        super().__init__(end.value)
        self.end = end
