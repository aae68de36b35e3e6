"""Numbers of variable length (LEB128, DWARF 5, 7.6); Go writes its tables with them too."""

from __future__ import annotations

_MOST_BITS = 70
"""Ten bytes hold 64 bits. What is longer was written to keep us busy."""


def unsigned(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next thing begins. Raises ValueError or IndexError."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says: more follows
            return value, at
        shift += 7
        if shift > _MOST_BITS:
            raise ValueError(f"a number of more than {_MOST_BITS} bits")


def signed(data: bytes, at: int) -> tuple[int, int]:
    """The same of a signed one."""
    value, end = unsigned(data, at)
    bits = 7 * (end - at)
    return (value - (1 << bits) if value >> (bits - 1) else value), end
