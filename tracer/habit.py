"""How a process ends its connections, in words: what the figures of a row come to."""

from __future__ import annotations

from tracer.model import Row

_SHARE = 0.9
"""A habit is what at least this part of its closes are."""


def habit(row: Row) -> str:
    """At most 17 columns, but for what is never closed, which comes before all else."""
    if row.held_close_wait:
        return f"▲ {row.held_close_wait} never closed"
    if not row.closes:
        return f"{row.held_fin_wait2} half-closed" if row.held_fin_wait2 else "–"
    for words, count in (
        ("resets", row.resets_sent),
        ("connects fail", row.failed),
        ("is reset by peer", row.resets_received),
        ("exits, no close()", row.by_exit),
        ("closes first", row.first_local),
        ("peer closes first", row.first_remote),
    ):
        if count >= _SHARE * row.closes:
            return words
    return "mixed"
