"""Network namespaces: which there are, and how to look into one."""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tracer.errors import TwtraceError, UsageError

_CLONE_NEWNET = 0x40000000
_NAMED = Path("/run/netns")

Result = TypeVar("Result")


def own() -> int:
    """Inode number of the namespace we are in."""
    return os.stat("/proc/self/ns/net").st_ino


def resolve(name: str) -> int:
    """Inode number of the namespace given as a name of `ip netns`, a path, or the number itself."""
    if name.isdigit():
        return int(name)
    path = Path(name) if "/" in name else _NAMED / name
    try:
        return path.stat().st_ino
    except OSError as error:
        raise UsageError(
            f"no network namespace {name}: {path}: {error.strerror}",
            "give a name from `ip netns`, a path such as /proc/PID/ns/net, or an inode number",
        ) from error


def find_all() -> dict[int, str]:
    """Inode → path, for every namespace that has a name or a process in it."""
    found = {own(): "/proc/self/ns/net"}
    candidates = [entry.path for entry in _scan(_NAMED)]
    candidates += [f"{entry.path}/ns/net" for entry in _scan(Path("/proc")) if entry.name.isdigit()]
    for path in candidates:
        with suppress(OSError):  # a process that ended, one we may not look at
            found.setdefault(os.stat(path).st_ino, path)
    return found


def run_inside(path: str, task: Callable[[], Result]) -> Result:
    """`task()` with the namespace at `path` as its network, in a thread of its own."""

    def enter() -> Result:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ct.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
                raise OSError(ct.get_errno(), os.strerror(ct.get_errno()), path)
        finally:
            os.close(fd)
        return task()

    # The thread ends with the pool: none that runs later finds itself elsewhere.
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            return pool.submit(enter).result()
        except OSError as error:
            raise TwtraceError(
                f"cannot look into network namespace {path}: {error.strerror}",
                "entering another namespace needs root (CAP_SYS_ADMIN)",
            ) from error


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []
