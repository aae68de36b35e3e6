"""DWARF 2 to 5: functions, those inlined into them, and lines. Without split files (`.dwo`)."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarfinfo import DebugSectionDescriptor, DwarfConfig, DWARFInfo
from elftools.dwarf.ranges import BaseAddressEntry

from tracer.symbols import aranges
from tracer.symbols.aranges import Range
from tracer.symbols.demangle import demangled
from tracer.symbols.facts import MOST_FRAMES, Frame, words
from tracer.symbols.image import BrokenFileError, Image
from tracer.symbols.lines import LineTable
from tracer.symbols.units import functions

_READ = ("info", "aranges", "abbrev", "str", "ranges", "line", "addr", "str_offsets", "line_str", "rnglists")
_UNREAD = ("frame", "loc", "pubtypes", "pubnames", "loclists", "sup", "types")
_UNITS_KEPT = 32
_UNITS_A_READER = 256
_MOST_HOPS = 8
"""From an inlined function to its origin, from there to its declaration: two or three, unless in a ring."""
_MOST_LEVELS = 512
_INLINED = "DW_TAG_inlined_subroutine"
_CODE = {
    _INLINED,
    "DW_TAG_lexical_block",
    "DW_TAG_subprogram",
    "DW_TAG_try_block",
    "DW_TAG_catch_block",
}
_LINKAGE_NAMES = ("DW_AT_linkage_name", "DW_AT_MIPS_linkage_name")
_ELSEWHERE = {"DW_FORM_GNU_ref_alt", "DW_FORM_ref_sup4", "DW_FORM_ref_sup8"}
"""References into a file that dwz made of what several files share, which we do not read."""
_ORIGINS = ("DW_AT_abstract_origin", "DW_AT_specification")


class _Unit(NamedTuple):
    """What is kept of a compilation unit."""

    lines: LineTable | None
    functions: list[Range]
    """With the offset of each in `.debug_info`."""


class DebugInfo:
    """The DWARF of one file. `image` says where its code lies, which a debug file's own headers do not."""

    def __init__(self, file: Image, image: Image) -> None:
        self._image = image
        self._config = DwarfConfig(image.little_endian, image.machine, image.address_size)
        self._sections = _sections(file)
        info = self._sections.get("info", b"")
        self._units_at = aranges.unit_offsets(info, image.byte_order)
        listed = aranges.listed(self._sections.get("aranges", b""), image.byte_order)
        self._ranges = sorted(one for one in listed if image.is_code(one.start))
        self._is_complete = False
        self._units: OrderedDict[int, _Unit] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes held, about."""
        return sum(map(len, self._sections.values()))

    def frames(self, address: int) -> tuple[Frame, ...]:
        """The functions at `address`, the innermost first; none if no unit covers it."""
        # pyelftools keeps all that it has parsed: a reader for each address lets it go.
        reader = _reader(self._config, self._sections)
        offset = self._unit_at(address)
        if offset is None:
            return ()
        cu = reader.get_CU_at(offset)
        unit = self._unit(reader, cu)
        file, line = unit.lines.find(address) if unit.lines else (None, None)
        frames = []
        for entry in reversed(self._chain(reader, cu, unit, address)):
            inlined = entry.tag == _INLINED
            frames.append(Frame(self._name(reader, entry), file, line, inlined))
            if inlined:
                file, line = _call(entry, unit)
        if not frames and file:
            frames.append(Frame(None, file, line))
        return tuple(frames[:MOST_FRAMES])

    def _unit_at(self, address: int) -> int | None:
        """The offset of the unit whose code it is."""
        found = aranges.find(self._ranges, address)
        if found is None and not self._is_complete:
            self._is_complete = True
            self._ranges = sorted([*self._ranges, *self._unlisted()])
            found = aranges.find(self._ranges, address)
        return found

    def _unlisted(self) -> Iterator[Range]:
        """The ranges of units that `.debug_aranges` is silent about: LLVM writes none."""
        listed = {one.offset for one in self._ranges}
        offsets = [offset for offset in self._units_at if offset not in listed]
        for first in range(0, len(offsets), _UNITS_A_READER):
            reader = _reader(self._config, self._sections)
            for offset in offsets[first : first + _UNITS_A_READER]:
                top = reader.get_CU_at(offset).get_top_DIE()
                for start, end in self._covered(reader, top):
                    yield Range(start, end, offset)

    def _unit(self, reader: DWARFInfo, cu: CompileUnit) -> _Unit:
        unit = self._units.get(cu.cu_offset)
        if unit is None:
            unit = _Unit(self._line_table(reader, cu), self._functions(reader, cu))
            self._units[cu.cu_offset] = unit
            if len(self._units) > _UNITS_KEPT:
                self._units.popitem(last=False)
        self._units.move_to_end(cu.cu_offset)
        return unit

    def _line_table(self, reader: DWARFInfo, cu: CompileUnit) -> LineTable | None:
        program = reader.line_program_for_CU(cu) if "line" in self._sections else None
        if program is None:
            return None
        folder = words(_text(cu.get_top_DIE(), "DW_AT_comp_dir") or b"")
        return LineTable(program, self._sections["line"], folder, self._image)

    def _functions(self, reader: DWARFInfo, cu: CompileUnit) -> list[Range]:
        found = []
        for offset in functions(cu, self._sections["info"]):
            entry = cu.get_DIE_from_refaddr(offset)
            found += [Range(start, end, offset) for start, end in self._covered(reader, entry)]
        return sorted(found)

    def _chain(self, reader: DWARFInfo, cu: CompileUnit, unit: _Unit, address: int) -> list[DIE]:
        """The function around `address`, then what is inlined there, ever further in."""
        offset = aranges.find(unit.functions, address)
        if offset is None:
            return []
        entry = cu.get_DIE_from_refaddr(offset)
        chain = [entry]
        for _ in range(_MOST_LEVELS):
            inner = next(
                (
                    child
                    for child in entry.iter_children()
                    if child.tag in _CODE
                    and any(start <= address < end for start, end in self._covered(reader, child))
                ),
                None,
            )
            if inner is None:
                return chain
            if inner.tag == _INLINED:
                chain.append(inner)
            entry = inner
        raise BrokenFileError(f"more than {_MOST_LEVELS} blocks inside each other")

    def _covered(self, reader: DWARFInfo, entry: DIE) -> list[tuple[int, int]]:
        """The addresses of an entry's code, from and to, without what the linker threw away."""
        if "DW_AT_ranges" in entry.attributes:
            found = _listed(reader, entry)
        else:
            low, high = entry.attributes.get("DW_AT_low_pc"), entry.attributes.get("DW_AT_high_pc")
            if low is None or high is None:
                return []
            is_address = high.form == "DW_FORM_addr" or high.form.startswith("DW_FORM_addrx")
            found = [(low.value, high.value if is_address else low.value + high.value)]
        return [one for one in found if one[0] < one[1] and self._image.is_code(one[0])]

    def _name(self, reader: DWARFInfo, entry: DIE) -> str | None:
        plain = None
        for _ in range(_MOST_HOPS):
            for attribute in _LINKAGE_NAMES:
                mangled = _text(entry, attribute)
                if mangled:
                    return demangled(words(mangled))
            plain = plain or _text(entry, "DW_AT_name")
            origin = next((one for one in _ORIGINS if one in entry.attributes), None)
            if origin is None or entry.attributes[origin].form in _ELSEWHERE:
                break
            entry = self._follow(reader, entry, origin)
        return demangled(words(plain)) if plain else None

    def _follow(self, reader: DWARFInfo, entry: DIE, name: str) -> DIE:
        attribute = entry.attributes[name]
        if attribute.form != "DW_FORM_ref_addr" or entry.dwarfinfo is not reader:
            return entry.get_DIE_from_attribute(name)
        # pyelftools would read the header of every unit on the way there.
        number = bisect_right(self._units_at, attribute.raw_value) - 1
        return reader.get_CU_at(self._units_at[max(0, number)]).get_DIE_from_refaddr(attribute.raw_value)


