"""A program that does nothing, loaded and attached to see what the kernel allows.

Through libbpf's system call wrappers: no compiler is needed, and nothing is
printed behind our back.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
from typing import TYPE_CHECKING

from tracer.kernel.libbpf import load_libbpf

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

PROG_KPROBE, PROG_RAW_TRACEPOINT, PROG_TRACING = 2, 17, 26
TRACE_FENTRY, TRACE_ITER = 24, 28
_MAP_TYPE_RINGBUF = 27
_PERF_TYPE_FILE = "/sys/bus/event_source/devices/kprobe/type"

_RETURN_0 = (ct.c_uint64 * 2)(0x00000000_0000_00_B7, 0x00000000_0000_00_95)
"""r0 = 0; exit"""


class ProbeRefusedError(OSError):
    """What the kernel answered; `errno` as usual."""

    def __str__(self) -> str:
        return str(self.strerror)


class _LoadOptions(ct.Structure):
    """The head of `struct bpf_prog_load_opts`, tools/lib/bpf/bpf.h."""

    _fields_ = (
        ("sz", ct.c_size_t),
        ("attempts", ct.c_int),
        ("expected_attach_type", ct.c_int),
        ("prog_btf_fd", ct.c_uint32),
        ("prog_flags", ct.c_uint32),
        ("prog_ifindex", ct.c_uint32),
        ("kern_version", ct.c_uint32),
        ("attach_btf_id", ct.c_uint32),
        ("attach_prog_fd", ct.c_uint32),
    )


class Probe:
    """A loaded program; a context manager that leaves nothing behind."""

    def __init__(self, kind: int, *, attach_type: int = 0, attach_btf_id: int = 0) -> None:
        self._lib = _recent_libbpf()
        self._fds: list[int] = []
        options = _LoadOptions(
            sz=ct.sizeof(_LoadOptions), expected_attach_type=attach_type, attach_btf_id=attach_btf_id
        )
        self._program = self._keep(
            self._lib.bpf_prog_load(kind, b"probe", b"GPL", _RETURN_0, len(_RETURN_0), ct.byref(options)),
            "load",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in reversed(self._fds):
            os.close(fd)

    def attach_raw_tracepoint(self, name: str | None) -> None:
        """Attach to a raw tracepoint; None: to what the program was loaded for (fentry)."""
        encoded = None if name is None else name.encode()
        self._keep(self._lib.bpf_raw_tracepoint_open(encoded, self._program), "attach")

    def attach_iterator(self) -> None:
        """Attach as an iterator."""
        self._keep(self._lib.bpf_link_create(self._program, 0, TRACE_ITER, None), "attach")

    def attach_kprobe(self, function: str) -> None:
        """Attach to a function's entry through the kprobe PMU."""
        with open(_PERF_TYPE_FILE, encoding="ascii") as file:
            kind = int(file.read())
        name = ct.create_string_buffer(function.encode())
        attributes = (ct.c_uint64 * 16)()
        attributes[0] = kind | 128 << 32  # perf_event_attr: type, size
        attributes[7] = ct.addressof(name)  # config1: kprobe_func
        libc = ct.CDLL(None, use_errno=True)
        event = self._keep(
            libc.syscall(_PERF_EVENT_OPEN[os.uname().machine], ct.byref(attributes), -1, 0, -1, 8), "open"
        )
        if libc.ioctl(event, _PERF_EVENT_IOC_SET_BPF, self._program):
            raise self._refused("attach")

    def _keep(self, fd: int, what: str) -> int:
        if fd < 0:
            # libbpf 1.x returns -errno, libbpf 0.x and the C library -1 and errno.
            raise self._refused(what, -fd if fd < -1 else ct.get_errno())
        self._fds.append(fd)
        return fd

    @staticmethod
    def _refused(what: str, code: int | None = None) -> ProbeRefusedError:
        code = ct.get_errno() if code is None else code
        return ProbeRefusedError(code, f"{what} refused: {os.strerror(code)}")


_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_PERF_EVENT_IOC_SET_BPF = 0x40042408


def _recent_libbpf() -> ct.CDLL:
    lib = load_libbpf()
    if not (hasattr(lib, "bpf_prog_load") and hasattr(lib, "bpf_map_create")):
        raise ProbeRefusedError(errno.ENOSYS, "cannot be tried: libbpf is older than 0.7")
    return lib


def create_ring_buffer() -> None:
    """Make a ring buffer of one page, and let go of it."""
    lib = _recent_libbpf()
    fd = lib.bpf_map_create(_MAP_TYPE_RINGBUF, b"probe", 0, 0, os.sysconf("SC_PAGESIZE"), None)
    if fd < 0:
        code = -fd if fd < -1 else ct.get_errno()
        raise ProbeRefusedError(code, f"refused: {os.strerror(code)}")
    os.close(fd)
