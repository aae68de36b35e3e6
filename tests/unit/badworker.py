"""Workers that were taken over by a file they read, each in its way, for test_symbols_pool.py."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

from tracer.symbols import protocol


def _serve(answer: Callable[[protocol.Request], bytes]) -> None:
    channel = socket.socket(fileno=0)
    channel.sendall(protocol.pack(protocol.Ready()))
    while True:
        request, _ = protocol.unpack_request(channel)
        # A descriptor comes along: it must not reach the parent.
        socket.send_fds(channel, [answer(request)], [1])


def nonsense() -> None:
    _serve(lambda _: b"\0\0\0\4abcd")


def endless() -> None:
    _serve(lambda _: b"\xff" * 100)


def another_kind() -> None:
    _serve(lambda _: protocol.pack(protocol.Attached(fits=True)))


def long_name() -> None:
    words = protocol.FrameWords("x" * 1025, None, None, False)
    _serve(lambda _: protocol.pack(protocol.Found([words], None)))


def path_as_build_id() -> None:
    loaded = protocol.Loaded("../../../../etc/shadow", None, 0, has_lines=False)
    _serve(
        lambda request: protocol.pack(loaded if isinstance(request, protocol.Load) else protocol.Unknown())
    )


def ever_unknown() -> None:
    loaded = protocol.Loaded(None, None, 0, has_lines=True)
    _serve(
        lambda request: protocol.pack(loaded if isinstance(request, protocol.Load) else protocol.Unknown())
    )


def drip() -> None:
    channel = socket.socket(fileno=0)
    channel.sendall(protocol.pack(protocol.Ready()))
    channel.sendall(b"\0\0\1\0")
    while True:
        time.sleep(0.2)
        channel.sendall(b"x")


def silent() -> None:
    _serve(lambda _: b"")


def dies() -> None:
    _serve(lambda _: sys.exit(1))


def keeps() -> None:
    channel = socket.socket(fileno=0)
    channel.sendall(protocol.pack(protocol.Failed("cannot give up privileges: why?")))
