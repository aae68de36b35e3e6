"""What the call sites of a process come to: in shares, and in words. All of the words may be hostile text."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.model import CallSites, Opening, Place
from tracer.places import NOT_RESOLVED, named, spot
from tracer.sites import OTHERS
from tracer.text import percent

_MOST = 5
_MOSTLY = 0.9
_LEAST = 0.05
_OPENINGS = 3
_OPENED = {"accept": "accepted", "connect": "connected", "use": "first used"}
"""By `Place.what`."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The places that most of a process's TIME_WAITs come from, or of its closes if none leaves one."""

    what: str
    """`TIME_WAITs` or `closes`."""
    whole: int
    """All there were, ..."""
    looked_at: int
    """... and those looked at."""
    told: tuple[tuple[Place, int], ...]
    """Enough places for nine tenths of these, but no more than a few; most first."""
    elsewhere: int
    unresolved: int


def shares_of(sites: CallSites) -> Shares:
    """With told, elsewhere and unresolved adding up to looked_at."""
    leaves_some = any(one.time_waits for one in sites.places)
    counts = [(one.place, one.time_waits if leaves_some else one.closes) for one in sites.places]
    looked_at = sum(count for _, count in counts)
    told: list[tuple[Place, int]] = []
    so_far = 0
    for place, count in counts:
        if place is None or place == OTHERS or not count:
            continue
        if len(told) == _MOST or (so_far >= _MOSTLY * looked_at and count < _LEAST * looked_at):
            break
        told.append((place, count))
        so_far += count
    unresolved = sum(count for place, count in counts if place is None)
    return Shares(
        what="TIME_WAITs" if leaves_some else "closes",
        whole=sites.time_waits if leaves_some else sites.closes,
        looked_at=looked_at,
        told=tuple(told),
        elsewhere=looked_at - so_far - unresolved,
        unresolved=unresolved,
    )


def looked_at(shares: Shares) -> str:
    """`call sites of 128 TIME_WAITs looked at, of 12,400`."""
    of = "" if shares.looked_at == shares.whole else f" looked at, of {shares.whole:,}"
    return f"call sites of {shares.looked_at:,} {shares.what}{of}"


def headline(shares: Shares) -> str:
    """`3 call sites make 92% of its TIME_WAITs (118 of 128 looked at, of 12,400)`."""
    of = "" if shares.looked_at == shares.whole else f" looked at, of {shares.whole:,}"
    if not shares.told:
        return f"call sites {NOT_RESOLVED} ({shares.looked_at:,} {shares.what}{of})"
    told = sum(count for _, count in shares.told)
    sites = "1 call site makes" if len(shares.told) == 1 else f"{len(shares.told)} call sites make"
    share = percent(told, shares.looked_at)
    return f"{sites} {share} of its {shares.what} ({told:,} of {shares.looked_at:,}{of})"


def rest(shares: Shares) -> list[tuple[str, int]]:
    """What is not told one by one."""
    both = (("elsewhere", shares.elsewhere), (NOT_RESOLVED, shares.unresolved))
    return [(words, count) for words, count in both if count]


def top_site(sites: CallSites) -> str:
    """`91 of its 128 TIME_WAITs looked at come from finish_request (server.c:88)`; else nothing."""
    shares = shares_of(sites)
    if not shares.told:
        return ""
    place, count = shares.told[0]
    looked_at = "" if shares.looked_at == shares.whole else " looked at"
    return f"{count:,} of its {shares.looked_at:,} {shares.what}{looked_at} come from {_at(place)}"


def top_opening(opened: tuple[Opening, ...], count: int) -> str:
    """`38 of 40 were accepted at handle_client (src/leak.c:31)`; nothing if not known."""
    known = sum(one.sockets for one in opened)
    for one in opened:
        if one.place is not None:
            how = _OPENED.get(one.place.what, "opened")
            return f"{one.sockets:,} of {_known(known, count)} were {how} at {_at(one.place)}"
    return ""


def opened_at(opened: tuple[Opening, ...], count: int) -> list[str]:
    """`38 of 40 accepted at handle_client  src/leak.c:31`, of so many."""
    known = _known(sum(one.sockets for one in opened), count)
    return [f"{one.sockets:,} of {known} {_opened_at(one.place)}" for one in opened[:_OPENINGS]]


def _known(known: int, count: int) -> str:
    return f"{known:,}" if known == count else f"{known:,} looked at"


def _opened_at(place: Place | None) -> str:
    if place is None:
        return f"opened at a call site that is {NOT_RESOLVED}"
    return f"{_OPENED.get(place.what, 'opened')} at {named(place)}"


def _at(place: Place) -> str:
    where = spot(place)
    return f"{place.function} ({where})" if where else place.function
