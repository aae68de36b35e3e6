"""Call frame information: how to find a function's caller, from its entry in .eh_frame.

DWARF 5 section 6.4; what .eh_frame does otherwise: Linux Standard Base section 10.6.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple, Protocol

from tracer.symbols.cursor import OMITTED, Cursor
from tracer.symbols.ending import UnwindError

_SHORTEST = 4  # bytes of an entry: the pointer to its CIE
_LONGEST = 1 << 13  # bytes of an entry; libLLVM's longest has 2.4 KB
_DEEPEST = 64  # remembered states
_HIGHEST = 127  # register number

# The instructions whose operand is in the opcode: DWARF 5 section 7.24.
_OPCODE, _OPERAND = 0xC0, 0x3F
_ADVANCE, _OFFSET, _RESTORE = 0x40, 0x80, 0xC0


class Kind(Enum):
    """DWARF 5 section 6.4.1."""

    UNDEFINED = auto()
    SAME = auto()
    OFFSET = auto()
    VAL_OFFSET = auto()
    REGISTER = auto()
    EXPRESSION = auto()
    VAL_EXPRESSION = auto()


class Rule(NamedTuple):
    """Where a caller's register is."""

    kind: Kind
    number: int = 0
    """Bytes from the CFA, or a register."""
    code: bytes = b""


class Cfa(NamedTuple):
    """Where the canonical frame address is: `offset` bytes from a register, or what `code` computes."""

    register: int = 0
    offset: int = 0
    code: bytes | None = None


class Row(NamedTuple):
    """How the caller of one instruction is found."""

    cfa: Cfa
    rules: dict[int, Rule]
    return_register: int
    signal: bool
    """Is it a signal's trampoline: was its caller interrupted, not left by a call?"""


class Cie(NamedTuple):
    """What entries have in common."""

    code_factor: int
    data_factor: int
    return_register: int
    encoding: int
    augmented: bool
    signal: bool
    instructions: Cursor


class Fde(NamedTuple):
    """A function's entry."""

    cie: Cie
    start: int
    end: int
    instructions: Cursor


class Readable(Protocol):
    """An ELF file's bytes at its own addresses."""

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes."""


def read_fde(file: Readable, address: int, cies: dict[int, Cie]) -> Fde:
    """The entry at `address`; `cies` keeps those already read."""
    cursor = _entry(file, address)
    pointer_at = cursor.address
    distance = cursor.fixed(4)
    if distance == 0:
        raise UnwindError  # that is a CIE
    cie_at = pointer_at - distance
    cie = cies.get(cie_at)
    if cie is None:
        cie = cies[cie_at] = read_cie(file, cie_at)
    start, size = fde_range(cursor, cie)
    if cie.augmented:
        cursor.block()
    return Fde(cie, start, start + size, _rest(cursor))


def fde_range(cursor: Cursor, cie: Cie) -> tuple[int, int]:
    """Address and bytes of the function whose entry the cursor is in, behind the CIE's pointer."""
    return cursor.pointer(cie.encoding), cursor.pointer(cie.encoding & 0x0F)


def _entry(file: Readable, address: int) -> Cursor:
    length = int.from_bytes(file.read(address, 4), "little")
    if not _SHORTEST <= length <= _LONGEST:
        raise UnwindError
    return Cursor(file.read(address + 4, length), address + 4)


def _rest(cursor: Cursor) -> Cursor:
    return Cursor(cursor.data[cursor.at :], cursor.address + cursor.at)


def read_cie(file: Readable, address: int) -> Cie:
    """The CIE at `address`."""
    cursor = _entry(file, address)
    if cursor.fixed(4) != 0:
        raise UnwindError
    version = cursor.byte()
    if version not in {1, 3, 4}:
        raise UnwindError
    end = cursor.data.find(b"\0", cursor.at)
    augmentation = cursor.take(end - cursor.at if end >= 0 else len(cursor.data))
    cursor.byte()
    if version == 4 and cursor.take(2) != b"\x08\x00":  # noqa: PLR2004 - address size, no segments
        raise UnwindError
    code_factor, data_factor = cursor.uleb(), cursor.sleb()
    return_register = cursor.byte() if version == 1 else cursor.uleb()
    if augmentation and not augmentation.startswith(b"z"):
        raise UnwindError
    details = Cursor(cursor.block() if augmentation else b"")
    encoding, signal = _augmentation(augmentation[1:], details)
    if encoding == OMITTED:
        raise UnwindError
    return Cie(code_factor, data_factor, return_register, encoding, bool(augmentation), signal, _rest(cursor))


def _augmentation(letters: bytes, details: Cursor) -> tuple[int, bool]:
    """How addresses are encoded, and whether it is a signal's trampoline."""
    encoding, signal = 0, False
    for letter in letters:
        match chr(letter):
            case "R":
                encoding = details.byte()
            case "P":
                details.skip_pointer(details.byte())
            case "L":
                details.byte()
            case "S":
                signal = True
            case "B":
                pass  # aarch64: return addresses are signed with key B
            case _:
                break  # `z` gave the length, so what is not known can be left
    return encoding, signal


