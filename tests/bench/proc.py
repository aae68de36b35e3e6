"""What /proc says of a tracer: its processes, their CPU time and memory, the eBPF they hold."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_CPU_CLOCK = 2  # CPUCLOCK_SCHED, of a whole process


@dataclass(frozen=True, slots=True)
class Account:
    """The kernel's account of eBPF programs."""

    ns: int
    runs: int

    def since(self, before: Account) -> Account:
        return Account(self.ns - before.ns, self.runs - before.runs)


@dataclass(frozen=True, slots=True)
class Held:
    """What eBPF some processes hold."""

    programs: dict[int, Account]
    maps: dict[int, int]
    """Bytes of kernel memory, by map id."""

    @property
    def account(self) -> Account:
        held = self.programs.values()
        return Account(sum(one.ns for one in held), sum(one.runs for one in held))

    @property
    def map_bytes(self) -> int:
        return sum(self.maps.values())


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for one in found:
        for path in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, path.read_text().split())
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of processes, and of children of theirs that have ended."""
    return sum(map(_cpu_of, pids))


def _cpu_of(pid: int) -> float:
    try:
        own = time.clock_gettime(~pid << 3 | _CPU_CLOCK)
        # After the name, which may have blanks: cutime and cstime are fields 16 and 17.
        ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    except OSError:
        return 0.0
    return own + sum(map(int, ended)) * _TICK_S


def busy_cores(seconds: float) -> float:
    """How many cores are at work during the next seconds."""
    before, began = _busy_s(), time.monotonic()
    time.sleep(seconds)
    return (_busy_s() - before) / (time.monotonic() - began)


def _busy_s() -> float:
    with open("/proc/stat", encoding="ascii") as file:
        # user nice system idle iowait irq softirq
        times = [int(field) for field in file.readline().split()[1:8]]
    return (sum(times) - times[3] - times[4]) * _TICK_S


def peak_kb(pids: Iterable[int]) -> int:
    """Memory of processes at its most."""
    peak = 0
    for pid in pids:
        with suppress(OSError):
            found = re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
            peak += int(found[1]) if found else 0
    return peak


def held(pids: Iterable[int]) -> Held:
    """The eBPF behind the descriptors of processes."""
    return parse(text for pid in pids for text in _descriptors(pid))


def _descriptors(pid: int) -> Iterator[str]:
    for path in Path(f"/proc/{pid}/fdinfo").glob("*"):
        with suppress(OSError):
            yield path.read_text()


def parse(texts: Iterable[str]) -> Held:
    """From the text of each descriptor's fdinfo."""
    programs: dict[int, Account] = {}
    maps: dict[int, int] = {}
    for text in texts:
        fields = dict(re.findall(r"^(\w+):\t(\d+)$", text, re.MULTILINE))
        if "map_id" in fields and "memlock" in fields:  # else an iterator over it
            maps[int(fields["map_id"])] = int(fields["memlock"])
        elif "run_time_ns" in fields:
            programs[int(fields["prog_id"])] = Account(int(fields["run_time_ns"]), int(fields["run_cnt"]))
    return Held(programs, maps)
