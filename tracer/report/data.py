"""A report as JSON."""

from __future__ import annotations

import orjson

from tracer.export import Document, document
from tracer.report.model import Report, Reports
from tracer.settings import SETTINGS, Values
from tracer.text import json_safe


def as_json(reports: Reports) -> bytes:
    """The same for programs: one report as itself, several in `reports`."""
    told = [_report(report) for report in reports.reports]
    whole: Document = told[0] if len(told) == 1 else {"reports": told}
    if reports.comparison is not None:
        whole["comparison"] = reports.comparison
    if reports.joined is not None:
        whole["joined"] = reports.joined
    return json_safe(orjson.dumps(whole, option=orjson.OPT_APPEND_NEWLINE))


def _report(report: Report) -> Document:
    """Snapshot and findings as an export has them, and what only a report knows."""
    snapshot, who = report.snapshot, report.who
    return {
        **document(snapshot, report.findings),
        "settings": {str(netns): _known(values) for netns, values in snapshot.settings.items()},
        "what_if": report.outcomes,
        "began_us": report.start.ts_us,
        "parts": report.parts,
        "whole": report.whole,
        "limits": report.limits,
        "who": {"by": who.by, "rows": (*who.rows, who.unknown, who.total)},
        "sentences": report.sentences,
        "ways": report.ways,
        "edges": report.edges,
        "dwells": report.dwells,
        "time_wait": {
            "born": report.born,
            "preexisting": report.preexisting,
            "remaining": report.remaining,
            "ended": report.reasons,
        },
        "ages": report.ages,
        "lifetimes": report.lifetimes,
        "pool_peaks": report.pools,
        "never_closed": report.never_closed,
        "population": report.population,
    }


def _known(values: Values) -> list[dict[str, object]]:
    """What a namespace has of the settings that bear on closing."""
    return [
        {
            "name": f"net.ipv4.{setting.name}",
            "value": values[setting.name],
            "default": setting.default,
            "does": setting.does,
            "does_not": setting.does_not,
        }
        for setting in SETTINGS
        if setting.name in values
    ]
