"""Where a trace goes: never over what is there, and whole lines whatever happens."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from tracer.errors import TwtraceError, UsageError
from tracer.tracefile import TraceFile, create, part_path
from tracer.tracelines import open_trace

LINES = [b'{"number": %d}\n' % number for number in range(1000)]
NAMES = ["trace.ndjson", "trace.ndjson.gz", "trace.ndjson.zst"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a full disk: no file may grow beyond."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def lines_of(path: Path) -> list[bytes]:
    with open_trace(str(path)) as lines:
        return list(lines)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    file = TraceFile(str(path))
    file.write(LINES[:400])
    file.write(LINES[400:])
    file.close()
    assert lines_of(path) == LINES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert file.size == path.stat().st_size


def test_other_programs_unpack_it(tmp_path: Path) -> None:
    for name in NAMES[1:]:
        file = TraceFile(str(tmp_path / name))
        for line in LINES:
            file.write([line])
            if line.endswith(b"00}\n"):
                file.flush()
        file.close()
    assert gzip.decompress((tmp_path / NAMES[1]).read_bytes()) == b"".join(LINES)
    with zstandard.open(tmp_path / NAMES[2], "rb") as packed:
        assert packed.read() == b"".join(LINES)


@pytest.mark.parametrize("name", NAMES[1:])
def test_all_up_to_the_last_flush_is_in_the_file(name: str, tmp_path: Path) -> None:
    file = TraceFile(str(tmp_path / name))
    file.write(LINES[:300])
    file.flush()
    file.write(LINES[300:])
    assert lines_of(tmp_path / name) == LINES[:300]
    file.close()
    assert lines_of(tmp_path / name) == LINES


@pytest.mark.parametrize("name", NAMES[1:])
def test_much_is_not_held_back(name: str, tmp_path: Path) -> None:
    file = TraceFile(str(tmp_path / name))
    file.write([b"x" * 1023 + b"\n"] * 1024)
    assert len(lines_of(tmp_path / name)) == 1024
    file.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_leaves_whole_lines(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    file = TraceFile(str(path))
    file.write(LINES[:10])
    file.flush()
    noise = [os.urandom(500).hex().encode() + b"\n" for _ in range(300)]

    def write_all() -> None:
        for line in noise:
            file.write([line])
            file.flush()

    with largest_file(4096), pytest.raises(TwtraceError, match="File too large") as caught:
        write_all()
    assert "lines before are readable" in caught.value.hint
    read = lines_of(path)
    assert 10 < len(read) < 310
    assert read == [*LINES, *noise][:10] + noise[: len(read) - 10]
    assert file.size == path.stat().st_size
    file.close()


def test_a_file_that_was_deleted_is_told(tmp_path: Path) -> None:
    file = TraceFile(str(tmp_path / "trace"))
    file.write(LINES)
    file.flush()
    os.unlink(tmp_path / "trace")
    with pytest.raises(TwtraceError, match="was deleted while it was written"):
        file.flush()
    with pytest.raises(TwtraceError, match="was deleted"):
        file.close()


def test_one_that_was_moved_is_not(tmp_path: Path) -> None:
    file = TraceFile(str(tmp_path / "trace"))
    os.rename(tmp_path / "trace", tmp_path / "moved")
    file.write(LINES)
    file.close()
    assert lines_of(tmp_path / "moved") == LINES


def test_a_file_of_nothing_goes_again(tmp_path: Path) -> None:
    TraceFile(str(tmp_path / "trace")).close()
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    with pytest.raises(UsageError, match="already there") as caught:
        create(str(there))
    assert "--force" in caught.value.hint
    assert there.read_text() == "mine"


def test_force_replaces_a_plain_file(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    with there.open() as old:
        file = TraceFile(str(there), force=True)
        file.write(LINES)
        file.close()
        assert old.read() == "mine"
    assert lines_of(there) == LINES
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("force", [False, True])
def test_no_link_is_followed(force: bool, tmp_path: Path) -> None:
    target = tmp_path / "target"
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(UsageError):
        create(str(link), force=force)
    assert not target.exists()
    target.write_text("mine")
    with pytest.raises(UsageError):
        create(str(link), force=force)
    assert target.read_text() == "mine"
    assert link.is_symlink()


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_is_no_place(force: bool, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        create(str(tmp_path), force=force)
    with pytest.raises(UsageError, match="cannot create"):
        create(str(tmp_path / "none" / "trace"), force=force)


def test_under_sudo_it_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives a file away")
    monkeypatch.setenv("SUDO_UID", "4711")
    monkeypatch.setenv("SUDO_GID", "4712")
    for force in (False, True):
        os.close(create(str(tmp_path / "trace"), force=force))
        about = (tmp_path / "trace").stat()
        assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (4711, 4712, 0o600)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("run.ndjson", "run.0007.ndjson"),
        ("a.b/run.ndjson.zst", "a.b/run.0007.ndjson.zst"),
        ("run.gz", "run.0007.gz"),
        ("a.b/run", "a.b/run.0007"),
        ("2026.01.ndjson.gz", "2026.01.0007.ndjson.gz"),
    ],
)
def test_names_of_parts(path: str, part: str) -> None:
    assert part_path(path, 7) == part
