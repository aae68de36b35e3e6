"""A stack as it was taken from a process, and what became of it."""

from __future__ import annotations

from typing import NamedTuple

from tracer.model import Owner, Site


class Capture(NamedTuple):
    """Where a process closed or opened a connection."""

    site: int
    """The number that the site gets."""
    ts_us: int
    what: str
    process: tuple[int, int]
    """(pid, start in nanoseconds since boot)."""
    owner: Owner
    registers: bytes
    """The kernel's `struct pt_regs` of the user's registers."""
    stack: bytes
    """From the user's stack pointer upwards."""


class Resolved(NamedTuple):
    """A capture that was followed."""

    capture: Capture
    site: Site
    calls: tuple[int, ...]
    """Return addresses in the process, innermost first."""
