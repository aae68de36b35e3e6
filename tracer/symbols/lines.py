"""DWARF's line programs: source lines by address (DWARF 5, 6.2)."""

from __future__ import annotations

import posixpath
from array import array
from bisect import bisect_right
from typing import NamedTuple

from elftools.dwarf.lineprogram import LineProgram

from tracer.symbols import varint
from tracer.symbols.facts import LONGEST_PATH, cut, words
from tracer.symbols.image import BrokenFileError, Image

_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _CONST_ADD_PC, _FIXED_ADVANCE_PC = 1, 2, 3, 4, 8, 9
_END_SEQUENCE, _SET_ADDRESS = 1, 2
_MOST_ROWS = 1 << 22
_MOST_LINES = 1 << 31
_DWARF_5 = 5


class _Sequence(NamedTuple):
    """Instructions that follow each other: row i is from its address to that of row i + 1."""

    addresses: array[int]
    files: array[int]
    lines: array[int]


class LineTable:
    """The rows of one unit's line program."""

    def __init__(self, program: LineProgram, section: bytes, folder: str, image: Image) -> None:
        self._header = program.header
        self._folder = folder
        self._order = image.byte_order
        self._address_size = image.address_size
        code = section[program.program_start_offset : program.program_end_offset]
        self._sequences = sorted(self._run(code), key=lambda one: one.addresses[0])
        self._starts = [one.addresses[0] for one in self._sequences]

    def find(self, address: int) -> tuple[str | None, int | None]:
        """(file, line) of the instruction at `address`."""
        for number in range(bisect_right(self._starts, address) - 1, -1, -1):
            addresses, files, lines = self._sequences[number]
            if address < addresses[-1]:
                row = bisect_right(addresses, address) - 1
                # Line 0 is code that no source line asked for.
                return self.file(files[row]), lines[row] or None
        return None, None

    def file(self, number: int) -> str | None:
        """A file's path, by its number in this table."""
        first = 0 if self._header["version"] >= _DWARF_5 else 1
        entries = self._header["file_entry"]
        if not first <= number < first + len(entries):
            return None
        entry = entries[number - first]
        path = posixpath.join(self._folder, self._directory(entry["dir_index"] or 0), words(entry["name"]))
        return cut(posixpath.normpath(path), LONGEST_PATH)

    def _directory(self, number: int) -> str:
        directories = self._header["include_directory"]
        if self._header["version"] < _DWARF_5:
            number -= 1  # 0 is the unit's own folder
        return words(directories[number]) if 0 <= number < len(directories) else ""

    def _run(self, code: bytes) -> list[_Sequence]:  # noqa: C901, PLR0912, PLR0915 - a machine of nine orders
        header = self._header
        base, span, first = header["line_base"], header["line_range"], header["opcode_base"]
        step = header["minimum_instruction_length"]
        lengths = header["standard_opcode_lengths"]
        sequences, rows = [], 0
        at, end = 0, len(code)
        address, file, line = 0, 1, 1
        addresses, files, lines = array("Q"), array("I"), array("I")

        def row() -> None:
            if addresses and address < addresses[-1]:
                return  # a linker's leavings
            addresses.append(address)
            files.append(file)
            lines.append(line if 0 < line < _MOST_LINES else 0)

        while at < end:
            order = code[at]
            at += 1
            if order >= first:
                order -= first
                address += order // span * step
                line += base + order % span
                row()
            elif order == 0:
                length, at = varint.unsigned(code, at)
                order = code[at]
                if order == _END_SEQUENCE:
                    row()
                    if len(addresses) > 1:
                        sequences.append(_Sequence(addresses, files, lines))
                    rows += len(addresses)
                    if rows > _MOST_ROWS:
                        raise BrokenFileError(f"more than {_MOST_ROWS} rows of lines")
                    address, file, line = 0, 1, 1
                    addresses, files, lines = array("Q"), array("I"), array("I")
                elif order == _SET_ADDRESS:
                    raw = code[at + 1 : at + 1 + self._address_size]
                    address = int.from_bytes(raw, self._order)
                at += length
            elif order == _COPY:
                row()
            elif order == _ADVANCE_PC:
                advance, at = varint.unsigned(code, at)
                address += advance * step
            elif order == _ADVANCE_LINE:
                advance, at = varint.signed(code, at)
                line += advance
            elif order == _SET_FILE:
                file, at = varint.unsigned(code, at)
            elif order == _CONST_ADD_PC:
                address += (255 - first) // span * step
            elif order == _FIXED_ADVANCE_PC:
                address += int.from_bytes(code[at : at + 2], self._order)
                at += 2
            else:
                for _ in range(lengths[order - 1]):
                    _, at = varint.unsigned(code, at)
        return sequences
