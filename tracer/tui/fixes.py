"""FIX: what to change, for whom, why, and the command for it. Nothing is ever done to the host. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tracer.advice import Remedy
from tracer.claims import claim
from tracer.model import Snapshot
from tracer.settings import NAMES, SETTINGS
from tracer.text import duration, printable, width
from tracer.tui.cells import GLYPHS, NOTHING, Cell, TextLine, text_of
from tracer.tui.cells import Severity as Weight
from tracer.tui.wrapping import GLUE, LABEL, between, paragraph, within
from tracer.verdict import HOST, MARKS, Finding, Severity

_MOST = 120
"""Columns of running text: longer lines are hard to follow."""

_NO_LIMIT = 1 << 30
"""Of rows: the screen scrolls."""

_SYSCTL = re.compile(r'sysctl net\.ipv4\.([a-z0-9_]+)=(\d+|"(\d+) (\d+)")(?:,|$)')
"""A remedy that says what to set."""

_SETTINGS = {setting.name: setting for setting in SETTINGS}


class _Setting(NamedTuple):
    name: str
    value: str
    """As a shell takes it."""

    @property
    def change(self) -> str:
        """As `twtrace report --what-if` takes it."""
        name = self.name.removeprefix("tcp_").removeprefix("ip_local_")
        return f"{name}={self.value.strip(chr(34)).replace(' ', '-')}"


def render(
    findings: tuple[Finding, ...], snapshot: Snapshot, columns: int, row: str | None = None
) -> tuple[TextLine, ...]:
    """All findings with what they rest on and what to do, those of the row of that key first.

    As many lines as it takes.
    """
    columns = min(columns, _MOST)
    screen = _Screen(snapshot, columns, commands(findings, snapshot, row))
    mine, others = _shared(findings, snapshot, row)
    lines: list[TextLine] = []
    if row is not None and not mine:
        text = f"{MARKS[Severity.FINE]} nothing to change for {_label(snapshot, row)}"
        lines += [*paragraph("", text, columns, Weight.STRONG), ()]
    for finding in mine:
        lines += [*screen.finding(finding), ()]
    if row is not None and others:
        lines += [(Cell("ELSEWHERE ON THIS HOST", Weight.FAINT),), ()]
    for finding in others:
        lines += [*screen.finding(finding), ()]
    notes = [*_notes(findings, columns)]
    return within([*lines, *notes] if notes else lines[:-1], columns, _NO_LIMIT)


def commands(findings: tuple[Finding, ...], snapshot: Snapshot, row: str | None = None) -> tuple[str, ...]:
    """The commands shown, in that order, each once; one line of shell each, with no foreign text in it."""
    mine, others = _shared(findings, snapshot, row)
    found = (
        _command(finding, remedy, snapshot) for finding in (*mine, *others) for remedy in finding.remedies
    )
    return tuple(dict.fromkeys(command for command in found if command))


def brief(
    findings: tuple[Finding, ...], snapshot: Snapshot, row: str, columns: int, rows: int
) -> tuple[TextLine, ...]:
    """What to change for one row, a remedy a line, the best first; then what does not help."""
    mine, _ = _shared(findings, snapshot, row)
    remedies = {remedy.do: remedy for finding in mine for remedy in finding.remedies}
    lines: list[TextLine] = [
        (
            Cell(
                f"{number} {printable(remedy.do.split(' (')[0])}",
                Weight.STRONG if number == 1 else Weight.PLAIN,
            ),
            Cell(f" → {printable(remedy.effect)}"),
        )
        for number, remedy in enumerate(remedies.values(), 1)
    ]
    if not lines:
        lines = [(Cell(f"{MARKS[Severity.FINE]} nothing to change here", Weight.STRONG),)]
    no_help = _each(text for finding in mine for text in finding.no_help)
    if no_help and rows > len(lines):
        lines.append((Cell(f"{MARKS[Severity.CRITICAL]} no help: {' · '.join(no_help)}", Weight.FAINT),))
    return within(lines, columns, rows)


def _shared(
    findings: tuple[Finding, ...], snapshot: Snapshot, row: str | None
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Those of the row, and the others."""
    if row in (None, snapshot.total.key):
        return findings, ()
    mine = tuple(finding for finding in findings if finding.who.row == row)
    return mine, tuple(finding for finding in findings if finding.who.row != row)


