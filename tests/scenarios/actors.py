"""Processes that do with their sockets what they are told, one step at a time."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import struct
import sys
import traceback
from typing import Any, NoReturn

LOOPBACK = {"4": "127.0.0.1", "6": "::1", "mapped": "::ffff:127.0.0.1"}
LISTENER = "listener"
PATIENCE = 90.0
"""Seconds until a step counts as stuck; emulated machines are slow."""

STATES = (
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
)

# Options that the socket module has no names for: include/uapi/asm-generic/socket.h, linux/tcp.h.
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ = 19, 20, 21
_REPAIR_OFF_WITHOUT_PROBE, _RECEIVE_QUEUE, _SEND_QUEUE = -1, 1, 2
_TCP_INFO_UNACKED = 24
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15

_libc = ctypes.CDLL(None, use_errno=True)


def bound_to_parent(name: str) -> None:
    """This process is called `name`, and ends with the one that made it."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def plain(address: str) -> str:
    """An IPv4-mapped address as IPv4."""
    return address.removeprefix("::ffff:")


class Actor:
    """A process of its own, seen from the one that directs it."""

    def __init__(self, name: str) -> None:
        self.name = f"life-{name}"
        self.listening: int | None = None
        self.ended = False
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(PATIENCE)
        self.pid = os.fork()
        if not self.pid:
            self._channel.close()
            _obey(theirs, self.name, self._stage())
        theirs.close()

    @staticmethod
    def _stage() -> Stage:
        """The steps it can take."""
        return Stage()

    def do(self, step: str, *args: object) -> Any:
        """Let it take one step of its stage; returns what that returns."""
        self._channel.send(json.dumps([step, *args]).encode())
        if not (answer := self._channel.recv(1 << 16)):
            raise RuntimeError(f"{self.name} ended at {step}{args}")
        reply = json.loads(answer)
        if "failed" in reply:
            raise RuntimeError(f"{self.name} at {step}{args}:\n{reply['failed']}")
        return reply["value"]

    def exit(self) -> None:
        """It ends by itself; its descriptors are still open."""
        self._channel.send(b'["exit"]')
        self._wait()

    def kill(self) -> None:
        """It is killed."""
        os.kill(self.pid, signal.SIGKILL)
        self._wait()

    def _wait(self) -> None:
        os.waitpid(self.pid, 0)
        self.ended = True


def _obey(channel: socket.socket, name: str, stage: Stage) -> NoReturn:
    try:
        bound_to_parent(name)
        while request := channel.recv(1 << 16):
            step, *args = json.loads(request)
            try:
                reply = {"value": getattr(stage, step)(*args)}
            except Exception:  # the director reports it  # noqa: BLE001
                reply = {"failed": traceback.format_exc()}
            channel.send(json.dumps(reply).encode())
    finally:
        os._exit(1)


class Stage:
    """The sockets of one process, by name, and the steps that can be taken with them."""

    def __init__(self) -> None:
        self.sockets: dict[str, socket.socket] = {}

    def listen(self, family: str, port: int) -> int:
        listener = socket.socket(socket.AF_INET if family == "4" else socket.AF_INET6)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == "mapped":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::" if family == "mapped" else LOOPBACK[family], port))
        listener.listen(512)
        self.sockets[LISTENER] = listener
        return int(listener.getsockname()[1])

    def connect(self, name: str, family: str, port: int, sport: int, options: list[list[int]]) -> Any:
        """The address of our end and of theirs, or the name of the error."""
        made = socket.socket(socket.AF_INET if family == "4" else socket.AF_INET6)
        for level, option, value in options:
            made.setsockopt(level, option, value)
        if sport:
            made.bind((LOOPBACK[family], sport))
        try:
            made.connect((LOOPBACK[family], port))
        except OSError as error:
            made.close()
            return errno.errorcode[error.errno or 0]
        self.sockets[name] = made
        return _addresses(made)

    def accept(self, name: str) -> Any:
        listener = self.sockets[LISTENER]
        listener.settimeout(PATIENCE)
        made, _ = listener.accept()
        made.settimeout(None)
        self.sockets[name] = made
        return _addresses(made)

    def send(self, name: str) -> None:
        self.sockets[name].sendall(b"x")

    def receive(self, name: str) -> int:
        """Number of bytes read."""
        return len(self.sockets[name].recv(64))

    def readable(self, name: str) -> None:
        """Wait for data, and leave it where it is."""
        self.sockets[name].recv(1, socket.MSG_PEEK)

    def option(self, name: str, level: int, option: int, value: int) -> None:
        self.sockets[name].setsockopt(level, option, value)

    def close(self, name: str) -> None:
        self.sockets.pop(name).close()

    def reset(self, name: str) -> None:
        self.sockets[name].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close(name)

    def shutdown(self, name: str, how: int) -> None:
        self.sockets[name].shutdown(how)

    def disconnect(self, name: str) -> None:
        """connect() to AF_UNSPEC, which the socket module cannot say."""
        address = bytes(16)
        if _libc.connect(self.sockets[name].fileno(), address, len(address)):
            raise OSError(ctypes.get_errno(), "connect(AF_UNSPEC)")

    def deafen(self, name: str) -> None:
        """Drop all that comes in: a socket filter of one instruction, `ret #0`."""
        program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
        self.sockets[name].setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program))
        )

    def hear(self, name: str) -> None:
        self.option(name, socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def state(self, name: str) -> str:
        return STATES[self.sockets[name].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]]

    def unacked(self, name: str) -> int:
        info = self.sockets[name].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        (segments,) = struct.unpack_from("I", info, _TCP_INFO_UNACKED)
        return int(segments)

    def sequence(self, name: str) -> list[int]:
        """The next sequence numbers we send and we expect."""
        here = self.sockets[name]
        here.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        found = []
        for queue in (_SEND_QUEUE, _RECEIVE_QUEUE):
            here.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, queue)
            found.append(here.getsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ) & 0xFFFFFFFF)
        here.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _REPAIR_OFF_WITHOUT_PROBE)
        return found

    def many(self, step: str, rows: list[list[Any]]) -> list[Any]:
        """The same step with each row of arguments."""
        take = getattr(self, step)
        return [take(*row) for row in rows]

    def left_open(self) -> list[str]:
        """Connections that would still have something to say if this process ended."""
        return [name for name in self.sockets if name != LISTENER and self.state(name) != "CLOSE"]

    def exit(self) -> NoReturn:
        sys.stdout.flush()
        os._exit(0)


def set_sequence(made: socket.socket, sequence: int) -> None:
    """The first sequence number of a connection that is not yet made."""
    for option, value in (
        (_TCP_REPAIR, 1),
        (_TCP_REPAIR_QUEUE, _SEND_QUEUE),
        (_TCP_QUEUE_SEQ, sequence),
        (_TCP_REPAIR, _REPAIR_OFF_WITHOUT_PROBE),
    ):
        made.setsockopt(socket.IPPROTO_TCP, option, value)


def _addresses(made: socket.socket) -> list[Any]:
    saddr, sport = made.getsockname()[:2]
    daddr, dport = made.getpeername()[:2]
    return [plain(saddr), sport, plain(daddr), dport]
