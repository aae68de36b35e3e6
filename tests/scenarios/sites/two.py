"""The same as two.c, in Python; client and server are one process."""

from __future__ import annotations

import socket
import sys
import threading


def finish(connection: socket.socket) -> None:
    connection.close()


def give_up(connection: socket.socket) -> None:
    finish(connection)


def serve(connection: socket.socket, number: int) -> None:
    connection.recv(1)
    if number % 10 < 3:
        give_up(connection)
    else:
        finish(connection)


def ask(address: tuple[str, int], count: int) -> None:
    for _ in range(count):
        with socket.create_connection(address) as connection:
            connection.sendall(b"x")
            connection.recv(1)


def main() -> None:
    count = int(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    client = threading.Thread(target=ask, args=(listener.getsockname(), count))
    client.start()
    for number in range(count):
        serve(listener.accept()[0], number)
    client.join()


if __name__ == "__main__":
    main()
