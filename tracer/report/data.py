"""A report as JSON."""

from __future__ import annotations

from dataclasses import asdict

import orjson

from tracer.export import document
from tracer.report.reading import Report
from tracer.settings import SETTINGS, Values


def as_json(report: Report) -> bytes:
    """The same for programs."""
    snapshot = report.snapshot
    return orjson.dumps(
        {
            **document(snapshot, report.findings),
            "settings": {str(netns): _known(values) for netns, values in snapshot.settings.items()},
            "what_if": [asdict(outcome) for outcome in report.outcomes],
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


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
