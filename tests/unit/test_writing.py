"""The thread that writes: it takes all, says what went wrong, and never makes its caller wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tracer.errors import TwtraceError
from tracer.tracefile import TraceFile
from tracer.tracelines import open_trace
from tracer.writing import Writer

LINE = b"x" * 1023 + b"\n"
PATIENCE_S = 20


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Fifo:
    """A pipe that nobody reads until asked to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pipe"
        os.mkfifo(self.path)
        self.fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def drain(self) -> int:
        """Read to its end; how many bytes."""
        os.set_blocking(self.fd, True)
        size = 0
        while data := os.read(self.fd, 1 << 20):
            size += len(data)
        return size


def test_all_is_written_in_order(tmp_path: Path) -> None:
    writer = Writer(TraceFile(str(tmp_path / "trace.ndjson.zst")))
    lines = [b"%d\n" % number for number in range(10_000)]
    for at in range(0, len(lines), 100):
        writer.put(lines[at : at + 100])
    writer.close()
    assert writer.has_ended
    with open_trace(str(tmp_path / "trace.ndjson.zst")) as written:
        assert list(written) == lines


@pytest.mark.parametrize("name", ["trace.ndjson", "trace.ndjson.gz", "trace.ndjson.zst"])
def test_a_line_is_in_the_file_within_a_second_or_two(name: str, tmp_path: Path) -> None:
    writer = Writer(TraceFile(str(tmp_path / name)))

    def written() -> bool:
        with open_trace(str(tmp_path / name)) as lines:
            return list(lines) == [b"one\n"]

    writer.put([b"one\n"])
    eventually(written)
    writer.close()


def test_flush_does_not_wait_for_that_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.writing._FLUSH_EVERY_S", 10 * PATIENCE_S)
    path = tmp_path / "trace.gz"
    writer = Writer(TraceFile(str(path)))
    writer.put([b"one\n"])
    writer.flush()
    eventually(lambda: path.stat().st_size > 0)
    writer.put([b"two\n"])
    size = path.stat().st_size
    writer.flush()
    eventually(lambda: path.stat().st_size > size)
    writer.close()


def test_a_slow_reader_fills_the_queue_and_not_our_time(tmp_path: Path) -> None:
    fifo = Fifo(tmp_path)
    writer = Writer(TraceFile(str(fifo.path)), room=100 * len(LINE))
    count = 0
    began = time.monotonic()
    while not writer.is_full:
        writer.put([LINE])
        count += 1
        assert time.monotonic() < began + PATIENCE_S
    assert count >= 100
    writer.put([LINE])  # what cannot be left out is taken all the same
    writer.end()
    assert fifo.drain() == (count + 1) * len(LINE)
    writer.close()
    assert not writer.is_full


def test_what_went_wrong_is_raised_by_the_next_call() -> None:
    writer = Writer(TraceFile("/dev/full"))
    writer.put([b"one\n"])
    eventually(lambda: writer.has_ended)
    for call in (writer.check, writer.close, lambda: writer.put([b"two\n"])):
        with pytest.raises(TwtraceError, match="No space left"):
            call()


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    fifo = Fifo(tmp_path)
    writer = Writer(TraceFile(str(fifo.path)))
    os.close(fifo.fd)
    writer.put([LINE])
    with pytest.raises(BrokenPipeError):
        writer.close()


def test_a_file_that_was_deleted_is_told_soon(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    writer = Writer(TraceFile(str(path)))
    path.unlink()
    writer.put([LINE])
    eventually(lambda: writer.has_ended)
    with pytest.raises(TwtraceError, match="was deleted"):
        writer.check()
