"""How connect() picks a source port, and what a TIME_WAIT does to that: the kernel's way as a model."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_STEP = 2
"""connect() goes over every other port and over those between only when all of these are taken
(__inet_hash_connect(), net/ipv4/inet_hashtables.c; 1580ab63fc9a "tcp/dccp: better use of ephemeral
ports in connect()", v4.2)."""


@dataclass(slots=True)
class PortModel:
    """The ports for one destination. Times are microseconds and never go back."""

    size: int
    reuse_after_us: int | None = None
    """How old a TIME_WAIT must be to be taken over; None: it never is."""
    _free: list[deque[int]] = field(init=False)
    _waiting: dict[int, int] = field(default_factory=dict)
    """Port → since when, oldest first."""
    _live: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._free = [deque(range(first, self.size, _STEP)) for first in range(_STEP)]

    @property
    def used(self) -> int:
        """Ports held."""
        return len(self._waiting) + len(self._live)

    def connect(self, now_us: int) -> tuple[int, bool] | None:
        """A port, and whether it was taken over from a TIME_WAIT; None: EADDRNOTAVAIL.

        In turn, as the kernel does: a free one of the first half is always ahead of the oldest
        TIME_WAIT of it, since ports are used in their order.
        """
        for parity, free in enumerate(self._free):
            if free:
                port = free.popleft()
                self._live.add(port)
                return port, False
            if self.reuse_after_us is not None:
                found = self._oldest(parity)
                if found is not None and now_us - self._waiting[found] >= self.reuse_after_us:
                    del self._waiting[found]
                    self._live.add(found)
                    return found, True
        return None

    def wait(self, port: int, now_us: int) -> None:
        """Its connection is over and a TIME_WAIT has it."""
        self._live.discard(port)
        self._waiting[port] = now_us

    def release(self, port: int) -> None:
        """Free again."""
        self._live.discard(port)
        self._waiting.pop(port, None)
        self._free[port % _STEP].append(port)

    def since(self, port: int) -> int | None:
        """When its TIME_WAIT began; None without one."""
        return self._waiting.get(port)

    def _oldest(self, parity: int) -> int | None:
        return next((port for port in self._waiting if port % _STEP == parity), None)
