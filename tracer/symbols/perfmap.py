"""Functions that a runtime compiled into memory, from the map it writes for `perf`: `/tmp/perf-PID.map`.

A line is `START SIZE NAME`, numbers in hex (tools/perf/Documentation/jit-interface.txt of Linux). Python
writes it with `-X perf`, Node.js with `--perf-basic-prof`, Java with an agent. Anyone may write in /tmp:
whoever opens the file checks that it is the process's own.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import BinaryIO

from tracer.symbols.facts import LONGEST_NAME, LONGEST_PATH, Frame, cut, words
from tracer.symbols.trampolines import SIZE as TRAMPOLINE

_MOST_BYTES = 1 << 24
_MOST_LINES = 1 << 17
_LONGEST = 2048
"""Bytes of a name, with its file."""
_LOOK_BACK = 16
_LINE = re.compile(rb"(?:0x)?([0-9a-f]{1,16}) (?:0x)?([0-9a-f]{1,16}) (\S.*)", re.IGNORECASE)
_PYTHON = re.compile(r"py::(?P<function>.+?):(?P<file>/.*|<.*>)(?P<line>)")
_NODE = re.compile(
    r"(?:JS|LazyCompile|Function|Script|Eval|InterpretedFunction|Builtin):[*~^+]?(?P<function>.*?) "
    r"(?:file://)?(?P<file>/.*?|node:.*?)(?::(?P<line>\d{1,9}))(?::\d{1,9})?"
)


class PerfMap:
    """One such map, as it was when read."""

    def __init__(self, file: BinaryIO) -> None:
        # Runtimes only add to it: the end is what is true now.
        size = file.seek(0, 2)
        file.seek(max(0, size - _MOST_BYTES))
        lines = file.read(_MOST_BYTES).rsplit(b"\n", _MOST_LINES)[-_MOST_LINES:]
        rows = [
            (int(match[1], 16), number, int(match[2], 16), match[3][:_LONGEST])
            for number, match in enumerate(map(_LINE.fullmatch, lines))
            if match
        ]
        rows.sort()
        self._starts = [row[0] for row in rows]
        self._rows = rows

    @property
    def size(self) -> int:
        """Bytes of memory that it takes, about."""
        return 200 * len(self._rows)

    def find(self, address: int) -> Frame | None:
        """The function compiled at `address`; of several, the one written last."""
        row = self._row(address)
        return _frame(words(row[3].rstrip())) if row else None

    def is_trampoline(self, address: int) -> bool:
        """Is it by what CPython calls a Python function?"""
        row = self._row(address)
        return row is not None and row[2] == TRAMPOLINE and row[3].startswith(b"py::")

    def _row(self, address: int) -> tuple[int, int, int, bytes] | None:
        nearest = bisect_right(self._starts, address)
        around = self._rows[max(0, nearest - _LOOK_BACK) : nearest]
        covering = [row for row in around if address < row[0] + row[2]]
        return max(covering, key=lambda row: row[1]) if covering else None


def _frame(name: str) -> Frame:
    match = _PYTHON.fullmatch(name) or _NODE.fullmatch(name)
    if match is None:
        return Frame(cut(name, LONGEST_NAME))
    line = int(match["line"] or 0)
    return Frame(cut(match["function"], LONGEST_NAME) or None, cut(match["file"], LONGEST_PATH), line or None)
