"""Compiled programs between processes and starts: the same again, and only ours."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tracer.errors import KernelLacksError
from tracer.kernel import compiler, programcache
from tracer.kernel.bpf import MapKind
from tracer.kernel.compiled import Compiled, renumbered

MOVE = struct.pack("=BBhi", 0xB7, 0, 0, 7)
"""r0 = 7: no reference, whatever its immediate."""


def load_map(number: int) -> bytes:
    return struct.pack("=BBhiQ", 0x18, 0x11, 0, number, 0)


def load_number(number: int) -> bytes:
    """A 64-bit constant; its second slot may look like any instruction."""
    return struct.pack("=BBhi", 0x18, 0x01, 0, number) + load_map(number)[:8]


SAMPLE = Compiled(
    {"socks": MapKind(1, 8, 144, 1000, 1), "events": MapKind(27, 0, 0, 4096, 0)},
    {"transition_task": load_map(1) + MOVE, "timer_cancelled": MOVE},
)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    base = tmp_path / "cache"
    base.mkdir(mode=0o755)
    folder = base / "twtrace" / "programs"
    monkeypatch.setattr(programcache, "_folder", lambda: folder)
    return folder


def test_only_references_to_maps_are_renumbered() -> None:
    code = MOVE + load_map(7) + load_number(7) + MOVE + load_map(9)
    assert renumbered(code, {7: 0, 9: 1}) == MOVE + load_map(0) + load_number(7) + MOVE + load_map(1)


def test_there_and_back() -> None:
    assert Compiled.parse(SAMPLE.dump()) == SAMPLE
    assert list(Compiled.parse(SAMPLE.dump()).maps) == ["socks", "events"]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"maps": {}, "programs": {"x": "zz"}}', b"\xff"])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no compiled programs"):
        Compiled.parse(data)


def test_what_is_kept_is_found(folder: Path) -> None:
    assert programcache.find("a") is None
    programcache.keep("a", SAMPLE)
    assert programcache.find("a") == SAMPLE
    assert (folder / "a").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_the_oldest_go(folder: Path) -> None:
    for number in range(40):
        programcache.keep(str(number), SAMPLE)
        os.utime(folder / str(number), (number, number))
    programcache.find("9")
    programcache.keep("new", SAMPLE)
    kept = {path.name for path in folder.iterdir()}
    assert len(kept) == 32
    assert "new" in kept
    assert "8" not in kept


def test_each_part_makes_another_key() -> None:
    keys = [
        programcache.key(["ab", "c"], "1"),
        programcache.key(["a", "bc"], "1"),
        programcache.key(["ab", "c"], "2"),
        programcache.key(["abc"], "1"),
    ]
    assert len(set(keys)) == 4


@pytest.mark.parametrize("where", [".", "..", "../.."])
def test_a_folder_that_others_may_write_to_is_not_trusted(folder: Path, where: str) -> None:
    programcache.keep("a", SAMPLE)
    assert programcache.find("a") == SAMPLE
    (folder / where).chmod(0o777)
    assert programcache.find("a") is None
    programcache.keep("b", SAMPLE)
    assert not (folder / "b").exists()


def test_nor_is_a_link(folder: Path, tmp_path: Path) -> None:
    programcache.keep("a", SAMPLE)
    (folder / "link").symlink_to(folder / "a")
    assert programcache.find("link") is None
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert programcache.find("a") is None


def test_nor_is_a_file_of_others(folder: Path) -> None:
    programcache.keep("a", SAMPLE)
    (folder / "a").chmod(0o666)
    assert programcache.find("a") is None


def test_a_damaged_file_is_none(folder: Path) -> None:
    programcache.keep("a", SAMPLE)
    (folder / "a").write_bytes(SAMPLE.dump()[:-1])
    assert programcache.find("a") is None


def test_where_nothing_can_be_kept_nothing_is(folder: Path) -> None:
    folder.parent.parent.joinpath("twtrace").write_text("a file")
    programcache.keep("a", SAMPLE)
    assert programcache.find("a") is None


def test_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def compile_it(flags: list[str]) -> Compiled:
        asked.append(flags)
        return SAMPLE

    monkeypatch.setattr(compiler, "_compiled_elsewhere", compile_it)
    monkeypatch.setattr(compiler, "bcc_version", lambda: "0.26.0")
    assert compiler.compile_programs(["-DA=1"]) == SAMPLE
    assert compiler.compile_programs(["-DA=1"]) == SAMPLE
    compiler.compile_programs(["-DA=2"])
    assert asked == [["-DA=1"], ["-DA=2"]]
    monkeypatch.setattr(compiler, "bcc_version", lambda: "0.31.0")
    compiler.compile_programs(["-DA=1"])
    assert len(asked) == 3


def test_without_bcc_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "find_spec", lambda _name: None)
    with pytest.raises(KernelLacksError, match="BCC") as caught:
        compiler.compile_programs([])
    assert "python3-bpfcc" in caught.value.hint


def test_what_does_not_compile_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bcc")
    with pytest.raises(KernelLacksError, match="do not compile"):
        compiler.compile_programs(["-DHOOKS_TIMER"])
    assert "error" in capfd.readouterr().err
