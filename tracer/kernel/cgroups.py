"""Cgroup ids to paths, and what a path tells: the systemd unit, the container."""

from __future__ import annotations

import ctypes as ct
import os
import re
from functools import lru_cache

_FILEID_KERNFS = 0xFE  # include/linux/exportfs.h: a cgroup's handle is its id


class _Handle(ct.Structure):
    """`struct file_handle` for a cgroup."""

    _fields_ = (("bytes", ct.c_uint32), ("type", ct.c_int32), ("id", ct.c_uint64))


class CgroupPaths:
    """Paths of cgroups of the unified hierarchy by id, without walking it.

    A cgroup that is gone by the time it is asked for has no path any more.
    """

    def __init__(self) -> None:
        self._libc = ct.CDLL(None, use_errno=True)
        self._mount = _cgroup2_mount()
        self._fd = os.open(self._mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if self._mount else -1
        self._paths: dict[int, str] = {}

    def path(self, cgroup_id: int) -> str | None:
        """The path below the hierarchy's root; None without one or when it cannot be had."""
        if self._fd < 0:
            return None
        path = self._paths.get(cgroup_id)
        if path is None:
            path = self._look_up(cgroup_id)
            if path is not None:
                self._paths[cgroup_id] = path
        return path

    def close(self) -> None:
        """Let go of the hierarchy."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look_up(self, cgroup_id: int) -> str | None:
        handle = _Handle(8, _FILEID_KERNFS, cgroup_id)
        fd = self._libc.open_by_handle_at(self._fd, ct.byref(handle), os.O_RDONLY | os.O_CLOEXEC)
        if fd < 0:
            return None
        try:
            path = os.readlink(f"/proc/self/fd/{fd}".encode()).decode(errors="backslashreplace")
        except OSError:
            return None
        finally:
            os.close(fd)
        return path[len(self._mount or "") :] or "/"


def _cgroup2_mount() -> str | None:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="backslashreplace") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 "):
                return before.split()[4]
    return None


_UNIT = re.compile(r"\.(?:service|scope|socket|mount)$")
_CONTAINER = re.compile(r"(?:^|[-:/.])([0-9a-f]{64})(?:\.scope)?$")
_LXC = re.compile(r"^lxc(?:\.payload)?[./](?P<name>[^/]+)")


@lru_cache(maxsize=1024)
def unit_of(path: str | None) -> str | None:
    """The innermost systemd unit in a cgroup path."""
    for part in reversed((path or "").split("/")):
        if _UNIT.search(part):
            return part
    return None


@lru_cache(maxsize=1024)
def container_of(path: str | None) -> str | None:
    """The container's id (Docker, containerd, CRI-O, Podman: 64 hex digits) or LXC's name."""
    parts = (path or "").strip("/")
    for part in reversed(parts.split("/")):
        found = _CONTAINER.search(part)
        if found:
            return found[1]
    lxc = _LXC.match(parts)
    return lxc["name"] if lxc else None
