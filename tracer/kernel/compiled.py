"""The programs as BCC compiled them: maps, instructions, and which instruction names which map."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from tracer.kernel.bpf import MapKind

_INSTRUCTION = 8
_LOAD_IMMEDIATE = 0x18  # BPF_LD | BPF_DW | BPF_IMM: two slots
_PSEUDO_MAP_FD = 1


@dataclass(frozen=True, slots=True)
class Compiled:
    """All of bpf/twtrace.c for one kernel and one set of options; nothing of it is loaded."""

    maps: dict[str, MapKind]
    programs: dict[str, bytes]
    """Instructions; where one refers to a map it has that map's number, in the order of `maps`."""

    def dump(self) -> bytes:
        """As bytes, for another process or a file."""
        programs = {name: instructions.hex() for name, instructions in self.programs.items()}
        maps = {name: list(kind) for name, kind in self.maps.items()}
        return orjson.dumps({"maps": maps, "programs": programs})

    @classmethod
    def parse(cls, data: bytes) -> Compiled:
        """What dump() gave. Raises ValueError for anything else."""
        try:
            value = orjson.loads(data)
            return cls(
                {str(name): MapKind(*map(int, kind)) for name, kind in value["maps"].items()},
                {str(name): bytes.fromhex(code) for name, code in value["programs"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no compiled programs: {error!r}") from error


def renumbered(instructions: bytes, numbers: Mapping[int, int]) -> bytes:
    """The instructions with other numbers for the maps: descriptors for places, or places for descriptors."""
    code = bytearray(instructions)
    at = 0
    while at < len(code):
        opcode, registers, _, immediate = struct.unpack_from("=BBhi", code, at)
        if opcode == _LOAD_IMMEDIATE and registers >> 4 == _PSEUDO_MAP_FD:
            struct.pack_into("=i", code, at + 4, numbers[immediate])
        at += 2 * _INSTRUCTION if opcode == _LOAD_IMMEDIATE else _INSTRUCTION
    return bytes(code)
