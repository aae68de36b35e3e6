"""The bpf() system call, as far as we use it: maps, programs, and what they are attached to.

Attributes are `union bpf_attr` of include/uapi/linux/bpf.h, packed by hand: no library is needed to run
what has been compiled. Every failure is an OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import re
import struct
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple


class ProgramType(IntEnum):
    """`enum bpf_prog_type`."""

    KPROBE = 2
    TRACING = 26


class AttachType(IntEnum):
    """`enum bpf_attach_type`, of tracing programs."""

    NONE = 0
    RAW_TRACEPOINT = 23
    FENTRY = 24
    FEXIT = 25
    ITERATOR = 28


class Command(IntEnum):
    """`enum bpf_cmd`."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_GET_INFO_BY_FD = 15
    RAW_TRACEPOINT_OPEN = 17
    LINK_CREATE = 28
    ITER_CREATE = 33


class MapKind(NamedTuple):
    """What a map is made of, in the order of `struct bpf_map_info`."""

    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


class ProgramInfo(NamedTuple):
    """The kernel's account of a program."""

    run_time_ns: int
    runs: int
    recursion_misses: int


_SYSCALLS = {"x86_64": (321, 298), "aarch64": (280, 241)}
"""bpf and perf_event_open, by machine."""

_libc = ct.CDLL(None, use_errno=True)

_LICENSE = ct.create_string_buffer(b"GPL")
_MOST_INFO = 256
_INSTRUCTION = 8
_LOG_BYTES = 1 << 20
_NAME = 15  # BPF_OBJ_NAME_LEN less its end


def create_map(name: str, kind: MapKind) -> int:
    """A new map's descriptor."""
    return _bpf(Command.MAP_CREATE, struct.pack("=7I16s", *kind, 0, 0, _name(name)))


def map_kind(fd: int) -> MapKind:
    """What the map behind a descriptor is made of."""
    # type, id, key_size, value_size, max_entries, map_flags
    kind, _, *rest = struct.unpack_from("=6I", _info(fd))
    return MapKind(kind, *rest)


def look_up(fd: int, key: bytes, value_size: int) -> bytes:
    """A map's value, of so many bytes; per-CPU maps have one for each possible CPU."""
    value = ct.create_string_buffer(value_size)
    held = ct.create_string_buffer(key, len(key))
    _bpf(Command.MAP_LOOKUP_ELEM, struct.pack("=IxxxxQQQ", fd, ct.addressof(held), ct.addressof(value), 0))
    return value.raw


def update(fd: int, key: bytes, value: bytes) -> None:
    """Set a map's value."""
    held, new = ct.create_string_buffer(key, len(key)), ct.create_string_buffer(value, len(value))
    _bpf(Command.MAP_UPDATE_ELEM, struct.pack("=IxxxxQQQ", fd, ct.addressof(held), ct.addressof(new), 0))


def is_empty(fd: int, key_size: int) -> bool:
    """Of a hash map."""
    first = ct.create_string_buffer(key_size)
    try:
        _bpf(Command.MAP_GET_NEXT_KEY, struct.pack("=IxxxxQQ", fd, 0, ct.addressof(first)))
    except FileNotFoundError:
        return True
    return False


