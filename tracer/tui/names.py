"""Names of addresses, asked of the resolver in a thread of its own; only when the user wants names."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from threading import Thread

MAX_NAMES = 4096
"""Addresses asked for, at most."""


def reverse(address: str) -> str | None:
    """The name of an address by DNS or /etc/hosts; None if it has none."""
    try:
        return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except (OSError, UnicodeError):  # a name in DNS may be any bytes
        return None


class Names:
    """Known names; what is asked for comes later. A resolver that hangs delays names alone."""

    def __init__(self, told: Callable[[], None], resolve: Callable[[str], str | None] = reverse) -> None:
        """`told` is called, in the thread of its own, whenever there is one more."""
        self._told = told
        self._resolve = resolve
        self._asked: set[str] = set()
        self._queue: SimpleQueue[str] = SimpleQueue()
        self._thread: Thread | None = None
        self.known: dict[str, str] = {}

    def want(self, addresses: Iterable[str]) -> None:
        """Ask for those that were not asked for yet."""
        for address in addresses:
            if address not in self._asked and len(self._asked) < MAX_NAMES:
                self._asked.add(address)
                self._queue.put(address)
        if self._thread is None:
            self._thread = Thread(target=self._run, name="names", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            address = self._queue.get()
            name = self._resolve(address)
            if name:
                # A new dictionary: the screen may be reading the old one.
                self.known = {**self.known, address: name}
                self._told()
