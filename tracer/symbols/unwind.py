"""The calls that led to a system call, from copies of the registers and of a piece of the stack.

Nothing of the process is asked, so it may have gone on or be gone. ELF files and stacks are hostile:
every loop has a bound, and what cannot be followed ends the stack with what was found so far.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from tracer.symbols.cfi import Kind, Row, Rule
from tracer.symbols.cursor import ADDRESS
from tracer.symbols.ending import End, UnwindError
from tracer.symbols.expression import evaluate
from tracer.symbols.module import Call, Module
from tracer.symbols.registers import Registers
from tracer.symbols.trampolines import Trampolines

_WORD = 8  # bytes
_LONGEST_FUNCTION = 1 << 16  # bytes: from a call's target to the next return address in it

_SAME = Rule(Kind.SAME)


Code = Module | Trampolines


class Located(NamedTuple):
    """What executable memory of the process belongs to."""

    module: Code | None
    """None: to no file that can be read; code made at run time."""
    bias: int
    """Addresses in the process minus those in the file: `Module.bias()`."""

    def call_before(self, address: int) -> Call | None:
        """The call that returns to `address` of the process, in the module's addresses."""
        return self.module.call_before(address - self.bias) if self.module else None


class Modules(Protocol):
    """What is mapped in the process."""

    def __call__(self, address: int) -> Located | None:
        """What the code at `address` belongs to; None: there is no code."""


class Frame(NamedTuple):
    """A place in the code that has called what the frame before is in, or was interrupted there."""

    module: Code | None
    address: int
    """In the module's own addresses; for code made at run time, in the process."""
    returns: bool
    """A return address: the call is before it, so function and line are those of `address - 1`."""


class Unwound(NamedTuple):
    """A stack."""

    frames: tuple[Frame, ...]
    """The innermost first."""
    end: End


def unwind(registers: Registers, stack: bytes, modules: Modules, most: int = 64) -> Unwound:
    """Follow the calls outwards; `stack` begins at the stack pointer. At most `most` frames."""
    walk = _Walk(registers, stack, modules)
    try:
        while len(walk.frames) < most:
            walk.step()
        end = End.MOST
    except UnwindError as error:
        end = error.end
    return Unwound(tuple(walk.frames), end)


