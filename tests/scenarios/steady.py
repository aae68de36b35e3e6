"""Short connections at a steady rate, or the same requests over one that is kept.

    python -m tests.scenarios.steady HABIT RATE SECONDS

HABIT is `client` or `server`, whoever closes first, or `kept`. Runs in the
namespace it is started in; tells in one line of JSON what was tried and failed.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time

from tests.scenarios.actors import bound_to_parent

_ADDRESS = ("127.0.0.1", 9000)


def _serve(listener: socket.socket, *, first: bool) -> None:
    bound_to_parent("steady-server")
    while True:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(16):
                connection.send(b"a")
                if first:
                    break
            else:
                continue
            connection.shutdown(socket.SHUT_WR)
            connection.recv(16)


def _request(connection: socket.socket, *, wait_for_end: bool) -> None:
    connection.send(b"q")
    connection.recv(1)
    if wait_for_end:
        connection.recv(16)


def main(habit: str, rate: float, seconds: float) -> None:
    """Run it."""
    listener = socket.create_server(_ADDRESS, backlog=256)
    server = os.fork()
    if not server:
        try:
            _serve(listener, first=habit == "server")
        finally:
            os._exit(1)
    bound_to_parent("steady-client")
    kept = socket.create_connection(_ADDRESS) if habit == "kept" else None
    began = time.monotonic()
    failed = 0
    total = int(rate * seconds)
    for number in range(total):
        time.sleep(max(0, began + number / rate - time.monotonic()))
        if kept:
            _request(kept, wait_for_end=False)
            continue
        try:
            with socket.create_connection(_ADDRESS) as connection:
                _request(connection, wait_for_end=habit == "server")
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            failed += 1
    sys.stdout.write(json.dumps({"tried": total, "failed": failed}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    os.kill(server, 9)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
