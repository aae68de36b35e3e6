"""CALL SITES of a report for people."""

from __future__ import annotations

from tracer.callsites import headline, rest, shares_of
from tracer.model import CallSites
from tracer.places import called, named
from tracer.report.layout import more, wrapped
from tracer.text import percent

_PROCESSES = 8


def call_sites(found: tuple[CallSites, ...]) -> list[str]:
    """For each process from where its TIME_WAITs come, or its closes if they leave none."""
    lines = [line for one in found[:_PROCESSES] for line in _of_process(one)]
    return lines + more(len(found) - _PROCESSES)


def _of_process(sites: CallSites) -> list[str]:
    shares = shares_of(sites)
    told = [(f"{named(place)}   {called(place)}", count) for place, count in shares.told]
    lines = wrapped(f"{sites.who.label}: {headline(shares)}")
    for text, count in (*told, *rest(shares)):
        lines += wrapped(f"{percent(count, shares.looked_at):>5}  {text}", indent="  ", hang=" " * 11)
    return lines
