"""Functions and source lines at an offset of an ELF file. The file may belong to anyone and say anything.

For use in a process that may be lost: what a file says can make it loop or take memory without end.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterator
from typing import BinaryIO

from tracer.symbols import golang
from tracer.symbols.demangle import demangled
from tracer.symbols.dwarf import DebugInfo
from tracer.symbols.facts import DebugLink, Frame, words
from tracer.symbols.golang import GoTable
from tracer.symbols.image import BrokenFileError, Image
from tracer.symbols.symboltable import SymbolTable

_DEBUG_INFO = (".debug_info", ".zdebug_info")
_NT_GNU_BUILD_ID = 3
_BUILD_ID_SIZES = range(4, 65)
_LONGEST_FILE_NAME = 255
_LARGEST_MINI = 1 << 26
_LONGEST_REASON = 200


class ElfFile:
    """One ELF file, with its debug file once attached. Raises anything when the file is malformed."""

    def __init__(self, file: BinaryIO) -> None:
        self._image = Image(file)
        self._debug: Image | None = None
        self.build_id = _build_id(self._image)
        self.debuglink = _debuglink(self._image)
        self.faults: dict[str, str] = {}
        """Kinds of information that could not be read, and why; the others are used."""
        self._go: GoTable | None = None
        self._dwarf: DebugInfo | None = None
        self._tables: list[SymbolTable] | None = None

    @property
    def has_lines(self) -> bool:
        """Whether it knows source lines without a debug file."""
        return self._image.section(*_DEBUG_INFO) is not None or golang.is_go(self._image)

    @property
    def size(self) -> int:
        """Bytes held, about."""
        tables = sum(table.size for table in self._tables or [])
        return tables + (self._dwarf.size if self._dwarf else 0) + (self._go.size if self._go else 0)

    def attach(self, file: BinaryIO) -> bool:
        """Take debug information from `file` if it has some, made for this one; says whether."""
        try:
            debug = Image(file)
            if debug.section(*_DEBUG_INFO, ".symtab") is None:
                return False
            build_id = _build_id(debug)
            if build_id is None or self.build_id is None:
                fits = self.debuglink is not None and debug.crc() == self.debuglink.crc
            else:
                fits = build_id == self.build_id
        except Exception:  # noqa: BLE001 - a malformed file breaks its reader in any way
            return False
        if fits:
            self._debug, self._dwarf, self._tables = debug, None, None
            self.faults.clear()
        return fits

    def frames(self, offset: int) -> tuple[Frame, ...]:
        """The functions at a file offset, the innermost first; none if nothing is known.

        For a return address ask for the byte before: what comes after the call may be another line.
        """
        address = self._image.address_of(offset)
        if address is None:
            return ()
        frames = self._go_frames(address) or self._dwarf_frames(address)
        last = frames[-1] if frames else Frame(None)
        # The C library's code calls `close` `__GI___close`; the symbol table has both.
        if last.function is None or last.function.startswith("__"):
            name = self._symbol(address)
            if name is not None and (last.function is None or not name.startswith("_")):
                return (*frames[:-1], Frame(name, last.file, last.line))
        return frames

    def _go_frames(self, address: int) -> tuple[Frame, ...]:
        if "go" in self.faults or not golang.is_go(self._image):
            return ()
        try:
            self._go = self._go or GoTable(self._image)
            return self._go.frames(address)
        except Exception as error:  # noqa: BLE001 - a malformed file breaks its reader in any way
            self._go = None
            self._note("go", error)
            return ()

    def _dwarf_frames(self, address: int) -> tuple[Frame, ...]:
        file = self._debug or self._image
        if "dwarf" in self.faults or file.section(*_DEBUG_INFO) is None:
            return ()
        try:
            self._dwarf = self._dwarf or DebugInfo(file, self._image)
            return self._dwarf.frames(address)
        except Exception as error:  # noqa: BLE001 - as above
            self._dwarf = None
            self._note("dwarf", error)
            return ()

    def _symbol(self, address: int) -> str | None:
        if self._tables is None:
            self._tables = list(self._symbol_tables())
        found = next(filter(None, (table.find(address) for table in self._tables)), None)
        return demangled(found) if found else None

    def _symbol_tables(self) -> Iterator[SymbolTable]:
        files = [one for one in (self._debug, self._image) if one is not None]
        for file in files:
            yield from self._symbol_table(file, ".symtab")
        if self._image.section(".symtab") is None:
            yield from self._mini_table()
        yield from self._symbol_table(self._image, ".dynsym")

    def _symbol_table(self, file: Image, name: str) -> Iterator[SymbolTable]:
        try:
            section = file.section(name)
            if section is not None:
                yield SymbolTable(file, section, self._image)
        except Exception as error:  # noqa: BLE001 - as above
            self._note(name, error)

    def _mini_table(self) -> Iterator[SymbolTable]:
        """The symbols that Fedora leaves in stripped files, as a compressed ELF file."""
        try:
            packed = self._image.data(".gnu_debugdata")
            if packed is None:
                return
            data = lzma.LZMADecompressor().decompress(packed, _LARGEST_MINI)
            mini = Image(io.BytesIO(data))
        except Exception as error:  # noqa: BLE001 - as above
            self._note(".gnu_debugdata", error)
        else:
            yield from self._symbol_table(mini, ".symtab")

    def _note(self, what: str, error: Exception) -> None:
        self.faults[what] = f"{type(error).__name__}: {error}"[:_LONGEST_REASON]


def _build_id(image: Image) -> str | None:
    note = _small(image, ".note.gnu.build-id")
    name_size, size, kind = (int.from_bytes(note[at : at + 4], image.byte_order) for at in (0, 4, 8))
    build_id = note[16 : 16 + size]
    if (name_size, kind, note[12:16]) != (4, _NT_GNU_BUILD_ID, b"GNU\0") or len(build_id) != size:
        return None
    return build_id.hex() if size in _BUILD_ID_SIZES else None


def _debuglink(image: Image) -> DebugLink | None:
    data = _small(image, ".gnu_debuglink")
    name = data.split(b"\0", 1)[0]
    at = (len(name) + 4) // 4 * 4  # after the zero byte, aligned
    if len(name) > _LONGEST_FILE_NAME or len(data) < at + 4:
        return None
    return DebugLink(words(name), int.from_bytes(data[at : at + 4], image.byte_order))


def _small(image: Image, name: str) -> bytes:
    """The section's bytes; none if it has no sound ones."""
    section = image.section(name)
    try:
        return image.read(section.offset, section.size) if section is not None else b""
    except BrokenFileError:
        return b""
