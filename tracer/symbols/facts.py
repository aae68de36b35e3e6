"""What is said of a place in a program, and of the file it is in."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_NAME = 1024
"""Characters of a function's name; C++ templates write far longer ones."""
LONGEST_PATH = 4096
MOST_FRAMES = 128
"""Functions inlined into each other at one address."""

MOST_CALLS = 64
"""Followed on one stack."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One function at an address, in the words of a file that belongs to a stranger: hostile text."""

    function: str | None
    file: str | None = None
    line: int | None = None
    inlined: bool = False
    """Whether its code stands inside the function of the next frame."""


@dataclass(frozen=True, slots=True)
class DebugLink:
    """`.gnu_debuglink`: the name of the file with the debug information, without a folder, and its CRC-32."""

    name: str
    crc: int


def cut(text: str, longest: int) -> str:
    """`text`, cut with `…` if it is longer."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def words(raw: bytes) -> str:
    r"""Text of a file; bytes that are no UTF-8 stand as `\xNN`."""
    return raw.decode(errors="backslashreplace")