class _Interpreter:
    """Runs call frame instructions up to one address."""

    def __init__(self, cie: Cie) -> None:
        self.cie = cie
        self.cfa = Cfa()
        self.rules: dict[int, Rule] = {}
        self.initial: dict[int, Rule] = {}
        self.remembered: list[tuple[Cfa, dict[int, Rule]]] = []

    def run(self, instructions: Cursor, location: int, until: int) -> None:
        """Stop at the first row that begins behind `until`."""
        cursor = Cursor(instructions.data, instructions.address)
        while cursor.more:
            opcode = cursor.byte()
            high, low = opcode & _OPCODE, opcode & _OPERAND
            if high == _ADVANCE:
                location += low * self.cie.code_factor
            elif high == _OFFSET:
                self.rules[low] = Rule(Kind.OFFSET, cursor.uleb() * self.cie.data_factor)
            elif high == _RESTORE:
                self._restore(low)
            elif opcode == 0x01:  # DW_CFA_set_loc
                location = cursor.pointer(self.cie.encoding)
            elif opcode in _ADVANCES:
                location += cursor.fixed(_ADVANCES[opcode]) * self.cie.code_factor
            elif not (self._define_cfa(opcode, cursor) or self._define_rule(opcode, cursor)):
                self._other(opcode, cursor)
            if location > until:
                return

    def _restore(self, register: int) -> None:
        rule = self.initial.get(register)
        if rule is None:
            self.rules.pop(register, None)
        else:
            self.rules[register] = rule

    def _define_cfa(self, opcode: int, cursor: Cursor) -> bool:
        match opcode:
            case 0x0C:  # DW_CFA_def_cfa
                self.cfa = Cfa(cursor.uleb(), cursor.uleb())
            case 0x0D:  # DW_CFA_def_cfa_register
                self.cfa = Cfa(cursor.uleb(), self.cfa.offset)
            case 0x0E:  # DW_CFA_def_cfa_offset
                self.cfa = Cfa(self.cfa.register, cursor.uleb())
            case 0x0F:  # DW_CFA_def_cfa_expression
                self.cfa = Cfa(code=cursor.block())
            case 0x12:  # DW_CFA_def_cfa_sf
                self.cfa = Cfa(cursor.uleb(), cursor.sleb() * self.cie.data_factor)
            case 0x13:  # DW_CFA_def_cfa_offset_sf
                self.cfa = Cfa(self.cfa.register, cursor.sleb() * self.cie.data_factor)
            case _:
                return False
        return True

    def _define_rule(self, opcode: int, cursor: Cursor) -> bool:
        factor = self.cie.data_factor
        if opcode not in _RULES:
            return False
        register = cursor.uleb()
        if register > _HIGHEST:
            raise UnwindError
        kind = _RULES[opcode]
        match opcode:
            case 0x05 | 0x14:  # DW_CFA_offset_extended, val_offset
                self.rules[register] = Rule(kind, cursor.uleb() * factor)
            case 0x11 | 0x15:  # DW_CFA_offset_extended_sf, val_offset_sf
                self.rules[register] = Rule(kind, cursor.sleb() * factor)
            case 0x2F:  # DW_CFA_GNU_negative_offset_extended
                self.rules[register] = Rule(kind, -cursor.uleb() * factor)
            case 0x09:  # DW_CFA_register
                self.rules[register] = Rule(kind, cursor.uleb())
            case 0x10 | 0x16:  # DW_CFA_expression, val_expression
                self.rules[register] = Rule(kind, code=cursor.block())
            case _:  # DW_CFA_undefined, same_value
                self.rules[register] = Rule(kind)
        return True

    def _other(self, opcode: int, cursor: Cursor) -> None:
        match opcode:
            case 0x00 | 0x2C | 0x2D:  # DW_CFA_nop, AARCH64_negate_ra_state_with_pc, _negate_ra_state
                pass
            case 0x06:  # DW_CFA_restore_extended
                self._restore(cursor.uleb())
            case 0x0A:  # DW_CFA_remember_state
                if len(self.remembered) == _DEEPEST:
                    raise UnwindError
                self.remembered.append((self.cfa, dict(self.rules)))
            case 0x0B:  # DW_CFA_restore_state
                if not self.remembered:
                    raise UnwindError
                self.cfa, self.rules = self.remembered.pop()
            case 0x2E:  # DW_CFA_GNU_args_size
                cursor.uleb()
            case _:
                raise UnwindError


_ADVANCES = {0x02: 1, 0x03: 2, 0x04: 4}  # DW_CFA_advance_loc1, 2, 4
_RULES = {
    0x05: Kind.OFFSET,
    0x07: Kind.UNDEFINED,
    0x08: Kind.SAME,
    0x09: Kind.REGISTER,
    0x10: Kind.EXPRESSION,
    0x11: Kind.OFFSET,
    0x14: Kind.VAL_OFFSET,
    0x15: Kind.VAL_OFFSET,
    0x16: Kind.VAL_EXPRESSION,
    0x2F: Kind.OFFSET,
}


def row(fde: Fde, address: int) -> Row:
    """The row for the instruction at `address`, inside the entry's function."""
    cie = fde.cie
    interpreter = _Interpreter(cie)
    interpreter.run(cie.instructions, 0, 0)
    interpreter.initial = dict(interpreter.rules)
    interpreter.run(fde.instructions, fde.start, address)
    return Row(interpreter.cfa, interpreter.rules, cie.return_register, cie.signal)
