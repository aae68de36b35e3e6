"""Call frame information: each row as readelf prints it, and what no compiler writes."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.symbols.cfi import Cfa, Kind, Row, Rule, read_fde, row
from tracer.symbols.ending import UnwindError
from tracer.symbols.expression import evaluate
from tracer.symbols.module import Module

NAMES = ["rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *(f"r{at}" for at in range(8, 16)), "ra"]

LIBC = next(Path("/lib").glob("*/libc.so.6"))
LOADER = next(LIBC.parent.glob("ld-linux-*"))


def printed_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Addresses and columns of `readelf --debug-dump=frames-interp`."""
    command = ["readelf", "--debug-dump=frames-interp", str(path)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    listed = re.sub(r"r\d+ \((\w+)\)", r"\1", listed)
    for block in listed.split("\n\n"):
        head, _, rest = block.strip().partition("\n")
        if " FDE " not in head or not rest:
            continue
        names, *lines = (line.split() for line in rest.splitlines())
        rows = {int(line[0], 16): dict(zip(names[1:], line[1:], strict=True)) for line in lines}
        end = int(head.partition("..")[2], 16)
        yield from ((start, columns) for start, columns in rows.items() if start < end)


def as_printed(found: Row, names: list[str]) -> dict[str, str]:
    columns = {"CFA": "exp" if found.cfa.code else f"{NAMES[found.cfa.register]}{found.cfa.offset:+}"}
    for one in names:
        rule = found.rules.get(NAMES.index(one))
        match rule.kind if rule else Kind.UNDEFINED:
            case Kind.OFFSET if rule:
                columns[one] = f"c{rule.number:+}"
            case Kind.REGISTER if rule:
                columns[one] = NAMES[rule.number]
            case Kind.EXPRESSION:
                columns[one] = "exp"
            case _:
                columns[one] = "u"
    return columns


@pytest.mark.skipif(platform.machine() != "x86_64", reason="NAMES are x86-64's")
@pytest.mark.parametrize("path", [LIBC, LOADER], ids=lambda path: path.name)
def test_rows_are_those_of_readelf(path: Path) -> None:
    with path.open("rb") as file:
        module = Module(file)
        checked = 0
        for start, columns in printed_rows(path):
            found = module.row(start)
            assert found
            assert as_printed(found, [one for one in columns if one != "CFA"]) == columns, hex(start)
            checked += 1
    assert checked > 1000


class Bytes:
    """A file all of whose bytes lie at their own offsets."""

    def __init__(self, *entries: bytes) -> None:
        self.data = b"".join(entries)

    def read(self, address: int, size: int) -> bytes:
        data = self.data[address : address + size] if address >= 0 else b""
        if len(data) != size:
            raise UnwindError
        return data


def entry(pointer: int, body: bytes) -> bytes:
    return (4 + len(body)).to_bytes(4, "little") + pointer.to_bytes(4, "little") + body


def cie(
    instructions: bytes = b"\x0c\x07\x08\x90\x01", augmentation: bytes = b"zR\0", details: bytes = b"\x03"
) -> bytes:
    """Version 1, factors 1 and -8, return address 16; addresses have 4 bytes."""
    with_size = bytes([len(details)]) + details if augmentation != b"\0" else b""
    return entry(0, b"\x01" + augmentation + b"\x01\x78\x10" + with_size + instructions)


def fde(common: bytes, instructions: bytes, start: int = 0x1000, size: int = 0x100) -> bytes:
    extent = start.to_bytes(4, "little") + size.to_bytes(4, "little")
    return entry(len(common) + 4, extent + b"\0" + instructions)


def read(instructions: bytes, at: int = 0x10FF, common: bytes = cie()) -> Row:
    file = Bytes(common, fde(common, instructions))
    return row(read_fde(file, len(common), {}), at)


FIRST = {16: Rule(Kind.OFFSET, -8)}


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ("00", {}),
        ("83 02", {3: Rule(Kind.OFFSET, -16)}),
        ("05 06 02", {6: Rule(Kind.OFFSET, -16)}),
        ("83 02 c3", {}),
        ("83 02 06 03", {}),
        ("90 02 d0", FIRST),
        ("07 10", {16: Rule(Kind.UNDEFINED)}),
        ("08 03", {3: Rule(Kind.SAME)}),
        ("09 03 05", {3: Rule(Kind.REGISTER, 5)}),
        ("10 03 02 77 08", {3: Rule(Kind.EXPRESSION, code=b"\x77\x08")}),
        ("16 03 02 77 08", {3: Rule(Kind.VAL_EXPRESSION, code=b"\x77\x08")}),
        ("11 03 7e", {3: Rule(Kind.OFFSET, 16)}),
        ("14 03 02", {3: Rule(Kind.VAL_OFFSET, -16)}),
        ("15 03 7e", {3: Rule(Kind.VAL_OFFSET, 16)}),
        ("2f 03 02", {3: Rule(Kind.OFFSET, 16)}),
        ("2e 10 2c 2d", {}),
    ],
)
def test_rules_of_registers(instructions: str, expected: dict[int, Rule]) -> None:
    assert read(bytes.fromhex(instructions)).rules == FIRST | expected


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ("0c 06 10", Cfa(6, 16)),
        ("0d 06", Cfa(6, 8)),
        ("0e 90 01", Cfa(7, 144)),
        ("0f 02 77 08", Cfa(code=b"\x77\x08")),
        ("12 06 7e", Cfa(6, 16)),
        ("13 7e", Cfa(7, 16)),
        ("0a 0e 10 0a 0e 18 0b", Cfa(7, 16)),
        ("0a 0e 10 0a 0e 18 0b 0b", Cfa(7, 8)),
    ],
)
def test_rules_of_the_frame(instructions: str, expected: Cfa) -> None:
    assert read(bytes.fromhex(instructions)).cfa == expected


