"""The registers that unwinding needs, by DWARF's numbers.

x86-64: psABI figure 3.36; aarch64: "DWARF for the Arm 64-bit Architecture" section 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Machine(NamedTuple):
    """A processor, as far as unwinding goes."""

    elf: int
    """`e_machine`."""
    pc: int
    """The number of the program counter; on x86-64 that of the return address."""
    sp: int
    fp: int
    link: int | None
    """The register that holds the return address on a function's entry; None: the stack does."""
    page: int
    """Bytes of its largest pages, for files."""
    code: int
    """The bits of a code address: the others of a return address may be its signature (PAC)."""


X86_64 = Machine(elf=62, pc=16, sp=7, fp=6, link=None, page=1 << 12, code=(1 << 64) - 1)
AARCH64 = Machine(elf=183, pc=32, sp=31, fp=29, link=30, page=1 << 16, code=(1 << 48) - 1)

_X86_64 = {"rip": 16, "rsp": 7, "rbp": 6, "rbx": 3, "r12": 12, "r13": 13, "r14": 14, "r15": 15}


@dataclass(frozen=True, slots=True)
class Registers:
    """The user registers at a system call."""

    machine: Machine
    values: Mapping[int, int]
    """By DWARF's numbers; program counter, stack pointer and frame pointer are always there."""

    @classmethod
    def x86_64(  # noqa: PLR0913 - as many as functions keep
        cls, *, rip: int, rsp: int, rbp: int, rbx: int, r12: int, r13: int, r14: int, r15: int
    ) -> Registers:
        """Those that functions keep for their callers (psABI section 3.2.1)."""
        given = {
            "rip": rip,
            "rsp": rsp,
            "rbp": rbp,
            "rbx": rbx,
            "r12": r12,
            "r13": r13,
            "r14": r14,
            "r15": r15,
        }
        return cls(X86_64, {_X86_64[name]: value for name, value in given.items()})

    @classmethod
    def aarch64(cls, *, pc: int, sp: int, x29: int, x30: int) -> Registers:
        """Without x19 to x28: no frame is found by them."""
        return cls(AARCH64, {32: pc, 31: sp, 29: x29, 30: x30})
