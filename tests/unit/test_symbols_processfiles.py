"""From an address in a live process to the file that is mapped there, whatever its name stands for now."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.symbols import C_SOURCE, build, running
from tests.unit.test_symbols_elf import inlined, separated
from tracer.symbols.facts import DebugLink
from tracer.symbols.mappings import Mapping, Mappings
from tracer.symbols.openfiles import open_inside, open_regular
from tracer.symbols.pool import Symbolizer
from tracer.symbols.processfiles import MappedFile, debug_paths, read_mappings

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="/proc/PID/map_files is for root")

MAPS = rb"""55d0c0a00000-55d0c0a02000 r--p 00000000 fe:01 1234                       /usr/bin/a b
55d0c0a02000-55d0c0a03000 r-xp 00002000 fe:01 1234                       /usr/bin/a b
55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000001000 r-xp 00000000 08:10 77                         /var/new\012line (deleted)
7f0000002000-7f0000003000 rwxp 00000000 00:00 0
nonsense
7f0000001000-7f0000002000 r-xp 00000000 00:00 0                          [vdso]
"""


def test_a_memory_map() -> None:
    mappings = Mappings(MAPS)
    assert list(mappings) == [
        Mapping(0x55D0C0A00000, 0x55D0C0A02000, False, 0, (0xFE, 1), 1234, "/usr/bin/a b", False),
        Mapping(0x55D0C0A02000, 0x55D0C0A03000, True, 0x2000, (0xFE, 1), 1234, "/usr/bin/a b", False),
        Mapping(0x55D0C1000000, 0x55D0C1021000, False, 0, (0, 0), 0, "[heap]", False),
        Mapping(0x7F0000000000, 0x7F0000001000, True, 0, (8, 16), 77, "/var/new\nline", True),
        Mapping(0x7F0000001000, 0x7F0000002000, True, 0, (0, 0), 0, "[vdso]", False),
        Mapping(0x7F0000002000, 0x7F0000003000, True, 0, (0, 0), 0, "", False),
    ]


@pytest.mark.parametrize(
    ("address", "path", "offset"),
    [
        (0x55D0C0A02010, "/usr/bin/a b", 0x2010),
        (0x55D0C0A02FFF, "/usr/bin/a b", 0x2FFF),
        (0x55D0C0A03000, None, 0),
        (0x7F0000000000, "/var/new\nline", 0),
        (0x7F0000001000, None, 0),
        (0x7F0000002000, None, 0),
        (0, None, 0),
        (1 << 64, None, 0),
    ],
)
def test_what_lies_at_an_address(address: int, path: str | None, offset: int) -> None:
    found = Mappings(MAPS).place(address)
    assert (found and (found[0].path, found[1])) == (path and (path, offset))


def mapped(pid: int, path: Path) -> MappedFile:
    """The code of the program at `path`."""
    (found,) = (one for one in read_mappings(pid) if one.executable and one.path == str(path))
    return MappedFile(pid, found)


def content(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


@as_root
def test_a_file_that_is_deleted_or_replaced(tmp_path: Path) -> None:
    program = build(tmp_path, "prog", C_SOURCE, "gcc", "-g", "prog.c")
    data = program.read_bytes()
    with running(program) as (pid, _):
        file = mapped(pid, program)
        identity = file.identity
        assert content(file.open()) == data
        about = program.stat()
        assert identity == (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
        program.unlink()
        assert not file.mapping.deleted
        file = mapped(pid, program)
        assert file.mapping.deleted
        assert (file.identity, content(file.open())) == (identity, data)
        program.write_bytes(b"another")
        assert (file.identity, content(file.open())) == (identity, data)


def test_without_root_a_file_is_taken_by_name_if_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = build(tmp_path, "prog", C_SOURCE, "gcc", "-g", "prog.c")
    data = program.read_bytes()
    refused = os.open

    def without_map_files(path: str, *args: int, **options: int) -> int:
        if "map_files" in str(path):
            raise PermissionError
        return refused(path, *args, **options)

    with running(program) as (pid, _):
        file = mapped(pid, program)
        monkeypatch.setattr(os, "open", without_map_files)
        assert content(file.open()) == data
        program.unlink()
        program.write_bytes(data)
        with pytest.raises(OSError, match="Stale file handle"):
            file.open()
        program.unlink()
        with pytest.raises(FileNotFoundError):
            file.open()


@as_root
def test_a_mapping_that_is_no_more(tmp_path: Path) -> None:
    program = build(tmp_path, "prog", C_SOURCE, "gcc", "-g", "prog.c")
    with running(program) as (pid, _):
        file = mapped(pid, program)
        other = replace(file.mapping, inode=file.mapping.inode + 1)
        with pytest.raises(OSError, match="Stale file handle"):
            MappedFile(pid, other).open()
    with pytest.raises(OSError, match=r"No such (file|process)"):
        file.open()


@as_root
@pytest.mark.parametrize("folder", [".", ".debug"])
def test_from_an_address_to_a_line(tmp_path: Path, folder: str) -> None:
    program, debug = separated(tmp_path)
    (tmp_path / folder).mkdir(exist_ok=True)
    debug.rename(tmp_path / folder / debug.name)
    with running(program) as (pid, addresses), Symbolizer() as symbolizer:
        program.unlink()
        mappings = read_mappings(pid)
        found = {}
        for name, address in addresses.items():
            place = mappings.place(address)
            assert place is not None
            mapping, offset = place
            found[name] = symbolizer.frames(MappedFile(pid, mapping), offset)
    assert found == inlined(tmp_path)


def test_where_debug_files_may_be() -> None:
    assert debug_paths("/usr/bin/prog", "0123456789", DebugLink("prog.debug", 1)) == [
        "/usr/lib/debug/.build-id/01/23456789.debug",
        "/usr/bin/prog.debug",
        "/usr/bin/.debug/prog.debug",
        "/usr/lib/debug/usr/bin/prog.debug",
    ]
    assert debug_paths("/usr/bin/prog", None, None) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc/shadow", "/etc/shadow", "x" * 256])
def test_a_link_leads_to_no_other_folder(name: str) -> None:
    assert debug_paths("/usr/bin/prog", None, DebugLink(name, 1)) == []


def test_no_link_leads_out_of_a_root(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the host's")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/inside").write_text("its own")
    for name, target in (
        ("absolute", str(tmp_path / "secret")),
        ("above", "../../../../../../secret"),
        ("own", "/etc/inside"),
        ("magic", "/proc/self/root"),
    ):
        (root / "etc" / name).symlink_to(target)
    assert content(open_inside(str(root), "/etc/own")) == b"its own"
    assert content(open_inside(str(root), "/../etc/inside")) == b"its own"
    for name in ("absolute", "above", "magic", "missing"):
        with pytest.raises(FileNotFoundError):
            open_inside(str(root), f"/etc/{name}")


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/null", str(tmp_path)):
        with pytest.raises(FileNotFoundError):
            open_regular(path)
        with pytest.raises(FileNotFoundError):
            open_inside("/", path)
