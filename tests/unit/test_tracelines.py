"""Where lines come from: plain and compressed files, damaged ones, lines of any length."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tracer import tracelines
from tracer.errors import UsageError
from tracer.tracelines import MAX_LINE, DamagedError, lines_of, open_trace

LINES = [b'{"n": %d}\n' % number for number in range(50_000)]
WHOLE = b"".join(LINES)

packings = pytest.mark.parametrize(
    "pack",
    [
        bytes,
        gzip.compress,
        zstandard.ZstdCompressor().compress,
        lambda data: b"".join(zstandard.ZstdCompressor().compress(half) for half in (data[:99], data[99:])),
        lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:]),
    ],
    ids=["plain", "gzip", "zstd", "two frames of zstd", "two members of gzip"],
)


@packings
def test_by_its_first_bytes_not_its_name(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "trace.txt"
    path.write_bytes(pack(WHOLE))
    with open_trace(str(path)) as lines:
        assert list(lines) == LINES


@packings
def test_standard_input(monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pack(WHOLE))))
    with open_trace("-") as lines:
        assert list(lines) == LINES


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("cut", [1, 3, 10, 1000, 10_000])
def test_cut_off_while_compressed(tmp_path: Path, pack: Callable[[bytes], bytes], cut: int) -> None:
    path = tmp_path / "trace"
    path.write_bytes(pack(WHOLE)[:-cut])
    read: list[bytes] = []
    with open_trace(str(path)) as lines, suppress(DamagedError):
        read += (line for line in lines if line.endswith(b"\n"))
    assert read == LINES[: len(read)]
    assert len(read) > 20_000


@pytest.mark.parametrize("block", [100_000, 1 << 17, 1 << 18])
def test_a_zstd_stream_cut_off_gives_all_that_it_unpacks_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(tracelines, "_BLOCK", block)
    path = tmp_path / "trace.zst"
    stream = zstandard.ZstdCompressor().compressobj()
    given = [b'{"n":%d,"x":%d}\n' % (number, number**7) for number in range(60_000)]
    packed = stream.compress(b"".join(given[:5_000])) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    path.write_bytes(packed + stream.compress(b"".join(given[5_000:])))
    whole = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    with open_trace(str(path)) as lines, suppress(DamagedError):
        read = b"".join(lines)
    assert read == whole
    assert len(read) > 1_000_000


@pytest.mark.parametrize("path", ["/nowhere", "/"])
def test_what_is_no_file(path: str) -> None:
    with pytest.raises(UsageError, match=f"cannot read {path}: "), open_trace(path):
        pass


@given(st.lists(st.binary(max_size=12)))
def test_blocks_of_any_size_make_the_same_lines(blocks: list[bytes]) -> None:
    assert list(lines_of(blocks)) == list(io.BytesIO(b"".join(blocks)))


@pytest.mark.parametrize("block", [1 << 16, MAX_LINE * 4])
def test_a_line_too_long_is_not_kept(block: int) -> None:
    data = io.BytesIO(b"a\n" + b"x" * (3 * MAX_LINE) + b"\nb\n" + b"y" * (MAX_LINE - 1) + b"\n")
    first, long, second, longest = lines_of(iter(lambda: data.read(block), b""))
    assert (first, second, longest) == (b"a\n", b"b\n", b"y" * (MAX_LINE - 1) + b"\n")
    assert MAX_LINE < len(long) <= MAX_LINE + block
