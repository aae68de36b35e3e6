"""The files of processes' code, held open from when a process is met: it may be gone soon."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock

from tracer.symbols.facts import DebugLink
from tracer.symbols.mapfile import PerfMapFile
from tracer.symbols.mappings import Mapping, Mappings
from tracer.symbols.openfiles import open_regular
from tracer.symbols.processfiles import MappedFile, read_mappings

_MOST_FILES = 512
_MOST_PROCESSES = 4_096
_MOST_MAPS = 64
"""Perf maps held open: each is a descriptor."""
_FileId = tuple[tuple[int, int], int]
"""Device and inode number, as in /proc/PID/maps."""


class HeldFile:
    """A file that some process had mapped when it was met; as the Symbolizer asks of a file."""

    def __init__(self, mapped: MappedFile) -> None:
        """Raises OSError."""
        self._mapped = mapped
        self._fd = mapped.open()
        about = os.fstat(self._fd)
        self.path = mapped.mapping.path
        self.identity = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)

    def open(self) -> int:
        """A descriptor with a position of its own. Raises OSError."""
        return open_regular(f"/proc/self/fd/{self._fd}")

    def debug_files(self, build_id: str | None, link: DebugLink | None) -> Iterator[int]:
        """Descriptors of what may be its debug file, in that process's eyes or in ours."""
        return self._mapped.debug_files(build_id, link)

    def close(self) -> None:
        """Let go."""
        os.close(self._fd)
        self._fd = -1  # the number will be another file's


@dataclass(frozen=True, slots=True)
class ProcessCode:
    """What of a process's memory is code of files."""

    mappings: Mappings
    files: dict[_FileId, HeldFile]
    perf_map: PerfMapFile | None
    """What a runtime says of the code it has made."""

    def mapped(self) -> list[tuple[int, int, int, HeldFile | PerfMapFile | None]]:
        """(start, end, offset, file) of each line that is executable; None: no file that can be read."""
        return [
            (
                one.start,
                one.end,
                one.offset,
                self.files.get(_id(one)) if one.is_file else self.perf_map,
            )
            for one in self.mappings
            if one.executable
        ]

    def place(self, address: int) -> tuple[HeldFile | PerfMapFile, int] | None:
        """The file at an address, and the offset in it; in a perf map that is the address."""
        mapping = self.mappings.find(address)
        if mapping is None or not mapping.executable:
            return None
        if not mapping.is_file:
            return (self.perf_map, address) if self.perf_map else None
        file = self.files.get(_id(mapping))
        return (file, address - mapping.start + mapping.offset) if file else None


class HeldFiles:
    """By process, from when it was met; for any thread."""

    def __init__(self) -> None:
        self._files: OrderedDict[_FileId, HeldFile] = OrderedDict()
        self._processes: OrderedDict[tuple[int, int], ProcessCode] = OrderedDict()
        self._maps = 0
        self._lock = Lock()

    def meet(self, process: tuple[int, int]) -> ProcessCode | None:
        """Hold what it maps now; None if it is gone, or was never ours to look into."""
        try:
            mappings = read_mappings(process[0])
        except OSError:
            return None
        with self._lock:
            return self._hold(process, mappings)

    def _hold(self, process: tuple[int, int], mappings: Mappings) -> ProcessCode | None:
        files: dict[_FileId, HeldFile] = {}
        for mapping in mappings:
            if mapping.executable and mapping.is_file:
                file = self._file(process[0], mapping)
                if file is not None:
                    files[_id(mapping)] = file
        if not files:
            return None
        self._forget(self._processes.pop(process, None))
        code = self._processes[process] = ProcessCode(mappings, files, self._perf_map(process[0], mappings))
        if len(self._processes) > _MOST_PROCESSES:
            self._forget(self._processes.popitem(last=False)[1])
        return code

    def of(self, process: tuple[int, int], address: int) -> ProcessCode | None:
        """What is held of a process; looked at again if that does not have the code at `address`."""
        known = self._processes.get(process)
        if known is not None and known.place(address) is not None:
            return known
        return self.meet(process) or known

    def close(self) -> None:
        """Let go of all."""
        for code in self._processes.values():
            self._forget(code)
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._processes.clear()

    def _perf_map(self, pid: int, mappings: Mappings) -> PerfMapFile | None:
        if self._maps < _MOST_MAPS and any(one.executable and not one.path for one in mappings):
            with suppress(OSError):
                found = PerfMapFile(pid)
                self._maps += 1
                return found
        return None

    def _forget(self, code: ProcessCode | None) -> None:
        if code is not None and code.perf_map is not None:
            code.perf_map.close()
            self._maps -= 1

    def _file(self, pid: int, mapping: Mapping) -> HeldFile | None:
        known = self._files.get(_id(mapping))
        if known is not None:
            self._files.move_to_end(_id(mapping))
            return known
        with suppress(OSError):
            made = self._files[_id(mapping)] = HeldFile(MappedFile(pid, mapping))
            if len(self._files) > _MOST_FILES:
                self._files.popitem(last=False)[1].close()
            return made
        return None


def _id(mapping: Mapping) -> _FileId:
    return mapping.device, mapping.inode
