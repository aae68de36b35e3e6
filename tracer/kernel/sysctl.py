"""The settings that bear on closing, of the present namespace. Never written."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_FOLDER = Path("/proc/sys/net/ipv4")

NAMES = (
    "ip_local_port_range",
    "ip_local_reserved_ports",
    "tcp_fin_timeout",
    "tcp_max_orphans",
    "tcp_max_tw_buckets",
    "tcp_orphan_retries",
    "tcp_rfc1337",
    "tcp_timestamps",
    "tcp_tw_reuse",
    "tcp_tw_reuse_delay",
)
"""Under net.ipv4; some are not in every kernel, tcp_max_orphans not in every namespace."""


def read_settings() -> dict[str, int | str]:
    """Name → value of those there are; single numbers as such."""
    settings: dict[str, int | str] = {}
    for name in NAMES:
        with suppress(OSError):
            value = " ".join((_FOLDER / name).read_text(encoding="ascii").split())
            settings[name] = int(value) if value.lstrip("-").isdigit() else value
    return settings
