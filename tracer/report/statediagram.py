"""The closing states as a picture: which way connections went, and how many. Pure.

Edges are events, counted over the whole trace; states are gauges, as of its end. An edge that nobody went is
dotted. What went another way than those drawn is one number: left_out().
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

from tracer.report.markup import element
from tracer.report.model import Edge, Report
from tracer.series import SECOND

_WIDTH = 400
_BOX = 36
_GAP = 62
_ROW = _BOX + _GAP
_ROWS = 5
_WE, _CLOSING, _NO_FIN, _PEER = 30, 124, 220, 306
"""Where the arrows run."""
_ALL, _LEFT, _RIGHT = (8, 392), (8, 200), (290, 392)
"""From where to where states reach."""
_HEAD = 7
_THICKEST = 5.0

NO_FIN = ("reset_sent", "reset_received", "timeout", "unknown")
"""Into CLOSE without a FIN, as Snapshot.edges names it."""


@dataclass(frozen=True, slots=True)
class _Arrow:
    x: int
    row: int
    """Of the state it comes from."""
    rows: int
    words: str
    edges: tuple[tuple[str, str], ...]


_ARROWS = (
    _Arrow(_WE, 0, 1, "this side first", (("ESTABLISHED", "FIN_WAIT1"),)),
    _Arrow(_NO_FIN, 0, 4, "no FIN", tuple(("ESTABLISHED", how) for how in NO_FIN)),
    _Arrow(_PEER, 0, 1, "peer first", (("ESTABLISHED", "CLOSE_WAIT"),)),
    _Arrow(_WE, 1, 1, "ACK", (("FIN_WAIT1", "FIN_WAIT2"),)),
    _Arrow(_CLOSING, 1, 1, "FIN", (("FIN_WAIT1", "CLOSING"),)),
    _Arrow(_PEER, 1, 1, "close()", (("CLOSE_WAIT", "LAST_ACK"),)),
    _Arrow(_WE, 2, 1, "FIN", (("FIN_WAIT2", "TIME_WAIT"),)),
    _Arrow(_CLOSING, 2, 1, "ACK", (("CLOSING", "TIME_WAIT"),)),
    _Arrow(_PEER, 2, 2, "ACK", (("LAST_ACK", "CLOSE"),)),
)


def left_out(edges: tuple[Edge, ...]) -> int:
    """Of all transitions, those that no arrow of the picture has."""
    drawn = {edge for arrow in _ARROWS for edge in arrow.edges}
    return sum(edge.count for edge in edges if (edge.old, edge.new) not in drawn)


def diagram(report: Report) -> Element:
    """At the left this side closes first, at the right the peer, amid them nobody does."""
    counts = {(edge.old, edge.new): edge.count for edge in report.edges}
    elapsed_us = max(report.snapshot.elapsed_us, 1)
    numbers = [sum(counts.get(edge, 0) for edge in arrow.edges) for arrow in _ARROWS]
    ended = sum(reason.count for reason in report.reasons)
    most = max(*numbers, ended, 1)
    drawn: list[Element] = []
    for arrow, count in zip(_ARROWS, numbers, strict=True):
        drawn += _arrow(arrow, count, most, elapsed_us)
    drawn += _arrow(_Arrow(_WE, 3, 1, "it ended", ()), ended, most, elapsed_us)
    total = report.processes.total
    drawn += [
        *_state(0, _ALL, "ESTABLISHED"),
        *_state(1, _LEFT, "FIN_WAIT1"),
        *_state(1, _RIGHT, "CLOSE_WAIT", _held(total.held_close_wait, "▲ ")),
        *_state(2, (8, 100), "FIN_WAIT2", _held(total.held_fin_wait2)),
        *_state(2, (108, 200), "CLOSING"),
        *_state(2, _RIGHT, "LAST_ACK"),
        *_state(3, _LEFT, "TIME_WAIT", f"{report.remaining:,} at the end"),
        *_state(4, _ALL, "CLOSED"),
    ]
    told = (
        f"{arrow.edges[0][0]}, {arrow.words}: {count:,}"
        for arrow, count in zip(_ARROWS, numbers, strict=True)
    )
    return element(
        "svg",
        *drawn,
        class_="diagram",
        viewBox=f"0 0 {_WIDTH} {_ROW * (_ROWS - 1) + _BOX + 2}",
        role="img",
        aria_label="The states of closing connections. " + "; ".join(told) + f"; TIME_WAITs ended: {ended:,}",
    )


def per_second(count: int, elapsed_us: int) -> str:
    """`412/s`, `4.2/s`, `<0.1/s`."""
    rate = count * SECOND / max(elapsed_us, 1)
    if rate >= 100:  # noqa: PLR2004 - then the whole number has three digits
        return f"{rate:,.0f}/s"
    return "<0.1/s" if 0 < rate < 0.05 else f"{rate:.1f}/s"  # noqa: PLR2004 - what is rounded to 0


def _arrow(arrow: _Arrow, count: int, most: int, elapsed_us: int) -> list[Element]:
    """Downwards, the thicker the more, with words and figures at its right."""
    top, end = _ROW * arrow.row + _BOX + 1, _ROW * (arrow.row + arrow.rows)
    x, style = arrow.x, "went" if count else "never"
    thickness = 1.5 + (_THICKEST - 1.5) * count / most
    head = f"M{x - _HEAD} {end - 2 * _HEAD}h{2 * _HEAD}L{x} {end}Z"
    # A long one has its words beside its first stretch, as the others have.
    texts = (
        (arrow.words, "faint"),
        (_figure(count), "strong" if count else "faint"),
        (per_second(count, elapsed_us) if count else "", "faint"),
    )
    return [
        element(
            "line", x1=x, x2=x, y1=top, y2=end - 2 * _HEAD, stroke_width=thickness, class_=f"edge {style}"
        ),
        element("path", d=head, class_=f"head {style}"),
        *(
            element("text", text, x=x + 12, y=top + 17 + 15 * line, class_=weight)
            for line, (text, weight) in enumerate(texts)
            if text
        ),
    ]


def _figure(count: int) -> str:
    """In full as far as there is room."""
    return f"{count:,}" if count < 10_000_000 else f"{count / 1e6:,.0f} M"  # noqa: PLR2004 - columns there


def _state(row: int, columns: tuple[int, int], name: str, gauge: str = "") -> list[Element]:
    """A box with a name, and with how many are there if that is known."""
    left, right = columns
    top, middle = _ROW * row + 1, (left + right) // 2
    style = "state waits" if name == "TIME_WAIT" else "state"
    texts = [element("text", name, x=middle, y=top + (15 if gauge else 23), class_="middle strong")]
    if gauge:
        texts.append(element("text", gauge, x=middle, y=top + 30, class_="middle"))
    return [element("rect", x=left, y=top, width=right - left, height=_BOX, rx=4, class_=style), *texts]


def _held(count: int, mark: str = "") -> str:
    return f"{mark}{count:,} held" if count else ""
