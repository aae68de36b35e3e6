"""A report for people: at most 99 columns."""

from __future__ import annotations

import time
from collections.abc import Iterable

from tracer.report.callsites import call_sites
from tracer.report.layout import COLUMNS, lasting, more, spans, wrapped
from tracer.report.model import Report, Reports
from tracer.report.sections import (
    endings,
    lifetimes,
    never_closed,
    over_time,
    ports,
    states,
    ways,
    who,
)
from tracer.report.together import both_ends, changes
from tracer.series import SECOND
from tracer.settings import SETTINGS, Setting
from tracer.verdict import MARKS, Finding, Severity
from tracer.whatif import Outcome

_BOLD, _YELLOW, _RESET = "\x1b[1m", "\x1b[33m", "\x1b[0m"


def render(report: Report, *, color: bool = False) -> str:
    """One report."""
    return _shown(_lines(report), color)


def render_all(reports: Reports, *, color: bool = False) -> str:
    """All of them; what they are worth together comes first."""
    lines: list[str] = []
    if reports.comparison is not None:
        before, after = reports.reports
        for title, report in (("BEFORE", before), ("AFTER", after)):
            lines += [title, *wrapped(_head(report)), *_limits(report), ""]
        lines += ["CHANGED, the largest first", *changes(reports.comparison)]
        return _shown(lines, color)
    if reports.joined is not None:
        lines += ["BOTH ENDS of connections between these hosts", *both_ends(reports.joined)]
    for report in reports.reports:
        lines += ["", "═" * COLUMNS, ""] if lines else []
        lines += _lines(report)
    return _shown(lines, color)


def _lines(report: Report) -> list[str]:
    grave = any(limit.grave for limit in report.limits)
    doubtful = " (▲ figures may be wrong, see LIMITS)" if grave else ""
    lines = [*wrapped(_head(report), indent=""), ""]
    for title, section in (
        ("LIMITS of what can be concluded", _limits(report)),
        ("", _verdict(report)),
        ("NO HELP", [f"  {text}" for text in sorted({t for f in report.findings for t in f.no_help})]),
        ("", _outcomes(report.outcomes)),
        (f"WHO, by {report.who.by}{doubtful}", who(report.who)),
        ("WHAT EACH DOES", _sentences(report)),
        ("NEVER CLOSED, as of the end", never_closed(report.never_closed)),
        ("CALL SITES, where in its program a process closes", call_sites(report.snapshot.sites)),
        ("CLOSED HOW", ways(report.ways, report.who.total.closes)),
        ("STATES and how long they last (quantiles within 1.6 %)", states(report.dwells)),
        ("TIME_WAITS and what ended them", endings(report)),
        ("TIME_WAITS over time, by owner", over_time(report.population)),
        ("CONNECTIONS by how long they last", lifetimes(report.ages)),
        ("SOURCE PORTS, the most held at once for one destination", ports(report)),
        ("SETTINGS that are not the default (read only)", _settings(report)),
    ):
        if section:
            lines += [title] * bool(title) + [*section, ""]
    return lines[:-1]


def _head(report: Report) -> str:
    snapshot = report.snapshot
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.start.ts_us // SECOND))
    parts = f", parts {spans(report.parts)}" if report.parts != (1,) else ""
    return (
        f"{snapshot.host}  Linux {snapshot.kernel}  from {began}, {lasting(snapshot.elapsed_us)}{parts}"
        f"  hooks {snapshot.hooks}"
    )


def _limits(report: Report) -> list[str]:
    lines = []
    for limit in report.limits:
        mark = "▲" if limit.grave else "·"
        lines += wrapped(f"{mark} {limit.text}", indent="  ", hang="    ")
    return lines


def _verdict(report: Report) -> list[str]:
    lines: list[str] = []
    for finding in report.findings:
        lines += [*([""] if lines else []), *_finding(finding)]
    return lines


def _finding(finding: Finding) -> list[str]:
    head = f"{MARKS[finding.severity]} {finding.severity.name:<8} {finding.who.label}"
    lines = wrapped(f"{head}  ({finding.id}, confidence {finding.confidence})", indent="")
    lines += _labelled("why:", finding.why)
    lines += _labelled("where:", finding.where) if finding.where else []
    for remedy in finding.remedies:
        lines += _labelled("do:", f"{remedy.do} → {remedy.effect}")
    if finding.severity > Severity.FINE:
        lines += _labelled("unless:", finding.refuted_by)
    return lines


def _sentences(report: Report) -> list[str]:
    lines = []
    for sentence in report.sentences[:_SENTENCES]:
        lines += wrapped(sentence.text, indent="  ", hang="    ")
    return lines + more(len(report.sentences) - _SENTENCES)


_SENTENCES = 20


def _labelled(label: str, text: str) -> list[str]:
    return wrapped(text, indent=f"    {label:<8}", hang=" " * 12)


def _outcomes(outcomes: tuple[Outcome, ...]) -> list[str]:
    lines: list[str] = []
    for outcome in outcomes:
        lines += [*([""] if lines else []), *_outcome(outcome)]
    return lines


def _outcome(outcome: Outcome) -> list[str]:
    lines = [f"WHAT IF {outcome.change}", f"  {'':<34}{'seen':>10}{'model':>10}{'after':>10}"]
    for name, title in FIGURES.items():
        figures = (getattr(one, name) for one in (outcome.seen, outcome.before, outcome.after))
        lines.append(f"  {title:<34}" + "".join(f"{figure:>10,}" for figure in figures))
    return lines


FIGURES = {
    "connections": "connections",
    "failures": "connect() without a port",
    "time_waits_peak": "TIME_WAITs at most",
    "time_waits_end": "TIME_WAITs at the end",
    "client_side_peak": "  of clients at most",
    "server_side_peak": "  of servers at most",
    "ports_peak": "ports of one destination at most",
    "reused": "TIME_WAITs reused",
    "overflowed": "TIME_WAITs left out (overflow)",
}


def _settings(report: Report) -> list[str]:
    lines = []
    for netns, changed in changed_settings(report):
        lines.append(f"  netns {netns}")
        for setting, value in changed:
            default = setting.default or "none"
            lines += wrapped(
                f"net.ipv4.{setting.name} = {value} (default {default})", indent="  ", hang="    "
            )
            lines += _labelled("does:", setting.does)
            lines += _labelled("not:", setting.does_not)
    return lines


Changed = list[tuple[Setting, int | str]]
"""Settings and their values."""


def changed_settings(report: Report) -> list[tuple[int, Changed]]:
    """By namespace, if it has pools or is the only one: those that are certainly not the default."""
    of_all = report.snapshot.settings
    with_pools = {pool.netns for pool in report.pools}
    found = []
    for netns, values in of_all.items():
        if len(of_all) == 1 or netns in with_pools:
            known = ((setting, values.get(setting.name)) for setting in SETTINGS)
            changed = [
                (setting, value)
                for setting, value in known
                if value is not None and setting.differs(str(value))
            ]
            found += [(netns, changed)] if changed else []
    return found


def _shown(lines: Iterable[str], color: bool) -> str:
    return "".join(f"{_painted(line) if color else line}\n" for line in lines)


def _painted(line: str) -> str:
    """Colour repeats what a mark, or capitals at the beginning, say already."""
    if line.lstrip().startswith(("▲", "✘")):
        return f"{_YELLOW}{line}{_RESET}"
    is_title = line[:2].isalpha() and line[:2].isupper()
    return f"{_BOLD}{line}{_RESET}" if is_title else line
