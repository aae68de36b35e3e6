"""TIME_WAITs told of, per network namespace, held against the kernel's own count."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tracer.crowd import Reading
from tracer.model import Balance, Endpoints, TimeWait, TimeWaitEnd

RECENT_US = 100_000
"""An event so old is in what the kernel lists, whichever CPU it came from."""


class Key(NamedTuple):
    """A mini-socket among those of its namespace, as both ring and dump name it."""

    saddr: str
    sport: int
    daddr: str
    dport: int


def key_of(ends: Endpoints) -> Key:
    """The key of a connection's local end."""
    return Key(ends.saddr, ends.sport, ends.daddr, ends.dport)


@dataclass(slots=True)
class _Account:
    born: int = 0
    preexisting: int = 0
    ended: int = 0

    @property
    def present(self) -> int:
        return self.born + self.preexisting - self.ended


class Ledger:
    """born + preexisting - ended, and what it should be."""

    def __init__(self) -> None:
        self._accounts: dict[int, _Account] = {}
        self._recent: deque[tuple[int, Reading]] = deque()
        """What readings told of TIME_WAITs, each with when the last of it was."""
        self._watched_us: int | None = None
        """Since when every change is kept; None: there is no balance under way."""

    def add(self, reading: Reading, now_us: int) -> None:
        """Take in what was read before `now_us`; what is about no TIME_WAIT is passed over."""
        last_us = 0
        for closes in reading.closes:
            if closes.alike.substate is not None:
                self._account(closes.alike.netns).born += len(closes.conns)
                last_us = max(last_us, *closes.ts_us)
        waits = [event for event in reading.events if isinstance(event, TimeWait | TimeWaitEnd)]
        for event in waits:
            account = self._account(event.ends.netns)
            if isinstance(event, TimeWait):
                account.preexisting += event.preexisting
                account.born += not event.preexisting
            else:
                account.ended += 1
        for ends in reading.ends:
            self._account(ends.netns).ended += len(ends.conns)
            last_us = max(last_us, ends.until_us)
        if waits:
            last_us = max(last_us, *[event.ts_us for event in waits])
        since_us = now_us - RECENT_US if self._watched_us is None else self._watched_us
        # What was read late is in the kernel's list already: no balance asks for it.
        if last_us >= since_us:
            self._recent.append((last_us, Reading(waits, reading.closes, reading.ends)))
        while self._recent and self._recent[0][0] < since_us:
            self._recent.popleft()

    def watch(self, now_us: int) -> int:
        """From now on remember every change, for a balance; returns since when they are remembered."""
        self._watched_us = now_us - RECENT_US
        return self._watched_us

    def settle(self) -> None:
        """The balance is done."""
        self._watched_us = None

    def namespaces(self) -> set[int]:
        """Those with anything to account for."""
        return set(self._accounts)

    def against_list(self, netns: int, listed: set[Key] | None, since_us: int) -> Balance:
        """Balance with the kernel's list, taken after `since_us` and before the last events taken in.

        What changed since then may be in the list or not: for each of those the
        list itself says which.
        """
        account = self._account(netns)
        changes = sorted(self._since(netns, since_us), key=lambda event: event.ts_us)
        last = {key_of(event.ends): isinstance(event, TimeWait) for event in changes}
        settled = account.present - sum(last.values())
        if listed is None:
            return self._balance(account, account.present, None, None)
        expected = settled + len(listed & last.keys())
        return self._balance(account, expected, len(listed), expected - len(listed))

    def against_count(self, netns: int, counted: int | None, since_us: int) -> Balance:
        """Balance with a mere number of the kernel's: residue 0 if what changed since then explains it."""
        account = self._account(netns)
        if counted is None:
            return self._balance(account, account.present, None, None)
        came = [isinstance(event, TimeWait) for event in self._since(netns, since_us)]
        most, least = account.present + came.count(False), account.present - came.count(True)
        residue = max(least - counted, 0) + min(most - counted, 0)
        return self._balance(account, account.present, counted, residue)

    def _since(self, netns: int, since_us: int) -> Iterator[TimeWait | TimeWaitEnd]:
        for _, reading in self._recent:
            for event in reading.waits():
                if event.ends.netns == netns and event.ts_us >= since_us:
                    yield event

    def _account(self, netns: int) -> _Account:
        return self._accounts.setdefault(netns, _Account())

    @staticmethod
    def _balance(account: _Account, expected: int, kernel: int | None, residue: int | None) -> Balance:
        return Balance(account.born, account.preexisting, account.ended, expected, kernel, residue)
