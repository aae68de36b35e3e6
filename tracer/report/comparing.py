"""What changed between two traces: per connection, per second, largest first. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from math import log, sqrt

from tracer.report.model import Change, Comparison, Report, WhoRow
from tracer.report.tally import NOBODY
from tracer.series import SECOND
from tracer.text import endpoint
from tracer.verdict import Severity

_LEAST = 1.1
"""A change by less than a tenth is none."""
_SIGMAS = 3
"""A count may be off by three times its square root for no reason."""
_ENOUGH = 20
"""A median of fewer says nothing."""


def compared(before: Report, after: Report) -> Comparison:
    """Their `who` tables stand for the same kind of rows, which are told apart by their labels."""
    told = [*_findings(before, after), *_settings(before, after)]
    measured: list[Change] = []
    unchanged = 0
    for change, is_real in _measured(before, after):
        if is_real and change.factor is not None and abs(log(change.factor)) >= log(_LEAST):
            measured.append(change)
        else:
            unchanged += 1
    measured.sort(key=lambda change: (-abs(log(change.factor or 1)), change.what, change.figure))
    return Comparison((*told, *measured), unchanged)


_Measured = Iterator[tuple[Change, bool]]


def _measured(before: Report, after: Report) -> _Measured:
    spans = before.snapshot.elapsed_us / SECOND, after.snapshot.elapsed_us / SECOND
    old = {row.label: row for row in before.who.rows}
    new = {row.label: row for row in after.who.rows}
    pairs = [("all", before.who.total, after.who.total)]
    pairs += [(name, old.get(name, NOBODY), new.get(name, NOBODY)) for name in dict.fromkeys((*old, *new))]
    for name, was, now in pairs:
        yield from _of_row(name, was, now, spans)
    yield from _of_states(before, after)
    yield from _of_ends(before, after)
    yield from _of_pools(before, after)


def _of_row(name: str, was: WhoRow, now: WhoRow, spans: tuple[float, float]) -> _Measured:
    for figure, of in (
        ("closes", _closes),
        ("time_waits", _time_waits),
        ("resets", _resets),
        ("failed", _failed),
    ):
        yield _counted(name, f"{figure}_per_s", "/s", (of(was), of(now)), spans)
    closes = (was.closes, now.closes)
    for figure, of in (
        ("time_waits", _time_waits),
        ("closed_first", _first),
        ("resets", _resets),
        ("failed", _failed),
    ):
        if all(closes):
            yield _counted(name, f"{figure}_per_connection", "/connection", (of(was), of(now)), closes)
    for figure in ("time_wait_peak", "held_close_wait", "held_fin_wait2"):
        yield _counted(name, figure, "", (getattr(was, figure), getattr(now, figure)), (1, 1))
    medians = was.ages.p50_us, now.ages.p50_us
    enough = min(was.ages.count, now.ages.count) >= _ENOUGH
    if enough:
        yield _lasting(name, "connection_p50_us", medians)


def _of_states(before: Report, after: Report) -> _Measured:
    old = {dwell.state: dwell.times for dwell in before.dwells}
    for dwell in after.dwells:
        was = old.get(dwell.state)
        if was is not None and min(was.count, dwell.times.count) >= _ENOUGH:
            yield _lasting(dwell.state, "state_p50_us", (was.p50_us, dwell.times.p50_us))


def _of_ends(before: Report, after: Report) -> _Measured:
    """Why TIME_WAITs ended, of those that did."""
    old = {one.reason: one.count for one in before.reasons}
    new = {one.reason: one.count for one in after.reasons}
    ended = sum(old.values()), sum(new.values())
    if all(ended):
        for reason in dict.fromkeys((*old, *new)):
            counts = old.get(reason, 0), new.get(reason, 0)
            yield _counted("all", f"time_waits_{reason}_share", "%", counts, (ended[0] / 100, ended[1] / 100))


def _of_pools(before: Report, after: Report) -> _Measured:
    sides = []
    for report in (before, after):
        found: dict[str, tuple[int, int]] = {}
        for pool in report.pools:
            where = endpoint(pool.daddr, pool.dport) if pool.daddr and pool.dport is not None else "any"
            name = f"{pool.saddr} → {where}"
            peak, failures = found.get(name, (0, 0))
            found[name] = max(peak, pool.peak), failures + pool.failures
        sides.append(found)
    old, new = sides
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name, (0, 0)), new.get(name, (0, 0))
        yield _counted(name, "ports_peak", "", (was[0], now[0]), (1, 1))
        yield _counted(name, "connects_without_port", "", (was[1], now[1]), (1, 1))


def _counted(
    what: str, figure: str, unit: str, counts: tuple[int, int], per: tuple[float, float]
) -> tuple[Change, bool]:
    """Counts over exposures: seconds, connections or nothing."""
    (was, now), (old, new) = counts, (max(per[0], 1e-6), max(per[1], 1e-6))
    noise = sqrt(was / old**2 + now / new**2)
    is_real = abs(was / old - now / new) > _SIGMAS * noise
    factor = ((now + 1) / new) / ((was + 1) / old)
    return Change(what, figure, unit, was / old, now / new, factor), is_real


def _lasting(what: str, figure: str, medians: tuple[int, int]) -> tuple[Change, bool]:
    was, now = medians
    return Change(what, figure, "µs", was, now, (now + 1) / (was + 1)), True


def _findings(before: Report, after: Report) -> Iterator[Change]:
    """Those that are gone, and those that are new; a fine one is none."""
    sides = [
        {
            (finding.who.comm or finding.who.label, finding.id): finding.severity.name.lower()
            for finding in reversed(report.findings)
            if finding.severity > Severity.FINE
        }
        for report in (before, after)
    ]
    old, new = sides
    for who, which in dict.fromkeys((*old, *new)):
        was, now = old.get((who, which)), new.get((who, which))
        if was != now:
            yield Change(who, f"finding {which}", "", was, now, None)


def _settings(before: Report, after: Report) -> Iterator[Change]:
    """Of namespaces that both have, or else of the only one that each has."""
    old, new = before.snapshot.settings, after.snapshot.settings
    pairs = [(old[netns], new[netns]) for netns in old if netns in new]
    if not pairs and len(old) == len(new) == 1:
        pairs = list(zip(old.values(), new.values(), strict=True))
    told = {
        Change(f"net.ipv4.{name}", "setting", "", _text(was.get(name)), _text(now.get(name)), None): None
        for was, now in pairs
        for name in dict.fromkeys((*was, *now))
        if was.get(name) != now.get(name)
    }
    yield from told


def _text(value: int | str | None) -> str | None:
    return None if value is None else str(value)


def _closes(row: WhoRow) -> int:
    return row.closes


def _time_waits(row: WhoRow) -> int:
    return row.time_waits


def _first(row: WhoRow) -> int:
    return row.endings.get("closed_first", 0)


def _resets(row: WhoRow) -> int:
    return row.endings.get("reset_sent", 0) + row.endings.get("reset_received", 0)


def _failed(row: WhoRow) -> int:
    return row.endings.get("connect_failed", 0) + row.endings.get("timed_out", 0)
