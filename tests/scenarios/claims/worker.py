"""Processes that serve, visit and fetch by themselves, many times in one step."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.scenarios.actors import PATIENCE, Actor, Stage, set_sequence

_IP_BIND_ADDRESS_NO_PORT = 24  # include/uapi/linux/in.h
_BODY = b"ok"


class Worker(Actor):
    """A process that can do that."""

    @staticmethod
    def _stage() -> Stage:
        return _Bench()


class _Bench(Stage):
    """The steps."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[socket.socket] = []

    # A server

    def serve(self, address: str, habit: str, port: int, reuse: int) -> int:
        """Accept, read and write a byte, and then by habit; the port.

        `first`: close. `second`: close when the peer has. `never`: keep it open.
        """
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        listener.bind((address, port))
        listener.listen(512)
        self.sockets[f"listener {listener.getsockname()[1]}"] = listener
        _in_background(lambda: self._serve(listener, habit))
        return int(listener.getsockname()[1])

    def _serve(self, listener: socket.socket, habit: str) -> None:
        while True:
            try:
                guest, _ = listener.accept()
            except OSError:  # no longer served
                return
            with suppress(ConnectionError):
                guest.sendall(guest.recv(1))
                if habit == "second":
                    guest.recv(1)
            if habit == "never":
                self.kept.append(guest)
            else:
                guest.close()

    def stop_serving(self, port: int) -> None:
        listener = self.sockets.pop(f"listener {port}")
        listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
        listener.close()

    def close_kept(self) -> int:
        """Close what it never closed by itself; how many."""
        count = len(self.kept)
        while self.kept:
            self.kept.pop().close()
        return count

    def kept_count(self) -> int:
        return len(self.kept)

    def serve_http(self, version: str, keep_alive: int) -> int:
        """An HTTP server on loopback that speaks that version; its port."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = version

            def do_GET(self) -> None:  # as http.server calls it
                self.send_response(200)
                self.send_header("Content-Length", str(len(_BODY)))
                if not keep_alive:
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(_BODY)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        _in_background(server.serve_forever)
        return int(server.server_address[1])

    # A client

    def visit(self, address: str, port: int, count: int, first: int, more: dict[str, Any]) -> dict[str, int]:
        """Connect, write and read a byte, close first or second; how often it went well, and which errors.

        `more`: `source` and `sport` to come from, `reuse` for SO_REUSEADDR, `sequence` to begin with.
        """
        outcomes: Counter[str] = Counter()
        for _ in range(count):
            with socket.socket() as guest:
                guest.settimeout(PATIENCE)
                try:
                    _bind(guest, **more)
                    guest.connect((address, port))
                    guest.sendall(b"x")
                    guest.recv(1)
                    if not first:
                        guest.recv(1)
                    outcomes["made"] += 1
                except OSError as error:
                    outcomes[errno.errorcode[error.errno or 0]] += 1
        return outcomes

    def fetch(self, port: int, count: int, version: str, more: dict[str, str]) -> dict[str, int]:
        """That many requests, over one connection as long as the server keeps it.

        `more`: header lines.
        """
        outcomes: Counter[str] = Counter()
        request = f"GET / {version}\r\nHost: here\r\n"
        request += "".join(f"{name}: {value}\r\n" for name, value in more.items()) + "\r\n"
        kept: socket.socket | None = None
        for _ in range(count):
            if kept is None:
                kept = socket.create_connection(("127.0.0.1", port), PATIENCE)
                outcomes["connections"] += 1
            kept.sendall(request.encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n" + _BODY):
                answer += kept.recv(4096)
            outcomes["answers"] += 1
            if b"HTTP/1.0" in answer or b"Connection: close" in answer or more.get("Connection") == "close":
                kept.recv(1)  # the server's end
                kept.close()
                kept = None
        if kept is not None:
            kept.close()
        return outcomes

    # Either

    def bind(self, address: str, port: int, reuse: int, listens: int) -> str:
        """Take that port, to connect from or to listen on; `ok` or the name of the error."""
        with socket.socket() as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            try:
                made.bind((address, port))
                if listens:
                    made.listen()
            except OSError as error:
                return errno.errorcode[error.errno or 0]
        return "ok"

    def pour(self, name: str, octets: int) -> int:
        """Write so many, or as many as are taken without the peer reading."""
        here = self.sockets[name]
        here.setblocking(False)
        poured = 0
        with suppress(BlockingIOError):
            while poured < octets:
                poured += here.send(bytes(min(octets - poured, 1 << 16)))
        here.setblocking(True)
        return poured

    def drain(self, name: str) -> list[Any]:
        """Read to the end: how many, and the name of the error if it is one."""
        drained = 0
        here = self.sockets[name]
        here.settimeout(PATIENCE)
        try:
            while chunk := here.recv(1 << 16):
                drained += len(chunk)
        except ConnectionError as error:
            return [drained, errno.errorcode[error.errno or 0]]
        return [drained, ""]

    def limit_files(self, more: int) -> int:
        """At most so many more open files than now; the limit of file numbers."""
        limit = max(int(name) for name in os.listdir("/proc/self/fd")) + 1 + more
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, hard), hard))
        return limit

    def open_files(self) -> int:
        return len(os.listdir("/proc/self/fd")) - 1  # the one by which we look


def _bind(guest: socket.socket, source: str = "", sport: int = 0, reuse: int = 0, sequence: int = 0) -> None:
    if sequence:
        set_sequence(guest, sequence)
    guest.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    if source and not sport:
        guest.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    if source or sport:
        guest.bind((source, sport))


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()
