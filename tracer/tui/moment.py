"""A moment as a person types it."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

from tracer.errors import UsageError

_CLOCK = re.compile(
    r"(?:([0-9]{4})-([0-9]{2})-([0-9]{2})[ T])?([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?"
)
_SPAN = re.compile(r"([+-]?)([0-9]{1,15}(?:\.[0-9]{1,9})?)(ms|s|min|m|h)?")
_UNITS_US = {
    "ms": 1_000,
    "s": 1_000_000,
    None: 1_000_000,
    "min": 60_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
}
_DAY = timedelta(days=1)
_HINT = "a time of day (12:04:31), a place from the beginning (90s, 5m), or a way from here (+30s, -30s)"


def parse_moment(text: str, *, began_us: int, here_us: int) -> int:
    """Microseconds since the epoch of such a text.

    `12:04:31` is the one between beginning and here; of several the nearest to here, of none the nearest to
    either. `90s` is from the beginning, `-30s` from here.

    Raises UsageError.
    """
    text = text.strip()
    if span := _SPAN.fullmatch(text):
        sign, number, unit = span.groups()
        span_us = int(float(number) * _UNITS_US[unit])
        return began_us + span_us if not sign else here_us + (span_us if sign == "+" else -span_us)
    if clock := _CLOCK.fullmatch(text):
        *date, hour, minute, second, fraction = clock.groups()
        local = time.localtime(here_us // 1_000_000)
        year, month, day = map(int, date) if date[0] else (local.tm_year, local.tm_mon, local.tm_mday)
        microsecond = int((fraction or "0").ljust(6, "0"))
        try:
            moment = datetime(year, month, day, int(hour), int(minute), int(second or 0))  # noqa: DTZ001  local
            days = (moment,) if date[0] else (moment - _DAY, moment, moment + _DAY)
            return min(
                (int(one.timestamp()) * 1_000_000 + microsecond for one in days),
                key=lambda us: (max(began_us - us, us - here_us, 0), abs(us - here_us)),
            )
        except (ValueError, OverflowError):
            raise UsageError(f"{text}: no such time", _HINT) from None
    raise UsageError(f"{text or 'nothing'}: no time", _HINT)