class _Walk:
    """One way outwards: what is known of the frame that is next."""

    def __init__(self, registers: Registers, stack: bytes, modules: Modules) -> None:
        self.machine = registers.machine
        self.known = dict(registers.values)
        self.stack = stack
        self.base = self.floor = registers.values[self.machine.sp]
        """`floor`: the CFA of the frame before, below which no frame can lie."""
        self.modules = modules
        self.frames: list[Frame] = []
        self.pc = registers.values[self.machine.pc] & self.machine.code
        self.returned = False
        """Was `pc` the return address of a call?"""
        self.chained = False
        """Was the frame before found by its frame pointer?"""

    def step(self) -> None:
        """Take down this frame and find the next; raises UnwindError where there is none."""
        looked_up = self.pc - self.returned
        located = self.modules(looked_up)
        if located is None:
            if not self.frames:
                self.frames.append(Frame(None, self.pc, False))
            raise UnwindError(End.NO_MODULE)
        module, bias = located
        frame = Frame(module, self.pc - bias & ADDRESS, self.returned)
        self.frames.append(frame)
        row = None
        if module:
            if module.machine is not self.machine:
                raise UnwindError
            row = module.row(looked_up - bias)
            if row and row.signal:
                # Nobody has called the trampoline: its address stands where a return address does.
                self.frames[-1] = frame._replace(returns=False)
            if row is None and module.starts_at(looked_up - bias):
                raise UnwindError(End.OUTERMOST)
        if row:
            self._by_row(row)
        elif not self._by_call(located):
            self._by_frame_pointer(located)

    def _go_on(self, known: dict[int, int], pc: int | None, floor: int, *, returned: bool) -> None:
        if pc is None:
            raise UnwindError(End.NO_INFO)
        self.pc = pc & self.machine.code
        if self.pc == 0:
            raise UnwindError(End.OUTERMOST)
        self.known = known
        self.floor = floor
        self.returned = returned

    def _memory(self, address: int) -> int:
        into = address - self.base
        if not 0 <= into <= len(self.stack) - _WORD:
            raise UnwindError(End.CUT)
        return int.from_bytes(self.stack[into : into + _WORD], "little")

    def _register(self, number: int) -> int:
        try:
            return self.known[number]
        except KeyError:
            raise UnwindError(End.NO_INFO) from None

    def _by_row(self, row: Row) -> None:
        cfa = (
            evaluate(row.cfa.code, self._register, self._memory)
            if row.cfa.code is not None
            else self._register(row.cfa.register) + row.cfa.offset & ADDRESS
        )
        back = row.rules.get(row.return_register, _SAME)
        if back.kind is Kind.UNDEFINED:
            raise UnwindError(End.OUTERMOST)
        if back.kind is Kind.SAME and row.return_register != self.machine.link:
            raise UnwindError
        # A link register that was not saved is the caller's only until the first call.
        stuck = back.kind is Kind.SAME or cfa == self.floor
        if not row.signal and (cfa < self.floor or (stuck and self.returned)):
            raise UnwindError(End.LOOP)
        known = self.known | {self.machine.sp: cfa}
        for number, rule in row.rules.items():
            value = self._value(number, rule, cfa)
            if value is None:
                known.pop(number, None)
            else:
                known[number] = value
        floor = known.get(self.machine.sp, cfa) if row.signal else cfa
        self._go_on(known, known.get(row.return_register), floor, returned=not row.signal)
        self.chained = False

    def _value(self, number: int, rule: Rule, cfa: int) -> int | None:
        if rule.kind is Kind.UNDEFINED:
            return None
        if rule.kind in {Kind.SAME, Kind.REGISTER}:
            return self.known.get(number if rule.kind is Kind.SAME else rule.number)
        value = (
            evaluate(rule.code, self._register, self._memory, cfa)
            if rule.code
            else cfa + rule.number & ADDRESS
        )
        return self._memory(value) if rule.kind in {Kind.OFFSET, Kind.EXPRESSION} else value

    def _by_call(self, located: Located) -> bool:
        """Is this a function that has made no frame, like Go's Syscall6? Go on to its caller."""
        if self.returned:
            return False
        link, sp = self.machine.link, self._register(self.machine.sp)
        back = self._memory(sp) if link is None else self._register(link) & self.machine.code
        caller = self._caller(back)
        call = caller and caller.call_before(back)
        if not caller or not call or call.target is None or not self._is_start(caller, call.target, located):
            return False
        cfa = sp + _WORD if link is None else sp
        self._go_on(self.known | {self.machine.sp: cfa}, back, cfa, returned=True)
        return True

    def _by_frame_pointer(self, located: Located) -> None:
        """Go on to the return address above the saved frame pointer.

        psABI section 3.2.2; AAPCS64 section 6.4.6. A register that is used otherwise looks like one as well:
        so a call has to be before the return address, and if it says what it calls, that is this function.
        """
        end = End.NO_INFO if located.module else End.NO_MODULE
        fp = self._register(self.machine.fp)
        if self.chained and fp == 0:
            raise UnwindError(End.OUTERMOST)
        if fp < self.floor or fp % _WORD:
            raise UnwindError(End.LOOP if self.chained else end)
        if not self.chained and fp - self.base > len(self.stack) - 2 * _WORD:
            raise UnwindError(end)
        outer, back = self._memory(fp), self._memory(fp + _WORD) & self.machine.code
        if not self._may_return(back, located, outer):
            raise UnwindError(end)
        known = {self.machine.fp: outer}
        cfa = fp + 2 * _WORD
        if self.machine.link is None:
            known[self.machine.sp] = cfa
        self._go_on(known, back, cfa, returned=True)
        self.chained = True

    def _caller(self, back: int) -> Located | None:
        return self.modules(back - 1) if back else None

    def _may_return(self, back: int, located: Located, outer: int) -> bool:
        caller = self._caller(back)
        if caller is None:
            return False
        if caller.module is None:
            return self.returned or located.module is None
        if outer == 0:
            return True  # Go's goexit has called nobody
        call = caller.call_before(back)
        return call is not None and (call.target is None or self._is_start(caller, call.target, located))

    def _is_start(self, caller: Located, target: int, located: Located) -> bool:
        """May this frame be of the function at the target of a call in `caller`?"""
        if caller.module and caller.module.row(target):
            return False
        if self.returned:  # or one that it has jumped to, as V8's functions do
            return located.module is None or located == caller
        # The innermost may keep no frame pointer, as musl's close() does not: it has to be the target itself.
        return located == caller and 0 <= self.pc - caller.bias - target < _LONGEST_FUNCTION
