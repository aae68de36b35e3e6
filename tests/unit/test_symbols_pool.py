"""The process that reads ELF files: what it may do, and what a file can do to it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.unit.symbols import C_SOURCE, build, visits
from tests.unit.test_symbols_elf import inlined, separated
from tracer.symbols import pool
from tracer.symbols.facts import DebugLink, Frame
from tracer.symbols.pool import Symbolizer


@dataclass
class PlainFile:
    """A file by its path, that counts how often it is opened."""

    path: Path
    debug: list[Path] = field(default_factory=list)
    opened: int = 0
    asked: list[tuple[str | None, DebugLink | None]] = field(default_factory=list)

    @property
    def identity(self) -> tuple[int, int]:
        about = self.path.stat()
        return about.st_ino, about.st_mtime_ns

    def open(self) -> int:
        self.opened += 1
        return os.open(self.path, os.O_RDONLY)

    def debug_files(self, build_id: str | None, link: DebugLink | None) -> Iterator[int]:
        self.asked.append((build_id, link))
        for path in self.debug:
            yield os.open(path, os.O_RDONLY)


@pytest.fixture(scope="module")
def symbolizer() -> Iterator[Symbolizer]:
    with Symbolizer() as started:
        yield started


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("symbols"), "prog", C_SOURCE, "gcc", "-g", "-O2", "prog.c")


def told(symbolizer: Symbolizer, file: PlainFile) -> dict[str, tuple[Frame, ...]]:
    return {place: symbolizer.frames(file, visit.offset) for place, visit in visits(file.path).items()}


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_frames_come_back_the_same(symbolizer: Symbolizer, program: Path) -> None:
    file = PlainFile(program)
    before = descriptors()
    assert told(symbolizer, file) == inlined(program.parent)
    assert told(symbolizer, file) == inlined(program.parent)
    assert (file.opened, file.asked, symbolizer.fault(file)) == (1, [], None)
    assert descriptors() == before


def test_debug_files_are_asked_for_and_checked(symbolizer: Symbolizer, tmp_path: Path) -> None:
    stripped, debug = separated(tmp_path, "-Wl,--build-id=0x0123456789abcdef")
    (tmp_path / "broken").write_bytes(b"\x7fELF")
    file = PlainFile(stripped, [tmp_path / "broken", stripped, debug, stripped])
    before = descriptors()
    assert told(symbolizer, file) == inlined(tmp_path)
    ((build_id, link),) = file.asked
    assert (build_id, link and link.name) == ("0123456789abcdef", "prog.debug")
    assert descriptors() == before


def test_more_files_than_it_keeps_open(symbolizer: Symbolizer, program: Path, tmp_path: Path) -> None:
    first = symbolizer.worker_pid
    offsets = {place: visit.offset for place, visit in visits(program).items()}
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, program], check=True)
    for number in range(100):
        copy = tmp_path / str(number)
        shutil.copy(program if number % 2 else stripped, copy)
        file = PlainFile(copy, [stripped] * 3)
        found = {place: symbolizer.frames(file, offset) for place, offset in offsets.items()}
        assert found == (inlined(program.parent) if number % 2 else dict.fromkeys(offsets, ()))
        assert file.opened == 1
    assert symbolizer.worker_pid == first


def test_the_worker_has_no_privileges(symbolizer: Symbolizer, program: Path) -> None:
    symbolizer.frames(PlainFile(program), 0)
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{symbolizer.worker_pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    capabilities = {name: int(status[name], 16) for name in status if name.startswith("Cap")}
    assert capabilities == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapAmb", *(["CapBnd"] if os.geteuid() == 0 else [])), 0
    ) | ({} if os.geteuid() == 0 else {"CapBnd": capabilities["CapBnd"]})
    assert (status["NoNewPrivs"], status["Seccomp"], status["Threads"]) == ("1", "2", "1")
    if os.geteuid() == 0:
        assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
        assert status["Groups"].split() == []
    limits = Path(f"/proc/{symbolizer.worker_pid}/limits").read_text()
    found = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()[1:]}
    assert found["Max address space"] == [str(1 << 30)] * 2
    assert [found[f"Max {name}"] for name in ("file size", "core file size", "processes")] == [["0", "0"]] * 3


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        ("open('/etc/passwd')", "PermissionError"),
        ("os.stat('/etc/passwd')", "PermissionError"),
        ("socket.socket()", "PermissionError"),
        ("os.fork()", "PermissionError"),
        ("os.execv('/bin/true', ['true'])", "PermissionError"),
        ("os.kill(os.getppid(), 0)", "PermissionError"),
        ("os.pipe()", "PermissionError"),
        ("os.setuid(0)", "PermissionError"),
        ("ctypes.CDLL('libthread_db.so.1')", "OSError"),
        ("mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)", "PermissionError"),
        ("resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))", "ValueError"),
        ("len(bytearray(1 << 20))", "1048576"),
        ("bytearray(1 << 31)", "MemoryError"),
    ],
)
def test_what_a_confined_process_can_do(attempt: str, expected: str) -> None:
    script = f"""
