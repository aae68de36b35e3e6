"""Which function of a compilation unit covers an address, found without a look at most of its entries.

pyelftools takes 20 µs an entry, and compilers like LLVM leave no way to step over an entry's children: the
scan here steps over entries by the sizes of their forms, and stops at functions alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from elftools.dwarf.compileunit import CompileUnit

from tracer.symbols import varint
from tracer.symbols.image import BrokenFileError, ByteOrder

_FIXED = {
    "DW_FORM_data1": 1,
    "DW_FORM_data2": 2,
    "DW_FORM_data4": 4,
    "DW_FORM_data8": 8,
    "DW_FORM_data16": 16,
    "DW_FORM_flag": 1,
    "DW_FORM_flag_present": 0,
    "DW_FORM_implicit_const": 0,
    "DW_FORM_ref1": 1,
    "DW_FORM_ref2": 2,
    "DW_FORM_ref4": 4,
    "DW_FORM_ref8": 8,
    "DW_FORM_ref_sig8": 8,
    "DW_FORM_ref_sup4": 4,
    "DW_FORM_ref_sup8": 8,
    "DW_FORM_strx1": 1,
    "DW_FORM_strx2": 2,
    "DW_FORM_strx3": 3,
    "DW_FORM_strx4": 4,
    "DW_FORM_addrx1": 1,
    "DW_FORM_addrx2": 2,
    "DW_FORM_addrx3": 3,
    "DW_FORM_addrx4": 4,
}
_OFFSETS = {
    "DW_FORM_strp",
    "DW_FORM_line_strp",
    "DW_FORM_strp_sup",
    "DW_FORM_sec_offset",
    "DW_FORM_GNU_ref_alt",
    "DW_FORM_GNU_strp_alt",
}
_BLOCKS = {"DW_FORM_block1": 1, "DW_FORM_block2": 2, "DW_FORM_block4": 4}
_COUNTED = {"DW_FORM_block", "DW_FORM_exprloc"}
_NUMBERS = {
    "DW_FORM_udata",
    "DW_FORM_sdata",
    "DW_FORM_ref_udata",
    "DW_FORM_strx",
    "DW_FORM_addrx",
    "DW_FORM_loclistx",
    "DW_FORM_rnglistx",
    "DW_FORM_GNU_addr_index",
    "DW_FORM_GNU_str_index",
}
_STRING, _NUMBER, _COUNTED_BLOCK = -1, -2, -3
_BLOCK = -10
"""Below this: a block whose length stands in `_BLOCK - step` bytes."""
_DWARF_2 = 2


class _Plan(NamedTuple):
    """How to step over the entries of one abbreviation."""

    steps: tuple[int, ...]
    """Bytes to pass over, or what of a varying size stands next."""
    is_function: bool


def functions(unit: CompileUnit, section: bytes) -> Iterator[int]:
    """Offsets in `.debug_info` of the unit's functions that have code."""
    plans: dict[int, _Plan] = {}
    at, end = unit.cu_die_offset, min(unit.cu_offset + unit.size, len(section))
    order: ByteOrder = "little" if unit.structs.little_endian else "big"
    while at < end:
        start = at
        code = section[at]
        if code < 0x80:  # noqa: PLR2004 - one byte, as most
            at += 1
        else:
            code, at = varint.unsigned(section, at)
        if code == 0:
            continue
        plan = plans.get(code)
        if plan is None:
            plan = plans[code] = _plan(unit, code)
        if plan.is_function:
            yield start
        at = _after(section, at, plan.steps, order)


def _after(section: bytes, at: int, steps: tuple[int, ...], order: ByteOrder) -> int:
    """Where the attributes that begin at `at` end."""
    for step in steps:
        if step >= 0:
            at += step
        elif step == _STRING:
            at = section.index(b"\0", at) + 1
        elif step == _NUMBER:
            while section[at] >= 0x80:  # noqa: PLR2004 - more follows
                at += 1
            at += 1
        elif step == _COUNTED_BLOCK:
            size, at = varint.unsigned(section, at)
            at += size
        else:
            width = _BLOCK - step
            at += width + int.from_bytes(section[at : at + width], order)
    return at


def _plan(unit: CompileUnit, code: int) -> _Plan:
    declaration = unit.get_abbrev_table().get_abbrev(code)
    steps: list[int] = []
    names = set()
    for name, form in declaration.iter_attr_specs():
        names.add(name)
        step = _step(unit, form)
        if steps and steps[-1] >= 0 and step >= 0:
            steps[-1] += step
        else:
            steps.append(step)
    has_code = bool(names & {"DW_AT_low_pc", "DW_AT_ranges"})
    return _Plan(tuple(steps), has_code and declaration["tag"] == "DW_TAG_subprogram")


def _step(unit: CompileUnit, form: str) -> int:  # noqa: PLR0911 - a table
    if form in _FIXED:
        return _FIXED[form]
    offset_size = unit.dwarf_format() // 8
    if form in _OFFSETS:
        return offset_size
    if form == "DW_FORM_addr" or (form == "DW_FORM_ref_addr" and unit["version"] == _DWARF_2):
        return int(unit["address_size"])
    if form == "DW_FORM_ref_addr":
        return offset_size
    if form == "DW_FORM_string":
        return _STRING
    if form in _NUMBERS:
        return _NUMBER
    if form in _COUNTED:
        return _COUNTED_BLOCK
    if form in _BLOCKS:
        return _BLOCK - _BLOCKS[form]
    raise BrokenFileError(f"attribute of form {form}")
