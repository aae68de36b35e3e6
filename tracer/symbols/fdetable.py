"""From an address to the entry of its function in .eh_frame."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from tracer.symbols.cfi import Cie, Readable, fde_range, read_cie
from tracer.symbols.cursor import Cursor
from tracer.symbols.ending import UnwindError

_VERSION = 1
_TABLE = 0x3B  # DW_EH_PE_datarel | DW_EH_PE_sdata4: what all linkers write
_OMITTED = 0xFF
_PAIR = 8  # bytes

_MOST_SCANNED = 2 << 20  # bytes: half a second at worst; libc's .eh_frame has 150 KB
_MOST_CIES = 256  # linkers keep one of each kind


class SearchTable(NamedTuple):
    """The table of .eh_frame_hdr (Linux Standard Base section 10.6.2), searched where it lies."""

    file: Readable
    header: int
    """Addresses in it are relative to this one."""
    first: int
    pairs: int

    def find(self, address: int) -> int | None:
        """The entry of the last function that begins at or before `address`."""
        low, high = 0, self.pairs
        while low < high:
            middle = (low + high) // 2
            if self._pair(middle)[0] <= address:
                low = middle + 1
            else:
                high = middle
        return self._pair(low - 1)[1] if low else None

    def _pair(self, index: int) -> tuple[int, int]:
        cursor = Cursor(self.file.read(self.first + index * _PAIR, _PAIR))
        return cursor.pointer(_TABLE, self.header), cursor.pointer(_TABLE, self.header)


def search_table(file: Readable, header: int, size: int) -> SearchTable | None:
    """The table in the `size` bytes at `header`; None: it has none of the usual kind."""
    cursor = Cursor(file.read(header, min(size, 32)), header)
    version, frame, count_as, table = (cursor.byte() for _ in range(4))
    if version != _VERSION or count_as == _OMITTED or table != _TABLE:
        return None
    cursor.pointer(frame, header)
    count = cursor.pointer(count_as, header)
    if count > (size - cursor.at) // _PAIR:
        raise UnwindError
    return SearchTable(file, header, cursor.address + cursor.at, count)


class ScannedTable(NamedTuple):
    """The same from .eh_frame itself: gcc -static gives the linker no --eh-frame-hdr."""

    starts: list[int]
    entries: list[int]

    def find(self, address: int) -> int | None:
        """The entry of the last function that begins at or before `address`."""
        index = bisect_right(self.starts, address)
        return self.entries[index - 1] if index else None


def scanned_table(file: Readable, address: int, size: int) -> ScannedTable:
    """All entries of the `size` bytes of .eh_frame at `address`: some microseconds each."""
    data = file.read(address, min(size, _MOST_SCANNED))
    cies: dict[int, Cie] = {}
    found = []
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        if length == 0 or at + 4 + length > len(data):
            break
        distance = int.from_bytes(data[at + 4 : at + 8], "little")
        if distance:
            cie_at = address + at + 4 - distance
            cie = cies.get(cie_at)
            if cie is None:
                if len(cies) == _MOST_CIES:
                    raise UnwindError
                cie = cies[cie_at] = read_cie(file, cie_at)
            start, _ = fde_range(Cursor(data[at + 8 : at + 24], address + at + 8), cie)
            found.append((start, address + at))
        at += 4 + length
    found.sort()
    return ScannedTable([start for start, _ in found], [entry for _, entry in found])
