"""A machine that runs compiled programs and counts what they do, without a kernel and without a clock.

It knows what clang makes of bpf/ and the helpers that are called there, no more.
"""

from __future__ import annotations

import errno
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tracer.kernel.compiled import Compiled

_WORD = (1 << 64) - 1
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
_ARRAYS = frozenset({2, 6})  # BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY
_MAPS = 1 << 63
_STACK_BYTES = 512
_FAULT = -14
_IF_NEW = 1  # BPF_NOEXIST
_MOST_STEPS = 100_000
_COMPARE_AND_SWAP = 0xF1  # BPF_CMPXCHG
_REGION_BITS = 16
_IN_REGION = (1 << _REGION_BITS) - 1


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


_ALU: dict[int, Callable[[int, int, int], int]] = {
    0x00: lambda a, b, _: a + b,
    0x10: lambda a, b, _: a - b,
    0x20: lambda a, b, _: a * b,
    0x30: lambda a, b, _: a // b if b else 0,
    0x40: lambda a, b, _: a | b,
    0x50: lambda a, b, _: a & b,
    0x60: lambda a, b, bits: a << (b & (bits - 1)),
    0x70: lambda a, b, bits: a >> (b & (bits - 1)),
    0x80: lambda a, _b, _: -a,
    0x90: lambda a, b, _: a % b if b else a,
    0xA0: lambda a, b, _: a ^ b,
    0xB0: lambda _a, b, _: b,
    0xC0: lambda a, b, bits: _signed(a, bits) >> (b & (bits - 1)),
}
_JUMPS: dict[int, Callable[[int, int, int], bool]] = {
    0x00: lambda _a, _b, _: True,
    0x10: lambda a, b, _: a == b,
    0x20: lambda a, b, _: a > b,
    0x30: lambda a, b, _: a >= b,
    0x40: lambda a, b, _: bool(a & b),
    0x50: lambda a, b, _: a != b,
    0x60: lambda a, b, bits: _signed(a, bits) > _signed(b, bits),
    0x70: lambda a, b, bits: _signed(a, bits) >= _signed(b, bits),
    0xA0: lambda a, b, _: a < b,
    0xB0: lambda a, b, _: a <= b,
    0xC0: lambda a, b, bits: _signed(a, bits) < _signed(b, bits),
    0xD0: lambda a, b, bits: _signed(a, bits) <= _signed(b, bits),
}


