"""A contender that runs: when it is attached, what it uses, what it says."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench import proc
from tests.bench.contenders import PROBE, Contender, Look, Site, Stdout
from tests.bench.errors import BenchError
from tests.kernel.support import ROOT

_ROWS, _COLUMNS = 36, 120
_PATIENCE_S = 60.0
_END_S = 60.0
_SETTLE_S = 8.0
_QUIET_S = 0.4
_QUIET_SHARE = 0.1
_LOOK_S = 0.002
_TAIL_BYTES = 1 << 16
_TELLING = re.compile(r"header|error attaching|failed to attach|not found|permi", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Seen:
    """Seconds from exec to its first output, and to the first event in it."""

    output_s: float
    event_s: float


def reason(said: str) -> str:
    """Why a program did not run, of the lines it wrote: the one that tells, else the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or lines[-1:] or ["it said nothing"])[0]


class Started:
    """A contender from exec to its end."""

    def __init__(self, contender: Contender, site: Site, *, watched: bool = False) -> None:
        """`watched`: for `wait_for_event`."""
        self._contender = contender
        self._out = site.trace.with_name("stdout")
        self._err = site.trace.with_name("stderr")
        self._site = site
        self._reader: threading.Thread | None = None
        self._stdout = contender.stdout
        if watched:
            self._stdout = Stdout.SCREEN if contender.look is Look.TERMINAL else Stdout.FILE
        for path in (self._out, self._err, site.trace):
            path.unlink(missing_ok=True)
        self.began = time.monotonic()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._stdout is Stdout.SCREEN:
            return self._start_on_terminal()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            stdout = subprocess.DEVNULL if self._stdout is Stdout.NULL else out.fileno()
            return self._popen(subprocess.DEVNULL, stdout, err.fileno())

    def _start_on_terminal(self) -> subprocess.Popen[bytes]:
        ours, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", _ROWS, _COLUMNS, 0, 0))
            process = self._popen(theirs, theirs, theirs)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._reader = threading.Thread(target=self._drain, args=(ours,), daemon=True)
        self._reader.start()
        return process

    def _popen(self, stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
        command = self._contender.command(self._site)
        environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin", "TERM": "xterm-256color"}
        try:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )
        except OSError as error:
            raise BenchError(f"{command[0]}: {error.strerror}") from error

    def _drain(self, terminal: int) -> None:
        with self._out.open("wb", buffering=0) as out, suppress(OSError):  # EIO: nobody has it open
            while chunk := os.read(terminal, 1 << 16):
                out.write(chunk)
        os.close(terminal)

    def wait_attached(self) -> None:
        """Until its programs are loaded, its trace is begun, and it is at rest. Raises BenchError."""
        self._until(lambda: not self._contender.in_kernel or bool(proc.held(self._tree()).programs))
        if self._contender.look is Look.TRACE:
            self._until(lambda: self._site.trace.exists() and b"\n" in self._site.trace.read_bytes())
        self.settle()
        self._require_alive()

    def wait_for_event(self, port: int) -> Seen:
        """The first event of the probe, whose server has that port, in what it writes."""
        path = self._site.trace if self._contender.look is Look.TRACE else self._out
        sign = re.compile(PROBE.encode() if self._contender.in_kernel else rb"TIME-WAIT.*:%d\b" % port)
        self._until(lambda: path.exists() and path.stat().st_size > 0, _LOOK_S)
        first = time.monotonic() - self.began
        self._until(lambda: sign.search(path.read_bytes()) is not None, _LOOK_S)
        return Seen(first, time.monotonic() - self.began)

    def settle(self) -> None:
        """Until it is at rest, or as good as: it may draw for ever."""
        deadline = time.monotonic() + _SETTLE_S
        before = self.cpu_s()
        while time.monotonic() < deadline:
            time.sleep(_QUIET_S)
            before, last = self.cpu_s(), before
            if before - last < _QUIET_SHARE * _QUIET_S:
                return

    def cpu_s(self) -> float:
        """CPU time so far."""
        return proc.cpu_s(self._tree())

    def peak_kb(self) -> int | None:
        """Memory at its most; None for one that starts programs as it goes."""
        return proc.peak_kb(self._tree()) if self._contender.in_kernel else None

    def held(self) -> proc.Held:
        """The eBPF it holds."""
        return proc.held(self._tree())

    def stop(self) -> None:
        """As a user would, who then waits for what it has to say."""
        self._require_alive()
        if not self._contender.in_kernel:
            return
        self._process.send_signal(signal.SIGTERM if self._stdout is Stdout.SCREEN else signal.SIGINT)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{self._contender.title}: does not end") from error
        if self._reader:
            self._reader.join()

    def said(self) -> str:
        """The end of what it wrote to stderr; on a terminal, to that."""
        return _tail(self._out if self._reader else self._err)

    def lost(self) -> int | None:
        """Records lost by its own account; None: it gives none."""
        if self._contender.lost is None:
            return None
        texts = (path.read_bytes() for path in (self._out, self._err) if path.exists())
        return sum(int(count) for text in texts for count in self._contender.lost.findall(text))

    def end(self) -> None:
        """At once, if it has not ended."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._reader:
            self._reader.join()

    def _tree(self) -> list[int]:
        return proc.tree(self._process.pid)

    def _until(self, condition: Callable[[], bool], pause_s: float = 0.02) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            self._require_alive()
            if time.monotonic() > deadline:
                raise BenchError(f"{self._contender.title}: nothing within {_PATIENCE_S:.0f} s")
            time.sleep(pause_s)

    def _require_alive(self) -> None:
        if self._process.poll() is not None:
            raise BenchError(reason(_tail(self._out) + _tail(self._err)))


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace")


@contextmanager
def started(contender: Contender, site: Site, *, watched: bool = False) -> Iterator[Started]:
    """A contender, ended afterwards."""
    it = Started(contender, site, watched=watched)
    try:
        yield it
    finally:
        it.end()
