"""The perf map of a process: found, checked to be its own, and opened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from tracer.symbols.facts import DebugLink
from tracer.symbols.openfiles import open_inside, open_regular

_MOST_STATUS = 1 << 16
_UIDS = re.compile(rb"^Uid:\t\d+\t(\d+)", re.MULTILINE)
_PIDS = re.compile(rb"^NSpid:(?:\t\d+)*\t(\d+)$", re.MULTILINE)


class PerfMapFile:
    """`/tmp/perf-PID.map` as the process sees it, held open; as the Symbolizer asks of a file."""

    def __init__(self, pid: int) -> None:
        """Raises OSError if there is none, or if it is somebody else's: anyone may write in /tmp."""
        with open(f"/proc/{pid}/status", "rb") as file:
            status = file.read(_MOST_STATUS)
        uid, own_pid = _UIDS.search(status), _PIDS.search(status)
        if uid is None or own_pid is None:
            raise FileNotFoundError(f"no process {pid}")
        self._fd = open_inside(f"/proc/{pid}/root", f"/tmp/perf-{int(own_pid[1])}.map")  # noqa: S108 - where it is
        if os.fstat(self._fd).st_uid != int(uid[1]):
            os.close(self._fd)
            raise PermissionError(f"the perf map of process {pid} is not its own")

    @property
    def identity(self) -> tuple[int, ...]:
        """Another one as soon as something was added."""
        about = os.fstat(self._fd)
        return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)

    def open(self) -> int:
        """A descriptor with a position of its own. Raises OSError."""
        return open_regular(f"/proc/self/fd/{self._fd}")

    def debug_files(self, _build_id: str | None, _link: DebugLink | None) -> Iterator[int]:
        """None."""
        return iter(())

    def close(self) -> None:
        """Let go."""
        os.close(self._fd)
        self._fd = -1
