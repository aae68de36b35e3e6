"""Which unit of `.debug_info` covers an address: `.debug_aranges` (DWARF 5, 6.1.2), and ranges as such."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from tracer.symbols.image import BrokenFileError, ByteOrder

_IS_64 = 0xFFFFFFFF
_ADDRESSES = {4: "I", 8: "Q"}
_LOOK_BACK = 256


class Range(NamedTuple):
    """Addresses from `start` to before `end`, and what they belong to."""

    start: int
    end: int
    offset: int


def find(ranges: list[Range], address: int) -> int | None:
    """The offset of the shortest of the sorted `ranges` that covers `address`."""
    nearest = bisect_right(ranges, (address, 1 << 64)) - 1
    around = [
        one for one in ranges[max(0, nearest - _LOOK_BACK) : nearest + 1] if one.start <= address < one.end
    ]
    return min(around, key=lambda one: one.end - one.start).offset if around else None


def unit_offsets(info: bytes, order: ByteOrder) -> array[int]:
    """Where the units of `.debug_info` begin."""
    found = array("Q")
    at = 0
    while at + 4 < len(info):
        found.append(at)
        _, at = _length(info, at, order)
    return found


def listed(section: bytes, order: ByteOrder) -> Iterator[Range]:
    """The ranges of `.debug_aranges`, with the offset of their unit."""
    at = 0
    while at + 4 < len(section):
        begin = at
        wide, at = _length(section, at, order)
        head = begin + (12 if wide else 4)
        layout = "<" if order == "little" else ">"
        header = f"{layout}H{'Q' if wide else 'I'}BB"
        _, offset, address_size, segment_size = struct.unpack_from(header, section, head)
        if address_size not in _ADDRESSES or segment_size:
            raise BrokenFileError(f"addresses of {address_size} + {segment_size} bytes")
        pair = f"{layout}{2 * _ADDRESSES[address_size]}"
        step = 2 * address_size
        # The pairs are aligned to their size, counted from the begin of the set.
        first = begin - (begin - head - struct.calcsize(header)) // step * step
        raw = section[first:at]
        for start, size in struct.iter_unpack(pair, raw[: len(raw) // step * step]):
            if size:
                yield Range(start, start + size, offset)


def _length(data: bytes, at: int, order: ByteOrder) -> tuple[bool, int]:
    """(whether offsets are of 64 bits, where the next unit begins)."""
    length = int.from_bytes(data[at : at + 4], order)
    if length == _IS_64:
        return True, at + 12 + int.from_bytes(data[at + 4 : at + 12], order)
    return False, at + 4 + length
