"""What a view shows, for other programs: JSON, CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict

import orjson

from tracer.expression import EVERYTHING, Expression
from tracer.model import Row, Snapshot
from tracer.text import json_safe, printable
from tracer.verdict import Finding

Document = dict[str, object]

_FIELDS = (
    "label", "grade", "role", "cgroup", "closes", "close_rate", "time_waits", "time_wait_rate",
    "time_wait_now", "held_close_wait", "held_fin_wait2", "first_local", "first_remote", "resets_sent",
    "resets_received", "failed", "by_exit", "age_p50_us", "age_p99_us", "top_peer",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@")


def document(snapshot: Snapshot, findings: tuple[Finding, ...]) -> Document:
    """All that is known, as what JSON has; names as they are, since json_safe() escapes them."""
    return {
        "host": snapshot.host,
        "kernel": snapshot.kernel,
        "hooks": snapshot.hooks,
        "ts_us": snapshot.ts_us,
        "duration_us": snapshot.elapsed_us,
        "lost": snapshot.lost,
        "by": snapshot.by,
        "findings": [asdict(one) | {"severity": one.severity.name.lower()} for one in findings],
        "pools": [asdict(pool) for pool in snapshot.pools],
        "rows": [_row(row) for row in (*snapshot.rows, snapshot.unknown, snapshot.total)],
        "flows": [asdict(flow) for flow in snapshot.flows],
        "sites": [asdict(one) for one in snapshot.sites],
    }


def as_json(snapshot: Snapshot, findings: tuple[Finding, ...], expression: Expression = EVERYTHING) -> bytes:
    """One JSON object; `expression` is what has let pass what is in the snapshot."""
    return json_safe(
        orjson.dumps(
            {**document(snapshot, findings), "filter": expression.text},
            option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2,
        )
    )


def as_csv(snapshot: Snapshot) -> bytes:
    """The rows, with unknown and sum.

    A name that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(_FIELDS)
    for row in (*snapshot.rows, snapshot.unknown, snapshot.total):
        table.writerow(_field(getattr(row, name)) for name in _FIELDS)
    return text.getvalue().encode()


def _row(row: Row) -> Document:
    return {**row._asdict(), "ways": row.ways._asdict()}


def _field(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3)
    if value is None or isinstance(value, int):
        return value
    text = printable(str(getattr(value, "value", value)))
    return f"'{text}" if text.startswith(_FORMULA) else text
