"""Where a trace goes: a new file of the invoking user's, compressed or not; a device, a pipe."""

from __future__ import annotations

import errno
import gzip
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import zstandard

from tracer.errors import TwtraceError, UsageError

STDOUT = "-"

_FRAME = 1 << 20
"""So much of a compressed trace is lost at the most when we are killed, or a second of it."""

_PACKERS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    ".gz": lambda: lambda data: gzip.compress(data, compresslevel=3),
    ".zst": lambda: zstandard.ZstdCompressor(level=3).compress,
}
"""By extension; what each makes of some lines is whole in itself, and may stand after others."""


class TraceFile:
    """Takes whole lines; whatever goes wrong, whole lines are what is there."""

    def __init__(self, path: str, *, force: bool = False) -> None:
        """Create it; with `force` in the place of a file that is there. Raises UsageError."""
        self.path = path
        self._whole = 0
        packer = _PACKERS.get(os.path.splitext(path)[1])
        self._pack = packer() if packer else None
        self._frame: list[bytes] = []
        self._framed = 0
        self._fd = 1 if path == STDOUT else create(path, force=force)
        self._is_regular = stat.S_ISREG(os.fstat(self._fd).st_mode) and path != STDOUT

    @property
    def size(self) -> int:
        """Bytes written so far, as they are in the file."""
        return self._whole

    def write(self, lines: Iterable[bytes]) -> None:
        """Write whole lines; a full disk leaves only whole lines behind.

        Raises BrokenPipeError when the reader has gone, TwtraceError otherwise.
        """
        data = b"".join(lines)
        if self._pack is None:
            self._append(data)
            return
        self._frame.append(data)
        self._framed += len(data)
        if self._framed >= _FRAME:
            self.flush()

    def flush(self) -> None:
        """Let all that was written be in the file. Raises as write() does, and if the file was deleted."""
        if self._pack is not None and self._framed:
            data, self._frame, self._framed = b"".join(self._frame), [], 0
            self._append(self._pack(data))
        if self._is_regular and not os.fstat(self._fd).st_nlink:
            raise TwtraceError(
                f"{self.path} was deleted while it was written",
                "give -o FILE where nobody cleans up; moving it within its file system does no harm",
            )

    def _append(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            self._whole += self._cut_at_whole_line(data[: len(data) - len(left)])
            raise TwtraceError(
                f"cannot write {self.path}: {error.strerror}",
                "free space or give -o FILE on another file system; the lines before are readable"
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                else "give another place with -o FILE",
            ) from error
        self._whole += len(data)

    def close(self) -> None:
        """Close; standard output stays open, a file of nothing goes again. Raises as write() does."""
        try:
            self.flush()
        finally:
            if self.path != STDOUT:
                os.close(self._fd)
                if self._is_regular and not self._whole:
                    with suppress(FileNotFoundError):
                        os.unlink(self.path)

    def _cut_at_whole_line(self, written: bytes) -> int:
        whole = 0 if self._pack else written.rfind(b"\n") + 1
        if self._is_regular:
            os.ftruncate(self._fd, self._whole + whole)
        return whole


def part_path(path: str, number: int) -> str:
    """The file of one part: `run.0001.ndjson.zst` of `run.ndjson.zst`."""
    stem, packed = os.path.splitext(path)
    if packed not in _PACKERS:
        stem, packed = path, ""
    stem, kind = os.path.splitext(stem)
    return f"{stem}.{number:04d}{kind}{packed}"


def create(path: str, *, force: bool = False) -> int:
    """A descriptor of a new file of the invoking user's, or of a device or pipe; follows no symlink.

    Raises UsageError: what is there is not overwritten or, with `force`, is replaced if it is a plain file.
    """
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    kind = _kind(path)
    try:
        if kind in (stat.S_IFCHR, stat.S_IFIFO):
            return os.open(path, flags)
        if kind == stat.S_IFREG and force:
            return _replaced(path, flags)
        return _new(path, flags)
    except FileExistsError as error:
        raise UsageError(
            f"{path} is already there",
            "give another name with -o FILE, or --force to replace it"
            if kind == stat.S_IFREG
            else "give another name with -o FILE: only a plain file is replaced",
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot create {path}: {error.strerror if isinstance(error, OSError) else error}",
            "give a place you may write to with -o FILE",
        ) from error


def _new(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        os.fchown(fd, int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "-1")))
    return fd


def _replaced(path: str, flags: int) -> int:
    # By rename: whoever has the old one open keeps it, and a link put there meanwhile is not followed.
    aside = f"{path}.{token_hex(4)}"
    fd = _new(aside, flags)
    try:
        os.rename(aside, path)
    except OSError:
        os.close(fd)
        os.unlink(aside)
        raise
    return fd


def _kind(path: str) -> int | None:
    try:
        return stat.S_IFMT(Path(path).lstat().st_mode)
    except (OSError, ValueError):
        return None
