"""The time of day, as views show it."""

from __future__ import annotations

import time


def local_time(us: int) -> str:
    """Microseconds since the Unix epoch → `12:04:31.118`, in the time zone of the terminal."""
    return f"{time.strftime('%H:%M:%S', time.localtime(us // 1_000_000))}.{us // 1_000 % 1_000:03d}"
