"""From which places in its program each process closes connections; in bounded memory. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from heapq import nlargest

from tracer.account import Account
from tracer.model import CallSites, Close, Closing, Held, Opening, Place, Site
from tracer.places import place_of

MAX_PLACES = 1_000
"""More than this are not told apart."""
MAX_SITES = 65_536
_MAX_COUNTS = 65_536
_MOST_PLACES = 20
_MOST_PROCESSES = 100

OTHERS = Place("close", "other places", None, None, ())

_Where = int | Place | None
"""A place; a site that is not resolved yet; None: one that was not for long."""


class Sites:
    """Takes in sites, and closes with their accounts."""

    def __init__(self) -> None:
        self._places: dict[Place, Place] = {}
        self._resolved: dict[int, Place] = {}
        self._closes: Counter[tuple[Account, _Where]] = Counter()
        self._time_waits: Counter[tuple[Account, _Where]] = Counter()

    def __bool__(self) -> bool:
        return bool(self._closes or self._resolved)

    def site(self, event: Site) -> None:
        """What is behind a number."""
        place = place_of(event)
        if place is None:
            return
        if len(self._places) < MAX_PLACES:
            place = self._places.setdefault(place, place)
        else:
            place = self._places.get(place, OTHERS)
        if self._resolved.get(event.site, place) != place:
            self._settle()
        if len(self._resolved) >= MAX_SITES:
            self._settle()
            for number in list(self._resolved)[: MAX_SITES // 2]:
                del self._resolved[number]
        self._resolved[event.site] = place

    def close(self, event: Close, account: Account) -> None:
        """A connection is over."""
        if event.site is None:
            return
        if len(self._closes) >= _MAX_COUNTS:
            self._make_room()
        key = (account, event.site)
        self._closes[key] += 1
        self._time_waits[key] += event.time_wait

    def place(self, number: int | None) -> Place | None:
        """Of a site; None: not resolved."""
        return None if number is None else self._resolved.get(number)

    def opened(self, held: Iterable[Held]) -> tuple[Opening, ...]:
        """Where those were opened of which that was looked at, most first."""
        counts = Counter(self.place(event.site) for event in held if event.site is not None)
        return tuple(Opening(place, count) for place, count in counts.most_common(_MOST_PLACES))

    def looked_at(self) -> tuple[int, int]:
        """Closes of which the place was looked at, and those of them that are not resolved."""
        self._settle()
        unresolved = sum(count for (_, where), count in self._closes.items() if not isinstance(where, Place))
        return self._closes.total(), unresolved

    def reset(self) -> None:
        """Count anew."""
        self._closes.clear()
        self._time_waits.clear()

    def found(self) -> tuple[CallSites, ...]:
        """By process, most TIME_WAITs first."""
        self._settle()
        by_account: dict[Account, dict[Place | None, Closing]] = {}
        for (account, where), closes in self._closes.items():
            place = where if isinstance(where, Place) else None
            places = by_account.setdefault(account, {})
            _add(places, Closing(place, closes, self._time_waits[account, where]))
        made = [
            CallSites(account.who(), account.closes, account.time_waits, _ranked(places))
            for account, places in by_account.items()
        ]
        return tuple(nlargest(_MOST_PROCESSES, made, key=_weight))

    def _settle(self) -> None:
        """Count by place what is resolved by now, for the account that has it now."""
        for counts in (self._closes, self._time_waits):
            settled: Counter[tuple[Account, _Where]] = Counter()
            for (account, where), count in counts.items():
                place = self._resolved.get(where, where) if isinstance(where, int) else where
                settled[account.present(), place] += count
            counts.clear()
            counts.update(settled)

    def _make_room(self) -> None:
        self._settle()
        kept = {key for key, _ in self._closes.most_common(_MAX_COUNTS // 2)}
        for counts in (self._closes, self._time_waits):
            for key in [key for key in counts if key not in kept]:
                account, where = key
                counts[account, OTHERS if isinstance(where, Place) else None] += counts.pop(key)


def _add(places: dict[Place | None, Closing], one: Closing) -> None:
    before = places.get(one.place)
    places[one.place] = (
        one
        if before is None
        else Closing(one.place, before.closes + one.closes, before.time_waits + one.time_waits)
    )


def _ranked(places: dict[Place | None, Closing]) -> tuple[Closing, ...]:
    """The most first; beyond a few the rest as one, so that they add up."""
    ranked = sorted(places.values(), key=lambda one: (one.place == OTHERS, -one.time_waits, -one.closes))
    if len(ranked) <= _MOST_PLACES:
        return tuple(ranked)
    shown: dict[Place | None, Closing] = {}
    for at, one in enumerate(ranked):
        is_told = at < _MOST_PLACES or one.place is None
        _add(shown, one if is_told else replace(one, place=OTHERS))
    return tuple(shown.values())


def _weight(one: CallSites) -> tuple[int, int]:
    return sum(place.time_waits for place in one.places), sum(place.closes for place in one.places)
