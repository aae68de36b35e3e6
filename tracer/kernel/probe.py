"""A program that does nothing, loaded and attached to see what the kernel allows."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from tracer.kernel import bpf

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

_MAP_TYPE_RINGBUF = 27

_RETURN_0 = struct.pack("=QQ", 0x00000000_0000_00_B7, 0x00000000_0000_00_95)
"""r0 = 0; exit"""


class ProbeRefusedError(OSError):
    """What the kernel answered; `errno` as usual."""

    def __str__(self) -> str:
        return str(self.strerror)


class Probe:
    """A loaded program; a context manager that leaves nothing behind."""

    def __init__(
        self,
        kind: bpf.ProgramType,
        *,
        attach_type: bpf.AttachType = bpf.AttachType.NONE,
        attach_btf_id: int = 0,
    ) -> None:
        self._fds: list[int] = []
        self._program = self._keep(
            "load", lambda: bpf.load_program("probe", kind, _RETURN_0, attach_type, attach_btf_id)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in reversed(self._fds):
            os.close(fd)

    def attach_tracing(self) -> None:
        """Attach to the tracepoint or function that it was loaded for."""
        self._keep("attach", lambda: bpf.attach_tracing(self._program))

    def attach_iterator(self) -> None:
        """Attach as an iterator."""
        self._keep("attach", lambda: bpf.attach_iterator(self._program))

    def attach_kprobe(self, function: str) -> None:
        """Attach to a function's entry through the kprobe PMU."""
        self._keep("attach", lambda: bpf.attach_kprobe(self._program, function))

    def _keep(self, what: str, made: Callable[[], int]) -> int:
        try:
            fd = made()
        except OSError as error:
            raise _refused(f"{what} refused", error) from error
        self._fds.append(fd)
        return fd


def create_ring_buffer() -> None:
    """Make a ring buffer of one page, and let go of it."""
    try:
        os.close(bpf.create_map("probe", bpf.MapKind(_MAP_TYPE_RINGBUF, 0, 0, os.sysconf("SC_PAGESIZE"), 0)))
    except OSError as error:
        raise _refused("refused", error) from error


def _refused(what: str, error: OSError) -> ProbeRefusedError:
    return ProbeRefusedError(error.errno or 0, f"{what}: {error.strerror}")
