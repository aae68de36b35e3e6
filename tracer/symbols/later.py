"""Names for the frames of a trace that has none: from copies of programs, wherever it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING

from tracer.model import Frame, Site
from tracer.symbols.facts import DebugLink
from tracer.symbols.openfiles import open_regular
from tracer.symbols.pool import Symbolizer

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

_MOST_FILES = 20_000
_MAGIC = b"\x7fELF"


@dataclass(frozen=True)
class StoredFile:
    """A file of a folder; as the Symbolizer asks of one."""

    path: str
    others: tuple[str, ...] = ()
    """Files with the same build id: one of them may have its debug information."""

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal as long as it is the same and unchanged. Raises OSError."""
        about = os.stat(self.path)
        return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, self.others)

    def open(self) -> int:
        """A descriptor; the caller closes it. Raises OSError."""
        return open_regular(self.path)

    def debug_files(self, _build_id: str | None, _link: DebugLink | None) -> Iterator[int]:
        """Descriptors of the others."""
        return map(open_regular, self.others)


class Later:
    """Names frames by build id, from the files below a folder; a context manager."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._symbolizer = Symbolizer()
        self._by_build_id: dict[str, tuple[StoredFile, ...]] | None = None

    def __enter__(self) -> Self:
        self._symbolizer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._symbolizer.__exit__(kind, error, trace)

    def named(self, site: Site) -> Site:
        """The site with all that is known of its frames."""
        return site._replace(frames=tuple(named for frame in site.frames for named in self._named(frame)))

    def _named(self, frame: Frame) -> tuple[Frame, ...]:
        if frame.line is not None or frame.inlined or frame.build_id is None or frame.offset is None:
            return (frame,)
        for file in self._files().get(frame.build_id, ()):
            found = self._symbolizer.frames(file, frame.offset)
            if found and (found[0].line is not None or frame.function is None):
                where = frame.module, frame.build_id, frame.offset
                return tuple(Frame(*where, one.function, one.file, one.line, one.inlined) for one in found)
        return (frame,)

    def _files(self) -> dict[str, tuple[StoredFile, ...]]:
        if self._by_build_id is None:
            paths: dict[str, list[str]] = {}
            for path in islice(_elf_files(self._folder), _MOST_FILES):
                build_id = self._build_id(path)
                if build_id is not None:
                    paths.setdefault(build_id, []).append(path)
            # Which of them has the code, and which but its debug information, is found by asking.
            self._by_build_id = {
                build_id: tuple(
                    StoredFile(path, tuple(other for other in same if other != path)) for path in same
                )
                for build_id, same in paths.items()
            }
        return self._by_build_id

    def _build_id(self, path: str) -> str | None:
        file = StoredFile(path)
        self._symbolizer.frames(file, 0)
        try:
            return self._symbolizer.build_id(file)
        except OSError:
            return None


def _elf_files(folder: str) -> Iterator[str]:
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            try:
                with os.fdopen(open_regular(path), "rb") as file:
                    is_elf = file.read(len(_MAGIC)) == _MAGIC
            except OSError:
                continue
            if is_elf:
                yield path
