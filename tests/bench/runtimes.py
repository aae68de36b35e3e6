"""The kernel's account of eBPF run times: on while it is wanted, for it costs time itself."""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Iterator
from contextlib import contextmanager

_BPF = {"x86_64": 321, "aarch64": 280}
_ENABLE_STATS = 32
_RUN_TIME = 0


@contextmanager
def counted() -> Iterator[None]:
    """Programs are timed meanwhile.

    Held by a descriptor: unlike the sysctl kernel.bpf_stats_enabled it is off again however we end, and
    others who count at the same time are not disturbed.
    """
    attributes = ct.create_string_buffer(_RUN_TIME.to_bytes(4, "little"), 4)
    libc = ct.CDLL(None, use_errno=True)
    fd = libc.syscall(ct.c_long(_BPF[os.uname().machine]), _ENABLE_STATS, attributes, 4)
    if fd < 0:
        code = ct.get_errno()
        raise OSError(code, f"BPF_ENABLE_STATS: {os.strerror(code)}")
    try:
        yield
    finally:
        os.close(fd)
