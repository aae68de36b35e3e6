"""Network namespaces: which there are, and how to look into one."""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tracer.errors import NotPermittedError, UsageError

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
    hint = "give a name from `ip netns`, a path such as /proc/PID/ns/net, or an inode number"
    try:
        found = path.stat()
    except OSError as error:
        raise UsageError(f"no network namespace {name}: {path}: {error.strerror}", hint) from error
    if found.st_dev != os.stat("/proc/self/ns/net").st_dev:
        raise UsageError(f"{path} is no network namespace", hint)
    return found.st_ino


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
    """`task()` with the namespace at `path` as its network; in a thread of its own unless it is ours.

    Raises NamespaceGoneError when its last process has ended, NotPermittedError
    when it may not be entered (CAP_SYS_ADMIN).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise _refused(path, error) from error
    except OSError as error:
        raise NamespaceGoneError(path) from error
    try:
        if os.fstat(fd).st_ino == own():
            return task()
        # The thread ends with the pool: none that runs later finds itself elsewhere.
        with ThreadPoolExecutor(max_workers=1, initializer=_enter, initargs=(fd,)) as pool:
            return pool.submit(task).result()
    except BrokenExecutor as error:
        raise _refused(path, PermissionError(0, "not permitted")) from error
    finally:
        os.close(fd)


class NamespaceGoneError(Exception):
    """A namespace that was there a moment ago."""


def _enter(fd: int) -> None:
    if ct.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
        raise OSError(ct.get_errno(), "setns")


def _refused(path: str, error: OSError) -> NotPermittedError:
    return NotPermittedError(
        f"cannot look into network namespace {path}: {error.strerror}",
        "entering another namespace needs root (CAP_SYS_ADMIN)",
    )


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []
