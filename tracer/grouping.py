"""Rows by something else than the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tracer.account import Account
from tracer.flows import Flows
from tracer.model import Grade
from tracer.text import endpoint

_NOWHERE = "no cgroup known"


def grouped(by: str, accounts: Iterable[Account], flows: Flows, second: int) -> list[Account]:
    """An account for each command name, cgroup, netns, peer or port."""
    if by == "comm":
        return _merged(accounts, lambda account: account.name, second)
    if by == "cgroup":
        return _merged(accounts, lambda account: account.cgroup or _NOWHERE, second)
    return flows.merged_by(_KEYS[by], second)


def remainder(total: Account, groups: Iterable[Account], second: int) -> Account:
    """What is in the sum and in none of the groups: their rows add up with it."""
    rest = Account(("unknown",), "unknown", None, grade=Grade.UNKNOWN)
    rest.merge(total, second)
    rest.grade = Grade.UNKNOWN
    for group in groups:
        rest.subtract(group, second)
    return rest


def _merged(accounts: Iterable[Account], name_of: Callable[[Account], str], second: int) -> list[Account]:
    groups: dict[str, Account] = {}
    for account in accounts:
        name = name_of(account)
        group = groups.get(name)
        if group is None:
            group = groups[name] = Account(("by", name), name, None)
        group.merge(account, second)
    return list(groups.values())


def _peer(_netns: int, role: str, remote: str, port: int) -> str:
    return f"{remote} (:{port})" if role == "server" else endpoint(remote, port)


_KEYS: dict[str, Callable[[int, str, str, int], str]] = {
    "netns": lambda netns, _role, _remote, _port: f"netns {netns}",
    "peer": _peer,
    "port": lambda _netns, role, _remote, port: f":{port} {'here' if role == 'server' else 'there'}",
}
