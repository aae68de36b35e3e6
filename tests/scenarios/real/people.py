"""Small Python programs as people write them: `people.py NAME FUNCTION ARGUMENTS...`.

NAME becomes its comm. Each ends with status 0 when its work is done; servers do not end.
"""

from __future__ import annotations

import ctypes
import errno
import http.client
import socket
import sys
import time
from collections.abc import Callable, Iterator

HOST = "127.0.0.1"
_PR_SET_NAME = 15
_SECONDS = 30


def paced(count: str, rate: str) -> Iterator[int]:
    """So many numbers, so many a second."""
    start = time.monotonic()
    for number in range(int(count)):
        time.sleep(max(0.0, start + number / float(rate) - time.monotonic()))
        yield number


def get(connection: http.client.HTTPConnection, number: int) -> None:
    connection.request("GET", f"/{number}")
    answer = connection.getresponse()
    answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"status {answer.status}")


def fetch_anew(port: str, count: str, rate: str) -> None:
    """Each page by a connection of its own; goes on when there is no port for it."""
    failed = 0
    for number in paced(count, rate):
        connection = http.client.HTTPConnection(HOST, int(port), timeout=_SECONDS)
        try:
            get(connection, number)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            failed += 1
        finally:
            connection.close()
    sys.stdout.write(f"{failed}\n")


def fetch_kept(port: str, count: str, rate: str) -> None:
    """All pages by one connection."""
    connection = http.client.HTTPConnection(HOST, int(port), timeout=_SECONDS)
    for number in paced(count, rate):
        get(connection, number)
    connection.close()
    sys.stdout.write("0\n")


def command(connection: socket.socket, *words: str) -> bytes:
    """One command of Redis's protocol (RESP); its answer, which fits into one segment."""
    text = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    connection.sendall(text.encode())
    answer = b""
    while not answer.endswith(b"\r\n"):
        if not (more := connection.recv(4096)):
            raise RuntimeError("redis closed")
        answer += more
    return answer


def count_anew(port: str, count: str, rate: str) -> None:
    """Each command by a connection of its own."""
    for number in paced(count, rate):
        with socket.create_connection((HOST, int(port)), timeout=_SECONDS) as connection:
            check_count(command(connection, "INCR", "visits"), number)


def count_kept(port: str, count: str, rate: str) -> None:
    """All commands by one connection."""
    with socket.create_connection((HOST, int(port)), timeout=_SECONDS) as connection:
        for number in paced(count, rate):
            check_count(command(connection, "INCR", "visits"), number)


def check_count(answer: bytes, number: int) -> None:
    if answer != f":{number + 1}\r\n".encode():
        raise RuntimeError(f"redis answered {answer!r}")


def greet(port: str, count: str, rate: str) -> None:
    """A connection, a word and its answer, and closed."""
    for _ in paced(count, rate):
        with socket.create_connection((HOST, int(port)), timeout=_SECONDS) as connection:
            connection.sendall(b"hello\n")
            if connection.recv(64) != b"hello\n":
                raise RuntimeError("no answer")


def serve(port: str, forget: bool) -> None:
    """Answers one connection after the other, until its peer has closed."""
    forgotten = []
    with socket.create_server((HOST, int(port)), backlog=128) as listener:
        while True:
            connection, _ = listener.accept()
            while word := connection.recv(64):
                connection.sendall(word)
            if forget:
                forgotten.append(connection)
            else:
                connection.close()


def serve_and_forget(port: str) -> None:
    """It keeps every connection, though its peer has closed."""
    serve(port, forget=True)


def serve_and_close(port: str) -> None:
    serve(port, forget=False)


PROGRAMS: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        fetch_anew, fetch_kept, count_anew, count_kept, greet, serve_and_forget, serve_and_close,
    )
}  # fmt: skip

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_NAME, sys.argv[1].encode(), 0, 0, 0)
    PROGRAMS[sys.argv[2]](*sys.argv[3:])
