"""A trace whose frames have no names, read where copies of the programs are."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.unit.samples import SECOND, T0, close, owner, start
from tests.unit.symbols import C_SOURCE, build, visits
from tests.unit.test_symbols_elf import separated
from tracer.cli import main
from tracer.model import UNKNOWN_OWNER, Frame, Site
from tracer.record import Encoder
from tracer.symbols.elf import ElfFile
from tracer.symbols.later import Later


def line_of(mark: str) -> int:
    lines = enumerate(C_SOURCE.splitlines(), 1)
    return next(number for number, text in lines if text.endswith(f"/* {mark} */"))


def bare(program: Path, offset: int) -> Site:
    """A site of which nothing is known but where it is."""
    with program.open("rb") as file:
        build_id = ElfFile(file).build_id
    frame = Frame("/gone/prog", build_id, offset, None, None, None)
    return Site(1, 1, "close", UNKNOWN_OWNER, (frame, Frame(None, None, None, None, None, None)), whole=True)


@pytest.mark.parametrize("is_separate", [False, True])
def test_frames_get_their_names_by_build_id(tmp_path: Path, is_separate: bool) -> None:
    store = tmp_path / "store"
    (store / "deep").mkdir(parents=True)
    if is_separate:
        program, debug = separated(tmp_path, "-Wl,--build-id")
        shutil.copy(debug, store / "other.debug")
    else:
        program = build(tmp_path, "prog", C_SOURCE, "gcc", "-g", "-O2", "-Wl,--build-id", "prog.c")
    shutil.copy(program, store / "deep/renamed")
    offset = visits(program)["middle"].offset
    site = bare(program, offset)
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


def test_a_report_with_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = build(tmp_path, "prog", C_SOURCE, "gcc", "-g", "-O2", "-Wl,--build-id", "prog.c")
    encoder = Encoder()
    lines = [
        encoder.start(start()),
        encoder.event(close(1, owner(7), at=1)._replace(site=1)),
        encoder.event(bare(program, visits(program)["hidden"].offset)._replace(ts_us=T0 + SECOND)),
        encoder.end(T0 + 2 * SECOND, 2 * SECOND, {}, {})[1],
    ]
    trace = tmp_path / "trace.ndjson"
    trace.write_bytes(b"".join(lines))
    assert main(["report", str(trace)]) == 0
    assert "hidden" not in capsys.readouterr().out
    assert main(["report", str(trace), "--symbols", str(tmp_path)]) == 0
    assert re.search(rf"hidden  \S*prog\.c:{line_of('hidden')}", capsys.readouterr().out)
    assert main(["report", str(trace), "--symbols", str(trace)]) == 2
