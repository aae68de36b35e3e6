"""The lines of a trace, from a file, compressed or not, or from standard input."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import zstandard

from tracer.errors import TwtraceError, UsageError

MAX_LINE = 1 << 20
"""Bytes of the longest line that is read; those of twtrace have some hundred, at most some ten thousand."""

_BLOCK = 1 << 18
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAX_WINDOW = 1 << 27
"""Memory that a zstd stream may ask for: as much as zstd(1) gives it unasked."""

_FEED = 512
"""Bytes of a zstd stream unpacked at a time: 16 MiB can come of them."""


class ZstdFile:
    """A zstd stream. zstandard's own reader keeps the last 128 KiB to itself when a stream is cut off."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self._unpack = unpacker.decompressobj(read_across_frames=True).decompress

    def read1(self, _size: int) -> bytes:
        """Some bytes, as soon as they are there; none at the end."""
        while packed := self._file.read1(_FEED):
            if block := self._unpack(packed):
                return block
        return b""


Unpacked = io.BufferedReader | gzip.GzipFile | ZstdFile
"""What reads a trace: a BufferedReader if it is not compressed."""


class DamagedError(TwtraceError):
    """What comes after the bytes so far cannot be unpacked, or read."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause, "was it copied whole? what comes before is good")


@contextmanager
def open_trace(path: str) -> Iterator[Iterator[bytes]]:
    """The lines of a trace: plain, gzip or zstd, by its first bytes; `-` is standard input.

    Raises UsageError; for the lines see lines_of().
    """
    with unpacked(path) as file:
        yield lines_of(blocks_of(file))


@contextmanager
def unpacked(path: str) -> Iterator[Unpacked]:
    """What is in a trace; `-` is standard input. Memory is bounded. Raises UsageError."""
    with ExitStack() as opened:
        try:
            file = _stdin() if path == "-" else opened.enter_context(Path(path).open("rb"))
            magic = file.peek(len(_ZSTD))
        except OSError as error:
            raise UsageError(
                f"cannot read {path}: {error.strerror}", "give a file of `twtrace record`"
            ) from error
        if magic.startswith(_GZIP):
            yield gzip.GzipFile(fileobj=file)
        elif magic.startswith(_ZSTD):
            yield ZstdFile(file)
        else:
            yield file


def _stdin() -> io.BufferedReader:
    file = sys.stdin.buffer
    return file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", file))


def blocks_of(file: Unpacked) -> Iterator[bytes]:
    """The bytes, as soon as they are there. Raises DamagedError after the last that could be read."""
    try:
        while block := file.read1(_BLOCK):
            yield block
    except EOFError as error:
        raise DamagedError("the compressed trace is cut off") from error
    except (OSError, zlib.error, zstandard.ZstdError) as error:
        raise DamagedError(f"the rest cannot be read: {error}") from error


def lines_of(blocks: Iterable[bytes]) -> Iterator[bytes]:
    r"""Lines with their `\n`, which the last one may lack.

    Of one longer than MAX_LINE comes its beginning alone, longer than that. Raises what the blocks raise,
    after all that came before.
    """
    begun = bytearray()
    for block in blocks:
        for part in io.BytesIO(block):
            is_end = part.endswith(b"\n")
            if is_end and not begun:
                yield part
                continue
            if len(begun) <= MAX_LINE:
                begun += part
            if is_end:
                yield bytes(begun)
                begun.clear()
    if begun:
        yield bytes(begun)
