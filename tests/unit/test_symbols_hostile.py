"""Malformed ELF files: each costs its own symbols, within the time, and nothing else."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.unit.symbols import C_SOURCE, Visit, build, visits
from tests.unit.test_symbols_elf import inlined
from tracer.symbols.facts import DebugLink, Frame
from tracer.symbols.pool import Symbolizer

SEED = 20_261_127
MUTANTS = 1000
DEADLINE_S = 0.4

_numbers = count()


@dataclass
class Bytes:
    """A file that has no name."""

    data: bytes

    def __post_init__(self) -> None:
        self.identity = next(_numbers)

    def open(self) -> int:
        fd = os.memfd_create("elf")
        with open(fd, "wb", closefd=False) as file:
            file.write(self.data)
        return fd

    def debug_files(self, build_id: str | None, link: DebugLink | None) -> Iterator[int]:
        del build_id, link
        return iter(())


@dataclass
class Sample:
    """A program, and where it has been."""

    path: Path
    data: bytes
    visits: dict[str, Visit]

    def section(self, name: str) -> tuple[int, int]:
        """(offset in the file, size)."""
        section = ELFFile(io.BytesIO(self.data)).get_section_by_name(name)
        assert section is not None
        return section["sh_offset"], section["sh_size"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("symbols")
    paths = [
        build(folder, f"prog{number}", C_SOURCE, "gcc", "-O2", *flags.split(), "prog.c")
        for number, flags in enumerate(("-g", "-g -gdwarf-4", "-g -gz", "-g -fdebug-types-section", ""))
    ]
    return [Sample(path, path.read_bytes(), visits(path)) for path in paths]


def flipped(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 4, 16, 64))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def flipped_headers(data: bytearray, chance: random.Random) -> None:
    tables = min(int.from_bytes(data[40:48], "little"), len(data) - 64)  # e_shoff
    for _ in range(chance.choice((1, 2, 8))):
        start, size = chance.choice(((0, 64), (64, 800), (tables, len(data) - tables)))
        data[start + chance.randrange(size)] = chance.randrange(256)


def cut_off(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def inflated(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 3))):
        value = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1))
        width = chance.choice((4, 8))
        at = chance.randrange(len(data) // 4 - 2) * 4
        data[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")


def overlapped(data: bytearray, chance: random.Random) -> None:
    """One section header is given the place of another's data."""
    tables = int.from_bytes(data[40:48], "little")
    number = min(int.from_bytes(data[60:62], "little"), (len(data) - tables) // 64)
    if number <= 0:
        return
    one, other = (tables + 64 * chance.randrange(number) for _ in range(2))
    data[one + 24 : one + 40] = data[other + 24 : other + 40]


def repeated(data: bytearray, chance: random.Random) -> None:
    """A stretch of bytes that say: more follows."""
    at = chance.randrange(len(data))
    size = min(chance.choice((16, 256, 4096)), len(data) - at)
    data[at : at + size] = bytes([chance.choice((0x80, 0xFF, 0x01, 0x00))]) * size


def shuffled(data: bytearray, chance: random.Random) -> None:
    size = chance.choice((8, 64, 512))
    one, other = (chance.randrange(len(data) - size) for _ in range(2))
    data[one : one + size] = data[other : other + size]


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    flipped, flipped_headers, cut_off, inflated, overlapped, repeated, shuffled
]  # fmt: skip


