"""Sizes as people type them."""

from __future__ import annotations

import re

from tracer.errors import UsageError

_UNITS = {"": 1, **{f"{unit}B": 1000**power for power, unit in enumerate(("", "k", "M", "G", "T"))}}
_UNITS |= {f"{unit}iB": 1024**power for power, unit in enumerate(("K", "M", "G", "T"), 1)}
_BY_NAME = {unit.lower(): factor for unit, factor in _UNITS.items()}
_BY_NAME |= {unit[:-1]: factor for unit, factor in _BY_NAME.items() if len(unit) == len("kb")}
_FORM = re.compile(r"(\d+(?:\.\d+)?) ?([a-z]*)", re.IGNORECASE)


def size_in_bytes(text: str) -> int:
    """`100MB`, `64MiB`, `2G` (as GB), or plain bytes; more than nothing. Raises UsageError."""
    found = _FORM.fullmatch(text.strip())
    factor = _BY_NAME.get(found[2].lower()) if found else None
    value = int(float(found[1]) * factor) if found and factor else 0
    if not value:
        raise UsageError(f"{text!r} is no size", "write it like 100MB, 64MiB or 2G")
    return value
