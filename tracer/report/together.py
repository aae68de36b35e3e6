"""What several traces come to together, for people."""

from __future__ import annotations

from tracer.report.layout import lasting, more, wrapped
from tracer.report.model import Change, Comparison, Joined, Pair
from tracer.text import fit, printable

_CHANGES = 40
_PAIRS = 20

_FIGURES = {
    "closes_per_s": "closes",
    "time_waits_per_s": "TIME_WAITs",
    "resets_per_s": "resets",
    "failed_per_s": "failed or timed out",
    "time_waits_per_connection": "TIME_WAITs",
    "closed_first_per_connection": "closed first",
    "resets_per_connection": "resets",
    "failed_per_connection": "failed or timed out",
    "time_wait_peak": "TIME_WAITs at most",
    "held_close_wait": "CLOSE_WAIT at the end",
    "held_fin_wait2": "FIN_WAIT2 at the end",
    "connection_p50_us": "median connection",
    "state_p50_us": "median in this state",
    "ports_peak": "source ports at most",
    "connects_without_port": "connects without a port",
}


def changes(comparison: Comparison) -> list[str]:
    """One line each, the largest first."""
    found = comparison.changes
    lines = [f"  {'':<30}{'':<36}{'BEFORE':>11}{'AFTER':>11}{'':>9}"] if found else []
    lines += [_change(change) for change in found[:_CHANGES]]
    return [
        *lines,
        *more(len(found) - _CHANGES),
        f"  {unchanged_of(comparison)}",
    ]


def unchanged_of(comparison: Comparison) -> str:
    """What is not told one by one."""
    return f"{comparison.unchanged:,} figures differ by no more than a tenth, or than chance"


def _change(change: Change) -> str:
    cells = f"  {fit(printable(change.what), 29)} {fit(printable(figure_of(change)), 35)}"
    before, after = (value_of(value, change.unit) for value in (change.before, change.after))
    return f"{cells}{fit(before, 11, '>')}{fit(after, 11, '>')}{factor_of(change.factor):>9}"


def figure_of(change: Change) -> str:
    """What changed, in words."""
    unit = f" {change.unit}" if change.unit.startswith("/") else ""
    return _FIGURES.get(change.figure, change.figure.replace("_", " ")) + unit


def value_of(value: float | str | None, unit: str) -> str:
    """One side of a change, with its unit; `–` of nothing."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return printable(value)
    if unit == "µs":
        return lasting(int(value))
    if unit == "%":
        return f"{value:.0f}%"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def factor_of(factor: float | None) -> str:
    """`× 3.0`, `÷ 12`; nothing for text."""
    if factor is None:
        return ""
    sign, times = ("×", factor) if factor >= 1 else ("÷", 1 / factor)
    return f"{sign} {times:,.1f}" if times < 10 else f"{sign} {times:,.0f}"  # noqa: PLR2004


def both_ends(joined: Joined) -> list[str]:
    """Who closed first, and so has the TIME_WAIT."""
    lines = []
    for pair in joined.pairs[:_PAIRS]:
        lines += wrapped(pair_of(pair))
    lines += more(len(joined.pairs) - _PAIRS)
    return lines + wrapped(joined_of(joined))


def joined_of(joined: Joined) -> str:
    """How many connections were joined, and how."""
    return (
        f"{joined.connections:,} connections have both ends in these traces, {joined.alone:,} ends are alone;"
        f" joined by addresses and ports, with clocks that differ by {lasting(joined.skew_us)} at most"
    )


def pair_of(pair: Pair) -> str:
    """Two processes, their connections, and on which host the TIME_WAITs are; may hold hostile text."""
    a, b = f"{pair.a.label} on {pair.a_host}", f"{pair.b.label} on {pair.b_host}"
    parts = []
    for first, who, host, count in (
        (pair.a_first, pair.a.label, pair.a_host, pair.a_time_waits),
        (pair.b_first, pair.b.label, pair.b_host, pair.b_time_waits),
    ):
        if first:
            sits = f", so it sits on {host} ({_time_waits(count)})" if count else ", and left no TIME_WAIT"
            parts.append(f"{who} closed first in {first:,}{sits}")
    if pair.neither:
        parts.append(f"{pair.neither:,} ended without a FIN")
    if pair.disputed:
        parts.append(f"in {pair.disputed:,} the two ends tell it differently")
    return f"{a} → {b}, port {pair.port}: {pair.connections:,} connections; {'; '.join(parts)}"


def _time_waits(number: int) -> str:
    return f"{number:,} TIME_WAIT{'s' if number > 1 else ''}"
