"""The files behind a process's memory, and their debug files: found, checked, opened."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from tracer.symbols.facts import DebugLink
from tracer.symbols.mappings import MOST_BYTES, Mapping, Mappings
from tracer.symbols.openfiles import handle_inside, open_inside, open_regular

_DEBUG_ROOT = "/usr/lib/debug"
_LONGEST_FILE_NAME = 255


def read_mappings(pid: int) -> Mappings:
    """The mappings of a process, as they are now. Raises OSError."""
    with open(f"/proc/{pid}/maps", "rb") as file:
        return Mappings(file.read(MOST_BYTES))


@dataclass(frozen=True, slots=True)
class MappedFile:
    """The file of a mapping of a live process. The Symbolizer opens it when it has need to."""

    pid: int
    mapping: Mapping

    @property
    def identity(self) -> tuple[int, ...]:
        """Another file, another identity: device, inode, size, time of the last change. Raises OSError."""
        fd = self._handle()
        try:
            about = os.fstat(fd)
        finally:
            os.close(fd)
        return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)

    def open(self) -> int:
        """A descriptor, of a deleted file too; the caller closes it. Raises OSError."""
        handle = self._handle()
        try:
            return open_regular(f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)

    def debug_files(self, build_id: str | None, link: DebugLink | None) -> Iterator[int]:
        """Descriptors of what may be its debug file, the process's own first; the caller closes each."""
        paths = debug_paths(self.mapping.path, build_id, link)
        for root in (f"/proc/{self.pid}/root", "/"):
            for path in paths:
                with suppress(OSError):
                    yield open_inside(root, path)

    def _handle(self) -> int:
        """The mapped file itself, not opened for reading (O_PATH)."""
        one = self.mapping
        try:
            # Leads to the file that is mapped, whatever its name stands for now; for root alone.
            fd = os.open(f"/proc/{self.pid}/map_files/{one.start:x}-{one.end:x}", os.O_PATH | os.O_CLOEXEC)
            by_name = False
        except OSError:
            fd = handle_inside(f"/proc/{self.pid}/root", one.path)
            by_name = True
        about = os.fstat(fd)
        is_same = (about.st_dev, about.st_ino) == (os.makedev(*one.device), one.inode)
        # On btrfs and overlays the kernel's two numbers of one device differ: what counts is that the
        # process still maps it there, and has not become another program meanwhile.
        if is_same or (not by_name and read_mappings(self.pid).find(one.start) == one):
            return fd
        os.close(fd)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), one.path)


def debug_paths(path: str, build_id: str | None, link: DebugLink | None) -> list[str]:
    """Where the debug file of the program or library at `path` may be, as debuggers look for it."""
    found = []
    if build_id is not None:
        found.append(f"{_DEBUG_ROOT}/.build-id/{build_id[:2]}/{build_id[2:]}.debug")
    # The name comes from the file, which may be anyone's.
    if link is not None and path.startswith("/") and _is_file_name(link.name):
        folder = posixpath.dirname(path)
        found += [
            posixpath.join(*parts, link.name)
            for parts in ((folder,), (folder, ".debug"), (_DEBUG_ROOT + folder,))
        ]
    return found


def _is_file_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_FILE_NAME and "/" not in name and name not in {".", ".."}
