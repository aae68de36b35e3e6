"""A network namespace in which programs are started, and all of them stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.kernel.support import Namespace, namespace
from tests.scenarios.real.programs import called, go_web, program

_START_SECONDS = 30
_RUN_SECONDS = 90
_LISTEN = "0A"  # /proc/net/tcp


class Stage:
    """Programs by role, started in one namespace."""

    def __init__(self, netns: Namespace, folder: Path) -> None:
        self.netns = netns
        self.folder = folder
        self.pids: dict[str, set[int]] = {}
        """By role; of what has ended, only the program itself."""
        self._running: list[tuple[str, subprocess.Popen[str]]] = []

    def end(self) -> None:
        """Kill all that still runs."""
        for _, running in reversed(self._running):
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)  # what it has started as well: nginx's workers
            running.wait()

    def settings(self, **values: str) -> None:
        """Set those of net.ipv4 here."""
        words = [f"net.ipv4.{name}={value}" for name, value in values.items()]
        subprocess.run(
            self.netns.command(program("sysctl"), "-qw", *words), check=True, timeout=_START_SECONDS
        )

    def go(self, name: str) -> str:
        """The Go web programs under that name."""
        return called(name, go_web(), self.folder)

    def serve(self, role: str, argv: list[str], port: int) -> None:
        """Start a server; returns when it listens there."""
        server = self._start(role, argv)
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(server.pid, port):
            if server.poll() is not None:
                raise RuntimeError(f"{role} ended with {server.returncode}: {self._log(role)}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{role} does not listen on {port}: {self._log(role)}")
            time.sleep(0.02)

    def run(self, role: str, argv: list[str]) -> str:
        """Run a client to its end; returns what it writes."""
        client = self._start(role, argv)
        client.wait(timeout=_RUN_SECONDS)
        self._running.pop()
        if client.returncode:
            raise RuntimeError(f"{role} ended with {client.returncode}: {self._log(role)}")
        return (self.folder / f"{role}.out").read_text()

    def check(self) -> None:
        """All servers still run; from here on it is known which processes they are."""
        for role, running in self._running:
            self.pids[role] |= _group(running.pid)
            if running.poll() is not None:
                raise RuntimeError(f"{role} ended with {running.returncode}: {self._log(role)}")

    def _start(self, role: str, argv: list[str]) -> subprocess.Popen[str]:
        # The last resort: it ends with the thread that starts it. nginx's master then ends its workers.
        bound = [program("setpriv"), "--pdeathsig", "TERM", *argv]
        with (self.folder / f"{role}.out").open("w") as out, (self.folder / f"{role}.log").open("w") as log:
            started = subprocess.Popen(
                self.netns.command(*bound),
                stdin=subprocess.DEVNULL, stdout=out, stderr=log, text=True,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        self._running.append((role, started))
        self.pids.setdefault(role, set()).add(started.pid)
        return started

    def _log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text()[-2000:]


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """A new namespace and its stage; both are gone afterwards."""
    with namespace() as netns:
        made = Stage(netns, folder)
        try:
            yield made
        finally:
            made.end()


def _listens(pid: int, port: int) -> bool:
    """Does anybody in the process's namespace listen on that port?"""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                return True
    return False


def _group(leader: int) -> set[int]:
    """The processes of a process group."""
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                if os.getpgid(int(entry.name)) == leader:
                    found.add(int(entry.name))
    return found


Play = Callable[[Stage], None]