@dataclass
class Machine:
    """Maps and memory. Every address is a region's number and an offset; elsewhere all is 0."""

    compiled: Compiled
    done: Counter[str] = field(default_factory=Counter)
    """Since it was last cleared."""
    records: list[bytes] = field(default_factory=list)
    now: int = 10**9
    jiffies: int = 1000
    task: int = 0
    frames: tuple[int, ...] = ()
    """Return addresses, innermost first: the kernel stack, as it is unwound."""
    words: tuple[int, ...] = ()
    """The same as it lies in memory, from the arguments on."""

    def __post_init__(self) -> None:
        self._regions: dict[int, bytearray] = {}
        self._kinds = list(self.compiled.maps.values())
        self._maps: list[dict[bytes, int]] = [{} for _ in self._kinds]
        self._names = list(self.compiled.maps)

    def memory(self, size: int) -> int:
        """The address of so many bytes of 0."""
        number = len(self._regions) + 1
        self._regions[number] = bytearray(size)
        assert size <= _IN_REGION
        return number << _REGION_BITS

    def store(self, address: int, size: int, value: int) -> None:
        """In little endian."""
        region, at = self._regions[address >> _REGION_BITS], address & _IN_REGION
        assert at + size <= len(region)
        region[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def load(self, address: int, size: int) -> int:
        return int.from_bytes(self._bytes(address, size), "little")

    def entries(self, name: str) -> dict[bytes, int]:
        """Of a map: where each key's value is. An array has those that were looked up."""
        return self._maps[self._names.index(name)]

    def run(self, program: str, *arguments: int) -> None:
        """A program whose context is an array of arguments."""
        code = self.compiled.programs[program]
        words = (*arguments, *self.words)
        context = self.memory(8 * len(words))
        for at, argument in enumerate(words):
            self.store(context + 8 * at, 8, argument)
        registers = [0, context, *[0] * 8, self.memory(_STACK_BYTES) + _STACK_BYTES]
        at = 0
        for _ in range(_MOST_STEPS):
            self.done["instructions"] += 1
            opcode, sides, offset, immediate = struct.unpack_from("=BBhi", code, 8 * at)
            if opcode == 0x95:
                return
            at += 1 + self._step(code, at, registers, (opcode, sides & 15, sides >> 4, offset, immediate))
        raise AssertionError(f"{program} does not end")

    def _step(self, code: bytes, at: int, r: list[int], instruction: tuple[int, int, int, int, int]) -> int:
        opcode, to, source, offset, immediate = instruction
        kind, size = opcode & 7, _SIZES[opcode & 0x18]
        if opcode == 0x18:
            (high,) = struct.unpack_from("=i", code, 8 * at + 12)
            r[to] = _MAPS + immediate if source == 1 else (high << 32 | immediate & 0xFFFFFFFF) & _WORD
            return 1
        if kind == 1:
            r[to] = self.load(r[source] + offset, size)
        elif kind == 2:
            self.store(r[to] + offset, size, immediate)
        elif kind == 3 and opcode & 0xE0 == 0xC0:
            self._atomic(r, r[to] + offset, size, r[source], immediate)
        elif kind == 3:
            self.store(r[to] + offset, size, r[source])
        elif opcode == 0x85:
            r[0] = self._call(immediate, r) & _WORD
        elif kind in (5, 6):
            bits = 64 if kind == 5 else 32
            mask = (1 << bits) - 1
            operand = r[source] if opcode & 8 else immediate
            return offset if _JUMPS[opcode & 0xF0](r[to] & mask, operand & mask, bits) else 0
        elif opcode & 0xF0 == 0xD0:
            value = r[to] & (1 << immediate) - 1
            swapped = int.from_bytes(value.to_bytes(immediate // 8, "little"), "big")
            r[to] = swapped if opcode & 8 else value
        else:
            bits = 64 if kind == 7 else 32
            mask = (1 << bits) - 1
            operand = r[source] if opcode & 8 else immediate
            r[to] = _ALU[opcode & 0xF0](r[to] & mask, operand & mask, bits) & mask
        return 0

    def _atomic(self, r: list[int], address: int, size: int, operand: int, operation: int) -> None:
        before = self.load(address, size)
        if operation != _COMPARE_AND_SWAP:
            self.store(address, size, before + operand)
        elif before == r[0]:
            self.store(address, size, operand)
        else:
            r[0] = before

    def _call(self, helper: int, r: list[int]) -> int:
        # include/uapi/linux/bpf.h, ___BPF_FUNC_MAPPER
        if helper in (1, 2, 3):
            return self._map(helper, r)
        if helper in (4, 113):
            self.done["reads"] += 1
            return self._copy(r[1], r[3], r[2])
        if helper == 67:
            self.done["stacks"] += 1
            for number, frame in enumerate(self.frames):
                self.store(r[2] + 8 * number, 8, frame)
            return 8 * len(self.frames) or _FAULT
        if helper == 131:
            self.done["records"] += 1
            return self.memory(r[2])
        if helper == 132:
            self.records.append(bytes(self._regions[r[1] >> _REGION_BITS]))
            return 0
        self.done["clocks"] += helper == 5
        self.now += 1000
        results = {5: self.now, 14: 1 << 32 | 1, 35: self.task, 118: self.jiffies, 158: self.task}
        return results.get(helper, 0)

    def _map(self, helper: int, r: list[int]) -> int:
        number = r[1] - _MAPS
        kind, entries = self._kinds[number], self._maps[number]
        key = self._bytes(r[2], kind.key_size)
        if kind.type in _ARRAYS:
            if key not in entries:
                entries[key] = self.memory(kind.value_size)
            return entries[key]
        self.done[("look-ups", "updates", "deletes")[helper - 1]] += 1
        if helper == 1:
            return entries.get(key, 0)
        if helper == 3:
            return 0 if entries.pop(key, None) else -2
        if key in entries and r[4] == _IF_NEW:
            return -errno.EEXIST
        if key not in entries:
            entries[key] = self.memory(kind.value_size)
        return self._copy(entries[key], r[3], kind.value_size)

    def _copy(self, to: int, source: int, size: int) -> int:
        region, at = self._regions[to >> _REGION_BITS], to & _IN_REGION
        region[at : at + size] = self._bytes(source, size)
        return 0

    def _bytes(self, address: int, size: int) -> bytes:
        at = address & _IN_REGION
        return bytes(self._regions.get(address >> _REGION_BITS, b"")[at : at + size]).ljust(size, b"\0")
