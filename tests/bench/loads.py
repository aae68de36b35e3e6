"""The load programs: compiled, started in a namespace, told to go, and what they report."""

from __future__ import annotations

import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.errors import BenchError
from tests.kernel.support import Namespace

_SOURCES = Path(__file__).parent
_NAMES = ("churn", "open", "processes", "bursts", "timers")
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """A load program with its arguments."""

    name: str
    arguments: tuple[int | str, ...]

    def __str__(self) -> str:
        return " ".join(map(str, (self.name, *self.arguments)))


@dataclass(frozen=True, slots=True)
class Done:
    """So many connections, or round trips, in so many seconds."""

    count: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.count / self.seconds


def compile_all(folder: Path) -> None:
    """The programs, into that folder."""
    flags = ("-O2", "-Wall", "-Wextra", "-Werror", "-pthread")
    for name in _NAMES:
        subprocess.run(["gcc", *flags, "-o", str(folder / name), str(_SOURCES / f"{name}.c")], check=True)


class Running:
    """A load program."""

    def __init__(self, folder: Path, load: Load, place: Namespace) -> None:
        self._load = load
        command = place.command(str(folder / load.name), *map(str, load.arguments))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.port = 0
        """Of its server, once it is set up."""

    def wait_ready(self) -> None:
        """Until it is set up."""
        self.port = int(self._line().split()[1])

    def go(self) -> None:
        """Let it run."""
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def done(self) -> Done:
        """What it did, when it has."""
        count, ns = map(int, self._line().split())
        return Done(count, ns / 1e9)

    def _line(self) -> str:
        assert self._process.stdout
        readable, _, _ = select.select([self._process.stdout], [], [], _PATIENCE_S)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            self._process.kill()
            _, said = self._process.communicate()
            raise BenchError(f"load {self._load} failed: {said.strip() or f'not within {_PATIENCE_S:.0f} s'}")
        return line

    def end(self) -> None:
        """Its children end with it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def running(folder: Path, load: Load, place: Namespace) -> Iterator[Running]:
    """A load that is set up, and ended afterwards."""
    it = Running(folder, load, place)
    try:
        it.wait_ready()
        yield it
    finally:
        it.end()
