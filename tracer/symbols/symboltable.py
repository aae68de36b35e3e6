"""Functions by address, from `.symtab` or `.dynsym`."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from tracer.symbols.facts import words
from tracer.symbols.image import BrokenFileError, Image, Section

_MOST_SYMBOLS = 1 << 22
_NOTYPE, _FUNC, _IFUNC = 0, 2, 10
_LOCAL = 0
_FIRST_RESERVED_INDEX = 0xFF00
_LOOK_BACK = 32
"""Symbols inside a function that are passed over to find it: labels of assembler code."""
_LONGEST = 4096


class SymbolTable:
    """The functions of one symbol table, sorted by address; `code` is the file whose code they name."""

    def __init__(self, image: Image, section: Section, code: Image) -> None:
        self._code = code
        self._names = image.content(image.sections[section.link])
        self._starts = array("Q")
        self._sizes = array("Q")
        self._name_offsets = array("I")
        for start, *_, size, name in sorted(self._functions(image, section)):
            if not self._starts or self._starts[-1] != start:
                self._starts.append(start)
                self._sizes.append(size)
                self._name_offsets.append(name)

    def _functions(self, image: Image, section: Section) -> Iterator[tuple[int, ...]]:
        """(address, what makes another name at that address the better one, size, offset of the name)."""
        layout = f"{image.order}{'IBBHQQ' if image.is_64 else 'IIIBBH'}"  # Elf64_Sym, Elf32_Sym
        entry = struct.calcsize(layout)
        count = section.size // entry
        if section.entry_size != entry or count > _MOST_SYMBOLS:
            raise BrokenFileError(f"{count} symbols of {section.entry_size} bytes")
        raw = image.content(section)
        for fields in struct.iter_unpack(layout, raw[: count * entry]):
            if image.is_64:
                name, info, _, index, value, size = fields
            else:
                name, value, size, info, _, index = fields
            kind = info & 15
            if not 0 < index < _FIRST_RESERVED_INDEX or not value or kind not in {_FUNC, _IFUNC, _NOTYPE}:
                continue
            # A label of assembler code has no type; `$x` and the like mark code and data for debuggers.
            if kind == _NOTYPE and (self._names[name : name + 1] == b"$" or not self._code.is_code(value)):
                continue
            yield value, kind == _NOTYPE, size == 0, info >> 4 == _LOCAL, *self._plainness(name), size, name

    def _plainness(self, offset: int) -> tuple[int, int]:
        # `close`, not `__close` or `__libc_close`, which are the same function.
        name = self._names[offset : offset + 64].split(b"\0", 1)[0]
        return len(name) - len(name.lstrip(b"_")), len(name)

    @property
    def size(self) -> int:
        """Bytes held, about."""
        return len(self._names) + 20 * len(self._starts)

    def find(self, address: int) -> str | None:
        """The function around `address`: one that covers it, else the nearest before it that has no size."""
        nearest = bisect_right(self._starts, address) - 1
        for number in range(nearest, max(-1, nearest - _LOOK_BACK), -1):
            if address < self._starts[number] + self._sizes[number]:
                return self._name(number)
        if nearest < 0 or self._sizes[nearest] or not self._are_neighbours(self._starts[nearest], address):
            return None
        return self._name(nearest)

    def _are_neighbours(self, start: int, address: int) -> bool:
        return any(one.address <= start and address < one.address + one.size for one in self._code.sections)

    def _name(self, number: int) -> str | None:
        offset = self._name_offsets[number]
        raw = self._names[offset : offset + _LONGEST].split(b"\0", 1)[0]
        return words(raw).partition("@")[0] or None  # without the version, as in `close@@GLIBC_2.2.5`
