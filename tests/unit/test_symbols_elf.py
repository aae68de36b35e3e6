"""Functions and lines of real programs, by file offset."""

from __future__ import annotations

import io
import lzma
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.unit.symbols import C_SOURCE, build, frame, visits
from tracer.symbols.elf import ElfFile
from tracer.symbols.facts import DebugLink, Frame


def opened(path: Path | str) -> ElfFile:
    return ElfFile(io.BytesIO(Path(path).read_bytes()))


def inlined(folder: Path) -> dict[str, tuple[Frame, ...]]:
    """What is true of the C program."""
    source = folder / "prog.c"
    at = [
        frame(C_SOURCE, source, "innermost", "innermost", inlined=True),
        frame(C_SOURCE, source, "middle", "middle", inlined=True),
        frame(C_SOURCE, source, "outer", "outer"),
    ]
    after = frame(C_SOURCE, source, "middle", "after", inlined=True)
    return {
        "innermost": tuple(at),
        "middle": (after, at[2]),
        "hidden": (frame(C_SOURCE, source, "hidden", "hidden"),),
    }


def by_name(frames: dict[str, tuple[Frame, ...]]) -> dict[str, tuple[Frame, ...]]:
    """The same without debug information: functions alone, and of those none that are inlined."""
    return {place: (Frame(found[-1].function),) for place, found in frames.items()}


def told(program: Path, elf: ElfFile | None = None) -> dict[str, tuple[Frame, ...]]:
    elf = elf or opened(program)
    found = {place: elf.frames(visit.offset) for place, visit in visits(program).items()}
    assert elf.faults == {}
    return found


@pytest.mark.parametrize(
    "flags",
    [
        "-g -O2",
        "-g -O0",
        "-g -O2 -gdwarf-4",
        "-g -O2 -gdwarf-3",
        "-g -O2 -static",
        "-g -O2 -no-pie",
        "-g -O2 -gz",
        "-g -O2 -gz=zlib-gnu",
        "-g -O2 -fdebug-types-section",
        "-g -O2 -flto",
    ],
)
def test_lines_and_inlined_functions(tmp_path: Path, flags: str) -> None:
    program = build(tmp_path, "prog", C_SOURCE, "gcc", *flags.split(), "prog.c")
    assert told(program) == inlined(tmp_path)


def test_functions_of_a_program_without_debug_information(tmp_path: Path) -> None:
    program = build(tmp_path, "prog", C_SOURCE, "gcc", "-O2", "prog.c")
    assert told(program) == by_name(inlined(tmp_path))


def test_a_stripped_program_has_no_names(tmp_path: Path) -> None:
    program = build(tmp_path, "prog", C_SOURCE, "gcc", "-O2", "-s", "prog.c")
    assert told(program) == {"innermost": (), "middle": (), "hidden": ()}


def test_a_library_by_its_exported_names_alone(tmp_path: Path) -> None:
    library = build(
        tmp_path, "libprog.so", C_SOURCE, "gcc", "-O2", "-s", "-shared", "-fPIC", "-DLIBRARY", "prog.c"
    )
    link = ("-Wl,--no-as-needed", "-L.", "-lprog")
    source = "int show(void); int main(void) { return !show(); }"
    program = build(tmp_path, "main", source, "gcc", *link, "main.c")
    seen = visits(program, LD_LIBRARY_PATH=str(tmp_path))
    assert {visit.path for visit in seen.values()} == {str(library)}
    elf = opened(library)
    found = {place: elf.frames(visit.offset) for place, visit in seen.items()}
    # `hidden` is static: what stands before it is another function, and its name would be a lie.
    assert found == {"innermost": (Frame("outer"),), "middle": (Frame("outer"),), "hidden": ()}


def test_the_plain_one_of_many_names(tmp_path: Path) -> None:
    names = ("__outer", "_outer", "outer", "an_outer")
    aliases = [f'extern __typeof(__GI_outer) {name} __attribute__((alias("__GI_outer")));' for name in names]
    source = "\n".join(
        (C_SOURCE.replace("outer(int x)", "__GI_outer(int x)").replace("outer(1)", "__GI_outer(1)"), *aliases)
    )
    for flags in (["-g"], []):
        program = build(tmp_path, "prog", source, "gcc", "-O2", *flags, "prog.c")
        assert told(program)["innermost"][-1].function == "outer"


def test_sections_compressed_with_zstd(tmp_path: Path) -> None:
    program = build(tmp_path, "prog", C_SOURCE, "gcc", "-g", "-O2", "prog.c")
    done = subprocess.run(["objcopy", "--compress-debug-sections=zstd", program], check=False)
    if done.returncode:
        pytest.skip("objcopy compresses without zstd, before binutils 2.40")
    assert told(program) == inlined(tmp_path)


def separated(folder: Path, *flags: str) -> tuple[Path, Path]:
    """(a stripped program with `.gnu_debuglink`, its debug file)."""
    program = build(folder, "prog", C_SOURCE, "gcc", "-g", "-O2", *flags, "prog.c")
    for command in (
        "objcopy --only-keep-debug prog prog.debug",
        "objcopy --strip-all prog",
        "objcopy --add-gnu-debuglink=prog.debug prog",
    ):
        subprocess.run(command.split(), cwd=folder, check=True)
    return program, folder / "prog.debug"


@pytest.mark.parametrize("build_id", ["none", "sha1"])
def test_a_debug_file_beside_it(tmp_path: Path, build_id: str) -> None:
    program, debug = separated(tmp_path, f"-Wl,--build-id={build_id}")
    elf = opened(program)
    assert (elf.build_id is None) == (build_id == "none")
    assert elf.debuglink is not None
    assert elf.debuglink.name == "prog.debug"
    assert not elf.has_lines
    assert told(program, elf) == {"innermost": (), "middle": (), "hidden": ()}
    assert elf.attach(io.BytesIO(debug.read_bytes()))
    assert told(program, elf) == inlined(tmp_path)


@pytest.mark.parametrize("build_id", ["none", "sha1"])
def test_a_debug_file_of_another_build(tmp_path: Path, build_id: str) -> None:
    program, _ = separated(tmp_path, f"-Wl,--build-id={build_id}")
    elf = opened(program)
    _, other = separated(tmp_path, f"-Wl,--build-id={build_id}", "-fno-inline", "-O1")
    assert not elf.attach(io.BytesIO(other.read_bytes()))
    assert elf.frames(visits(program)["hidden"].offset) == ()


def test_what_is_read_of_the_file_itself(tmp_path: Path) -> None:
    program, debug = separated(tmp_path, "-Wl,--build-id=0x0123456789abcdef")
    elf = opened(program)
    assert elf.build_id == "0123456789abcdef"
    assert elf.debuglink == DebugLink("prog.debug", zlib.crc32(debug.read_bytes()))


def test_names_that_were_left_in_a_stripped_program(tmp_path: Path) -> None:
    program = build(tmp_path, "prog", C_SOURCE, "gcc", "-O2", "prog.c")
    (tmp_path / "mini.xz").write_bytes(lzma.compress(program.read_bytes()))
    for command in ("objcopy --strip-all prog", "objcopy --add-section .gnu_debugdata=mini.xz prog"):
        subprocess.run(command.split(), cwd=tmp_path, check=True)
    assert told(program) == by_name(inlined(tmp_path))
