"""What happens where a map is full: it is counted and told, and nothing else that is told is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.kernel.support import Namespace, eventually
from tracer.crowd import Reading
from tracer.filters import Filters
from tracer.kernel.flags import LoadOptions
from tracer.kernel.source import LiveSource
from tracer.model import Close, Event, Grade, Held, Lost, TimeWait, TimeWaitEnd

pytestmark = pytest.mark.kernel

CONNECTIONS = 60
BOTH_ENDS = 2 * CONNECTIONS

_PROGRAM = f"""
import socket, sys
listener = socket.create_server(("127.0.0.1", 0), backlog=128)
pairs = []
for _ in range({CONNECTIONS}):
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    client.sendall(b"x"); server.recv(1)
    pairs.append((client, server))
print("open", flush=True)
sys.stdin.readline()
for client, server in pairs:
    server.close()
    client.recv(1)
print("half", flush=True)
sys.stdin.readline()
for client, _ in pairs:
    client.close()
print("closed", flush=True)
sys.stdin.readline()
"""
"""Opens them all, closes the accepting ends, then the others, each step when told to."""


class Watched:
    """A source with little room, and what it told."""

    def __init__(self, source: LiveSource) -> None:
        self.source = source
        self.events: list[Event] = []

    def read(self) -> None:
        for reading in self.source.read():
            self.events += reading.events

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def lost(self) -> Counter[str]:
        self.events += self.source.lost()
        lost: Counter[str] = Counter()
        for event in self.events:
            if isinstance(event, Lost):
                lost[event.what] += event.count
        return lost


@contextmanager
def watched(where: Namespace, options: LoadOptions) -> Iterator[Watched]:
    source = LiveSource(replace(options, filters=Filters(netns=where.inode), ring_mib=1))
    try:
        watched = Watched(source)
        for reading in source.preexisting():
            watched.events += reading.events
        yield watched
    finally:
        source.close()


def play(where: Namespace, watched: Watched, when_half_closed: Callable[[], None] = lambda: None) -> None:
    """All open at once, then half-closed, then closed."""
    command = where.command(sys.executable, "-c", _PROGRAM)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        for step in ("open", "half", "closed"):
            assert program.stdout.readline() == f"{step}\n"
            watched.read()
            if step == "half":
                when_half_closed()
            program.stdin.write("\n")
            program.stdin.flush()
    watched.read()


@pytest.mark.parametrize("room", [4, 50, 90])
def test_connections_for_which_there_was_no_room(netns: Namespace, room: int) -> None:
    with watched(netns, LoadOptions(max_socks=room)) as seen:
        play(netns, seen)
        closes = [event for event in seen.of(Close) if isinstance(event, Close)]
        assert len(closes) + seen.lost["connections, map full"] == BOTH_ENDS
        assert set(seen.lost) <= {"connections, map full"}
        # Those that were followed from their beginning are told in full, the others not as if they were.
        whole = [close for close in closes if close.age_us is not None]
        assert room - 2 <= len(whole) <= room
        assert {close.owner.grade for close in whole} == {Grade.CERTAIN}
        assert {(close.role, close.first) for close in whole} <= {("server", "local"), ("client", "remote")}
        assert len({close.ends for close in closes}) == len(closes)
        assert sum(close.time_wait for close in closes) == len(seen.of(TimeWait))


@pytest.mark.parametrize("room", [2 * BOTH_ENDS, 100 * BOTH_ENDS])
def test_half_closed_ones_are_found_wherever_they_are_kept(netns: Namespace, room: int) -> None:
    """Those that have a place of their own, and those whose place is another's."""
    with watched(netns, LoadOptions(max_socks=room)) as seen:

        def all_held() -> bool:
            seen.read()
            return len(seen.of(Held)) == CONNECTIONS

        play(netns, seen, lambda: eventually(all_held))
        held = [event for event in seen.of(Held) if isinstance(event, Held)]
        opened = {close.ends: close.owner for close in seen.of(Close) if isinstance(close, Close)}
        assert {(one.ends, one.owner) for one in held} <= opened.items()
        assert Counter((one.state, one.role) for one in held) == {("CLOSE_WAIT", "client"): CONNECTIONS}
        assert len(opened) == BOTH_ENDS
        assert not seen.lost


@pytest.mark.parametrize("room", [1, 20])
def test_time_waits_for_which_there_was_no_room(netns: Namespace, room: int) -> None:
    subprocess.run(netns.command("sysctl", "-qw", "net.ipv4.tcp_fin_timeout=5"), check=True)
    with watched(netns, LoadOptions(max_tws=room)) as seen:
        play(netns, seen)
        births = [event for event in seen.of(TimeWait) if isinstance(event, TimeWait)]
        assert len(births) == CONNECTIONS
        assert seen.lost["time_waits, map full"] == CONNECTIONS - room
        waiting = netns.kernel_sockets("time-wait")
        assert {event.ends[3:] for event in births} == waiting
        subprocess.run(netns.command("ss", "-K", "state", "time-wait"), check=True, capture_output=True)

        def all_gone() -> bool:
            seen.read()
            return len(seen.of(TimeWaitEnd)) == CONNECTIONS

        eventually(all_gone)
        ends = [event for event in seen.of(TimeWaitEnd) if isinstance(event, TimeWaitEnd)]
        # Also of those not followed: the same numbers, and nobody counts them as older than the trace.
        assert {event.ends for event in ends} == {event.ends for event in births}
        assert not any(birth.preexisting for birth in births)
        assert not any(end.preexisting for end in ends)
        assert Counter(event.reason for event in ends) == {"killed": CONNECTIONS}
        assert (
            {event.owner.grade for event in births}
            == {event.owner.grade for event in ends}
            == {Grade.CERTAIN}
        )
        readings: list[Reading] = []
        seen.source.account(readings.append)
        assert not any(reading.events for reading in readings)
        balances = seen.source.stop(readings.append)
        assert balances[str(netns.inode)].residue == 0
