"""A report as one HTML page, complete in itself: no script, nothing to load, for light, dark and paper."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from xml.etree.ElementTree import Element

from tracer import __version__
from tracer.report import pagetables as tables
from tracer.report import plots
from tracer.report.layout import lasting, spans
from tracer.report.markup import Child, element, page
from tracer.report.model import Comparison, Joined, Report, Reports
from tracer.report.statediagram import diagram, left_out
from tracer.report.together import joined_of, pair_of, unchanged_of
from tracer.series import SECOND
from tracer.verdict import MARKS, Finding, Severity

_FINDINGS = 50
_SENTENCES = tables.ROWS
_LIMITS = 50
_LISTED = 3
"""With more chapters than this, the contents are their names alone."""
_GRAVE = "figures may be wrong"

_GRADES = (
    "● certain: seen in the process's own context. ◐ inferred: found through open files. ? unknown."
    " Percentages are of its closes."
)


def render(reports: Reports) -> str:
    """All that was read, what it is worth together first; in ASCII."""
    hosts = " and ".join(dict.fromkeys(report.snapshot.host for report in reports.reports))
    title = f"twtrace report: {hosts}"
    style = files("tracer.report").joinpath("page.css").read_text(encoding="ascii")
    chapters = list(_chapters(reports))
    return page(
        element(
            "html",
            element(
                "head",
                element("meta", charset="utf-8"),
                element("meta", http_equiv="Content-Security-Policy", content=_policy(style)),
                element("meta", name="viewport", content="width=device-width, initial-scale=1"),
                element("meta", name="color-scheme", content="light dark"),
                element("title", title),
                _as_it_is(style),
            ),
            element(
                "body",
                element("header", element("h1", title), _contents(chapters)),
                element("main", *(chapter.drawn() for chapter in chapters)),
                element("footer", element("p", f"twtrace {__version__}. It reads, and changes nothing.")),
            ),
            lang="en",
        )
    )


def _policy(style: str) -> str:
    """Nothing is loaded or run, and of styles only ours."""
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _as_it_is(style: str) -> Element:
    made = Element("style")
    made.text = style
    return made


@dataclass(frozen=True, slots=True)
class _Section:
    """What stands under a heading."""

    id: str
    title: str
    parts: tuple[Child, ...]


@dataclass(frozen=True, slots=True)
class _Chapter:
    """A recording, or what several come to."""

    id: str
    title: str
    lead: tuple[Child, ...]
    sections: tuple[_Section, ...]

    def drawn(self) -> Element:
        """With what its sections hold."""
        return element(
            "section",
            element("h2", self.title, id=self.id),
            *self.lead,
            *(
                element("section", element("h3", one.title, id=f"{self.id}-{one.id}"), *one.parts)
                for one in self.sections
            ),
        )


def _contents(chapters: list[_Chapter]) -> Element:
    """Where to go; of many recordings their names alone."""
    items = [
        element(
            "li",
            element("a", chapter.title, href=f"#{chapter.id}"),
            element(
                "ul",
                *(
                    element("li", element("a", one.title, href=f"#{chapter.id}-{one.id}"))
                    for one in chapter.sections
                ),
            )
            if chapter.sections and len(chapters) <= _LISTED
            else None,
        )
        for chapter in chapters
    ]
    return element("nav", element("ul", *items), aria_label="Contents")


def _chapters(reports: Reports) -> Iterable[_Chapter]:
    if reports.comparison is not None:
        yield _compared(reports.comparison)
    if reports.joined is not None:
        yield _both_ends(reports.joined)
    names = ["Before: ", "After: "] if reports.comparison is not None else [""] * len(reports.reports)
    for number, (name, report) in enumerate(zip(names, reports.reports, strict=True), start=1):
        yield _Chapter(f"r{number}", name + report.snapshot.host, (_of_what(report),), _sections(report))


def _compared(comparison: Comparison) -> _Chapter:
    told = (tables.changes(comparison), element("p", f"{unchanged_of(comparison)}."))
    return _Chapter("changed", "What changed, the largest first", told, ())


def _both_ends(joined: Joined) -> _Chapter:
    pairs = _list((element("li", pair_of(pair)) for pair in joined.pairs), len(joined.pairs), tables.ROWS)
    return _Chapter("ends", "Both ends of connections", (*pairs, element("p", f"{joined_of(joined)}.")), ())


def _of_what(report: Report) -> Element:
    snapshot = report.snapshot
    began = report.start.ts_us
    facts = {
        "kernel": f"Linux {snapshot.kernel}",
        "from": _clock(began),
        "to": _clock(snapshot.ts_us),
        "lasting": lasting(snapshot.elapsed_us),
        "hooks": snapshot.hooks,
    }
    if report.parts != (1,):
        facts["parts"] = spans(report.parts)
    pairs = (
        element("div", element("dt", name), element("dd", element("bdi", value)))
        for name, value in facts.items()
    )
    return element("dl", *pairs, class_="facts")


def _clock(ts_us: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(ts_us // SECOND))


def _sections(report: Report) -> tuple[_Section, ...]:
    """Those that have something to tell."""
    every = (
        _Section("limits", "What limits the conclusions", _limits(report)),
        _Section("verdict", "Verdict", _verdict(report)),
        _Section("whatif", "What if", tuple(tables.outcomes(report.outcomes))),
        _Section("time", "TIME_WAITs over time", _over_time(report)),
        _Section("who", "Who", _who(report)),
        _Section("does", "What each process does", _sentences(report)),
        _Section("held", "Never closed, as of the end", (tables.never_closed(report.never_closed),)),
        _Section("sites", "Call sites", tuple(tables.call_sites(report.snapshot.sites))),
        _Section("states", "Ways from state to state", _states(report)),
        _Section("ways", "Closed how", (tables.ways(report.ways, report.who.total.closes),)),
        _Section("dwell", "How long states last", (tables.dwells(report.dwells),)),
        _Section("ages", "How long connections last", _ages(report)),
        _Section("ended", "What ended TIME_WAITs", _endings(report)),
        _Section("ports", "Source ports, the most held at once for one destination", (tables.pools(report),)),
        _Section("settings", "Settings that are not the default", tuple(tables.settings(report))),
    )
    return tuple(one for one in every if any(part is not None for part in one.parts))


def _list(items: Iterable[Element], number: int, most: int) -> tuple[Child, ...]:
    """At most so many of them, and how many are left out."""
    shown = [item for item, _ in zip(items, range(most), strict=False)]
    return (element("ul", *shown, class_="told"), tables.left_out(number - most)) if shown else ()


def _limits(report: Report) -> tuple[Child, ...]:
    items = (
        element("li", element("b", f"▲ {_GRAVE}: "), limit.text, class_="grave")
        if limit.grave
        else element("li", limit.text)
        for limit in report.limits
    )
    return _list(items, len(report.limits), _LIMITS) or (element("p", "Nothing."),)


def _verdict(report: Report) -> tuple[Child, ...]:
    no_help = sorted({text for finding in report.findings for text in finding.no_help})
    return (
        *map(_finding, report.findings[:_FINDINGS]),
        tables.left_out(len(report.findings) - _FINDINGS),
        element("p", element("b", "No help: "), "; ".join(no_help), ".") if no_help else None,
    )


def _finding(finding: Finding) -> Element:
    told: list[tuple[str, tuple[str, ...]]] = [("why", (finding.why,))]
    told += [("where", (finding.where,))] if finding.where else []
    told += [("do", (remedy.do, " → ", remedy.effect)) for remedy in finding.remedies]
    if finding.severity > Severity.FINE and finding.refuted_by:
        told.append(("unless", (finding.refuted_by,)))
    pairs = (element("div", element("dt", name), element("dd", *text)) for name, text in told)
    return element(
        "div",
        element(
            "h4",
            element("span", f"{MARKS[finding.severity]} {finding.severity.name}", class_="severity"),
            " ",
            tables.name_of(finding.who.label),
            " ",
            element("small", f"{finding.id}, confidence {finding.confidence}"),
        ),
        element("dl", *pairs),
        class_=f"finding {finding.severity.name.lower()}",
    )


def _who(report: Report) -> tuple[Child, ...]:
    grave = any(limit.grave for limit in report.limits)
    doubt = element("p", element("b", f"▲ {_GRAVE}"), ", see what limits the conclusions.", class_="grave")
    return (tables.who(report.who), doubt if grave else None, element("p", _GRADES, class_="faint"))


def _over_time(report: Report) -> tuple[Child, ...]:
    population = report.population
    if not population.peak:
        return ()
    after = lasting(population.peak_us - population.began_us)
    every = lasting(population.bin_us)
    return (
        element(
            "figure",
            plots.over_time(population),
            element(
                "figcaption",
                f"TIME_WAITs that are there, by owner, every {every}; at most {population.peak:,} at once,"
                f" first after {after}.",
            ),
        ),
        tables.legend(population),
    )


def _sentences(report: Report) -> tuple[Child, ...]:
    items = (element("li", sentence.text) for sentence in report.sentences)
    return _list(items, len(report.sentences), _SENTENCES)


def _states(report: Report) -> tuple[Child, ...]:
    if not report.edges:
        return ()
    elsewhere = left_out(report.edges)
    caption = "Times that connections went this way; dotted: none did. In the states: how many are there."
    if elsewhere:
        caption += f" {elsewhere:,} times they went another way: see the table."
    if report.preexisting:
        caption += f" {report.preexisting:,} TIME_WAITs are from before the trace."
    return (
        element(
            "div",
            element("figure", diagram(report), element("figcaption", caption)),
            tables.edges(report),
            class_="beside",
        ),
    )


def _ages(report: Report) -> tuple[Child, ...]:
    names = ("left a TIME_WAIT", "did not")
    return (tables.durations("Connections by how long they lasted", names, report.ages),)


def _endings(report: Report) -> tuple[Child, ...]:
    if not (report.born or report.preexisting):
        return ()
    ended = sum(one.count for one in report.reasons)
    names = ("expired", "ended otherwise")
    return (
        element(
            "p",
            f"{report.born:,} born + {report.preexisting:,} from before - {ended:,} ended ="
            f" {report.remaining:,} at the end",
        ),
        tables.reasons(report),
        tables.durations("TIME_WAITs by how long they lasted", names, report.lifetimes),
    )
