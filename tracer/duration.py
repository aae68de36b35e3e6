"""Durations as people type them."""

from __future__ import annotations

import re

from tracer.errors import UsageError

_UNITS = {"us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)?")


def seconds(text: str) -> float:
    """`500ms`, `30s`, `5m`, `1.5h`, or plain seconds; more than nothing."""
    found = _FORM.fullmatch(text)
    value = float(found[1]) * _UNITS[found[2] or ""] if found else 0.0
    if not value:
        raise UsageError(f"{text!r} is no duration", "write it like 30s, 5m or 500ms")
    return value
