"""Which connections are wanted: by owner, namespace, port, family, or an expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from tracer.expression import EVERYTHING, Expression
from tracer.model import Counters, Endpoints, Event, Lost, Owner, Site


@dataclass(frozen=True, slots=True)
class Filters:
    """Empty fields let everything pass; several values of one field are alternatives."""

    pids: frozenset[int] = frozenset()
    comms: frozenset[str] = frozenset()
    uids: frozenset[int] = frozenset()
    cgroups: tuple[str, ...] = ()
    """Paths; each takes in the cgroups below it."""
    netns: int | None = None
    local_ports: frozenset[int] = frozenset()
    remote_ports: frozenset[int] = frozenset()
    family: int | None = None
    expression: Expression = EVERYTHING
    """Asked of each event besides; the kernel and the ledger know nothing of it."""
    by_owner: bool = field(init=False, default=False)
    """Whether pids, comms, uids or cgroups decide: then a connection of unknown owner does not pass."""

    def __post_init__(self) -> None:
        by_owner = bool(self.pids or self.comms or self.uids or self.cgroups)
        object.__setattr__(self, "by_owner", by_owner)

    @property
    def by_endpoint(self) -> bool:
        """Whether ports or family decide, and not only the namespace or the owner."""
        return bool(self.local_ports or self.remote_ports or self.family)

    @property
    def beyond_kernel(self) -> bool:
        """Whether something decides that the kernel side knows nothing of."""
        return self.by_owner or bool(self.expression)

    def passing(self, events: Sequence[Event]) -> Sequence[Event]:
        """Those events that are wanted; what is about no connection always is."""
        if not (self.by_owner or self.by_endpoint or self.netns is not None or self.expression):
            return events
        wanted = [
            event
            for event in events
            if isinstance(event, Site | Lost | Counters)
            or (self.pass_ends(event.ends) and self.pass_owner(event.owner))
        ]
        if not self.expression:
            return wanted
        passes = self.expression.passes
        return [
            event
            for event in wanted
            if isinstance(event, Site | Lost | Counters) or passes(event.ends, event.owner)
        ]

    def pass_ends(self, ends: Endpoints) -> bool:
        """Do namespace, ports and family let it pass?"""
        return (
            (self.netns is None or ends.netns == self.netns)
            and (not self.local_ports or ends.sport in self.local_ports)
            and (not self.remote_ports or ends.dport in self.remote_ports)
            and (self.family is None or ends.family == self.family)
        )

    def pass_owner(self, owner: Owner) -> bool:
        """Does the owner let it pass?"""
        if not self.by_owner:
            return True
        process = owner.process
        if process is None:
            return False
        return (
            (not self.pids or process.pid in self.pids)
            and (not self.comms or process.comm in self.comms)
            and (not self.uids or process.uid in self.uids)
            and (not self.cgroups or any(_inside(process.cgroup, path) for path in self.cgroups))
        )

    def as_dict(self) -> dict[str, object]:
        """The filters given, for the `start` line."""
        given = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        del given["expression"]
        told = {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name, value in given.items()
            if value is not None and value not in (frozenset(), ())
        }
        return told | {"filter": self.expression.text} if self.expression else told

    def describe(self) -> str:
        """One line for a header: `local_ports=80,443 filter="proc:x tw>9"`; empty without filters."""
        return " ".join(f"{name}={_shown(name, value)}" for name, value in self.as_dict().items())


def _shown(name: str, value: object) -> str:
    if name == "filter":
        return f'"{value}"'
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _inside(cgroup: str | None, path: str) -> bool:
    return f"{cgroup or ''}/".startswith(path.rstrip("/") + "/")