import ctypes, mmap, os, resource, socket, sys
from tracer.symbols.confine import confine
channel = socket.socket(fileno=0)
confine()
try:
    said = str({attempt})
except Exception as error:
    said = type(error).__name__
channel.sendall(said.encode())
"""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        root = Path(__file__).parents[2]
        subprocess.run(
            [sys.executable, "-c", script], stdin=theirs.fileno(), cwd=root, check=True, timeout=30
        )
        assert ours.recv(100).decode() == expected


def test_a_worker_that_dies_is_replaced(symbolizer: Symbolizer, program: Path) -> None:
    file = PlainFile(program)
    symbolizer.frames(file, 0)
    first = symbolizer.worker_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    copy = PlainFile(program.with_name("copy"))
    shutil.copy(program, copy.path)
    # It was not the file it was asked about next.
    assert told(symbolizer, copy) == inlined(program.parent)
    assert symbolizer.worker_pid not in {None, first}


def test_a_file_that_hangs_costs_its_own_symbols(program: Path) -> None:
    with Symbolizer(deadline_s=0.5) as symbolizer:
        good = PlainFile(program)
        assert told(symbolizer, good) == inlined(program.parent)
        slow = PlainFile(program.with_name("slow"))
        shutil.copy(program, slow.path)
        assert symbolizer.worker_pid is not None
        os.kill(symbolizer.worker_pid, signal.SIGSTOP)
        begin = time.monotonic()
        assert symbolizer.frames(slow, 0x1000) == ()
        assert 0.5 <= time.monotonic() - begin < 0.7
        assert symbolizer.fault(slow) == "it takes too long to read"
        assert symbolizer.frames(slow, 0x1000) == ()
        assert slow.opened == 0
        again = PlainFile(program.with_name("again"))
        shutil.copy(program, again.path)
        assert told(symbolizer, again) == inlined(program.parent)


def test_a_file_that_cannot_be_opened_is_not_given_up(symbolizer: Symbolizer, program: Path) -> None:
    class Shy(PlainFile):
        def open(self) -> int:
            super().open()
            if self.opened == 1:
                raise PermissionError
            return os.open(self.path, os.O_RDONLY)

    shy = Shy(program.with_name("shy"))
    shutil.copy(program, shy.path)
    offset = visits(shy.path)["hidden"].offset
    assert symbolizer.frames(shy, offset) == ()
    assert symbolizer.fault(shy) is None
    assert symbolizer.frames(shy, offset) == inlined(program.parent)["hidden"]


@pytest.mark.parametrize(
    ("behaviour", "fault"),
    [
        ("nonsense", "its reader answered nonsense"),
        ("endless", "its reader answered nonsense"),
        ("another_kind", "its reader answered nonsense"),
        ("long_name", "its reader answered nonsense"),
        ("path_as_build_id", "its reader answered nonsense"),
        ("ever_unknown", "its reader answered nonsense"),
        ("drip", "it takes too long to read"),
        ("silent", "it takes too long to read"),
        ("dies", "its reader died"),
    ],
)
def test_a_worker_that_was_taken_over(
    behaviour: str, fault: str, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_START", f"from tests.unit.badworker import {behaviour}; {behaviour}()")
    file = PlainFile(program)
    before = descriptors()
    with Symbolizer(deadline_s=1.5) as symbolizer:
        begin = time.monotonic()
        assert symbolizer.frames(file, 0x1000) == ()
        assert time.monotonic() - begin < 1.7
        assert (symbolizer.fault(file), file.asked) == (fault, [])
    assert descriptors() == before


def test_a_worker_that_cannot_give_up_its_privileges_gets_no_file(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_START", "from tests.unit.badworker import keeps; keeps()")
    file = PlainFile(program)
    with Symbolizer() as symbolizer:
        for _ in range(4):
            assert symbolizer.frames(file, 0x1000) == ()
        assert symbolizer.trouble == "cannot give up privileges: why?"
        assert symbolizer.worker_pid is None
        assert (symbolizer.fault(file), file.opened) == (None, 0)
