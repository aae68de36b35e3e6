"""What of a Snapshot a filter lets pass. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from tracer.expression import Expression
from tracer.model import Flow, Row, Snapshot


def rows_passing(snapshot: Snapshot, expression: Expression) -> tuple[Row, ...]:
    """The rows that `expression` lets pass, each with its flows; unknown and sum are no such rows."""
    if not expression:
        return snapshot.rows
    flows: dict[str, list[Flow]] = defaultdict(list)
    for flow in snapshot.flows:
        flows[flow.who.row].append(flow)
    return tuple(row for row in snapshot.rows if expression.passes_row(row, tuple(flows[row.key])))


def with_rows(snapshot: Snapshot, expression: Expression) -> Snapshot:
    """The snapshot with those rows alone; all else is as it was."""
    return replace(snapshot, rows=rows_passing(snapshot, expression)) if expression else snapshot


def without_others(snapshot: Snapshot, expression: Expression) -> Snapshot:
    """The snapshot with those pools, flows and connections alone that `expression` lets pass."""
    if not expression:
        return snapshot
    return replace(
        snapshot,
        pools=tuple(filter(expression.passes_pool, snapshot.pools)),
        flows=tuple(filter(expression.passes_flow, snapshot.flows)),
        recent=tuple(one for one in snapshot.recent if expression.passes(one.close.ends, one.close.owner)),
    )
