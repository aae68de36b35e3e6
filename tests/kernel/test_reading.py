"""When the reader wakes, and how much it holds at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Timer

import pytest

from tests.kernel.support import Namespace
from tracer.filters import Filters
from tracer.kernel.decode import EVENT_RECORD
from tracer.kernel.flags import LoadOptions
from tracer.kernel.ring import Ring
from tracer.kernel.source import LiveSource
from tracer.model import Close

pytestmark = pytest.mark.kernel

CONNECTIONS = 2_500
"""Their 5,000 closes nearly fill the ring: whichever CPU sends them comes to where it wakes us."""


@contextmanager
def source(where: Namespace) -> Iterator[LiveSource]:
    made = LiveSource(LoadOptions(filters=Filters(netns=where.inode), ring_mib=1))
    try:
        made.preexisting()
        yield made
    finally:
        made.close()


def slept(live: LiveSource, seconds: float) -> float:
    began = time.monotonic()
    live.wait(seconds)
    return time.monotonic() - began


def test_events_wake_once_and_processes_do_not(netns: Namespace) -> None:
    with source(netns) as live:
        netns.run("mixed", "4", "2", "0", "0")
        assert slept(live, 0.5) >= 0.5  # a few events wait, and whose they are has come
        owners = {owner.process.comm for owner in live._processes._certain.values() if owner.process}
        assert "the-server" in owners
        assert sum(isinstance(event, Close) for one in live.read() for event in one.events) == 4
        netns.run("mixed", "4", str(CONNECTIONS), "0", "0")
        assert slept(live, 5) < 1
        assert slept(live, 0.5) >= 0.5  # they still wait to be read


def test_whoever_has_something_to_say_wakes_us(netns: Namespace) -> None:
    with source(netns) as live:
        live.wake()
        live.wake()
        assert slept(live, 5) < 1
        assert slept(live, 0.2) >= 0.2
        Timer(0.1, live.wake).start()
        assert 0.05 < slept(live, 5) < 1
    live.wake()


def test_a_full_ring_is_read_in_pieces(netns: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.kernel.source.Ring", partial(Ring, window=1 << 16))
    with source(netns) as live:
        netns.run("mixed", "4", "1000", "0", "0")
        most = (1 << 16) // (8 + EVENT_RECORD.size) + 1
        closes = [sum(isinstance(event, Close) for event in one.events) for one in live.read()]
        assert sum(closes) == 2_000
        assert max(closes) <= most
