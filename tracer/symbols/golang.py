"""Go's own table of functions and lines, `.gopclntab`, which stripping leaves: Go 1.16 and later.

Layouts: src/runtime/symtab.go and runtime2.go of Go 1.16, 1.18, 1.20, 1.26 and 1.27.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from tracer.symbols import varint
from tracer.symbols.facts import LONGEST_NAME, LONGEST_PATH, MOST_FRAMES, Frame, cut, words
from tracer.symbols.image import BrokenFileError, Image

_SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
_MERGED = ".data.rel.ro"
"""Where the C linker puts the table of a position independent program, up to Go 1.25."""
_NOTE = ".note.go.buildid"
_GO_1_16, _GO_1_18, _GO_1_20 = 0xFFFFFFFA, 0xFFFFFFF0, 0xFFFFFFF1
_HEADER = 8
"""Bytes before the first word: magic, padding, size of instructions, size of words."""
_INLINE_INDEX = 2
"""PCDATA_InlTreeIndex: which entry of the inline tree an instruction belongs to."""
_INLINE_TREE = 3
"""FUNCDATA_InlTree."""
_ABSENT = 0xFFFFFFFF
_MOST_FUNCTIONS = 1 << 22
_RELATIVE = {"x64": 8, "AArch64": 1027}
"""R_X86_64_RELATIVE, R_AARCH64_RELATIVE: a word that holds an address of this file."""
_WORDS_TO_TEXT = 22
_WORDS_TO_DATA = {_GO_1_18: (38,), _GO_1_20: (40, 43)}
"""In `runtime.moduledata`, to `text` and `gofunc`: the base of what functions have beside their code.
43 is Go 1.27's."""


def is_go(image: Image) -> bool:
    """Whether the file has a table, or may have one."""
    return image.section(*_SECTIONS, _NOTE) is not None


def _find(image: Image) -> tuple[int, bytes]:
    """(address, bytes) of the table, and what follows it in its section."""
    section = image.section(*_SECTIONS)
    if section is not None:
        return section.address, image.content(section)
    section = image.section(_MERGED)
    if section is not None:
        data = image.content(section)
        for magic in (_GO_1_20, _GO_1_18):
            for quantum in (1, 4):
                start = data.find(struct.pack(f"{image.order}IHBB", magic, 0, quantum, image.address_size))
                if start >= 0:
                    return section.address + start, data[start:]
    raise BrokenFileError("no .gopclntab")


class _Function(NamedTuple):
    """`runtime._func`, as far as we read it. Tables are offsets; 0 is none."""

    entry: int
    name: int
    files: int
    lines: int
    unit: int
    inline_indices: int
    inline_tree: int | None
    """An address."""


