"""Which row of WHO a connection goes to, where rows are no processes."""

from __future__ import annotations

from collections.abc import Callable

from tracer.model import Close, Endpoints, Owner, Process
from tracer.paths import edges_of
from tracer.text import endpoint

NameOf = Callable[[Endpoints, Owner, str], "str | None"]
"""The row, by ends, owner and role (`client`, `server`, `unknown`); None: unknown."""


def name_of(by: str) -> NameOf:
    """Of a grouping other than `process` and `state`."""
    return _NAMES[by]


def last_state(event: Close) -> str | None:
    """The state that a connection ended in, as `ss` and `netstat` would have shown it last."""
    if event.time_wait:
        return "TIME_WAIT"
    last = None
    for old, _ in edges_of(event):
        last = old
    if last is None:
        last = next((state for state in _OPENING if state in event.states), None)
    return last


_OPENING = ("SYN_RECV", "NEW_SYN_RECV", "SYN_SENT")


def _of_process(name: Callable[[Process], str | None], none: str) -> NameOf:
    def of(_ends: Endpoints, owner: Owner, _role: str) -> str | None:
        return None if owner.process is None else name(owner.process) or none

    return of


def _peer(ends: Endpoints, _owner: Owner, role: str) -> str | None:
    if role == "server":
        return f"{ends.daddr} (:{ends.sport})"
    return endpoint(ends.daddr, ends.dport) if role == "client" else None


def _port(ends: Endpoints, _owner: Owner, role: str) -> str | None:
    if role == "server":
        return f":{ends.sport} here"
    return f":{ends.dport} there" if role == "client" else None


_NAMES: dict[str, NameOf] = {
    "comm": _of_process(lambda process: process.comm, "no name"),
    "cgroup": _of_process(lambda process: process.cgroup, "no cgroup known"),
    "unit": _of_process(lambda process: process.unit, "no unit"),
    "container": _of_process(lambda process: process.container, "no container"),
    "netns": lambda ends, _owner, _role: f"netns {ends.netns}",
    "peer": _peer,
    "port": _port,
}
