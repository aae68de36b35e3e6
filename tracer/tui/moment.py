"""A moment as a person types it."""

from __future__ import annotations

import re
import time
from datetime import datetime

from tracer.errors import UsageError

_CLOCK = re.compile(r"(?:(\d{4})-(\d\d)-(\d\d)[ T])?(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?")
_SPAN = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(ms|s|min|m|h)?")
_UNITS_US = {
    "ms": 1_000,
    "s": 1_000_000,
    None: 1_000_000,
    "min": 60_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
}
_HINT = "a time of day (12:04:31), a place from the beginning (90s, 5m), or a way from here (+30s, -30s)"


def parse_moment(text: str, *, began_us: int, here_us: int) -> int:
    """Microseconds since the epoch of such a text.

    `12:04:31` is of the day of `here_us`, `90s` from the beginning, `-30s` from here.

    Raises UsageError.
    """
    text = text.strip()
    if span := _SPAN.fullmatch(text):
        sign, number, unit = span.groups()
        span_us = int(float(number) * _UNITS_US[unit])
        return began_us + span_us if not sign else here_us + (span_us if sign == "+" else -span_us)
    if clock := _CLOCK.fullmatch(text):
        year, month, day, hour, minute, second, fraction = clock.groups()
        local = time.localtime(here_us // 1_000_000)
        date = (int(year), int(month), int(day)) if year else (local.tm_year, local.tm_mon, local.tm_mday)
        try:
            moment = datetime(*date, int(hour), int(minute), int(second or 0))  # noqa: DTZ001  local, as shown
        except ValueError:
            raise UsageError(f"{text}: no such time", _HINT) from None
        return int(moment.timestamp()) * 1_000_000 + int((fraction or "0").ljust(6, "0"))
    raise UsageError(f"{text or 'nothing'}: no time", _HINT)
