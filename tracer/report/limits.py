"""What limits the conclusions: told before them."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.model import End, Snapshot, Start
from tracer.report.model import Limit, Table
from tracer.series import SECOND

_TIME_WAIT_US = 60 * SECOND
_TOLD = 5
"""Doubts that are told one by one."""

_OF_HOOKS = {
    "timer": "with the timer hooks a TIME_WAIT's timer that was started anew within one bucket of the"
    " timer wheel (up to 2 s) is not seen: `rearmed` is at least what is said",
    "kprobe": "with kprobes the kernel skips a program while an eBPF map is read on its CPU (before Linux"
    " 6.7 without counting it)",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is to be judged."""

    starts: tuple[Start, ...]
    ends: tuple[End | None, ...]
    """Of each part; None: it was cut off."""
    numbers: tuple[int, ...]
    doubts: tuple[str, ...]
    doubted: int
    filters: str
    """Of the report."""
    lost: dict[str, int]
    preexisting: int
    """TIME_WAITs from before."""
    unseen: int
    """Closes of connections from before."""
    ended: int
    """Closes by a process, ..."""
    looked_at: int
    """... those of them of which the call site was looked at, ..."""
    unresolved: int
    """... and those of these of which nobody knows it."""
    snapshot: Snapshot
    processes: Table


def limits_of(facts: Facts) -> tuple[Limit, ...]:
    """As Report.limits."""
    found = [
        *_of_reading(facts),
        *_of_parts(facts),
        *_of_recording(facts),
        *_of_filters(facts),
        *_of_sight(facts),
        *_of_sites(facts),
    ]
    return tuple(sorted(found, key=lambda limit: not limit.grave))


def _of_reading(facts: Facts) -> list[Limit]:
    told = [Limit("doubt", text, grave=True) for text in facts.doubts[:_TOLD]]
    more = max(facts.doubted, len(facts.doubts)) - len(told)
    if more > 0:
        told.append(Limit("doubt", f"and {more:,} more such lines", grave=True))
    return told


def _of_parts(facts: Facts) -> list[Limit]:
    found = []
    there = set(facts.numbers)
    missing = [number for number in range(1, max(there) + 1) if number not in there]
    if missing:
        after = any(number > min(there) for number in missing)
        found.append(
            Limit(
                "part_missing",
                f"not among the files: {_parts(missing)} of the recording; what happened then is in no figure"
                + (", and what ended then counts as still there" * after),
                grave=after,
            )
        )
    for number, end in zip(facts.numbers, facts.ends, strict=True):
        if end is None:
            which = f"part {number}" if len(there) > 1 else "the trace"
            found.append(
                Limit(
                    "cut_off",
                    f"{which} has no `end` line: it was cut off, and counts are at least what is said",
                )
            )
    return found


def _of_recording(facts: Facts) -> list[Limit]:
    found = []
    if facts.lost:
        what = ", ".join(f"{count:,} {name}" for name, count in sorted(facts.lost.items()))
        found.append(
            Limit("lost", f"records were lost ({what}): counts are at least what is said", grave=True)
        )
    for number, end in zip(facts.numbers, facts.ends, strict=True):
        where = f" in part {number}" if len(facts.numbers) > 1 else ""
        for netns, balance in (end.totals.ledger if end else {}).items():
            if balance.residue:
                found.append(
                    Limit(
                        "ledger",
                        f"the ledger of netns {netns} does not balance{where}: {balance.expected:,}"
                        f" expected, the kernel has {balance.kernel or 0:,} (residue {balance.residue:+,})",
                        grave=True,
                    )
                )
            elif balance.kernel is None:
                found.append(
                    Limit(
                        "ledger", f"the ledger of netns {netns} could not be held against the kernel's{where}"
                    )
                )
    return found


def _of_filters(facts: Facts) -> list[Limit]:
    found = []
    recorded = facts.starts[0].filters
    if recorded:
        told = " ".join(f"{name}={_value(value)}" for name, value in recorded.items())
        found.append(Limit("filter", f"it was recorded with filters, and nothing else is in it: {told}"))
    if facts.filters:
        found.append(Limit("filter", f"this report is of a part of it: {facts.filters}"))
    return found


def _of_sight(facts: Facts) -> list[Limit]:
    found = []
    snapshot, unknown, total = facts.snapshot, facts.processes.unknown, facts.processes.total
    if unknown.closes:
        found.append(
            Limit(
                "unknown",
                f"{unknown.closes:,} of {total.closes:,} closes are of processes that nobody has seen",
            )
        )
    if facts.preexisting:
        found.append(
            Limit(
                "preexisting",
                f"{facts.preexisting:,} TIME_WAITs are from before the trace: nobody knows whose",
            )
        )
    if facts.unseen:
        found.append(
            Limit(
                "unseen",
                f"{facts.unseen:,} connections are older than the trace: how long they lasted is not known",
            )
        )
    if snapshot.elapsed_us < _TIME_WAIT_US:
        found.append(
            Limit("short", "the trace is shorter than a TIME_WAIT: where it settles is reckoned, not seen")
        )
    if text := _OF_HOOKS.get(snapshot.hooks):
        found.append(Limit("hooks", text))
    return found


def _of_sites(facts: Facts) -> list[Limit]:
    found = []
    if 0 < facts.looked_at < facts.ended:
        found.append(
            Limit(
                "sites",
                f"call sites: {facts.looked_at:,} of {facts.ended:,} closes by a process were looked at;"
                " shares are of these",
            )
        )
    if facts.unresolved:
        found.append(
            Limit("sites", f"call sites: {facts.unresolved:,} of {facts.looked_at:,} are not resolved")
        )
    return found


def _parts(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_TOLD])) + (" …" if len(numbers) > _TOLD else "")
    return f"{'part' if len(numbers) == 1 else 'parts'} {shown}"


def _value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
