"""Several files: parts of one recording, hosts side by side, or before and after.

Files with the same `run` in their `start` lines are parts of one recording and are read as one. Of what
remains, two recordings of one host that do not overlap in time are compared, the one given first being
`before`; all else is told apart, and both ends of one connection are joined.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tracer.errors import UsageError
from tracer.report.comparing import compared
from tracer.report.joining import Joiner
from tracer.report.model import Report, Reports
from tracer.report.reading import Part, Reading, Wanted

BOTH = 2


def read_all(parts: list[Part], wanted: Wanted, *, compare: bool | None = None) -> Reports:
    """Read them to their ends; `compare` True or False says so, whatever they are. Raises TwtraceError."""
    runs = _runs(parts)
    if compare and len(runs) != BOTH:
        raise UsageError(
            f"two recordings can be compared, and here {'is' if len(runs) == 1 else 'are'} {len(runs)}",
            "give the files of one from before, then those of one from after",
        )
    hosts = [run[0].start.host for run in runs]
    may_compare = compare is not False and len(runs) == BOTH and (compare or hosts[0] == hosts[1])
    joiner = Joiner(hosts) if len(runs) > 1 and not compare else None
    # A process does not outlive a restart, its name does.
    asked = replace(wanted, by="comm") if may_compare and wanted.by == "process" else wanted
    readings = [Reading(run, asked, joiner.of(number) if joiner else None) for number, run in enumerate(runs)]
    _read(readings)
    reports = tuple(reading.report() for reading in readings)
    if may_compare and (compare or not _overlap(*reports)):
        return Reports(reports, comparison=compared(*reports))
    if asked is not wanted:
        reports = tuple(replace(report, who=report.processes) for report in reports)
    return Reports(reports, joined=joiner.joined() if joiner else None)


def _read(readings: list[Reading]) -> None:
    """All at the same pace of time, so that both ends of a connection come up together."""
    going = list(readings)
    while going:
        behind = min(going, key=lambda reading: reading.now_us)
        if not behind.read_some():
            going.remove(behind)


def _runs(parts: list[Part]) -> list[list[Part]]:
    """By recording, in the order given; of each the parts in their own order."""
    runs: dict[object, list[Part]] = {}
    for part in parts:
        runs.setdefault(part if part.run is None else (part.start.host, part.run), []).append(part)
    for run in runs.values():
        run.sort(key=lambda part: part.number)
        for one, other in pairwise(run):
            if one.number == other.number:
                raise UsageError(
                    f"{one.name} and {other.name} are the same part, {one.number}, of one recording",
                    "give each file once",
                )
    return list(runs.values())


def _overlap(one: Report, other: Report) -> bool:
    return one.start.ts_us <= other.snapshot.ts_us and other.start.ts_us <= one.snapshot.ts_us
