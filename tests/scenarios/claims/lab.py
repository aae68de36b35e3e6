"""What an experiment is, and what it is done with: a namespace, and what twtrace tells of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.scenarios.actors import Actor
from tests.scenarios.claims.worker import Worker
from tests.scenarios.world import EXPIRY, SECOND, Line, World, until

ELSEWHERE = "192.0.2.1"
"""An address of the namespace that is none of loopback's (RFC 5737)."""


@dataclass(frozen=True)
class Seen:
    """Something an experiment saw."""

    what: str
    figure: str
    speaks: bool | None
    """For the claim, against it; None: for neither."""
    as_expected: bool


def supports(what: str, figure: object, holds: bool) -> Seen:
    """Speaks for the claim if it holds, as it should; else against it."""
    return Seen(what, str(figure), holds, holds)


def contradicts(what: str, figure: object, holds: bool) -> Seen:
    """Speaks against the claim if it holds, as it should; else for it."""
    return Seen(what, str(figure), not holds, holds)


def shows(what: str, figure: object, holds: bool = True) -> Seen:
    """Belongs to the picture, and should hold, but is not the claim."""
    return Seen(what, str(figure), None, holds)


class Lab(World):
    """A namespace, and the lines that twtrace writes about it."""

    def __init__(self, trace: Path, settings: dict[str, str], haste: bool) -> None:
        self._trace = trace
        self._read_to = trace.stat().st_size  # the inode number may have been another's before
        self._lines: list[Line] = []
        super().__init__("4", settings, haste)

    def actor(self, name: str) -> Actor:
        made = Worker(name)
        self._actors.append(made)
        return made

    # The namespace

    @staticmethod
    def set(name: str, value: object) -> None:
        """A setting of net.ipv4."""
        Path("/proc/sys/net/ipv4", name).write_text(str(value), encoding="ascii")

    @staticmethod
    def has(name: str) -> bool:
        """Is there such a setting?"""
        return Path("/proc/sys/net/ipv4", name).exists()

    def ports(self, count: int) -> None:
        """So many automatic ports."""
        self.set("ip_local_port_range", f"40000 {40000 + count - 1}")

    @staticmethod
    def add_address(address: str = ELSEWHERE) -> str:
        """Another address of the interface lo; nothing is sent again there before 10 s, as in `World`."""
        route = f"local {address} dev lo table local proto kernel scope host src {address} rto_min 10s"
        for command in (f"address add {address}/32 dev lo", f"route replace {route}"):
            subprocess.run(["ip", *command.split()], check=True)
        return address

    # Connections

    def serve(
        self,
        habit: str,
        address: str = "127.0.0.1",
        port: int = 0,
        *,
        by: Actor | None = None,
        reuse: int = 1,
    ) -> int:
        """Serve on that port, or a free one that is not automatic; see `Bench.serve`."""
        if not port:
            self._connections += 1
            port = 5000 + self._connections
        return int((by or self.server).do("serve", address, habit, port, reuse))

    def visit(
        self,
        port: int,
        count: int = 1,
        *,
        first: bool = True,
        address: str = "127.0.0.1",
        by: Actor | None = None,
        **more: Any,
    ) -> Counter[str]:
        """How many visits were `made`, and how many came to which error."""
        return Counter((by or self.client).do("visit", address, port, count, int(first), more))

    def visit_until_made(self, port: int, seconds: float, **more: Any) -> bool:
        """Try again and again for so long."""
        deadline = time.monotonic() + seconds
        while not (made := self.visit(port, **more)["made"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        return bool(made)

    # What twtrace tells

    def told(self, kind: str, **facts: object) -> list[Line]:
        """Its lines of that type so far in which those facts are so; a process for an owner."""
        self._look()
        return [line for line in self._lines if line["type"] == kind and _has(line, facts)]

    def wait_lines(self, kind: str, count: int, **facts: object) -> list[Line]:
        """As soon as there are so many; there may not be more."""
        what = f"{count} lines {kind} {facts}"
        until(lambda: len(self.told(kind, **facts)) >= count, what)
        found = self.told(kind, **facts)
        agree(what, len(found), count)
        return found

    def wait_time_waits(self, count: int, **facts: object) -> list[Line]:
        """Births; all of them have reached TIME_WAIT when this returns."""
        born = self.wait_lines("time_wait", count, **facts)
        until(
            lambda: not any(row.state == "FIN_WAIT2" for rows in self.rows().values() for row in rows),
            "nothing in FIN_WAIT2",
        )
        return born

    def remaining(self) -> int:
        """Mini-sockets that are still there by what twtrace tells; the kernel agrees."""

        def by_trace() -> int:
            return len(self.told("time_wait")) - len(self.told("time_wait_end"))

        until(
            lambda: by_trace() == self.time_waits(),
            f"as many mini-sockets as the kernel's {self.time_waits()}",
        )
        return by_trace()

    def wait_all_gone(self) -> list[Line]:
        """The end of every mini-socket."""
        until(lambda: self.time_waits() == 0, "no mini-socket left")
        return self.wait_lines("time_wait_end", len(self.told("time_wait")))

    def _look(self) -> None:
        with self._trace.open("rb") as file:
            file.seek(self._read_to)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read_to += len(whole + newline)
        ours = f'"netns":{self.netns},'.encode()
        self._lines += [json.loads(text) for text in whole.splitlines() if ours in text]


def _has(line: Line, facts: dict[str, object]) -> bool:
    return all(
        line[name]["pid"] == wanted.pid if isinstance(wanted, Actor) else line.get(name) == wanted
        for name, wanted in facts.items()
    )


def agree(what: str, ours: object, theirs: object) -> None:
    """Two ways to count come to the same."""
    if ours != theirs:
        raise RuntimeError(f"{what}: {ours}, but {theirs}")


def seconds(lifetimes: Iterable[int]) -> str:
    """`60.1 s` or `60.1–61.0 s`."""
    found = sorted(lifetimes)
    shortest, longest = f"{found[0] / SECOND:.1f}", f"{found[-1] / SECOND:.1f}"
    return f"{shortest} s" if shortest == longest else f"{shortest}–{longest} s"


def lifetimes(ends: Iterable[Line]) -> list[int]:
    """In TIME_WAIT."""
    return [line["lifetime_us"] for line in ends]


def is_a_minute(times: Iterable[int]) -> bool:
    """Is each a minute, as the timer wheel has it?"""
    return all(EXPIRY[0] <= time_us <= EXPIRY[1] for time_us in times)


Play = Callable[[Lab], Iterator[Seen]]


@dataclass(frozen=True)
class Experiment:
    """The claim's number, the settings of its namespace, and what is done there."""

    number: int
    settings: dict[str, str]
    haste: bool
    play: Play

    def run(self, trace: Path) -> Iterator[Seen]:
        """In this process, whose namespace it becomes."""
        lab = Lab(trace, self.settings, self.haste)
        try:
            yield from self.play(lab)
        finally:
            lab.leave()


EXPERIMENTS: dict[int, Experiment] = {}


def experiment(number: int, **settings: str) -> Callable[[Play], Play]:
    """Register what puts that claim to the test; `settings` are of net.ipv4."""
    return _register(number, settings, haste=False)


def hasty_experiment(number: int, **settings: str) -> Callable[[Play], Play]:
    """One in which segments are sent again after 200 ms, as usual."""
    return _register(number, settings, haste=True)


def _register(number: int, settings: dict[str, str], haste: bool) -> Callable[[Play], Play]:
    def register(play: Play) -> Play:
        EXPERIMENTS[number] = Experiment(number, settings, haste, play)
        return play

    return register


def netns() -> int:
    """Of this process."""
    return os.stat("/proc/self/ns/net").st_ino
