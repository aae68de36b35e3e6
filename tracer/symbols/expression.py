"""DWARF expressions, as far as call frame information has them (DWARF 5 section 2.5)."""

from __future__ import annotations

import operator
from collections.abc import Callable

from tracer.symbols.cursor import ADDRESS, Cursor
from tracer.symbols.ending import UnwindError

_MOST_STEPS = 256
_SIGN = 1 << 63

_LITERALS = range(0x30, 0x50)  # DW_OP_lit0 to lit31
_REGISTERS = range(0x70, 0x90)  # DW_OP_breg0 to breg31
_CONSTANTS = {0x08: 1, 0x09: -1, 0x0A: 2, 0x0B: -2, 0x0C: 4, 0x0D: -4, 0x0E: 8, 0x0F: -8}  # DW_OP_const*


def _signed(value: int) -> int:
    return value - 2 * _SIGN if value & _SIGN else value


def _shift_left(value: int, bits: int) -> int:
    return value << bits if bits < ADDRESS.bit_length() else 0


def _shift_right(value: int, bits: int) -> int:
    return value >> bits if bits < ADDRESS.bit_length() else 0


def _compare(test: Callable[[int, int], bool]) -> Callable[[int, int], int]:
    return lambda left, right: int(test(_signed(left), _signed(right)))


_BINARY: dict[int, Callable[[int, int], int]] = {
    0x1A: operator.and_,
    0x1C: operator.sub,
    0x1E: operator.mul,
    0x21: operator.or_,
    0x22: operator.add,
    0x24: _shift_left,
    0x25: _shift_right,
    0x27: operator.xor,
    0x29: _compare(operator.eq),
    0x2A: _compare(operator.ge),
    0x2B: _compare(operator.gt),
    0x2C: _compare(operator.le),
    0x2D: _compare(operator.lt),
    0x2E: _compare(operator.ne),
}


def evaluate(
    code: bytes, register: Callable[[int], int], memory: Callable[[int], int], first: int | None = None
) -> int:
    """What `code` computes; `memory` reads 8 bytes, `first` lies on the stack at the start."""
    stack = [] if first is None else [first]
    cursor = Cursor(code)
    for _ in range(_MOST_STEPS):
        if not cursor.more:
            return _pop(stack)
        stack.append(_step(cursor, stack, register, memory) & ADDRESS)
    raise UnwindError


def _pop(stack: list[int]) -> int:
    if not stack:
        raise UnwindError
    return stack.pop()


def _step(
    cursor: Cursor, stack: list[int], register: Callable[[int], int], memory: Callable[[int], int]
) -> int:
    """One operation: what it pushes."""
    opcode = cursor.byte()
    if opcode in _LITERALS:
        return opcode - _LITERALS.start
    if opcode in _REGISTERS:
        return register(opcode - _REGISTERS.start) + cursor.sleb()
    if opcode in _CONSTANTS:
        return cursor.fixed(_CONSTANTS[opcode])
    if opcode in _BINARY:
        right = _pop(stack)
        return _BINARY[opcode](_pop(stack), right)
    match opcode:
        case 0x06:  # DW_OP_deref
            value = memory(_pop(stack))
        case 0x10:  # DW_OP_constu
            value = cursor.uleb()
        case 0x11:  # DW_OP_consts
            value = cursor.sleb()
        case 0x23:  # DW_OP_plus_uconst
            value = _pop(stack) + cursor.uleb()
        case 0x92:  # DW_OP_bregx
            value = register(cursor.uleb()) + cursor.sleb()
        case _:
            raise UnwindError
    return value
