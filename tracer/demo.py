"""A small workload on loopback of its own: processes that do what their names say.

Each habit of closing is shown by one process against a peer that leaves the
closing to it. Everything ends with the parent (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes as ct
import fcntl
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from tracer.errors import NotPermittedError

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_MAX_LEAKED = 100


def _name(comm: str) -> None:
    libc = ct.CDLL(None)
    libc.prctl(_PR_SET_NAME, comm.encode()[:15], 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"request")
    connection.recv(64)
    return connection


def _serve(listener: socket.socket, finish: Callable[[socket.socket], None]) -> None:
    while True:
        connection, _ = listener.accept()
        with suppress(OSError):  # a reset is in the plan
            connection.recv(64)
            connection.sendall(b"answer")
            finish(connection)


def _close(connection: socket.socket) -> None:
    connection.close()


def _close_after_peer(connection: socket.socket) -> None:
    try:
        while connection.recv(64):
            pass
    finally:
        connection.close()


_leaked: list[socket.socket] = []


def _never_close(connection: socket.socket) -> None:
    _leaked.append(connection)
    while len(_leaked) > _MAX_LEAKED:
        _leaked.pop(0).close()


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _client(port: int, finish: Callable[[socket.socket], None]) -> None:
    finish(_connect(port))


def _client_that_exits(port: int, _finish: Callable[[socket.socket], None]) -> None:
    # A process of its own for each connection, which ends without close().
    child = os.fork()
    if not child:
        try:
            _connect(port).detach()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


Finish = Callable[[socket.socket], None]


@dataclass(frozen=True, slots=True)
class Pair:
    """A server and a client, each with a name that says how it ends connections."""

    server: str
    server_finish: Finish
    client: str
    client_finish: Finish
    client_run: Callable[[int, Finish], None] = _client
    pause_s: float = 0.05


PAIRS = (
    Pair("srv-closes-1st", _close, "cli-waits", _close_after_peer),
    Pair("srv-waits", _close_after_peer, "cli-closes-1st", _close),
    Pair("srv-is-reset", _close_after_peer, "cli-resets", _reset),
    Pair("srv-leaks", _never_close, "cli-gives-up", _close, pause_s=1.0),
    Pair("srv-sees-exit", _close_after_peer, "cli-just-exits", _close, _client_that_exits, pause_s=0.2),
)


class Demo:
    """The workload's processes, from start() to stop(), in a network namespace of their own."""

    def __init__(self) -> None:
        self._children: list[int] = []
        self._gate_read, self._gate = os.pipe()
        self.netns = 0
        """Inode number of the namespace, after start()."""

    def start(self) -> None:
        """Start all processes; they wait for go()."""
        ready_read, ready = os.pipe()
        self._fork("twtrace-demo", partial(self._start_pairs, ready))
        os.close(ready)
        os.close(self._gate_read)
        started = os.read(ready_read, 1)
        os.close(ready_read)
        if not started:
            raise NotPermittedError(
                "the demo could not make a network namespace for itself",
                "it needs root (CAP_SYS_ADMIN): run it with sudo",
            )
        self.netns = os.stat(f"/proc/{self._children[0]}/ns/net").st_ino

    def go(self) -> None:
        """Let them begin."""
        os.close(self._gate)

    def stop(self) -> None:
        """End all of them: they are one process group."""
        for child in self._children:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self._children.clear()

    def _start_pairs(self, ready: int) -> None:
        os.close(self._gate)
        os.setpgid(0, 0)
        _enter_new_namespace()
        for pair in PAIRS:
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            port = listener.getsockname()[1]
            self._fork(pair.server, partial(self._when_open, partial(_serve, listener, pair.server_finish)))
            self._fork(pair.client, partial(self._when_open, partial(_repeat, pair, port)))
            listener.close()
        os.write(ready, b"r")
        signal.pause()

    def _when_open(self, work: Callable[[], None]) -> None:
        os.read(self._gate_read, 1)  # ends when the last writer has closed: go()
        work()

    def _fork(self, comm: str, work: Callable[[], None]) -> None:
        child = os.fork()
        if child:
            self._children.append(child)
            return
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tracer
            _name(comm)
            work()
        finally:
            os._exit(0)


def _enter_new_namespace() -> None:
    libc = ct.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ct.get_errno(), "unshare")
    with socket.socket() as any_socket:
        request = struct.pack("16sH14x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def _repeat(pair: Pair, port: int) -> None:
    while True:
        with suppress(OSError):
            pair.client_run(port, pair.client_finish)
        time.sleep(pair.pause_s)
