"""A trace whose frames have no names, read where copies of the programs are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.symbols import C_SOURCE, build, visits
from tests.unit.test_symbols_elf import separated
from tracer.model import UNKNOWN_OWNER, Frame, Site
from tracer.symbols.elf import ElfFile
from tracer.symbols.later import Later

LINES = {text: number for number, line in enumerate(C_SOURCE.splitlines(), 1) for text in [line]}


def line_of(mark: str) -> int:
    return next(number for text, number in LINES.items() if text.endswith(f"/* {mark} */"))


def bare(program: Path, offset: int) -> Site:
    """A site of which nothing is known but where it is."""
    with program.open("rb") as file:
        build_id = ElfFile(file).build_id
    frame = Frame("/gone/prog", build_id, offset, None, None, None)
    return Site(1, 1, "close", UNKNOWN_OWNER, (frame, Frame(None, None, None, None, None, None)), whole=True)


@pytest.mark.parametrize("is_separate", [False, True])
def test_frames_get_their_names_by_build_id(tmp_path: Path, is_separate: bool) -> None:  # noqa: FBT001
    program = build(tmp_path, "prog", C_SOURCE, "gcc", "-g", "-O2", "-Wl,--build-id", "prog.c")
    offset = visits(program)["middle"].offset
    site = bare(program, offset)
    store = tmp_path / "store"
    (store / "deep").mkdir(parents=True)
    if is_separate:
        stripped, debug = separated(program)
        shutil.copy(stripped, store / "deep/renamed")
        shutil.copy(debug, store / "other.debug")
    else:
        shutil.copy(program, store / "deep/renamed")
    (store / "no-elf").write_text("text")
    with Later(str(store)) as later:
        *told, last = later.named(site).frames
    assert last == site.frames[-1]
    assert [(one.function, one.line, one.inlined) for one in told] == [
        ("middle", line_of("after"), True),
        ("outer", line_of("outer"), False),
    ]
    assert {(one.module, one.offset) for one in told} == {("/gone/prog", offset)}


def test_what_has_a_line_and_what_is_not_there_stays(tmp_path: Path) -> None:
    known = Frame("/bin/x", "ab" * 10, 5, "main", "x.c", 7)
    foreign = Frame("/bin/y", "cd" * 10, 5, None, None, None)
    site = Site(1, 1, "close", UNKNOWN_OWNER, (known, foreign), whole=True)
    with Later(str(tmp_path)) as later:
        assert later.named(site) == site
