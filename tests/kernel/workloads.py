"""Workloads with known outcomes, run as programs: `workloads.py NAME FAMILY COUNTS...`.

Each prints one line of JSON: who took part. All connections are made over
loopback of the namespace the program runs in.
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

Connection = socket.socket
Ending = Callable[[socket.socket], None]
LOOPBACK = {"4": "127.0.0.1", "6": "::1", "mapped": "::ffff:127.0.0.1"}


def set_name(name: bytes) -> None:
    ctypes.CDLL(None).prctl(15, name, 0, 0, 0)


def listen(family: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET if family == "4" else socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == "mapped":
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::" if family == "mapped" else LOOPBACK[family], 0))
    listener.listen(512)
    return listener


def connect(listener: socket.socket, family: str) -> Connection:
    connection = socket.socket(listener.family)
    connection.connect((LOOPBACK[family], listener.getsockname()[1]))
    return connection


def greet(connection: Connection) -> None:
    """The client's part of one request and answer."""
    connection.sendall(b"x")
    assert connection.recv(1) == b"y"


def answer(connection: Connection) -> None:
    """The server's part."""
    assert connection.recv(1) == b"x"
    connection.sendall(b"y")


def until_eof(connection: Connection) -> None:
    try:
        while connection.recv(64):
            pass
    except ConnectionResetError:
        pass
    connection.close()


def reset(connection: Connection) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def report(**pids: int | list[int]) -> None:
    """Tell who took part."""
    sys.stdout.write(json.dumps(pids) + "\n")
    sys.stdout.flush()


def child(name: str, work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        set_name(name.encode())
        work()
        status = 0
    finally:
        os._exit(status)


def wait_for(*pids: int) -> None:
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status in (0, signal.SIGKILL), f"{pid}: {status}"


def serve(listener: socket.socket, endings: list[Ending]) -> None:
    for end in endings:
        connection, _ = listener.accept()
        answer(connection)
        end(connection)


def request(listener: socket.socket, family: str, endings: list[Ending]) -> None:
    for end in endings:
        connection = connect(listener, family)
        greet(connection)
        end(connection)


def pair(
    family: str,
    server_ends: list[Ending],
    client_ends: list[Ending],
) -> None:
    """One server and one client process, each connection ended as the lists say."""
    listener = listen(family)
    server = child("the-server", lambda: serve(listener, server_ends))
    client = child("the-client", lambda: request(listener, family, client_ends))
    wait_for(server, client)
    report(server=server, client=client)


def mixed(family: str, active: str, passive: str, resets: str) -> None:
    """`active` closed first by the server, `passive` by the client, `resets` by its SO_LINGER 0."""
    counts = int(active), int(passive), int(resets)
    close: Ending = Connection.close
    pair(
        family,
        [close] * counts[0] + [until_eof] * (counts[1] + counts[2]),
        [until_eof] * counts[0] + [close] * counts[1] + [reset] * counts[2],
    )


def fork_server(family: str, count: str) -> None:
    """The parent accepts, a child answers and closes; the client closes after it."""
    listener = listen(family)
    told = os.pipe()

    def parent() -> None:
        for _ in range(int(count)):
            connection, _ = listener.accept()

            def handle(connection: Connection = connection) -> None:
                answer(connection)
                time.sleep(0.02)  # the parent has closed its copy by then
                connection.close()

            handler = child("the-handler", handle)
            connection.close()
            os.write(told[1], struct.pack("i", handler))
            wait_for(handler)

    server = child("the-parent", parent)
    client = child("the-client", lambda: request(listener, family, [until_eof] * int(count)))
    wait_for(server, client)
    children = [pid for (pid,) in struct.iter_unpack("i", os.read(told[0], 4096))]
    report(server=server, client=client, children=children)


def pass_descriptor(family: str, count: str) -> None:
    """One process accepts, hands the socket over (SCM_RIGHTS), another answers and closes."""
    listener = listen(family)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def accept() -> None:
        for _ in range(int(count)):
            connection, _ = listener.accept()
            ours.sendmsg(
                [b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [connection.fileno()]))]
            )
            connection.close()
            ours.send(b"g")  # from here on the worker's is the only one
            ours.recv(1)

    def work() -> None:
        for _ in range(int(count)):
            _, ancillary, _, _ = theirs.recvmsg(1, 64)
            (descriptor,) = array.array("i", ancillary[0][2][:4])
            connection = socket.socket(fileno=descriptor)
            assert theirs.recv(1) == b"g"
            answer(connection)
            connection.close()
            theirs.send(b"k")

    acceptor = child("the-acceptor", accept)
    worker = child("the-worker", work)
    client = child("the-client", lambda: request(listener, family, [until_eof] * int(count)))
    wait_for(acceptor, worker, client)
    report(acceptor=acceptor, worker=worker, client=client)