def _label(snapshot: Snapshot, key: str) -> str:
    rows = (*snapshot.rows, snapshot.unknown)
    return next((row.label for row in rows if row.key == key), "what was selected")


class _Screen:
    """Findings into lines; what has been said is not said again."""

    def __init__(self, snapshot: Snapshot, columns: int, copied: tuple[str, ...]) -> None:
        self._snapshot = snapshot
        self._columns = columns
        self._copied = copied
        self._said: set[object] = set()

    def finding(self, finding: Finding) -> Iterator[TextLine]:
        """One of them."""
        yield _head(finding, self._columns)
        yield from self._labelled("why", finding.why)
        if finding.where:
            yield from self._labelled("where", finding.where)
        figures = " · ".join(_figures(finding))
        if figures:
            yield from self._labelled("evidence", figures, Weight.FAINT)
        for number, remedy in enumerate(finding.remedies, 1):
            yield from self._remedy(number, finding, remedy)
        if finding.severity > Severity.FINE and finding.refuted_by:
            yield from self._labelled("unless", finding.refuted_by)

    def _remedy(self, number: int, finding: Finding, remedy: Remedy) -> Iterator[TextLine]:
        command = _command(finding, remedy, self._snapshot)
        what = command or (remedy.do, remedy.effect)
        if what in self._said:
            yield from self._labelled(f"do {number}", f"{remedy.do}: as above")
            return
        self._said.add(what)
        yield from self._labelled(f"do {number}", remedy.do, Weight.STRONG)
        yield from self._labelled("", f"→ {remedy.effect}")
        setting = _setting(finding, remedy)
        if setting is None or command is None:
            return
        yield from self._labelled("", _now(setting, finding, self._snapshot))
        yield from self._labelled("", f"does not {_SETTINGS[setting.name].does_not}", Weight.FAINT)
        presses = self._copied.index(command) + 1
        key = "y" if presses == 1 else f"y ×{presses}"
        yield from self._to_copy(f"$ {command}", f"{key} copies it")

    def _to_copy(self, command: str, how: str) -> Iterator[TextLine]:
        *rest, last = self._labelled("", command, Weight.STRONG)
        yield from rest
        beside = (*last, Cell("   "), Cell(how, Weight.FAINT))
        if width(text_of(beside)) <= self._columns:
            yield beside
        else:
            yield last
            yield from self._labelled("", how, Weight.FAINT)

    def _labelled(self, label: str, text: str, weight: Weight = Weight.PLAIN) -> tuple[TextLine, ...]:
        return _labelled(label, text, self._columns, weight)


def _head(finding: Finding, columns: int) -> TextLine:
    glyph = "" if finding.who == HOST else f"{GLYPHS[finding.who.grade]} "
    name = f"{MARKS[finding.severity]} {finding.severity.name:<8}  {glyph}{printable(finding.who.label)}"
    weight = Weight.WARN if finding.severity >= Severity.WARN else Weight.STRONG
    confidence = f"confidence {printable(finding.confidence)}"
    named = f"{printable(finding.id)}, {confidence}"
    return between(name, named if width(name) + width(named) < columns else confidence, columns, weight)


def _labelled(label: str, text: str, columns: int, weight: Weight = Weight.PLAIN) -> tuple[TextLine, ...]:
    return paragraph(f"  {label}", text, columns, weight, 2 + LABEL)


def _now(wanted: _Setting, finding: Finding, snapshot: Snapshot) -> str:
    netns = _netns(finding, snapshot)
    value = None if netns is None else snapshot.settings.get(netns, {}).get(wanted.name)
    where = "" if netns is None else f", netns {netns}"
    default = _SETTINGS[wanted.name].default or "none"
    return f"now {NOTHING if value is None else value}, default {default}{where}"


