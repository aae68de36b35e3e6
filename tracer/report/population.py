"""TIME_WAITs over time by owner, in bounded memory."""

from __future__ import annotations

from heapq import nlargest
from itertools import accumulate

from tracer.account import Account
from tracer.report.model import Line, Population
from tracer.series import SECOND

MAX_BINS = 300
MAX_LINES = 12
_MAX_OWNERS = 1_000
"""More than this are not told apart: those with the fewest are others then."""


class Populations:
    """Takes in births and ends, gives the population. Pure."""

    def __init__(self, began_us: int) -> None:
        self._began_us = began_us
        self._bin_us = SECOND
        self._changes: dict[Account, dict[int, int]] = {}
        """By owner and bin: how many more there are after it than before."""
        self._others: dict[int, int] = {}
        self._merged: dict[Account, int] = {}
        """Owners that are among the others, and how many TIME_WAITs each has there."""
        self._now = self._peak = 0
        self._peak_us = began_us

    def change(self, ts_us: int, account: Account, by: int) -> None:
        """One more, or one less, of an owner."""
        index = max(ts_us - self._began_us, 0) // self._bin_us
        if index >= MAX_BINS:
            index = self._widen(ts_us)
        changes = self._changes.get(account)
        if changes is None:
            changes = self._of_merged(account, by) if account in self._merged else self._begin(account)
        changes[index] = changes.get(index, 0) + by
        self._now += by
        if self._now > self._peak:
            self._peak, self._peak_us = self._now, ts_us

    def made(self, until_us: int) -> Population:
        """As of the end."""
        bins = min(max(until_us - self._began_us, 0) // self._bin_us + 1, MAX_BINS)
        by_owner: dict[Account, dict[int, int]] = {}
        for account, changes in self._changes.items():
            _add(by_owner.setdefault(account.present(), {}), changes)
        lines = {account: _levels(changes, bins) for account, changes in by_owner.items()}
        shown = nlargest(MAX_LINES, lines, key=lambda account: max(lines[account]))
        others = _levels(self._others, bins)
        for account in lines.keys() - set(shown):
            others = tuple(map(sum, zip(others, lines[account], strict=True)))
        made = [Line(account.row_key(), account.label(), lines[account]) for account in shown]
        if any(others):
            made.append(Line("others", "others", others))
        total = tuple(map(sum, zip(*(line.counts for line in made), strict=True))) or (0,) * bins
        return Population(self._began_us, self._bin_us, tuple(made), total, self._peak, self._peak_us)

    def _of_merged(self, account: Account, by: int) -> dict[int, int]:
        self._merged[account] += by
        if not self._merged[account]:
            del self._merged[account]
        return self._others

    def _begin(self, account: Account) -> dict[int, int]:
        if len(self._changes) >= _MAX_OWNERS:
            self._make_room()
        self._changes[account] = {}
        return self._changes[account]

    def _make_room(self) -> None:
        """The smaller half goes to the others, each until it has no TIME_WAIT left."""
        sizes = {account: max(_levels(changes, MAX_BINS)) for account, changes in self._changes.items()}
        for account in sorted(sizes, key=sizes.__getitem__)[: _MAX_OWNERS // 2]:
            changes = self._changes.pop(account)
            _add(self._others, changes)
            left = sum(changes.values())
            if left:
                self._merged[account] = left

    def _widen(self, ts_us: int) -> int:
        """Make bins so wide that this moment is in one; which."""
        while (ts_us - self._began_us) // self._bin_us >= MAX_BINS:
            self._bin_us *= 2
            for changes in (*self._changes.values(), self._others):
                halved: dict[int, int] = {}
                for index, by in changes.items():
                    halved[index // 2] = halved.get(index // 2, 0) + by
                changes.clear()
                changes.update(halved)
        return (ts_us - self._began_us) // self._bin_us


def _add(to: dict[int, int], changes: dict[int, int]) -> None:
    for index, by in changes.items():
        to[index] = to.get(index, 0) + by


def _levels(changes: dict[int, int], bins: int) -> tuple[int, ...]:
    return tuple(accumulate(changes.get(index, 0) for index in range(bins)))
