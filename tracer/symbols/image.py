"""An ELF file as it lies on the disk: its segments, and sections by name, read when asked for."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO, Literal, NamedTuple

import zstandard
from elftools.common.exceptions import ELFError
from elftools.elf.constants import P_FLAGS, SH_FLAGS
from elftools.elf.elffile import ELFFile

ByteOrder = Literal["little", "big"]

_MOST_HEADERS = 65_536
_LARGEST_SECTION = 1 << 29
"""Bytes, decompressed. A process of 1 GiB holds no larger ones with what is made of them."""
_ZLIB, _ZSTD = 1, 2
"""ELFCOMPRESS_* (gABI)."""


class BrokenFileError(ValueError):
    """The file contradicts itself, or is larger than we read."""


class Segment(NamedTuple):
    """What the loader maps: PT_LOAD."""

    offset: int
    size: int
    address: int
    executable: bool


class Section(NamedTuple):
    """A section header, as far as we use it."""

    name: str
    kind: str
    offset: int
    size: int
    address: int
    link: int
    entry_size: int
    flags: int


class Image:
    """The parts of one ELF file. Raises BrokenFileError or what pyelftools raises."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        elf = ELFFile(file)
        self.little_endian: bool = elf.little_endian
        self.is_64: bool = elf.elfclass == 64  # noqa: PLR2004
        self.address_size = 8 if self.is_64 else 4
        self.machine: str = elf.get_machine_arch()
        self.order = "<" if self.little_endian else ">"
        self.byte_order: ByteOrder = "little" if self.little_endian else "big"
        self.segments = _segments(elf)
        self.sections = _sections(elf)
        self._by_name = {section.name: section for section in reversed(self.sections)}

    def address_of(self, offset: int) -> int | None:
        """The virtual address, as linked, of what lies at a file offset; code first."""
        found = [one for one in self.segments if one.offset <= offset < one.offset + one.size]
        if not found:
            return None
        segment = max(found, key=lambda one: one.executable)
        return segment.address + offset - segment.offset

    def is_code(self, address: int) -> bool:
        """Whether an executable segment covers a virtual address."""
        return any(
            one.executable and one.address <= address < one.address + one.size for one in self.segments
        )

    def section(self, *names: str) -> Section | None:
        """The first of these that is there, and in the file."""
        for name in names:
            section = self._by_name.get(name)
            if section is not None and section.kind != "SHT_NOBITS":
                return section
        return None

    def data(self, name: str) -> bytes | None:
        """A section's bytes, decompressed; None if the file has none of that name."""
        section = self.section(name)
        if section is not None:
            return self.content(section)
        if not name.startswith(".debug_"):
            return None
        section = self.section(f".z{name[1:]}")  # GNU's way of compressing, before gABI had one
        if section is None:
            return None
        raw = self.read(section.offset, section.size)
        if raw[:4] != b"ZLIB":
            raise BrokenFileError(f"{section.name} does not begin with ZLIB")
        return _decompressed(_ZLIB, raw[12:], int.from_bytes(raw[4:12], "big"))

    def content(self, section: Section) -> bytes:
        """A section's bytes, decompressed."""
        raw = self.read(section.offset, section.size)
        if not section.flags & SH_FLAGS.SHF_COMPRESSED:
            return raw
        layout = f"{self.order}{'IIQQ' if self.is_64 else 'III'}"  # Elf64_Chdr, Elf32_Chdr
        header = struct.unpack_from(layout, raw)
        return _decompressed(header[0], raw[struct.calcsize(layout) :], header[-2])

    def at(self, address: int, size: int) -> bytes:
        """What the loader puts at a virtual address, from the file."""
        for one in self.segments:
            if one.address <= address and address + size <= one.address + one.size:
                return self.read(one.offset + address - one.address, size)
        raise BrokenFileError(f"no segment has {size} bytes at {address:#x}")

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file, all of them."""
        if size > _LARGEST_SECTION or offset + size > self._size:
            raise BrokenFileError(f"{size} bytes at {offset}, in a file of {self._size}")
        self._file.seek(offset)
        return self._file.read(size)

    def crc(self) -> int:
        """CRC-32 of the whole file, as `.gnu_debuglink` gives it."""
        self._file.seek(0)
        crc = 0
        while piece := self._file.read(1 << 20):
            crc = zlib.crc32(piece, crc)
        return crc


def _segments(elf: ELFFile) -> list[Segment]:
    if elf.num_segments() > _MOST_HEADERS:
        raise BrokenFileError(f"{elf.num_segments()} segments")
    return [
        Segment(one["p_offset"], one["p_filesz"], one["p_vaddr"], bool(one["p_flags"] & P_FLAGS.PF_X))
        for one in elf.iter_segments("PT_LOAD")
    ]


def _sections(elf: ELFFile) -> list[Section]:
    if elf.num_sections() > _MOST_HEADERS:
        raise BrokenFileError(f"{elf.num_sections()} sections")
    found = []
    for number in range(elf.num_sections()):
        try:
            one = elf.get_section(number)
        except (ELFError, ValueError, LookupError, TypeError, AttributeError, AssertionError):
            found.append(Section("", "SHT_NULL", 0, 0, 0, 0, 0, 0))  # it spoils no other
            continue
        fields = (
            one[f"sh_{field}"] for field in ("type", "offset", "size", "addr", "link", "entsize", "flags")
        )
        found.append(Section(one.name, *fields))
    return found


def _decompressed(method: int, raw: bytes, size: int) -> bytes:
    if size > _LARGEST_SECTION:
        raise BrokenFileError(f"a section of {size} bytes, compressed")
    if method == _ZLIB:
        data = zlib.decompressobj().decompress(raw, size)
    elif method == _ZSTD:
        with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            data = stream.read(size)
    else:
        raise BrokenFileError(f"compressed by method {method}")
    if len(data) != size:
        raise BrokenFileError(f"{len(data)} bytes decompressed, not {size}")
    return data
