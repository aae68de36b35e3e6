"""The tables of a page, one for each that text.py has; each is None if there is nothing to tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element

from tracer.callsites import headline, opened_at, shares_of
from tracer.model import CallSites, Grade
from tracer.places import NOT_RESOLVED, called, spot
from tracer.report.layout import lasting
from tracer.report.markup import Child, element, short
from tracer.report.model import (
    Bin,
    Comparison,
    Dwell,
    NeverClosed,
    PoolPeak,
    Population,
    Quantiles,
    Report,
    Table,
    Way,
    WhoRow,
)
from tracer.report.plots import bar, told_apart
from tracer.report.sections import FIRST, GLYPHS, HOW, VIA, failed, resets, summed
from tracer.report.statediagram import per_second
from tracer.report.text import FIGURES, Changed, changed_settings
from tracer.report.together import factor_of, figure_of, value_of
from tracer.text import endpoint, percent
from tracer.whatif import Outcome

ROWS = 100
"""Of a table; what it leaves out is said, and --json has it."""
_PROCESSES = 20
"""Whose call sites are told."""
_NAME = 80
"""Characters of a name."""

_GLUE = "\u00a0"
"""Between what stays on one line."""

Cells = Sequence[Child]


def name_of(text: str) -> Element:
    """A name, which may be written from right to left; what is beside it stays there."""
    return element("bdi", short(text, _NAME))


def left_out(number: int) -> Element | None:
    """How much a list leaves out."""
    return element("p", f"… and {number:,} more: --json has them", class_="faint") if number > 0 else None


def who(table: Table) -> Element:
    """The rows, unknown, and the sum: they add up."""
    rows = list(table.rows[:ROWS])
    rest = table.rows[ROWS:]
    lines = [_who_cells(_grade(row), row) for row in rows]
    if rest:
        lines.append(_who_cells("…", summed(rest)))
    lines.append(_who_cells(_mark(Grade.UNKNOWN), table.unknown))
    return _table(
        f"Owners by {table.by}",
        f"{table.by}, role, #closes, #closes/s, #closed first, #peer first, #reset, #failed,"
        " #TIME_WAITs, #most at once, #at the end, #never closed, #median life",
        lines,
        _who_cells("Σ", table.total),
    )


def _mark(grade: Grade) -> Element:
    return element("span", GLYPHS[grade], role="img", aria_label=grade.value, title=grade.value)


def _grade(row: WhoRow) -> Child:
    return _mark(row.grade) if row.grade is not None else ""


def _who_cells(mark: Child, row: WhoRow) -> Cells:
    shares = (row.endings.get("closed_first", 0), row.endings.get("peer_first", 0), resets(row), failed(row))
    held = row.held_close_wait + row.held_fin_wait2
    return (
        element("span", mark, _GLUE, name_of(row.label)),
        "" if row.role == "unknown" else row.role,
        f"{row.closes:,}",
        f"{row.closes_per_s:,.1f}",
        *(percent(share, row.closes) for share in shares),
        f"{row.time_waits:,}",
        f"{row.time_wait_peak:,}",
        f"{row.time_wait_now:,}",
        f"{held:,}" if held else "–",
        lasting(row.ages.p50_us) if row.ages.count else "–",
    )


def legend(population: Population) -> Element:
    """The owners in the plot of the population, by number and colour."""
    return _table(
        "Owners in the plot, from the bottom up",
        "owner, #most at once, #at the end",
        [
            (
                element(
                    "span",
                    element("i", element("b", str(order)), class_=f"key s{order}"),
                    _GLUE,
                    name_of(line.label),
                ),
                f"{max(line.counts):,}",
                f"{line.counts[-1]:,}",
            )
            for order, line in enumerate(told_apart(population), start=1)
        ],
    )


def ways(found: tuple[Way, ...], closes: int) -> Element | None:
    """Role, who first, how, by what call."""
    lines = [
        (
            "–" if way.role == "unknown" else way.role,
            FIRST.get(way.first, "–"),
            HOW.get(way.how, "–"),
            VIA.get(way.via, "–"),
            f"{way.closes:,}",
            percent(way.closes, closes),
            f"{way.time_waits:,}",
        )
        for way in found
    ]
    return _of("Ways out", "role, first FIN, how, by, #closes, #share, #TIME_WAITs", lines)


def edges(report: Report) -> Element | None:
    """All transitions on the way out."""
    elapsed_us = report.snapshot.elapsed_us
    lines = [
        (edge.old, edge.new, f"{edge.count:,}", per_second(edge.count, elapsed_us)) for edge in report.edges
    ]
    return _of("Transitions", "from, to, #times, #rate", lines)


def dwells(found: tuple[Dwell, ...]) -> Element | None:
    """Quantiles of each state."""
    lines = [(dwell.state, *_quantiles(dwell.times)) for dwell in found]
    return _of("Time in each state", "state, #times, #half, #90 %, #99 %, #longest", lines)


def _quantiles(times: Quantiles) -> Cells:
    figures = (times.p50_us, times.p90_us, times.p99_us, times.max_us)
    return (f"{times.count:,}", *map(lasting, figures))


def reasons(report: Report) -> Element | None:
    """Why TIME_WAITs ended."""
    ended = sum(one.count for one in report.reasons)
    lines = [
        (
            one.reason,
            f"{one.count:,}",
            percent(one.count, ended),
            f"{one.in_fin_wait2:,}",
            f"{one.rearmed:,}",
            lasting(one.times.p50_us) if one.times.count else "–",
            lasting(one.times.max_us) if one.times.count else "–",
        )
        for one in report.reasons
    ]
    return _of(
        "Ends of TIME_WAITs",
        "reason, #ended, #share, #in FIN_WAIT2, #started anew, #half lasted, #longest",
        lines,
    )


def durations(caption: str, of_two: tuple[str, str], bins: tuple[Bin, ...]) -> Element | None:
    """A histogram: of each bin, bars of two kinds, and their numbers."""
    whole = max((one.time_wait + one.other for one in bins), default=0)
    lines = [
        (
            element("span", _span(one), class_="whole"),
            f"{one.time_wait:,}",
            f"{one.other:,}",
            bar(((one.time_wait, "full"), (one.other, "hollow")), whole) if whole else None,
        )
        for one in bins
    ]
    one, other = of_two
    return _of(caption, f"lasted, #{one} (full), #{other} (hollow), |", lines)


def _span(one: Bin) -> str:
    return f"{lasting(one.low_us)} to {lasting(one.high_us)}" if one.low_us else f"< {lasting(one.high_us)}"


def pools(report: Report) -> Element | None:
    """The fullest destinations."""
    began_us = report.start.ts_us
    lines = [_pool_cells(pool, began_us) for pool in report.pools]
    return _of(
        "Source ports",
        "to, from, #most held, #of, #after, #growing, #at the end, #connects without one, most of",
        lines,
    )


def _pool_cells(pool: PoolPeak, began_us: int) -> Cells:
    where = endpoint(pool.daddr, pool.dport) if pool.daddr and pool.dport is not None else "any (bound)"
    return (
        name_of(where),
        name_of(pool.saddr),
        f"{pool.peak:,}",
        _of_ports(pool),
        lasting(pool.peak_us - began_us) if pool.peak else "–",
        f"{pool.growth:,.1f}/s" if pool.growth else "–",
        f"{pool.now:,}",
        f"{pool.failures:,}",
        name_of(pool.who.label),
    )


def _of_ports(pool: PoolPeak) -> Child:
    if not pool.size:
        return "–"
    told = f"{pool.size:,} ({percent(pool.peak, pool.size)})"
    held = min(pool.peak, pool.size)
    return element("div", told, bar(((held, "full"), (pool.size - held, "hollow")), pool.size))


def never_closed(groups: tuple[NeverClosed, ...]) -> Element | None:
    """Who holds how many in which state, and for how long."""
    sides = {"server": "accepted on", "client": "opened to"}
    has_sites = any(one.opened for one in groups)
    lines: list[Cells] = [
        (
            name_of(one.who.label),
            one.state,
            f"{sides[one.role]} port {one.port}" if one.role in sides else "from before",
            f"{one.count:,}",
            lasting(one.shortest_us),
            lasting(one.longest_us),
            f"{one.from_before:,}",
            f"{one.closed_late:,}",
            name_of(", ".join(one.peers)),
            *([element("bdi", "; ".join(opened_at(one.opened, one.count)))] if has_sites else []),
        )
        for one in groups
    ]
    return _of(
        "Never closed",
        "owner, state, which, #held, #shortest, #longest, #from before, #closed late, peers"
        + ", call site" * has_sites,
        lines,
    )


def call_sites(found: tuple[CallSites, ...]) -> list[Element | None]:
    """For each process a line and a table: from where in its program it closes."""
    told = [
        part
        for one in found[:_PROCESSES]
        for part in (element("p", name_of(one.who.label), ": ", headline(shares_of(one))), _places(one))
    ]
    return [*told, left_out(len(found) - _PROCESSES)]


def _places(sites: CallSites) -> Element:
    time_waits = sum(one.time_waits for one in sites.places)
    closes = sum(one.closes for one in sites.places)
    return _table(
        f"Call sites of {sites.who.label}",
        "function, source, #TIME_WAITs, #share, #closes, #share, calls",
        [
            (
                name_of(one.place.function if one.place else NOT_RESOLVED),
                name_of(spot(one.place)) if one.place else "",
                f"{one.time_waits:,}",
                percent(one.time_waits, time_waits),
                f"{one.closes:,}",
                percent(one.closes, closes),
                element("bdi", called(one.place)) if one.place else "",
            )
            for one in sites.places
        ],
    )


def outcomes(found: tuple[Outcome, ...]) -> list[Element]:
    """Changes, and what each would come to."""
    return [part for one in found for part in (element("h4", one.change), _outcome(one))]


def _outcome(found: Outcome) -> Element:
    lines = [
        (title.strip(), *(f"{getattr(one, name):,}" for one in (found.seen, found.before, found.after)))
        for name, title in FIGURES.items()
    ]
    return _table(f"What if {found.change}", "figure, #seen, #model, #after", lines)


def settings(report: Report) -> list[Element]:
    """A table for each namespace that has others than the defaults."""
    return [
        part
        for netns, changed in changed_settings(report)
        for part in (element("h4", f"netns {netns}"), _settings(netns, changed))
    ]


def _settings(netns: int, changed: Changed) -> Element:
    return _table(
        f"Settings of netns {netns}",
        "setting, value, default, does, does not",
        [
            (
                f"net.ipv4.{setting.name}",
                name_of(str(value)),
                setting.default or "none",
                setting.does,
                setting.does_not,
            )
            for setting, value in changed
        ],
    )


def changes(comparison: Comparison) -> Element | None:
    """What differs, the largest first."""
    lines = [
        (
            name_of(change.what),
            figure_of(change),
            value_of(change.before, change.unit),
            value_of(change.after, change.unit),
            factor_of(change.factor),
        )
        for change in comparison.changes
    ]
    return _of("Changes", "of, figure, #before, #after, #times", lines)


def _of(caption: str, columns: str, lines: Sequence[Cells]) -> Element | None:
    """As many rows as a table has, and how many are left out."""
    if not lines:
        return None
    table = _table(caption, columns, lines[:ROWS])
    more = left_out(len(lines) - ROWS)
    return table if more is None else element("div", table, more)


def _table(caption: str, columns: str, lines: Iterable[Cells], total: Cells | None = None) -> Element:
    """`columns` are titles: that of a column of figures begins with `#`, that of one of pictures with `|`.

    The first cell of a row is its heading.
    """
    kinds = {"#": "figure", "|": "bars"}
    styles = [kinds.get(title[0], "words") for title in columns.split(", ")]
    styles[0] = "lead"
    titles = (title.lstrip("#|") for title in columns.split(", "))
    head = (
        element("th", title, scope="col", class_=style) if title else element("td", class_=style)
        for title, style in zip(titles, styles, strict=True)
    )
    made = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *(_row(cells, styles) for cells in lines)),
        element("tfoot", _row(total, styles)) if total is not None else None,
    )
    # What is wider than the window is scrolled by itself, also with the keyboard.
    return element("div", made, class_="wide", tabindex="0", role="region", aria_label=caption)


def _row(cells: Cells, styles: list[str]) -> Element:
    first, *others = zip(cells, styles, strict=True)
    return element(
        "tr",
        element("th", first[0], scope="row", class_=first[1]),
        *(element("td", cell, class_=style) for cell, style in others),
    )
