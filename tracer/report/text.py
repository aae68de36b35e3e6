"""A report for people."""

from __future__ import annotations

import textwrap
import time

from tracer.model import Pool, Snapshot
from tracer.report.model import Report
from tracer.series import SECOND
from tracer.settings import SETTINGS, Values
from tracer.table import rows
from tracer.text import endpoint, printable
from tracer.verdict import MARKS, Finding, Severity
from tracer.whatif import Outcome

_COLUMNS = 100
_POOLS = 5


def render(report: Report, *, color: bool = False) -> str:
    """For people."""
    snapshot = report.snapshot
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.start.ts_us // SECOND))
    host, kernel, hooks = map(printable, (snapshot.host, snapshot.kernel, snapshot.hooks))
    seconds = snapshot.elapsed_us / SECOND
    lines = [f"{host}  Linux {kernel}  from {began}, {seconds:.0f} s  hooks {hooks}", ""]
    for finding in report.findings:
        lines += [*_finding(finding), ""]
    for label, texts in (
        ("no help", {text for finding in report.findings for text in finding.no_help}),
        ("limits", {text for finding in report.findings for text in finding.limits}),
    ):
        if texts:
            lines += [f"{label.upper()}:", *(f"  {printable(text)}" for text in sorted(texts)), ""]
    for outcome in report.outcomes:
        lines += [*_outcome(outcome), ""]
    lines += ["WHO, as of the end", *rows(snapshot, color=color)]
    if snapshot.pools:
        lines += ["", "SOURCE PORTS, as of the end", *(_pool(pool) for pool in snapshot.pools[:_POOLS])]
    settings = _settings(snapshot)
    if settings:
        lines += ["", "SETTINGS that are not the default (read only)", *settings]
    return "\n".join(lines) + "\n"


def _finding(finding: Finding) -> list[str]:
    head = f"{MARKS[finding.severity]} {finding.severity.name:<8} {printable(finding.who.label)}"
    lines = [f"{head}  ({finding.id}, confidence {finding.confidence})", *_indented("why:", finding.why)]
    for remedy in finding.remedies:
        lines += _indented("do:", f"{remedy.do} → {remedy.effect}")
    if finding.severity > Severity.FINE:
        lines += _indented("unless:", finding.refuted_by)
    return lines


def _indented(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        printable(text), _COLUMNS, initial_indent=f"    {label:<8}", subsequent_indent=" " * 12
    )


def _pool(pool: Pool) -> str:
    where = endpoint(pool.daddr, pool.dport) if pool.daddr and pool.dport is not None else "any (bound)"
    size = f"{pool.size:,}" if pool.size is not None else "?"
    return (
        f"  {pool.saddr} → {where}: {pool.time_waits:,} TIME_WAIT + {pool.live:,} live of {size};"
        f" at {pool.birth_rate:,.1f}/s settles at {pool.settles:,.0f}; {pool.failures:,} failed"
    )


def _outcome(outcome: Outcome) -> list[str]:
    lines = [f"WHAT IF {outcome.change}", f"  {'':<34}{'seen':>10}{'model':>10}{'after':>10}"]
    for name, title in _FIGURES.items():
        figures = (getattr(one, name) for one in (outcome.seen, outcome.before, outcome.after))
        lines.append(f"  {title:<34}" + "".join(f"{figure:>10,}" for figure in figures))
    return lines


_FIGURES = {
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


def _settings(snapshot: Snapshot) -> list[str]:
    lines = []
    for netns, values in snapshot.settings.items():
        if len(snapshot.settings) == 1 or any(netns == pool.netns for pool in snapshot.pools):
            changed = _changed(values)
            lines += [f"  netns {netns}", *changed] if changed else []
    return lines


def _changed(values: Values) -> list[str]:
    lines = []
    for setting in SETTINGS:
        value = values.get(setting.name)
        if value is not None and setting.differs(str(value)):
            default = setting.default or "none"
            lines.append(f"  net.ipv4.{setting.name} = {printable(str(value))} (default {default})")
            lines += _indented("does:", setting.does)
            lines += _indented("not:", setting.does_not)
    return lines
