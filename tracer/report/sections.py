"""The tables of a report for people; each gives its lines, none if there is nothing to tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tracer.callsites import opened_at
from tracer.model import Grade
from tracer.report.layout import lasting, more, wrapped
from tracer.report.model import (
    Bin,
    Dwell,
    NeverClosed,
    PoolPeak,
    Population,
    Report,
    Table,
    Way,
    WhoRow,
)
from tracer.report.tally import Tally
from tracer.text import endpoint, fit, percent, printable

GLYPHS = {Grade.CERTAIN: "●", Grade.INFERRED: "◐", Grade.UNKNOWN: "?"}
_ROWS = 40
_WAYS = 12
_POOLS = 8
_LINES = 6
_SPARKS = "▁▂▃▄▅▆▇█"

_WHO_HEAD = (
    f"  {'':<24}{'CLOSES':>9}{'/s':>7}{'FIRST':>6}{'PEER':>6}{'RST':>5}{'FAIL':>5}"
    f"{'TW':>8}{'PEAK':>7}{'NOW':>7}{'HELD':>5}{'MEDIAN':>8}"
)


def who(table: Table) -> list[str]:
    """The rows, unknown, and the sum: they add up."""
    rows = list(table.rows[:_ROWS])
    rest = table.rows[_ROWS:]
    lines = [_WHO_HEAD, *(_who_line(_glyph(row), row) for row in rows)]
    if rest:
        lines.append(_who_line("…", summed(rest)))
    return [*lines, _who_line("?", table.unknown), _who_line("Σ", table.total)]


def _glyph(row: WhoRow) -> str:
    return GLYPHS[row.grade] if row.grade is not None else " "


def _who_line(glyph: str, row: WhoRow) -> str:
    held = row.held_close_wait + row.held_fin_wait2
    cells = (
        f"{glyph} {fit(printable(row.label), 23)} {_number(row.closes, 9)}",
        f"{row.closes_per_s:7.1f}" if row.closes_per_s < _TENTHS else f"{row.closes_per_s:7,.0f}",
        f"{percent(row.endings.get('closed_first', 0), row.closes):>6}",
        f"{percent(row.endings.get('peer_first', 0), row.closes):>6}",
        f"{percent(resets(row), row.closes):>5}{percent(failed(row), row.closes):>5}",
        f"{_number(row.time_waits, 8)}{_number(row.time_wait_peak, 7)}{_number(row.time_wait_now, 7)}",
        f"{_number(held, 5) if held else '–':>5}",
        f"{lasting(row.ages.p50_us) if row.ages.count else '–':>8}",
    )
    return "".join(cells)


_TENTHS = 1_000


def failed(row: WhoRow) -> int:
    """Connections that nobody answered, to begin with or in the end."""
    return row.endings.get("connect_failed", 0) + row.endings.get("timed_out", 0)


def resets(row: WhoRow) -> int:
    """Those that a reset ended, whoever sent it."""
    return row.endings.get("reset_sent", 0) + row.endings.get("reset_received", 0)


def _number(number: int, columns: int) -> str:
    """With commas if that fits, else in thousands or millions."""
    for text in (f"{number:,}", str(number), f"{number / 1e3:.0f}k", f"{number / 1e6:.0f}M"):
        if len(text) < columns:
            break
    return f"{text:>{columns}}"


def summed(rows: Iterable[WhoRow]) -> WhoRow:
    """Several rows as one; without a median, and with the sum of their peaks."""
    rows = list(rows)
    total = Tally().row("", f"{len(rows):,} more: see --json", None, 1)
    endings: dict[str, int] = {}
    for row in rows:
        for ending, count in row.endings.items():
            endings[ending] = endings.get(ending, 0) + count
    return replace(
        total, endings=endings, **{name: sum(getattr(row, name) for row in rows) for name in _SUMS}
    )


_SUMS = (
    "closes", "closes_per_s", "time_waits", "time_wait_now", "time_wait_peak", "held_close_wait",
    "held_fin_wait2",
)  # fmt: skip


def never_closed(groups: tuple[NeverClosed, ...]) -> list[str]:
    """Who holds how many in which state, and for how long."""
    lines = []
    for one in groups[:_POOLS]:
        how = {"server": f"accepted on port {one.port}", "client": f"connected to port {one.port}"}
        text = (
            f"{one.who.label}: {one.count:,} in {one.state}, {how.get(one.role, 'opened before')},"
            f" held for {lasting(one.shortest_us)} to {lasting(one.longest_us)}"
        )
        if one.from_before:
            text += f", {one.from_before:,} of them already when the trace began"
        if one.closed_late:
            text += f"; {one.closed_late:,} more were closed late"
        lines += wrapped(f"{text}; peers: {', '.join(one.peers)}")
        for place in opened_at(one.opened, one.count):
            lines += wrapped(place, indent="    ", hang=" " * 6)
    return lines + more(len(groups) - _POOLS)


FIRST = {"local": "this side first", "remote": "peer first", "both": "both at once", "none": "no FIN"}
HOW = {
    "fin": "FIN",
    "reset_sent": "reset sent",
    "reset_received": "reset received",
    "timeout": "timed out",
    "failed": "connect failed",
    "unknown": "not seen",
}
VIA = {"close": "close()", "shutdown": "shutdown()", "exit": "exit", "abort": "abort", "unknown": "–"}


def ways(found: tuple[Way, ...], closes: int) -> list[str]:
    """Role, who first, how, by what call."""
    if not found:
        return []
    lines = [f"  {'':<9}{'':<17}{'':<16}{'':<12}{'closes':>11}{'':>6}{'TIME_WAITs':>12}"]
    for way in found[:_WAYS]:
        role = "–" if way.role == "unknown" else way.role
        first, how, via = FIRST.get(way.first, "–"), HOW.get(way.how, "–"), VIA.get(way.via, "–")
        lines.append(
            f"  {role:<9}{first:<17}{how:<16}{via:<12}{way.closes:>11,}"
            f"{percent(way.closes, closes):>6}{way.time_waits:>12,}"
        )
    return lines + more(len(found) - _WAYS)


def states(dwells: tuple[Dwell, ...]) -> list[str]:
    """Quantiles of each."""
    if not dwells:
        return []
    lines = [f"  {'':<20}{'times':>11}{'half':>10}{'90 %':>10}{'99 %':>10}{'longest':>10}"]
    for dwell in dwells:
        times = dwell.times
        cells = (lasting(us) for us in (times.p50_us, times.p90_us, times.p99_us, times.max_us))
        lines.append(f"  {dwell.state:<20}{times.count:>11,}" + "".join(f"{cell:>10}" for cell in cells))
    return lines


def endings(report: Report) -> list[str]:
    """The account of TIME_WAITs, and why they ended."""
    population = report.population
    ended = sum(one.count for one in report.reasons)
    if not (report.born or report.preexisting):
        return []
    after = lasting(population.peak_us - population.began_us)
    lines = wrapped(
        f"{report.born:,} born + {report.preexisting:,} from before - {ended:,} ended = {report.remaining:,}"
        f" at the end; at most {population.peak:,} at once, first after {after}"
    )
    if report.reasons:
        lines.append(
            f"  {'':<12}{'ended':>11}{'':>6}{'in FIN_WAIT2':>14}{'started anew':>14}{'lasted, half':>14}"
            f"{'longest':>10}"
        )
    for one in report.reasons:
        half, longest = (
            (lasting(one.times.p50_us), lasting(one.times.max_us)) if one.times.count else ("–", "–")
        )
        lines.append(
            f"  {printable(one.reason):<12}{one.count:>11,}{percent(one.count, ended):>6}"
            f"{one.in_fin_wait2:>14,}{one.rearmed:>14,}{half:>14}{longest:>10}"
        )
    return lines


def over_time(population: Population) -> list[str]:
    """A small curve for each of the owners with the most, to one scale."""
    if not population.peak:
        return []
    highest = max(*population.total, 1)
    lines = []
    for line in population.lines[:_LINES]:
        curve = _curve(line.counts, highest)
        lines.append(f"  {fit(printable(line.label), 24)} {_number(max(line.counts), 8)}  {curve}")
    lines.append(f"  {'all':<24} {_number(max(population.total), 8)}  {_curve(population.total, highest)}")
    return lines


_POINTS = 60


def _curve(counts: tuple[int, ...], highest: int) -> str:
    """At most so many points, each the most of some bins."""
    step = -(-len(counts) // _POINTS)
    most = [max(counts[at : at + step]) for at in range(0, len(counts), step)]
    return "".join(
        " " if not level else _SPARKS[min(level * len(_SPARKS) // (highest + 1), len(_SPARKS) - 1)]
        for level in most
    )


def lifetimes(bins: tuple[Bin, ...]) -> list[str]:
    """Bars: those that left a TIME_WAIT, and those that did not."""
    if not bins:
        return []
    highest = max(one.time_wait + one.other for one in bins)
    lines = [f"  {'':>9}   {'connections':>11}   █ left a TIME_WAIT here  ░ did not"]
    for one in bins:
        both = one.time_wait + one.other
        width = -(-both * _BAR // highest)
        filled = -(-one.time_wait * width // both) if both else 0
        lines.append(
            f"  < {lasting(one.high_us):>7}   {both:>11,}   {'█' * filled}{'░' * (width - filled)}".rstrip()
        )
    return lines


_BAR = 50


def ports(report: Report) -> list[str]:
    """The fullest destinations."""
    lines = []
    for pool in report.pools[:_POOLS]:
        lines += wrapped(_port_line(pool, report.start.ts_us))
    return lines + more(len(report.pools) - _POOLS)


def _port_line(pool: PoolPeak, began_us: int) -> str:
    where = endpoint(pool.daddr, pool.dport) if pool.daddr and pool.dport is not None else "any (bound)"
    text = f"{pool.saddr} → {where}: "
    if pool.peak:
        size = "" if pool.size is None else f" of {pool.size:,} ({percent(pool.peak, pool.size)})"
        text += f"{pool.peak:,}{size} after {lasting(pool.peak_us - began_us)}"
        if pool.growth:
            text += f", +{pool.growth:,.1f}/s on the way there"
        text += f", {pool.now:,} at the end; "
    if pool.failures:
        text += f"{pool.failures:,} connects found none; "
    return text + f"most of {pool.who.label}"
