"""IP addresses as they lie in a record."""

from __future__ import annotations

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop


@lru_cache(maxsize=65536)
def address(raw: bytes, family: int) -> str:
    """The text of a 16-byte address; for family 4 of its last 4 bytes (::ffff:a.b.c.d)."""
    return inet_ntop(AF_INET, raw[12:]) if family == 4 else inet_ntop(AF_INET6, raw)  # noqa: PLR2004
