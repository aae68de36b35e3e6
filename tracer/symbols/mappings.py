"""/proc/PID/maps: what lies at an address of a process."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

MOST_BYTES = 1 << 25
"""Of the text; `vm.max_map_count` is 65,530 by default."""
_LINE = re.compile(
    rb"(?P<start>[0-9a-f]{1,16})-(?P<end>[0-9a-f]{1,16}) (?P<modes>[rwxsp-]{4}) (?P<offset>[0-9a-f]{1,16})"
    rb" (?P<major>[0-9a-f]{1,8}):(?P<minor>[0-9a-f]{1,8}) (?P<inode>\d{1,20}) *(?P<path>.*)"
)
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line: addresses from `start` to before `end`."""

    start: int
    end: int
    executable: bool
    offset: int
    """Of `start` in the file."""
    device: tuple[int, int]
    inode: int
    """0: no file."""
    path: str
    """As the process saw it, without ` (deleted)`; `[vdso]` and the like; empty: anonymous."""
    deleted: bool

    @property
    def is_file(self) -> bool:
        """Whether a file is mapped, and not memory without one."""
        return self.inode != 0


class Mappings:
    """The mappings of one process, by address."""

    def __init__(self, text: bytes) -> None:
        self._all = sorted(_parsed(text[:MOST_BYTES]), key=lambda one: one.start)
        self._starts = [one.start for one in self._all]

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self._all)

    def find(self, address: int) -> Mapping | None:
        """The mapping that `address` lies in."""
        number = bisect_right(self._starts, address) - 1
        return self._all[number] if number >= 0 and address < self._all[number].end else None

    def place(self, address: int) -> tuple[Mapping, int] | None:
        """(mapping, offset in its file) of `address`; None where no file is mapped."""
        found = self.find(address)
        if found is None or not found.is_file:
            return None
        return found, address - found.start + found.offset


def _parsed(text: bytes) -> Iterator[Mapping]:
    for line in text.split(b"\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        start, end, offset, major, minor = (
            int(match[name], 16) for name in ("start", "end", "offset", "major", "minor")
        )
        # The kernel writes a newline in a path as `\012`, and nothing else so.
        path = match["path"].replace(rb"\012", b"\n").decode(errors="surrogateescape")
        deleted = path.endswith(_DELETED)
        yield Mapping(
            start,
            end,
            b"x" in match["modes"],
            offset,
            (major, minor),
            int(match["inode"]),
            path.removesuffix(_DELETED),
            deleted,
        )
