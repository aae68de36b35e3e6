"""Stacks of a processor that the tests do not run on: made up, as its compilers lay them out."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest

from tests.unit.test_cfi import entry
from tracer.symbols.ending import End
from tracer.symbols.module import Call, Module
from tracer.symbols.registers import Registers
from tracer.symbols.unwind import Frame, Located, unwind

BIAS = 0xAAAA_0000_0000
SP = 0xFFFF_0000_1000
SIGNED = 0x0035_0000_0000_0000
"""A pointer authentication code, in bits that no address has."""

HEADER, FRAMES, CODE = 0x200, 0x300, 0x1000
CALLS = struct.pack("<4I", 0x94000004, 0xD63F0020, 0xD503201F, 0x97FFFFFD)
"""At CODE: bl CODE + 16; blr x1; nop; bl CODE."""


def elf() -> bytes:
    """Functions at 0x1100 (makes no frame), 0x1200 (one of 48 bytes, signed) and 0x1300 (the outermost)."""
    cie = entry(0, b"\x01zR\0\x04\x78\x1e\x01\x03\x0c\x1f\x00")
    bodies = {
        0x1100: b"",
        0x1200: bytes.fromhex("2d 0e 30 9d 06 9e 05"),  # negate_ra_state; CFA sp+48; x29 c-48, x30 c-40
        0x1300: bytes.fromhex("07 1e"),
    }
    frames, pairs = cie, b""
    for start, body in bodies.items():
        at = FRAMES + len(frames)
        pairs += struct.pack("<ii", start - HEADER, at - HEADER)
        frames += entry(len(frames) + 4, struct.pack("<IIB", start, 0x100, 0) + body)
    header = struct.pack("<4BII", 1, 0x03, 0x03, 0x3B, FRAMES, len(bodies)) + pairs
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0x2000, 0x2000, 0x10000)
    segments += struct.pack("<IIQQQQQQ", 0x6474E550, 4, HEADER, HEADER, HEADER, len(header), len(header), 4)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    data = struct.pack("<16sHHIQQQIHHHHHH", identity, 3, 183, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0) + segments
    data = data.ljust(HEADER, b"\0") + header
    data = data.ljust(FRAMES, b"\0") + frames
    return (data.ljust(CODE, b"\0") + CALLS).ljust(0x2000, b"\0")


MODULE = Module(BytesIO(elf()))


def modules(address: int) -> Located | None:
    return Located(MODULE, BIAS) if BIAS <= address < BIAS + 0x2000 else None


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def test_by_cfi() -> None:
    registers = Registers.aarch64(pc=BIAS + 0x1108, sp=SP, x29=SP, x30=BIAS + 0x1280 | SIGNED)
    stack = words(SP + 48, BIAS + 0x1340 | SIGNED, 0, 0, 0, 0, 0, 0)
    expected = (Frame(MODULE, 0x1108, False), Frame(MODULE, 0x1280, True), Frame(MODULE, 0x1340, True))
    assert unwind(registers, stack, modules) == (expected, End.OUTERMOST)


def test_a_link_register_that_nobody_saved() -> None:
    registers = Registers.aarch64(pc=BIAS + 0x1108, sp=SP, x29=SP, x30=BIAS + 0x1104)
    expected = (Frame(MODULE, 0x1108, False), Frame(MODULE, 0x1104, True))
    assert unwind(registers, words(0), modules) == (expected, End.LOOP)


def test_by_frame_pointers_as_go() -> None:
    """A function that makes no frame was called from CODE; then two frame records."""
    registers = Registers.aarch64(pc=BIAS + CODE + 24, sp=SP, x29=SP + 8, x30=BIAS + CODE + 4)
    stack = words(0, SP + 32, BIAS + CODE + 8, 0, 0, BIAS + CODE + 12)
    addresses = [CODE + 24, CODE + 4, CODE + 8, CODE + 12]
    expected = tuple(Frame(MODULE, address, at > 0) for at, address in enumerate(addresses))
    assert unwind(registers, stack, modules) == (expected, End.OUTERMOST)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (CODE + 4, Call(CODE + 16)),
        (CODE + 8, Call(None)),
        (CODE + 12, None),
        (CODE + 16, Call(CODE)),
        (2, None),
    ],
)
def test_calls(address: int, expected: Call | None) -> None:
    assert MODULE.call_before(address) == expected
