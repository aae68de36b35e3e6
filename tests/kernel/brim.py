"""A namespace with room for just the seven TIME_WAITs that come, and what a source tells of them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from tests.kernel.support import Namespace, eventually
from tracer.crowd import Reading
from tracer.filters import Filters
from tracer.kernel.flags import LoadOptions
from tracer.kernel.source import LiveSource
from tracer.model import Balance, Close, Event, Lost, TimeWait

ACTIVE, PASSIVE = 4, 3


@dataclass(frozen=True)
class Seen:
    """What a source told of connections that leave so many TIME_WAITs."""

    events: list[Event]
    lost: dict[str, int]
    totals: dict[str, int]
    balance: Balance

    @property
    def born(self) -> list[TimeWait]:
        return [event for event in self.events if isinstance(event, TimeWait)]

    @property
    def closes(self) -> list[Close]:
        """Of those who closed first."""
        return [event for event in self.events if isinstance(event, Close) and event.first == "local"]


def watch(name: str, where: Namespace) -> Seen:
    """`ACTIVE` closed first by the server, `PASSIVE` by the client.

    Whoever counted the kernel's would take the last for an overflow.
    """
    limit = f"net.ipv4.tcp_max_tw_buckets={ACTIVE + PASSIVE}"
    subprocess.run(where.command("sysctl", "-qw", limit), check=True)
    live = LiveSource(LoadOptions(filters=Filters(netns=where.inode), hooks=name, ring_mib=1))
    try:
        events = [event for reading in live.preexisting() for event in reading.events]
        where.run("mixed", "4", str(ACTIVE), str(PASSIVE), "0")

        def all_closed() -> bool:
            events.extend(event for reading in live.read() for event in reading.events)
            return sum(isinstance(event, Close) for event in events) == 2 * (ACTIVE + PASSIVE)

        eventually(all_closed)
        totals = live.totals()
        last: list[Reading] = []
        balances = live.stop(last.append)
    finally:
        live.close()
    events += [event for reading in last for event in reading.events]
    lost = {event.what: event.count for event in events if isinstance(event, Lost)}
    return Seen(events, lost, totals, balances[str(where.inode)])