class GoTable:
    """The table of one file, read as the runtime does for its own stack traces."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._order = image.order
        self._address, self._data = _find(image)
        magic, _, self._quantum, word = struct.unpack_from(f"{self._order}IHBB", self._data)
        if magic not in {_GO_1_16, _GO_1_18, _GO_1_20} or word != image.address_size:
            raise BrokenFileError(f".gopclntab of an unknown form, {magic:#x}")
        self._version = magic
        self._word = "Q" if image.is_64 else "I"
        count = 7 if magic == _GO_1_16 else 8
        header = struct.unpack_from(f"{self._order}{count}{self._word}", self._data, _HEADER)
        self._names, self._units, self._files, self._pcs, self._functions = header[-5:]
        self._relocated = dict(_relocations(image))
        # A position independent file has 0 in the place of addresses, and since 1.26 every file has it here.
        start_at = self._address + _HEADER + 2 * word
        listed = 0 if magic == _GO_1_16 else header[2] or self._relocated.get(start_at, 0)
        self._text, self._data_base = listed, None
        if magic != _GO_1_16:
            self._text, self._data_base = self._module_data(listed)
        self._starts, self._records = self._table(header[0])

    @property
    def size(self) -> int:
        """Bytes held, about."""
        return len(self._data) + 80 * len(self._starts) + 200 * len(self._relocated)

    def frames(self, address: int) -> tuple[Frame, ...]:
        """The functions at `address`, the innermost first; none if it is no Go code."""
        number = bisect_right(self._starts, address) - 1
        if not 0 <= number < len(self._records):
            return ()
        function = self._function(self._records[number])
        found = []
        for _ in range(MOST_FRAMES):
            file, line = self._place(function, address)
            index = self._value(function.inline_indices, function.entry, address)
            if index < 0 or function.inline_tree is None:
                found.append(Frame(self._name(function.name), file, line))
                break
            name, call = self._inlined(function.inline_tree, index)
            found.append(Frame(self._name(name), file, line, inlined=True))
            address = function.entry + call
        return tuple(found)

    def _table(self, count: int) -> tuple[list[int], list[int]]:
        """(where each function begins and the last one ends, where the record of each is)."""
        pair = f"{self._order}2{self._word if self._version == _GO_1_16 else 'I'}"
        size = struct.calcsize(pair)
        table = self._data[self._functions : self._functions + count * size]
        if not 0 < count <= _MOST_FUNCTIONS or len(table) != count * size:
            raise BrokenFileError(f"{count} Go functions")
        rows = list(struct.iter_unpack(pair, table))
        end = struct.unpack_from(pair[0] + pair[-1], self._data, self._functions + count * size)[0]
        starts = [self._text + row[0] for row in rows] + [self._text + end]
        if not self._image.is_code(starts[0]):
            raise BrokenFileError(f"Go code at {starts[0]:#x}, where no code is")
        return starts, [self._functions + row[1] for row in rows]

    def _function(self, at: int) -> _Function:
        first = self._word if self._version == _GO_1_16 else "I"
        last = "" if self._version in {_GO_1_16, _GO_1_18} else "4x"  # the first line, since 1.20
        layout = f"{self._order}{first}8I{last}3xB"
        entry, name, _, _, _, files, lines, tables, unit, extras = struct.unpack_from(layout, self._data, at)
        at += struct.calcsize(layout)
        indices = 0
        if tables > _INLINE_INDEX:
            indices = struct.unpack_from(f"{self._order}I", self._data, at + 4 * _INLINE_INDEX)[0]
        tree = self._extra(at + 4 * tables) if extras > _INLINE_TREE else None
        return _Function(self._text + entry, name, files, lines, unit, indices, tree)

    def _extra(self, at: int) -> int | None:
        if self._version == _GO_1_16:
            size = self._image.address_size
            at = -(-at // size) * size
            return (
                struct.unpack_from(f"{self._order}{self._word}", self._data, at + size * _INLINE_TREE)[0]
                or None
            )
        offset: int = struct.unpack_from(f"{self._order}I", self._data, at + 4 * _INLINE_TREE)[0]
        return None if offset == _ABSENT or self._data_base is None else self._data_base + offset

    def _inlined(self, tree: int, index: int) -> tuple[int, int]:
        """(offset of its name, offset in the function of an instruction that stands for the call)."""
        if self._version == _GO_1_20:
            name, call = struct.unpack(f"{self._order}4xII4x", self._image.at(tree + 16 * index, 16))
        else:
            name, call = struct.unpack(f"{self._order}12xII", self._image.at(tree + 20 * index, 20))
        return name, call

    def _place(self, function: _Function, address: int) -> tuple[str | None, int | None]:
        number = self._value(function.files, function.entry, address)
        line = self._value(function.lines, function.entry, address)
        if number < 0:
            return None, None
        at = self._units + 4 * (function.unit + number)
        offset = struct.unpack_from(f"{self._order}I", self._data, at)[0]
        file = self._text_at(self._files + offset, LONGEST_PATH) if offset != _ABSENT else None
        return file, line if line > 0 else None

    def _value(self, table: int, start: int, address: int) -> int:
        """What a table of differences says of an instruction; -1: nothing."""
        if not table:
            return -1
        at, end = self._pcs + table, start
        value = -1
        while True:
            change, at = varint.unsigned(self._data, at)
            if change == 0 and end != start:
                return -1
            value += (change >> 1) ^ -(change & 1)
            advance, at = varint.unsigned(self._data, at)
            end += advance * self._quantum
            if address < end:
                return value

    def _name(self, offset: int) -> str | None:
        name = self._text_at(self._names + offset, LONGEST_NAME)
        # As the runtime prints it: not what its type parameters stand for.
        first, last = name.find("["), name.rfind("]")
        return f"{name[:first]}[...]{name[last + 1 :]}" if 0 <= first < last else name or None

    def _text_at(self, at: int, longest: int) -> str:
        return cut(words(self._data[at : at + longest + 1].split(b"\0", 1)[0]), longest)

    def _module_data(self, text: int) -> tuple[int, int | None]:
        """(`text`, `gofunc`) of `runtime.firstmoduledata`, which begins with the address of our table."""
        size = self._image.address_size
        table, end = self._address, self._address + len(self._data)
        for at in self._pointers_to(table):
            found = self._pointer(at + size * _WORDS_TO_TEXT)
            if found is None or not self._image.is_code(found) or text not in {0, found}:
                continue
            for count in _WORDS_TO_DATA[self._version]:
                data, after = (self._pointer(at + size * (count + more)) for more in (0, 1))
                # Since 1.26 the end of the table follows.
                if text or (after is not None and table < after <= end):
                    return found, data
            return found, None
        return text, None

    def _pointers_to(self, address: int) -> Iterator[int]:
        if self._relocated:
            yield from (at for at, value in self._relocated.items() if value == address)
            return
        wanted = struct.pack(f"{self._order}{self._word}", address)
        for name in (".noptrdata", ".data", ".go.module"):
            section = self._image.section(name)
            if section is None:
                continue
            data = self._image.content(section)
            found = data.find(wanted)
            while found >= 0:
                yield section.address + found
                found = data.find(wanted, found + 1)

    def _pointer(self, at: int) -> int | None:
        if at in self._relocated:
            return self._relocated[at]
        try:
            raw = self._image.at(at, self._image.address_size)
        except BrokenFileError:
            return None
        return int.from_bytes(raw, self._image.byte_order)


def _relocations(image: Image) -> Iterator[tuple[int, int]]:
    """(address, what the loader writes there), of a position independent file."""
    kind = _RELATIVE.get(image.machine)
    if kind is None:
        return
    for section in image.sections:
        if section.kind == "SHT_RELA" and section.entry_size == 24:  # noqa: PLR2004 - Elf64_Rela
            raw = image.content(section)
            for at, info, addend in struct.iter_unpack(f"{image.order}QQQ", raw[: len(raw) // 24 * 24]):
                if info == kind:
                    yield at, addend
