"""Compiled programs kept for the next start: compiling takes half a second, reading them a millisecond.

What is found is loaded into the kernel, so it must be ours: files and folder belong to us and nobody else
may write there. A cache that cannot be used is none, and no error.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tracer.kernel.compiled import Compiled

_KEPT = 32
"""Each set of options is one, and each boot: addresses of kernel functions are compiled in."""
_LARGEST = 1 << 24


def key(parts: Iterable[str], compiler: str) -> str:
    """The name of what these texts compile to."""
    digest = hashlib.sha256(compiler.encode())
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def find(name: str) -> Compiled | None:
    """What was kept under that name."""
    folder = _folder()
    if not _is_ours_alone(folder):
        return None
    try:
        fd = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
                return None
            found = Compiled.parse(file.read(_LARGEST))
        os.utime(folder / name)
    except (OSError, ValueError):
        return None
    return found


def keep(name: str, compiled: Compiled) -> None:
    """Keep it, and let the oldest go."""
    folder = _folder()
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours_alone(folder):
            return
        fd, aside = tempfile.mkstemp(dir=folder)  # 0600
        with os.fdopen(fd, "wb") as file:
            file.write(compiled.dump())
        os.replace(aside, folder / name)
        by_age = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in by_age[_KEPT:]:
            path.unlink()


def _folder() -> Path:
    # Not by HOME for root: under sudo that is the user's.
    base = "/var/cache" if os.geteuid() == 0 else os.path.expanduser("~/.cache")
    return Path(base, "twtrace", "programs")


def _is_ours_alone(folder: Path) -> bool:
    """Whether nobody else can put a file there, or another folder in its place."""
    try:
        for path in (folder, folder.parent, folder.parent.parent):
            about = path.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid not in {0, os.geteuid()}:
                return False
            if about.st_mode & 0o022:
                return False
    except OSError:
        return False
    return True
