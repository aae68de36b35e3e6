"""ELF files and stacks made to break a parser end one stack, soon, and nothing else."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stopped import Stopped, closing
from tests.unit.test_unwind import MAIN, MIDDLE, build
from tracer.symbols.ending import End, UnwindError
from tracer.symbols.expression import evaluate
from tracer.symbols.module import Module
from tracer.symbols.registers import Registers
from tracer.symbols.unwind import Located, Modules, Unwound, unwind

SECONDS = 2.0
"""No stack takes longer, on a busy machine."""


@pytest.fixture(scope="module", params=["-O2", "-static"])
def stopped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    folder = tmp_path_factory.mktemp("program")
    stops = closing([build(folder, MIDDLE + MAIN, "-O2", request.param), str(folder / "log")])
    one = next(stops)
    stops.close()
    return one


def bounded(registers: Registers, stack: bytes, modules: Modules) -> Unwound:
    begun = time.monotonic()
    unwound = unwind(registers, stack, modules)
    assert time.monotonic() - begun < SECONDS
    assert 1 <= len(unwound.frames) <= 64
    return unwound


def test_stacks_of_any_words(stopped: Stopped) -> None:
    random = Random(1)  # noqa: S311 - no secret
    machine, original = stopped.registers.machine, stopped.registers.values
    sp = original[machine.sp]
    ends = set()
    for _ in range(300):
        words = []
        for _ in range(256):
            mapping = random.choice(stopped.mappings)
            code = random.randrange(mapping.start, mapping.end)
            words.append(random.choice([0, random.getrandbits(64), sp + random.randrange(0, 2048, 8), code]))
        values = {number: random.choice(words) for number in original}
        values |= {machine.sp: sp, machine.pc: random.choice([original[machine.pc], random.choice(words)])}
        registers = Registers(machine, values)
        stack = b"".join(word.to_bytes(8, "little") for word in words)
        ends.add(bounded(registers, stack, stopped.modules).end)
    assert ends >= {End.CUT, End.NO_INFO, End.NO_MODULE, End.OUTERMOST}


def test_spoiled_files(stopped: Stopped) -> None:
    """Each byte may be another: in the headers, in .eh_frame_hdr, in .eh_frame, in the code."""
    random = Random(2)  # noqa: S311 - no secret
    originals = {}
    for mapping in stopped.mappings:
        if mapping.path.startswith("/"):
            originals[mapping.path] = Path(mapping.path).read_bytes()
    whole = unwind(stopped.registers, stopped.stack, stopped.modules)
    needed = {path: reads_of(data, whole, stopped, path) for path, data in originals.items()}
    ends = []
    for _ in range(300):
        modules = spoiled(random, stopped, originals, needed)
        ends.append(bounded(stopped.registers, stopped.stack, modules).end)
    assert End.BAD in ends
    assert End.OUTERMOST in ends


class Watched(BytesIO):
    """Which bytes a module reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.places: set[int] = set()

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        data = super().read(size)
        self.places.update(range(at, at + len(data)))
        return data


def reads_of(data: bytes, whole: Unwound, stopped: Stopped, path: str) -> list[int]:
    watched = Watched(data)
    module = Module(watched)
    for frame in whole.frames:
        if stopped.found(frame)[1] == path:
            module.row(frame.address - frame.returns)
    return sorted(watched.places)


def spoiled(
    random: Random, stopped: Stopped, originals: dict[str, bytes], needed: dict[str, list[int]]
) -> Modules:
    made: dict[str, Module | None] = {}
    for path, original in originals.items():
        data = bytearray(original)
        for _ in range(random.choice([0, 1, 1, 2, 8, 64])):
            data[random.choice(needed[path])] = random.choice([0, 0xFF, random.randrange(256)])
        if random.random() < 0.1:
            del data[random.randrange(len(data)) :]
        try:
            made[path] = Module(BytesIO(data))
        except UnwindError:
            made[path] = None

    def modules(address: int) -> Located | None:
        for start, end, offset, path in stopped.mappings:
            module = made.get(path)
            if start <= address < end and module:
                bias = module.bias(start, offset)
                return None if bias is None else Located(module, bias)
        return None

    return modules


@given(st.binary(max_size=300))
def test_files_of_any_bytes(data: bytes) -> None:
    with pytest.raises(UnwindError):
        Module(BytesIO(data))


@given(st.binary(max_size=100), st.integers(0, (1 << 64) - 1))
def test_expressions_of_any_bytes(code: bytes, word: int) -> None:
    try:
        value = evaluate(code, lambda _: word, lambda address: address ^ word, word)
    except UnwindError:
        return
    assert 0 <= value < 1 << 64


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(Path("/bin/true").read_bytes())
    with path.open("rb") as file:
        module = Module(file)
        path.write_bytes(b"")
        with pytest.raises(UnwindError):
            module.row(0x2500)


def test_a_file_that_is_closed() -> None:
    with open("/bin/true", "rb") as file:
        module = Module(file)
    with pytest.raises(UnwindError):
        module.row(0x2500)