def load_program(
    name: str, kind: ProgramType, instructions: bytes, attach: AttachType, attach_btf_id: int
) -> int:
    """A loaded program's descriptor.

    Raises RefusedError, an OSError, with the last words of the verifier if it spoke.
    """
    code = ct.create_string_buffer(instructions, len(instructions))

    def attributes(level: int, log: int) -> bytes:
        head = (kind, len(instructions) // _INSTRUCTION, ct.addressof(code), ct.addressof(_LICENSE))
        sized = (level, _LOG_BYTES if log else 0, log, 0, 0)
        # prog_ifindex, expected_attach_type, no func_info, no line_info, attach_btf_id
        tail = (0, attach, 0, 0, 0, 0, 0, 0, 0, attach_btf_id)
        return struct.pack("=2I2Q2IQ2I16s4IQ2IQ2I", *head, *sized, _name(name), *tail)

    try:
        return _bpf(Command.PROG_LOAD, attributes(0, 0))
    except OSError as error:
        log = ct.create_string_buffer(_LOG_BYTES)
        try:
            return _bpf(Command.PROG_LOAD, attributes(1, ct.addressof(log)))
        except OSError:
            raise RefusedError(error.errno or 0, log.value.decode(errors="replace")) from error


class RefusedError(OSError):
    """A program that the kernel does not load."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(code, os.strerror(code))
        lines = [line for line in log.splitlines() if line and not line.startswith("processed ")]
        self.said = lines[-1] if lines else ""
        """The verifier's last words; empty: it was not the verifier."""


def attach_tracing(program: int) -> int:
    """A link's descriptor: to the tracepoint or function that the program was loaded for."""
    return _bpf(Command.RAW_TRACEPOINT_OPEN, struct.pack("=QI", 0, program))


def attach_kprobe(program: int, function: str) -> int:
    """The descriptor of a perf event at a function's entry, through the kprobe PMU."""
    kind = int(Path("/sys/bus/event_source/devices/kprobe/type").read_text(encoding="ascii"))
    name = ct.create_string_buffer(function.encode())
    attributes = (ct.c_uint64 * 16)()
    attributes[0] = kind | 128 << 32  # perf_event_attr: type, size
    attributes[7] = ct.addressof(name)  # config1: kprobe_func
    event = _system_call(1, ct.byref(attributes), -1, 0, -1, _PERF_FLAG_FD_CLOEXEC)
    for request, argument in ((_PERF_EVENT_IOC_SET_BPF, program), (_PERF_EVENT_IOC_ENABLE, 0)):
        if _libc.ioctl(event, request, argument):
            code = ct.get_errno()
            os.close(event)
            raise OSError(code, os.strerror(code))
    return event


_PERF_FLAG_FD_CLOEXEC = 8
_PERF_EVENT_IOC_ENABLE = 0x2400
_PERF_EVENT_IOC_SET_BPF = 0x40042408


def attach_iterator(program: int, map_fd: int | None = None) -> int:
    """A link's descriptor; `map_fd`: whose entries are iterated over."""
    over = b"" if map_fd is None else struct.pack("=I", map_fd)
    info = ct.create_string_buffer(over, len(over))
    # link_create: prog_fd, target_fd, attach_type, flags, iter_info, iter_info_len
    attributes = (program, 0, AttachType.ITERATOR, 0, ct.addressof(info) if over else 0, len(over))
    return _bpf(Command.LINK_CREATE, struct.pack("=4IQI", *attributes))


def create_iterator(link: int) -> int:
    """A descriptor from which what the iterator writes is read."""
    return _bpf(Command.ITER_CREATE, struct.pack("=2I", link, 0))


def program_info(fd: int) -> ProgramInfo:
    """The kernel's account; run times are 0 unless kernel.bpf_stats_enabled."""
    return ProgramInfo(*struct.unpack_from("=3Q", _info(fd), 192))


def possible_cpus() -> int:
    """How many values a per-CPU map has for a key."""
    last = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii")
    return int(re.findall(r"\d+", last)[-1]) + 1


def _info(fd: int) -> bytes:
    info = ct.create_string_buffer(_MOST_INFO)
    attributes = struct.pack("=2IQ", fd, _MOST_INFO, ct.addressof(info))
    _bpf(Command.OBJ_GET_INFO_BY_FD, attributes)
    return info.raw


def _name(name: str) -> bytes:
    return re.sub(r"\W", "_", name).encode()[:_NAME]


def _bpf(command: Command, attributes: bytes) -> int:
    held = ct.create_string_buffer(attributes, len(attributes))
    return _system_call(0, command, held, len(attributes))


def _system_call(which: int, *arguments: object) -> int:
    numbers = _SYSCALLS.get(os.uname().machine)
    if numbers is None:
        raise OSError(0, f"twtrace does not know the system calls of {os.uname().machine}")
    result: int = _libc.syscall(ct.c_long(numbers[which]), *arguments)
    while result < 0 and ct.get_errno() == errno.EAGAIN:  # a signal interrupted the verifier
        result = _libc.syscall(ct.c_long(numbers[which]), *arguments)
    if result < 0:
        code = ct.get_errno()
        raise OSError(code, os.strerror(code))
    return result
