"""All that one drawing of the screen rests on. Pure; made by the app, drawn by every panel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tracer.expression import EVERYTHING, Expression
from tracer.model import Row, Snapshot
from tracer.narrow import rows_passing
from tracer.replay import Playhead
from tracer.verdict import Finding


@dataclass(frozen=True, slots=True)
class Sort:
    """The order of the processes."""

    column: str = "time_wait_now"
    descending: bool = True

    @property
    def marker(self) -> str:
        """The direction as an arrow."""
        return "▼" if self.descending else "▲"

    def reversed(self) -> Sort:
        """Give the same column, the other way round."""
        return Sort(self.column, not self.descending)


@dataclass(frozen=True, slots=True)
class Scene:
    """One moment, as the user wants to see it."""

    snapshot: Snapshot
    shown: Snapshot
    """The same with those pools, flows and connections alone that the filter lets pass."""
    findings: tuple[Finding, ...]
    """Worst first."""
    newest_us: int
    """The moment of the newest snapshot: a later one than this, if the view is paused."""
    expression: Expression = EVERYTHING
    sort: Sort = field(default_factory=Sort)
    paused: bool = False
    playhead: Playhead | None = None
    recording: str = ""
    """File name and size of the trace being written."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Address → name, of those that are known."""
    wide: bool = False
    hidden: frozenset[str] = frozenset()
    """Columns of WHO that are not wanted."""

    def rows(self) -> tuple[Row, ...]:
        """Those that the filter lets pass."""
        return rows_passing(self.snapshot, self.expression)

    def row(self, key: str) -> Row | None:
        """The row of that key."""
        rows = (*self.snapshot.rows, self.snapshot.unknown, self.snapshot.total)
        return next((row for row in rows if row.key == key), None)
