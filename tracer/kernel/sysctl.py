"""The settings that bear on closing, of the present namespace. Never written."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tracer.settings import NAMES

_FOLDER = Path("/proc/sys/net/ipv4")


def read_settings() -> dict[str, int | str]:
    """Name → value of those there are; single numbers as such."""
    settings: dict[str, int | str] = {}
    for name in NAMES:
        with suppress(OSError):
            value = " ".join((_FOLDER / name).read_text(encoding="ascii").split())
            settings[name] = int(value) if value.lstrip("-").isdigit() else value
    return settings
