"""What /proc knows of processes: the parts that a running process alone can tell."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_MOST_BYTES = 1 << 14
_MOST_OF_CMDLINE = 4096


def boot_offset_us() -> int:
    """Microseconds to add to time since boot for the Unix epoch."""
    return (time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1000


def start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat: the start, in clock ticks since boot; None once gone."""
    try:
        stat = _read(pid, "stat")
    except OSError:
        return None
    # The name, field 2, may hold anything but is closed by the last parenthesis.
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def start_ns_of(pid: int) -> int | None:
    """The start in nanoseconds since boot, as exact as /proc is: to one clock tick."""
    ticks = start_ticks(pid)
    return None if ticks is None else ticks * _TICK_NS


def is_same_process(pid: int, start_ns: int) -> bool:
    """Is `pid` still the process that started `start_ns` nanoseconds after boot?"""
    return start_ticks(pid) == start_ns // _TICK_NS


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read of one process; None: it was gone, or not allowed."""

    comm: str | None = None
    uid: int | None = None
    exe: str | None = None
    cmdline: str | None = None
    cgroup: str | None = None


NO_FACTS = Facts()


def read_facts(pid: int, start_ns: int, told: Facts = NO_FACTS) -> Facts:
    """What is told of a process, and the rest from /proc; `told` itself once the pid is another's."""
    comm, uid, exe, cmdline, cgroup = told.comm, told.uid, None, told.cmdline, told.cgroup
    with suppress(OSError):
        exe = os.readlink(f"/proc/{pid}/exe".encode()).decode(errors="backslashreplace")
    with suppress(OSError):
        if uid is None:
            uid = os.stat(f"/proc/{pid}").st_uid
        if comm is None:
            comm = decode_comm(_read(pid, "comm").removesuffix(b"\n"))
    with suppress(OSError):
        if cmdline is None:
            cmdline = decode_cmdline(_read(pid, "cmdline")[:_MOST_OF_CMDLINE])
    with suppress(OSError):
        if cgroup is None:
            cgroup = cgroup_of(_read(pid, "cgroup").decode(errors="backslashreplace"))
    # Checked last: a pid that was reused meanwhile has not told on another.
    if not is_same_process(pid, start_ns):
        return told
    return Facts(comm, uid, exe, cmdline, cgroup)


def _read(pid: int, name: str) -> bytes:
    """The beginning of one of its files, by system calls alone: this is done for each new process."""
    fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)


def decode_comm(raw: bytes) -> str:
    r"""A task's name: up to 15 bytes of anything; those that are no UTF-8 stand as `\xNN`."""
    return raw.split(b"\0", 1)[0].decode(errors="backslashreplace")


def decode_cmdline(raw: bytes) -> str | None:
    """Argv as one line, as `ps` shows it; None of a kernel thread."""
    words = raw.rstrip(b"\0").replace(b"\0", b" ")
    return words.decode(errors="backslashreplace") or None


def cgroup_of(text: str) -> str | None:
    """The telling path of /proc/PID/cgroup: the unified hierarchy's, else systemd's, else the longest.

    None if all are the root: it says nothing, and it is what a process in exit shows.
    """
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths[controllers] = path
    for controllers in ("", "name=systemd"):
        if paths.get(controllers, "/") != "/":
            return paths[controllers]
    longest = max(paths.values(), key=len, default="/")
    return None if longest == "/" else longest
