"""Namespaces, workloads and recorded traces for the kernel tests."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracer.model import End
from tracer.reader import Reader

ROOT = Path(__file__).parents[2]
WORKLOADS = Path(__file__).with_name("workloads.py")
TWTRACE = (sys.executable, "-m", "tracer")

PATIENCE = 60.0
"""Seconds; emulated machines are slow."""

Line = dict[str, Any]

_START_SECONDS = 600
"""BCC's compiler takes half a second, and half a minute in an emulated guest that shares its cores."""

NOT_SHOWN = frozenset(
    {
        "transitions of connections, not shown by the kernel",
        "ends of connections (and the time_wait that follows one), not shown by the kernel",
    }
)
"""What is left out where packets come in while a task is current for which the kernel runs no program, and
twtrace owns up to (README, Limitations). What must be exact is then played again: on a kernel that does it
each time the tests fail."""

SKIPPED_KPROBES = frozenset({"kernel events of any namespace, program interrupted by itself"})
"""What kprobes lose while somebody reads an eBPF map on their CPU, us included; counted since Linux 6.7."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Namespace:
    """A network namespace with loopback up."""

    name: str

    @property
    def inode(self) -> int:
        return os.stat(f"/run/netns/{self.name}").st_ino

    def command(self, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def workload(self, *argv: str) -> list[str]:
        return self.command(sys.executable, str(WORKLOADS), *argv)

    def run(self, *argv: str) -> Any:
        """Run a workload to its end; returns what it reports."""
        done = subprocess.run(self.workload(*argv), check=True, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout)

    def kernel_sockets(self, state: str) -> set[tuple[str, int, str, int]]:
        """(saddr, sport, daddr, dport) of what `ss` lists there in `state`."""
        done = subprocess.run(
            self.command("ss", "-Htan", "state", state), check=True, capture_output=True, text=True
        )
        return {_ends(*line.split()[2:4]) for line in done.stdout.splitlines()}

    def time_waits(self) -> int:
        """How many mini-sockets there are."""
        done = subprocess.run(
            self.command("cat", "/proc/net/sockstat"), check=True, capture_output=True, text=True
        )
        return int(done.stdout.split(" tw ")[1].split()[0])

    def counter(self, name: str) -> int:
        """A TcpExt counter of that namespace."""
        done = subprocess.run(
            self.command("cat", "/proc/net/netstat"), check=True, capture_output=True, text=True
        )
        names, values = (line.split()[1:] for line in done.stdout.splitlines()[:2])
        return int(dict(zip(names, values, strict=True))[name])


def _ends(local: str, peer: str) -> tuple[str, int, str, int]:
    saddr, _, sport = local.rpartition(":")
    daddr, _, dport = peer.rpartition(":")
    return _plain(saddr), int(sport), _plain(daddr), int(dport)


def _plain(address: str) -> str:
    return address.strip("[]").removeprefix("::ffff:")


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A new namespace, gone afterwards."""
    made = Namespace(f"twt-{os.getpid()}-{next(_numbers)}")
    subprocess.run(["ip", "netns", "add", made.name], check=True)
    try:
        subprocess.run(["ip", "-n", made.name, "link", "set", "lo", "up"], check=True)
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", made.name], check=True)


class Recording:
    """A running `twtrace record`, and its lines once stopped."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        self.process = subprocess.Popen(
            [*TWTRACE, "record", "-o", str(path), *options],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> list[Line]:
        """SIGINT, wait, read the trace; the last line is `end`."""
        self.process.send_signal(2)
        self.wait()
        return read(self.path)

    def wait(self) -> None:
        _, stderr = self.process.communicate(timeout=2 * PATIENCE)
        assert self.process.returncode == 0, stderr

    def wait_for_start(self) -> None:
        """Until it is attached, or has given up."""

        def has_started() -> bool:
            return bool(whole_lines(self.path))

        eventually(lambda: has_started() or self.process.poll() is not None, _START_SECONDS)
        if not has_started():
            self.wait()

    def wait_for_lines(self, kind: str, count: int, seconds: float = PATIENCE) -> None:
        """Until the trace holds that many lines of `kind`."""
        eventually(lambda: sum(line["type"] == kind for line in whole_lines(self.path)) >= count, seconds)


@contextmanager
def recording(path: Path, *options: str) -> Iterator[Recording]:
    """A recording that is attached."""
    with attached({"it": Recording(path, *options)}) as running:
        yield running["it"]


@contextmanager
def attached(recordings: dict[str, Recording]) -> Iterator[dict[str, Recording]]:
    """Recordings that are starting, when all of them have."""
    try:
        for running in recordings.values():
            running.wait_for_start()
        yield recordings
    finally:
        for running in recordings.values():
            if running.process.poll() is None:
                running.process.kill()
                running.process.communicate()


def whole_lines(path: Path) -> list[Line]:
    """The lines of a trace that is still written."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def read(path: Path) -> list[Line]:
    """A finished trace; checks that it is whole, and that neither its totals nor its reader doubt it."""
    reader = Reader()
    with path.open("rb") as file:
        *_, end = reader.read(file)
    assert isinstance(end, End)
    assert reader.doubts == []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    check_totals(lines)
    return lines


def check_totals(lines: list[Line]) -> None:
    assert lines[0]["type"] == "start"
    assert lines[-1]["type"] == "end"
    counts: dict[str, int] = {}
    for line in lines:
        counts[line["type"]] = counts.get(line["type"], 0) + 1
    totals = lines[-1]["totals"]
    assert totals["lines"] == counts
    births = of(lines, "time_wait")
    ends = of(lines, "time_wait_end")
    waits = totals["time_wait"]
    assert waits["preexisting"] == sum(bool(line.get("preexisting")) for line in births)
    assert waits["born"] == len(births) - waits["preexisting"]
    assert sum(waits["ended"].values()) == len(ends)
    assert waits["remaining"] == len(births) - len(ends)


def of(lines: list[Line], kind: str, **fields: object) -> list[Line]:
    """The lines of one type with those values."""
    return [
        line
        for line in lines
        if line["type"] == kind and all(line[name] == value for name, value in fields.items())
    ]


def ends_of(line: Line) -> tuple[str, int, str, int]:
    return line["saddr"], line["sport"], line["daddr"], line["dport"]


def owners(lines: list[Line]) -> set[tuple[int, str, str]]:
    return {(line["owner"]["pid"], line["owner"]["comm"], line["owner"]["grade"]) for line in lines}


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for `condition`, at most so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