def greet_and_leave(family: str, count: str) -> None:
    """One process accepts and sends; a child of its ends the connection, and nobody has read."""
    listener = listen(family)

    def greet() -> None:
        for _ in range(int(count)):
            connection, _ = listener.accept()
            connection.sendall(b"y")
            wait_for(child("the-closer", lambda: connection.shutdown(socket.SHUT_WR)))  # noqa: B023
            connection.close()

    def read_all() -> None:
        for _ in range(int(count)):
            until_eof(connect(listener, family))

    greeter = child("the-greeter", greet)
    client = child("the-client", read_all)
    wait_for(greeter, client)
    report(greeter=greeter, client=client)


def endings(family: str) -> None:
    """Five clients that end a connection without close(), or not by close() alone."""
    listener = listen(family)
    server = child("the-server", lambda: serve(listener, [until_eof] * 5))
    ready = os.pipe()

    def exits() -> None:
        connection = connect(listener, family)
        greet(connection)
        os._exit(0)  # the descriptor is still open

    def killed() -> None:
        connection = connect(listener, family)
        greet(connection)
        os.write(ready[1], b"r")
        signal.pause()

    def shuts_down(how: int) -> Callable[[], None]:
        def run() -> None:
            connection = connect(listener, family)
            greet(connection)
            connection.shutdown(how)
            if how == socket.SHUT_WR:
                assert connection.recv(1) == b""
            time.sleep(0.05)
            connection.close()

        return run

    def in_thread() -> None:
        connection = connect(listener, family)
        greet(connection)

        def close() -> None:
            set_name(b"a-thread")
            connection.close()

        thread = threading.Thread(target=close)
        thread.start()
        thread.join()

    pids = {}
    for name, work in (
        ("exits", exits),
        ("shuts_wr", shuts_down(socket.SHUT_WR)),
        ("shuts_rdwr", shuts_down(socket.SHUT_RDWR)),
        ("in_thread", in_thread),
    ):
        pids[name] = child(name, work)
        wait_for(pids[name])
    pids["killed"] = child("killed", killed)
    os.read(ready[0], 1)
    os.kill(pids["killed"], signal.SIGKILL)
    wait_for(pids["killed"], server)
    report(server=server, **pids)


def short_lived(family: str, name: str) -> None:
    """A client that lives for a few milliseconds, called `name`."""
    listener = listen(family)
    server = child("the-server", lambda: serve(listener, [until_eof]))
    set_name(os.fsencode(name))
    client = os.fork()
    if not client:
        connection = connect(listener, family)
        greet(connection)
        connection.close()
        os._exit(0)
    wait_for(client, server)
    report(client=client, server=server)


def hold(family: str, count: str) -> None:
    """`count` sockets left in CLOSE_WAIT by a server that reads, until stdin is closed."""
    listener = listen(family)
    told = os.pipe()

    def leak() -> None:
        kept = []
        for _ in range(int(count)):
            connection, _ = listener.accept()
            answer(connection)
            kept.append(connection)
            assert connection.recv(1) == b""
        os.write(told[1], b"r")
        signal.pause()

    server = child("the-leak", leak)
    client = child("the-client", lambda: request(listener, family, [Connection.close] * int(count)))
    wait_for(client)
    os.read(told[0], 1)
    report(server=server, client=client)
    sys.stdin.read()
    os.kill(server, signal.SIGKILL)
    wait_for(server)


def keep_open(family: str) -> None:
    """One established connection, closed by its server when a line comes on stdin."""
    listener = listen(family)
    client = child("the-client", lambda: request(listener, family, [until_eof]))
    connection, _ = listener.accept()
    answer(connection)
    set_name(b"the-old-server")
    report(server=os.getpid(), client=client)
    sys.stdin.readline()
    connection.close()
    wait_for(client)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
