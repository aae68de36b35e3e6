"""Invented rows and snapshots, and an engine that publishes what a test wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Any

from tracer.model import Grade, Row, Snapshot

DEADLINE_S = 10.0

_EMPTY = Row(
    key="",
    label="",
    grade=Grade.CERTAIN,
    cgroup=None,
    role="client",
    closes=0,
    close_rate=0.0,
    time_waits=0,
    time_wait_rate=0.0,
    time_wait_now=0,
    held_close_wait=0,
    held_fin_wait2=0,
    first_local=0,
    first_remote=0,
    resets_sent=0,
    resets_received=0,
    failed=0,
    by_exit=0,
    age_p50_us=None,
    top_peer=None,
    history=(),
)


def row(label: str, **fields: Any) -> Row:
    """A row that did nothing, but for `fields`; its key is its label unless given."""
    return _EMPTY._replace(**{"key": label, "label": label, **fields})


ORDERS = row(
    "orders-api[4711]",
    cgroup="/system.slice/orders.service",
    closes=1000,
    close_rate=415.0,
    time_waits=993,
    time_wait_rate=412.0,
    time_wait_now=24_720,
    first_local=993,
    first_remote=7,
    age_p50_us=9_100,
    top_peer="10.2.0.9:5432",
    history=tuple(range(120)),
)
JAVA = row("java[2290]", role="server", held_close_wait=41, held_fin_wait2=2)
CURL = row(
    "curl ×412",
    grade=Grade.INFERRED,
    closes=80,
    close_rate=1.3,
    time_wait_rate=1.3,
    time_wait_now=78,
    first_local=80,
    resets_received=8,
    age_p50_us=88_000,
    top_peer="10.9.1.1:443",
    history=(0,) * 100 + (7,) + (0,) * 19,
)
UNKNOWN = row("unknown", grade=Grade.UNKNOWN, role="unknown", time_wait_now=12)
TOTAL = row("all", grade=None, role="mixed", close_rate=416.3, time_wait_now=24_810, held_close_wait=41)


def snapshot(*rows: Row, **fields: object) -> Snapshot:
    """A snapshot of `rows`, or of three usual ones."""
    usual = Snapshot(
        ts_us=1_700_000_000_000_000,
        elapsed_us=764_000_000,
        host="web-14",
        kernel="6.8",
        hooks="timer",
        filters="",
        rows=rows or (ORDERS, CURL, JAVA),
        unknown=UNKNOWN,
        total=TOTAL,
        lost=0,
    )
    return replace(usual, **fields)  # type: ignore[arg-type]


class FakeEngine:
    """Publishes what it is given, then waits to be stopped unless `lasts` says otherwise."""

    def __init__(self, *snapshots: Snapshot, lasts: bool = True, failure: Exception | None = None) -> None:
        self._snapshots = snapshots
        self._lasts = lasts
        self._failure = failure
        self.stopped = Event()
        self.returned = Event()

    def run(self, publish: Callable[[Snapshot], None]) -> None:
        """Publish, then wait or fail or end."""
        try:
            for one in self._snapshots:
                publish(one)
            if self._failure:
                raise self._failure
            if self._lasts:
                self.stopped.wait(DEADLINE_S)
        finally:
            self.returned.set()

    def stop(self) -> None:
        """End `run`."""
        self.stopped.set()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`; fail at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the deadline has passed"
        await asyncio.sleep(0.01)
