"""A trace read to its end, and judged on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tracer.aggregate import Aggregator
from tracer.errors import TwtraceError
from tracer.model import End, Event, Snapshot, Start
from tracer.reader import Reader
from tracer.series import SECOND
from tracer.verdict import Finding, Verdicts
from tracer.whatif import Change, Outcome, WhatIf

JUDGED_EVERY_US = 5 * SECOND


@dataclass(frozen=True, slots=True)
class Report:
    """All that is known of a trace."""

    start: Start
    snapshot: Snapshot
    """As of its end."""
    findings: tuple[Finding, ...]
    outcomes: tuple[Outcome, ...] = ()


def read(lines: Iterable[bytes], changes: tuple[Change, ...] = ()) -> Report:
    """Read a trace to its end, judging it on the way. Raises TwtraceError."""
    items = Reader().read(lines)
    start = next(items, None)
    if not isinstance(start, Start):
        raise TwtraceError(
            "this is no trace: its first line is not a `start` line", "give a file of `twtrace record`"
        )
    aggregator, verdicts, what_if = Aggregator(start), Verdicts(), WhatIf(start)
    now = start.ts_us
    due = now + JUDGED_EVERY_US
    pending: list[Event] = []
    for item in items:
        if isinstance(item, Start):
            raise TwtraceError("a second `start` line", "give one trace at a time")
        if item.ts_us >= due:
            aggregator.add(pending)
            pending.clear()
            verdicts.note(aggregator.snapshot(due))
            due += JUDGED_EVERY_US * ((item.ts_us - due) // JUDGED_EVERY_US + 1)
        now = max(now, item.ts_us)
        if not isinstance(item, End):
            pending.append(item)
            if changes:
                what_if.add(item)
    aggregator.add(pending)
    snapshot = aggregator.snapshot(now)
    verdicts.note(snapshot)
    outcomes = tuple(what_if.outcome(change) for change in changes)
    return Report(start, snapshot, verdicts.findings(), outcomes)
