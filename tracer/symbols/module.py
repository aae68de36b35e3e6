"""An ELF file that is mapped into a process, as far as unwinding needs it."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from tracer.symbols.cfi import Cie, Row, read_fde, row
from tracer.symbols.ending import UnwindError
from tracer.symbols.fdetable import ScannedTable, SearchTable, scanned_table, search_table
from tracer.symbols.registers import AARCH64, X86_64

# /usr/include/elf.h: Elf64_Ehdr, Elf64_Phdr, Elf64_Shdr.
_IDENTITY = b"\x7fELF\x02\x01"  # 64 bits, little endian
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_PT_LOAD, _PT_GNU_EH_FRAME = 1, 0x6474E550
_SHT_NOBITS = 8
_EXECUTABLE = 1
_MOST_SEGMENTS, _MOST_SECTIONS = 64, 256
_MACHINES = {machine.elf: machine for machine in (X86_64, AARCH64)}

_ENTRY_BYTES = 64  # ld.so's entry, in assembly, has 60

_MOST_KEPT = 4096  # rows: some hundred bytes each

_CALL, _CALL_BYTES = 0xE8, 5  # x86-64: call rel32
_CALL_INDIRECT, _CALL_INDIRECT_KIND = 0xFF, 2  # FF /2
_CALL_SHORTEST, _CALL_LONGEST = 2, 7
_BL, _BL_MASK = 0x94000000, 0xFC000000
_BLR, _BLR_MASK = 0xD63F0000, 0xFFFFFC1F


class _Header(NamedTuple):
    identity: bytes
    kind: int
    machine: int
    version: int
    entry: int
    segments: int
    sections: int
    flags: int
    size: int
    segment_size: int
    segment_count: int
    section_size: int
    section_count: int
    section_names: int


class _Segment(NamedTuple):
    address: int
    offset: int
    size: int
    """Bytes in the file."""
    executable: bool


class Call(NamedTuple):
    """The call before a return address."""

    target: int | None
    """None: an indirect call."""


class Module:
    """Reads `file` where needed and keeps what it has found; the file stays the caller's.

    All addresses are the file's own: those in the process minus the load bias.
    Every method, and making one, raises UnwindError for a file that is not what it should be.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._elf = elf = _Header(*_HEADER.unpack(self._at(0, _HEADER.size)))
        if not elf.identity.startswith(_IDENTITY) or elf.machine not in _MACHINES:
            raise UnwindError
        if elf.segment_size != _SEGMENT.size or elf.segment_count > _MOST_SEGMENTS:
            raise UnwindError
        self.machine = _MACHINES[elf.machine]
        self._segments: list[_Segment] = []
        self._header: tuple[int, int] | None = None
        table = self._at(elf.segments, elf.segment_count * _SEGMENT.size)
        for kind, flags, offset, address, _, length, _, _ in _SEGMENT.iter_unpack(table):
            if kind == _PT_LOAD:
                self._segments.append(_Segment(address, offset, length, bool(flags & _EXECUTABLE)))
            elif kind == _PT_GNU_EH_FRAME:
                self._header = (address, length)
        self._table: SearchTable | ScannedTable | None = None
        self._table_made = False
        self._rows: dict[int, Row | None] = {}
        self._cies: dict[int, Cie] = {}

    def bias(self, start: int, offset: int) -> int | None:
        """What is to be taken off from addresses of the process; None: no code of this file's.

        `start` and `offset` are those of an executable line in /proc/PID/maps.
        """
        for segment in self._segments:
            first = segment.offset & -self.machine.page
            if segment.executable and first <= offset < segment.offset + segment.size:
                return start - offset + segment.offset - segment.address
        return None

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes of what the file has mapped at `address`."""
        for segment in self._segments:
            into = address - segment.address
            if into >= 0 and into + size <= segment.size:
                return self._at(segment.offset + into, size)
        raise UnwindError

    def starts_at(self, address: int) -> bool:
        """Is it where the kernel starts a program? C libraries have that in assembly, some without CFI."""
        return self._elf.entry != 0 and 0 <= address - self._elf.entry < _ENTRY_BYTES

    def row(self, address: int) -> Row | None:
        """How the caller of the instruction at `address` is found; None: nothing is said of it."""
        try:
            return self._rows[address]
        except KeyError:
            pass
        found = self._read_row(address)
        if len(self._rows) == _MOST_KEPT:
            self._rows.clear()
            self._cies.clear()
        self._rows[address] = found
        return found

    def call_before(self, address: int) -> Call | None:
        """The call that returns to `address`; None: there is none, so it is no return address."""
        length = 4 if self.machine is AARCH64 else _CALL_LONGEST
        try:
            code = self.read(address - length, length)
        except UnwindError:
            return None
        return _call_aarch64(code, address) if self.machine is AARCH64 else _call_x86_64(code, address)

    def _at(self, offset: int, size: int) -> bytes:
        try:
            self._file.seek(offset)
            data = self._file.read(size)
        except (OSError, OverflowError, ValueError):
            raise UnwindError from None
        if len(data) != size:
            raise UnwindError
        return data

    def _read_row(self, address: int) -> Row | None:
        if not self._table_made:
            self._table_made = True  # one that cannot be made is not tried again
            self._table = self._make_table()
        entry = self._table.find(address) if self._table else None
        if entry is None:
            return None
        fde = read_fde(self, entry, self._cies)
        return row(fde, address) if fde.start <= address < fde.end else None

    def _make_table(self) -> SearchTable | ScannedTable | None:
        if self._header:
            table = search_table(self, *self._header)
            if table:
                return table
        section = self._eh_frame()
        return scanned_table(self, *section) if section else None

    def _eh_frame(self) -> tuple[int, int] | None:
        """Address and size of the section, from the section headers."""
        elf = self._elf
        if elf.section_size != _SECTION.size or elf.section_count > _MOST_SECTIONS:
            return None
        data = self._at(elf.sections, elf.section_count * _SECTION.size)
        headers = list(_SECTION.iter_unpack(data))
        if elf.section_names >= len(headers):
            return None
        names = headers[elf.section_names][4]
        wanted = b".eh_frame\0"
        for name, kind, _, address, _, size, *_ in headers:
            if kind != _SHT_NOBITS and address and self._at(names + name, len(wanted)) == wanted:
                return address, size
        return None


def _call_x86_64(code: bytes, behind: int) -> Call | None:
    """`code` ends at `behind`."""
    if code[-_CALL_BYTES] == _CALL:
        return Call(behind + int.from_bytes(code[-_CALL_BYTES + 1 :], "little", signed=True))
    for length in range(_CALL_SHORTEST, _CALL_LONGEST + 1):
        if code[-length] == _CALL_INDIRECT and code[1 - length] >> 3 & 7 == _CALL_INDIRECT_KIND:
            return Call(None)
    return None


def _call_aarch64(code: bytes, behind: int) -> Call | None:
    word = int.from_bytes(code, "little")
    if word & _BL_MASK == _BL:
        words = word & ~_BL_MASK
        return Call(behind - 4 + 4 * (words - (1 << 26) if words >> 25 else words))
    return Call(None) if word & _BLR_MASK == _BLR else None
