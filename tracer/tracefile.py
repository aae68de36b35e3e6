"""Where a trace goes: a new file of the invoking user's, a device, a pipe."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from tracer.errors import TwtraceError, UsageError

STDOUT = "-"


class TraceFile:
    """Where lines go: a new file of the invoking user's, a device, a pipe."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._whole = 0
        self._fd = 1 if path == STDOUT else create(path)
        self._is_regular = stat.S_ISREG(os.fstat(self._fd).st_mode) and path != STDOUT

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._whole

    def write(self, lines: Iterable[bytes]) -> None:
        """Write whole lines; a full disk leaves only whole lines behind.

        Raises BrokenPipeError when the reader has gone, TwtraceError otherwise.
        """
        data = memoryview(b"".join(lines))
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except BrokenPipeError:
            raise
        except OSError as error:
            self._whole += self._cut_at_whole_line(bytes(data[:written]))
            raise TwtraceError(
                f"cannot write {self.path}: {error.strerror}",
                "free space or give -o FILE on another file system; the lines before are readable"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "give another place with -o FILE",
            ) from error
        self._whole += len(data)

    def close(self) -> None:
        """Close; standard output stays open, a file of nothing goes again."""
        if self.path == STDOUT:
            return
        os.close(self._fd)
        if self._is_regular and not self._whole:
            os.unlink(self.path)

    def _cut_at_whole_line(self, written: bytes) -> int:
        whole = written.rfind(b"\n") + 1
        if self._is_regular:
            os.ftruncate(self._fd, self._whole + whole)
        return whole


def create(path: str) -> int:
    """A descriptor of a new file of the invoking user's, or of a device or pipe; follows no symlink.

    Raises UsageError: what is there is not overwritten.
    """
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        if _is_device_or_pipe(path):
            return os.open(path, flags)
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        if os.geteuid() == 0 and "SUDO_UID" in os.environ:
            os.fchown(fd, int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "-1")))
    except FileExistsError as error:
        raise UsageError(
            f"{path} is already there", "give another name with -o FILE: no file is overwritten"
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot create {path}: {error.strerror if isinstance(error, OSError) else error}",
            "give a place you may write to with -o FILE",
        ) from error
    return fd


def _is_device_or_pipe(path: str) -> bool:
    try:
        mode = Path(path).lstat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)