@pytest.mark.parametrize("advance", ["44", "02 04", "03 04 00", "04 04 00 00 00", "01 04 10 00 00"])
def test_a_row_is_in_force_from_its_address_on(advance: str) -> None:
    instructions = bytes.fromhex(f"0e 10 {advance} 0e 18")
    assert [read(instructions, at).cfa.offset for at in (0x1000, 0x1003, 0x1004, 0x10FF)] == [16, 16, 24, 24]


def test_augmentations() -> None:
    assert read(b"", common=cie(augmentation=b"zRS\0")).signal
    assert not read(b"").signal
    # A personality of 4 bytes, an LSDA, and what is not known, to the end of the augmentation.
    details = bytes.fromhex("9b 11 22 33 44 1b 03 99 99")
    assert read(b"", common=cie(augmentation=b"zPLR?\0", details=details)).rules == FIRST


@pytest.mark.parametrize(
    "instructions",
    ["0b", "0a" * 65, "3f", "0e", "10 03 09 77", "83", "05 80 01 02", "0e" + " ff" * 10, "01 04"],
)
def test_bad_instructions(instructions: str) -> None:
    with pytest.raises(UnwindError):
        read(bytes.fromhex(instructions))


@pytest.mark.parametrize(
    "common",
    [
        cie(augmentation=b"eh\0"),
        cie(details=b"\xff"),
        cie(details=b"\x09"),
        cie(details=b"\x83"),
        entry(0, b"\x02zR\0\x01\x78\x10\x01\x03"),
        entry(0, b"\x01zR"),
        entry(1, b"\x01zR\0\x01\x78\x10\x01\x03"),
    ],
)
def test_bad_common_entries(common: bytes) -> None:
    with pytest.raises(UnwindError):
        read(b"", common=common)


def computed(code: str, first: int | None = None) -> int:
    registers = {7: 0x7000, 16: 0x401006}
    memory = {0x7008: 0x1234}
    return evaluate(bytes.fromhex(code), registers.__getitem__, memory.__getitem__, first)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("77 08", 0x7008),
        ("77 08 06", 0x1234),
        ("77 78", 0x6FF8),
        ("92 07 08", 0x7008),
        ("3f", 15),
        ("09 ff", (1 << 64) - 1),
        ("08 ff", 255),
        ("0b fe ff", (1 << 64) - 2),
        ("0a fe ff", 65534),
        ("10 80 01", 128),
        ("11 7f", (1 << 64) - 1),
        ("35 33 22", 8),
        ("35 33 1c", 2),
        ("35 33 1e", 15),
        ("35 33 1a", 1),
        ("35 33 21", 7),
        ("35 33 27", 6),
        ("35 33 24", 40),
        ("35 08 40 24", 0),
        ("35 31 25", 2),
        ("35 08 40 25", 0),
        ("35 23 80 01", 133),
        ("35 33 2a", 1),
        ("09 ff 33 2a", 0),
        ("33 33 29 33 33 2e 22", 1),
        ("33 34 2d 34 33 2b 22", 2),
        ("33 33 2c", 1),
        # The PLT's: rsp + 8, and 8 more if 11 bytes or more of the entry's 16 are done.
        ("77 08 80 00 3f 1a 3b 2a 33 24 22", 0x7008),
    ],
)
def test_expressions(code: str, expected: int) -> None:
    assert computed(code) == expected


def test_an_expression_begins_with_the_frame_address() -> None:
    assert computed("38 22", 0x100) == 0x108


@pytest.mark.parametrize("code", ["", "22", "33 22", "06", "2f 00 00", "08", "77", "31" * 257])
def test_bad_expressions(code: str) -> None:
    with pytest.raises(UnwindError):
        computed(code)
