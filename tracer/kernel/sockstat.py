"""The kernel's own number of TIME_WAITs (/proc/net/sockstat)."""

from __future__ import annotations

from pathlib import Path

from tracer.errors import TwtraceError


def count_time_waits(path: Path = Path("/proc/thread-self/net/sockstat")) -> int:
    """Mini-sockets in this thread's namespace, of both families and substates.

    It is `tw` of the line `TCP:` (sockstat_seq_show(), net/ipv4/proc.c).
    """
    for line in path.read_text(encoding="ascii").splitlines():
        name, *words = line.split()
        if name == "TCP:":
            return int(words[words.index("tw") + 1])
    raise TwtraceError(f"{path} has no line for TCP", "this is a defect: please report it")
