"""Files that belong to strangers, opened without being led elsewhere and without waiting for anyone."""

from __future__ import annotations

import ctypes as ct
import os
import stat

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_OPENAT2 = 437
"""The same number on all architectures; Linux 5.6."""
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10

_libc = ct.CDLL(None, use_errno=True)


class _OpenHow(ct.Structure):
    _fields_ = (("flags", ct.c_uint64), ("mode", ct.c_uint64), ("resolve", ct.c_uint64))


def open_regular(path: str) -> int:
    """A descriptor of the regular file at `path`; the caller closes it. Raises OSError."""
    # Looked at first: to open a device can set it in motion.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise FileNotFoundError(f"{path} is no regular file")
    return _regular(os.open(path, _FLAGS))


def open_inside(root: str, path: str) -> int:
    """The same of `path` in the eyes of a process whose root is `root`: no link leads out. Raises OSError."""
    handle = handle_inside(root, path)
    try:
        return open_regular(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def handle_inside(root: str, path: str) -> int:
    """The same, found but not opened for reading (O_PATH)."""
    at = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _openat2(at, path, os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(at)


def _openat2(at: int, path: str, flags: int) -> int:
    how = _OpenHow(flags, 0, _RESOLVE_NO_MAGICLINKS | _RESOLVE_IN_ROOT)
    fd: int = _libc.syscall(_OPENAT2, at, os.fsencode(path), ct.byref(how), ct.sizeof(how))
    if fd < 0:
        code = ct.get_errno()
        raise OSError(code, os.strerror(code), path)
    return fd


def _regular(fd: int) -> int:
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise FileNotFoundError("it was replaced by something that is no regular file")