def _sections(file: Image) -> dict[str, bytes]:
    read = {name: file.data(f".debug_{name}") for name in _READ}
    return {name: data for name, data in read.items() if data is not None}


def _reader(config: DwarfConfig, sections: dict[str, bytes]) -> DWARFInfo:
    given: dict[str, Any] = {f"debug_{name}_sec": None for name in (*_READ, *_UNREAD)}
    for name, data in sections.items():
        given[f"debug_{name}_sec"] = DebugSectionDescriptor(io.BytesIO(data), name, None, len(data), 0)
    return DWARFInfo(config, eh_frame_sec=None, gnu_debugaltlink_sec=None, **given)


def _listed(reader: DWARFInfo, entry: DIE) -> list[tuple[int, int]]:
    lists = reader.range_lists()
    if lists is None or not isinstance(entry.cu, CompileUnit):
        return []
    low = entry.cu.get_top_DIE().attributes.get("DW_AT_low_pc")
    base = low.value if low is not None else 0
    found = []
    for one in lists.get_range_list_at_offset(entry.attributes["DW_AT_ranges"].value, entry.cu):
        if isinstance(one, BaseAddressEntry):
            base = one.base_address
        else:
            origin = 0 if one.is_absolute else base
            found.append((origin + one.begin_offset, origin + one.end_offset))
    return found


def _text(entry: DIE, name: str) -> bytes | None:
    attribute = entry.attributes.get(name)
    return attribute.value if attribute is not None and isinstance(attribute.value, bytes) else None


def _call(inlined: DIE, unit: _Unit) -> tuple[str | None, int | None]:
    """(file, line) that a function was inlined at."""
    file, line = (inlined.attributes.get(name) for name in ("DW_AT_call_file", "DW_AT_call_line"))
    return (
        unit.lines.file(file.value) if unit.lines is not None and file is not None else None,
        line.value or None if line is not None else None,
    )
