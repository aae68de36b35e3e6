"""What a process does, in a sentence: the figures of its row, in words."""

from __future__ import annotations

from tracer.report.layout import lasting
from tracer.report.model import NeverClosed, WhoRow
from tracer.text import percent

_DOES = {
    "closed_first": "closes first in {}",
    "peer_first": "lets its peer close first in {}",
    "both_first": "closes at the same time as its peer in {}",
    "reset_sent": "resets {}",
    "reset_received": "is reset by its peer in {}",
    "timed_out": "times out in {}",
    "connect_failed": "fails to connect in {}",
    "unknown": "ends in a way not seen in {}",
}
"""By ending; `{}` is so many of its connections."""

_BY = {
    "close": "by close()",
    "shutdown": "by shutdown()",
    "exit": "by ending without close()",
    "abort": "by an abort",
    "unknown": "in a way not seen",
}
_ENDED = {
    "expired": "expired",
    "reused": "reused by connect()",
    "replaced": "replaced by a new SYN",
    "reset": "ended by a reset",
    "reset_sent": "answered with a reset",
    "killed": "killed",
    "netns_exit": "gone with their namespace",
    "unknown": "ended for a reason not seen",
}


def sentence(row: WhoRow, never_closed: tuple[NeverClosed, ...]) -> str:
    """Begins with the row's label; may hold hostile text."""
    held = [one for one in never_closed if one.who.row == row.key]
    clauses = [_endings(row), *_lasting(row), *_time_waits(row), *map(_holding, held)]
    if not row.closes and held:
        clauses = list(map(_holding, held)) + _time_waits(row)
    return f"{row.label} {'; '.join(clauses)}."


def _endings(row: WhoRow) -> str:
    if not row.closes:
        return "ended no connection"
    ranked = sorted(row.endings.items(), key=lambda item: -item[1])
    name, count = ranked[0]
    number = f"{row.closes:,} {_connections(row.closes)}"
    if row.closes == 1:
        text = _DOES[name].format("its only connection")
    else:
        text = _DOES[name].format(f"{percent(count, row.closes)} of {number}")
    text += _ways(row, name)
    for other, number_of in ranked[1:]:
        text += f", {_DOES[other].format(f'{number_of:,}')}{_ways(row, other)}"
    return text


def _ways(row: WhoRow, ending: str) -> str:
    if ending != "closed_first" or not row.ways:
        return ""
    total = sum(row.ways.values())
    parts = []
    for way, count in row.ways.items():
        how = _BY.get(way, _BY["unknown"])
        parts.append(how if count == total else f"{how} in {count:,} of them")
    return f", {' and '.join(parts)}" if len(parts) < 3 else f", {', '.join(parts)}"  # noqa: PLR2004


def _lasting(row: WhoRow) -> list[str]:
    if not row.ages.count:
        return []
    if row.ages.count == 1:
        return [f"its connection lasted {lasting(row.ages.max_us)}"]
    return [f"its connections last {lasting(row.ages.p50_us)} at the median"]


def _time_waits(row: WhoRow) -> list[str]:
    if not row.time_waits:
        return ["no TIME_WAIT"] if row.closes else []
    some = "s" if row.time_waits > 1 else ""
    if row.orphans == row.time_waits:
        text = f"{row.orphans:,} mini-socket{some}, born in FIN_WAIT2 since the peer had yet to close"
    else:
        text = f"{row.time_waits:,} TIME_WAIT{some}"
        if row.orphans:
            text += f", {row.orphans:,} of them born in FIN_WAIT2"
    parts = []
    for reason, count in row.time_wait_ends.items():
        ended = _ENDED.get(reason, _ENDED["unknown"])
        there = row.orphan_ends.get(reason, 0)
        parts += [f"{count - there:,} {ended}"] * (count > there)
        parts += [f"{there:,} {ended} in FIN_WAIT2"] * (there > 0)
    if row.time_wait_now:
        parts.append(f"{row.time_wait_now:,} still there")
    return [f"{text}: {', '.join(parts)}"] if parts else [text]


def _holding(one: NeverClosed) -> str:
    which = {"server": f" accepted on port {one.port}", "client": f" opened to port {one.port}"}.get(
        one.role, ""
    )
    longest = lasting(one.longest_us) + (" and more" if one.from_before else "")
    number = f"{one.count:,} {_connections(one.count)} it{which or ' has'}"
    if one.state == "CLOSE_WAIT":
        return f"has not closed {number}, though the peer has (CLOSE_WAIT, the longest for {longest})"
    return f"waits for the peer to close {number} (FIN_WAIT2, the longest for {longest})"


def _connections(number: int) -> str:
    return "connection" if number == 1 else "connections"
