"""Addresses of kernel functions, from /proc/kallsyms."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tracer.errors import NotPermittedError

_TEXT = b"tTwW"


class SymbolRange(NamedTuple):
    """Addresses [start, end) of a function; end is where the next one starts."""

    start: int
    end: int


def find_functions(names: Iterable[str], path: Path = Path("/proc/kallsyms")) -> dict[str, SymbolRange]:
    """The ranges of those of `names` that this kernel has.

    The kernel's own symbols come first and in the order of their addresses
    (kernel/kallsyms.c), so only the lines around a hit are parsed.
    Raises NotPermittedError when the kernel shows zeros instead of addresses
    (kernel.kptr_restrict, no CAP_SYSLOG).
    """
    symbols = b"\n" + path.read_bytes()
    found = {name: found for name in names if (found := _find(symbols, name))}
    if found and not any(symbol.start for symbol in found.values()):
        raise NotPermittedError(
            "/proc/kallsyms shows no addresses",
            "run as root, or set sysctl kernel.kptr_restrict to 1 and add CAP_SYSLOG",
        )
    return found


def _find(symbols: bytes, name: str) -> SymbolRange | None:
    """The first of that name that is code: one search for all kinds, since each goes over megabytes."""
    sought = f" {name}\n".encode()
    at = symbols.find(sought)
    while at >= 0:
        if symbols[at - 1] in _TEXT:
            start = int(symbols[symbols.rindex(b"\n", 0, at) + 1 : at - 2], 16)
            return SymbolRange(start, _end(symbols, at, start))
        at = symbols.find(sought, at + 1)
    return None


def _end(symbols: bytes, at: int, start: int) -> int:
    line = symbols.find(b"\n", at) + 1
    while line < len(symbols):
        address = int(symbols[line : symbols.index(b" ", line)], 16)
        if address != start:
            return address
        line = symbols.find(b"\n", line) + 1
    return start