def _setting(finding: Finding, remedy: Remedy) -> _Setting | None:
    """What the remedy sets, if it is one of the settings we know: nothing else becomes a command."""
    if remedy.kind != "setting":
        return None
    if match := _SYSCTL.match(remedy.do):
        name, value = match[1], match[2]
        return _Setting(name, value) if name in NAMES else None
    limit = finding.evidence.get("tcp_max_tw_buckets")
    if finding.id == "time_wait_overflow" and isinstance(limit, int):
        return _Setting("tcp_max_tw_buckets", str(2 * limit))
    return None


def _command(finding: Finding, remedy: Remedy, snapshot: Snapshot) -> str | None:
    setting = _setting(finding, remedy)
    if setting is None:
        return None
    # Settings are each namespace's own; with several about, ours need not be the one.
    pids = finding.who.pids
    inside = f"nsenter -t {pids[0]:d} -n " if pids and len(snapshot.settings) > 1 else ""
    return f"{inside}sysctl -w net.ipv4.{setting.name}={setting.value}"


def _netns(finding: Finding, snapshot: Snapshot) -> int | None:
    """Where the finding is."""
    told = finding.evidence.get("netns")
    if isinstance(told, int):
        return told
    ends = tuple(finding.evidence.get(name) for name in ("saddr", "daddr", "dport"))
    pools = [pool for pool in snapshot.pools if (pool.saddr, pool.daddr, pool.dport) == ends]
    pools.sort(key=lambda pool: pool.who.row != finding.who.row)
    return pools[0].netns if pools else None


def _figures(finding: Finding) -> Iterator[str]:
    for name, value in finding.evidence.items():
        if not value or name in _SAID:
            continue
        label = _FIGURES.get(name, name.removesuffix("_us").replace("_", " "))
        if name == "time_waits" and "time_wait_now" in finding.evidence:
            label = "TIME_WAITs so far"
        yield printable(f"{label} {_value(name, value)}").replace(" ", GLUE)


def _value(name: str, value: float | str) -> str:
    if isinstance(value, str):
        return value
    if name == "netns":
        return str(value)
    if name.endswith("_us"):
        return duration(int(value))
    return f"{value:,}"


_SAID = {"saddr", "daddr", "dport", "peer", "port", "role", "other_end"}
"""Evidence that is in the sentence as well."""

_FIGURES = {
    "ports": "source ports",
    "time_waits": "TIME_WAITs held",
    "live": "live",
    "failures": "failed",
    "births_per_s": "born/s",
    "settles_at": "settles at",
    "exhausts_in_us": "none left in",
    "skipped": "left out",
    "tcp_max_tw_buckets": "limit",
    "count": "sockets",
    "oldest_us": "oldest",
    "closed_first": "closed first",
    "time_wait_now": "TIME_WAITs now",
    "time_waits_per_s": "TIME_WAITs/s",
    "reconnects": "could have been kept",
    "resets_sent": "resets sent",
    "lingering": "waited for a FIN",
    "age_p50_us": "half lasted less than",
}


def _notes(findings: tuple[Finding, ...], columns: int) -> Iterator[TextLine]:
    """What holds for all of them."""
    no_help = _each(text for finding in findings for text in finding.no_help)
    if no_help:
        yield from _labelled("no help", " · ".join(no_help), columns)
        yield from _labelled("harmful", claim("SO_LINGER").why, columns)
    limits = _each(text for finding in findings for text in finding.limits)
    if limits:
        yield from _labelled("limits", " · ".join(limits), columns, Weight.FAINT)
    changes = _each(
        change for finding in findings for remedy in finding.remedies for change in _changes(finding, remedy)
    )
    if changes:
        tried = " ".join(f"--what-if{GLUE}{change}" for change in changes)
        text = f"R records a trace; then: twtrace report FILE {tried}"
        yield from _labelled("try it", text, columns)


def _changes(finding: Finding, remedy: Remedy) -> Iterator[str]:
    """What `twtrace report --what-if` calls it."""
    setting = _setting(finding, remedy)
    if setting is not None:
        yield setting.change
    elif remedy.kind == "protocol":
        yield "peer-closes-first"
    elif remedy.do.startswith(("keep connections", "let clients keep")):
        yield "keepalive"


def _each(texts: Iterable[str]) -> list[str]:
    """Each once, in the order they come in."""
    return list(dict.fromkeys(texts))
