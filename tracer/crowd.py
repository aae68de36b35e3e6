"""Events of which many are alike, in columns: a busy host's are taken in so, without an object for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tracer.model import Close, Endpoints, Event, Owner, TimeWait, TimeWaitEnd
from tracer.series import SECOND

KEPT = 1_000
"""Of the connections that ended last all is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """What closes have in common: all but their times, their number and the port of one end."""

    owner: Owner
    netns: int
    family: int
    saddr: str
    daddr: str
    service: int
    """The local port of a server, else the remote one."""
    role: str
    first: str
    how: str
    via: str
    states: frozenset[str]
    """Those entered under our eyes."""
    substate: str | None
    """Of the TIME_WAIT that follows; None: none does."""
    overflow: bool
    bound: bool

    def ends(self, conn: int, port: int) -> Endpoints:
        """The endpoints of one of them; `port` is the one that is not the service's."""
        sport, dport = (self.service, port) if self.role == "server" else (port, self.service)
        return Endpoints(conn, self.netns, self.family, self.saddr, sport, self.daddr, dport)


@dataclass(frozen=True, slots=True)
class Closes:
    """Closes alike within one second, in order; of sockets no older than the trace, owners certain."""

    alike: Alike
    second: int
    ts_us: Sequence[int]
    conns: Sequence[int]
    ports: Sequence[int]
    ages_us: Sequence[int]

    def births(self) -> Iterator[TimeWait]:
        """The TIME_WAITs that follow them."""
        alike = self.alike
        if alike.substate is None:
            return
        for ts_us, conn, port in zip(self.ts_us, self.conns, self.ports, strict=True):
            yield TimeWait(ts_us, alike.ends(conn, port), alike.owner, alike.substate, preexisting=False)


@dataclass(frozen=True, slots=True)
class Ends:
    """Ends of TIME_WAITs within one second and one namespace, for one reason; their closes were told."""

    reason: str
    netns: int
    until_us: int
    """When the last of them was; all are of its second."""
    conns: Sequence[int]
    fin_wait2_us: Sequence[int]
    """Empty if they were born in TIME_WAIT."""
    make: Callable[[int], TimeWaitEnd]
    """One of them as an event, by its place."""

    @property
    def second(self) -> int:
        """The second they are of."""
        return self.until_us // SECOND

    def events(self) -> Iterator[TimeWaitEnd]:
        """Each as an event."""
        return map(self.make, range(len(self.conns)))


@dataclass(frozen=True, slots=True)
class Latest:
    """The last of a reading's closes that are in crowds, in order."""

    conns: Sequence[int]
    make: Callable[[], list[Close]]
    """As events."""


NOTHING = Latest((), list)


@dataclass(slots=True)
class Reading:
    """What was read at once. To be taken in: first crowds of closes, then single events, then of ends."""

    events: Sequence[Event]
    closes: Sequence[Closes] = ()
    ends: Sequence[Ends] = ()
    latest: Latest = NOTHING

    def __bool__(self) -> bool:
        return bool(self.events or self.closes or self.ends)

    def closed(self) -> set[int]:
        """The connections that are over."""
        conns = {event.ends.conn for event in self.events if isinstance(event, Close)}
        return conns.union(*(closes.conns for closes in self.closes))

    def waits(self) -> Iterator[TimeWait | TimeWaitEnd]:
        """Births and ends of TIME_WAITs."""
        for closes in self.closes:
            yield from closes.births()
        for event in self.events:
            if isinstance(event, TimeWait | TimeWaitEnd):
                yield event
        for ends in self.ends:
            yield from ends.events()
