"""How CPython calls each Python function under `-X perf`: by a few instructions of its own, without CFI.

Python/asm_trampoline.S of Python 3.12 and 3.13, x86-64: `sub $8, %rsp; call *%rcx; add $8, %rsp; ret`.
"""

from __future__ import annotations

from tracer.symbols.cfi import Cfa, Kind, Row, Rule
from tracer.symbols.module import Call
from tracer.symbols.registers import X86_64

SIZE = 11
"""Bytes of one, as its perf map says."""

_ROW = Row(Cfa(X86_64.sp, 16), {X86_64.pc: Rule(Kind.OFFSET, -8)}, X86_64.pc, signal=False)


class Trampolines:
    """All of them, as an unwinder asks of a module."""

    machine = X86_64

    def row(self, _address: int) -> Row | None:
        """Behind the call, where every return address into one is."""
        return _ROW

    def starts_at(self, _address: int) -> bool:
        """No program begins there."""
        return False

    def call_before(self, _address: int) -> Call | None:
        """The call, by a register."""
        return Call(None)