def mutants(samples: list[Sample]) -> Iterator[tuple[Sample, bytes]]:
    chance = random.Random(SEED)  # noqa: S311 - the same each time
    for number in range(MUTANTS):
        sample = samples[number % len(samples)]
        data = bytearray(sample.data)
        for _ in range(chance.choice((1, 1, 2))):
            chance.choice(MUTATIONS)(data, chance)
            if len(data) < 1024:
                break
        if chance.random() < 0.5:
            # Aim: the random places above are code, most of them.
            name = chance.choice((".debug_info", ".debug_abbrev", ".debug_line", ".debug_aranges", ".symtab"))
            section = ELFFile(io.BytesIO(sample.data)).get_section_by_name(name)
            if section is not None:
                for _ in range(chance.choice((1, 8))):
                    at = section["sh_offset"] + chance.randrange(section["sh_size"])
                    if at < len(data):
                        data[at] = chance.choice((0, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        yield sample, bytes(data)


def test_a_thousand_malformed_files(samples: list[Sample]) -> None:
    slow, silent = [], 0
    with Symbolizer(DEADLINE_S) as symbolizer:
        for sample, data in mutants(samples):
            file = Bytes(data)
            begin = time.monotonic()
            for visit in sample.visits.values():
                found = symbolizer.frames(file, visit.offset)
                silent += found == ()
            slow.append(time.monotonic() - begin)
        sound = Bytes(samples[0].data)
        truth = {place: symbolizer.frames(sound, visit.offset) for place, visit in samples[0].visits.items()}
    assert truth == inlined(samples[0].path.parent)
    assert max(slow) < 3 * (DEADLINE_S + 0.2)
    assert silent < MUTANTS * 3 // 2  # most still say something


def test_bytes_without_end(samples: list[Sample], tmp_path: Path) -> None:
    sample = samples[0]
    (tmp_path / "bomb").write_bytes(b"\x80" * 1_000_000)
    for section in (".debug_abbrev", ".debug_info", ".debug_line", ".debug_aranges"):
        target = tmp_path / "prog"
        command = ["objcopy", "--update-section", f"{section}=bomb", str(sample.path), str(target)]
        subprocess.run(command, cwd=tmp_path, check=True)
        file = Bytes(target.read_bytes())
        with Symbolizer(1.0) as symbolizer:
            begin = time.monotonic()
            found = symbolizer.frames(file, sample.visits["hidden"].offset)
            assert time.monotonic() - begin < 1.2
            # What DWARF does not say, the symbol table does.
            assert [one.function for one in found] == ["hidden"], section


def changed(sample: Sample, at: int, value: int) -> Bytes:
    """With four bytes of `.debug_info` replaced."""
    start, _ = sample.section(".debug_info")
    data = bytearray(sample.data)
    data[start + at : start + at + 4] = struct.pack("<I", value)
    return Bytes(bytes(data))


def test_an_origin_that_is_its_own(samples: list[Sample]) -> None:
    sample = samples[0]
    info = ELFFile(io.BytesIO(sample.data)).get_dwarf_info()
    (cu,) = (cu for cu in info.iter_CUs() if b"prog.c" in cu.get_top_DIE().attributes["DW_AT_name"].value)
    entries = [die for die in cu.iter_DIEs() if die.tag == "DW_TAG_inlined_subroutine"]
    truth = inlined(sample.path.parent)["innermost"]
    (entry,) = (
        one
        for one in entries
        if one.get_DIE_from_attribute("DW_AT_abstract_origin").attributes["DW_AT_name"].value == b"innermost"
    )
    at = entry.attributes["DW_AT_abstract_origin"].offset
    file = changed(sample, at, entry.offset - cu.cu_offset)
    with Symbolizer() as symbolizer:
        found = symbolizer.frames(file, sample.visits["innermost"].offset)
        assert found == (Frame(None, truth[0].file, truth[0].line, inlined=True), *truth[1:])


def test_children_in_a_ring(samples: list[Sample]) -> None:
    sample = samples[0]
    info = ELFFile(io.BytesIO(sample.data)).get_dwarf_info()
    (cu,) = (cu for cu in info.iter_CUs() if b"prog.c" in cu.get_top_DIE().attributes["DW_AT_name"].value)
    for entry in cu.iter_DIEs():
        if entry.tag == "DW_TAG_inlined_subroutine" and "DW_AT_sibling" in entry.attributes:
            file = changed(sample, entry.attributes["DW_AT_sibling"].offset, entry.offset - cu.cu_offset)
            break
    else:
        pytest.fail("no entry with a sibling")
    with Symbolizer(1.0) as symbolizer:
        begin = time.monotonic()
        found = {place: symbolizer.frames(file, visit.offset) for place, visit in sample.visits.items()}
        assert time.monotonic() - begin < 1.5
        assert found["hidden"] == inlined(sample.path.parent)["hidden"] or found["hidden"] == (
            Frame("hidden"),
        )
        assert found["middle"][-1].function == "outer"


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n", bytes(1 << 16)])
def test_what_is_no_elf_file(data: bytes) -> None:
    with Symbolizer() as symbolizer:
        file = Bytes(data)
        assert symbolizer.frames(file, 0) == ()
        assert symbolizer.fault(file) is not None
