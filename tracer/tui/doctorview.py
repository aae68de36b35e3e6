"""DOCTOR: what this kernel allows, or, of a replay, what the traced one did. Pure: it only lays out facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracer.model import Snapshot, Start
from tracer.settings import SETTINGS, Setting
from tracer.text import fit, printable, width
from tracer.tui.cells import WARNING, Cell, Severity, TextLine
from tracer.tui.wrapping import LABEL, paragraph, within

_MOST = 140
"""Columns of running text: longer lines are hard to follow."""
_NO_LIMIT = 1 << 30
"""Of rows: the screen scrolls."""

_MARKS = {"works": "✔", "refused": "✘", "missing": "–"}
_BEFORE_NAME = 21
"""Columns of mark, status and need."""
_BEFORE_VALUE, _VALUE = 27, 14


def render(
    examined: Mapping[str, Any] | None, snapshot: Snapshot, columns: int, start: Start | None = None
) -> tuple[TextLine, ...]:
    """What `twtrace doctor --json` found here; without that, what the trace itself says.

    `start` is a replay's: then this host was not asked.
    """
    columns = min(columns, _MOST)
    lines = [*_traced(snapshot, start, columns)] if examined is None else [*_examined(examined, columns)]
    return within(lines, columns, _NO_LIMIT)


def _examined(examined: Mapping[str, Any], columns: int) -> Iterator[TextLine]:
    hooks = examined["hooks"]
    if hooks:
        text = f"{_MARKS['works']} twtrace works here: TIME_WAIT facts come from the {hooks} hooks"
        yield from paragraph("", text, columns, Severity.STRONG)
    else:
        yield from paragraph("", f"{WARNING} twtrace does not work here", columns, Severity.WARN)
    yield from _labelled("why", str(examined["why"]), columns)
    yield from _labelled("kernel", f"Linux {examined['kernel']}", columns)
    yield ()
    yield from _checks(examined["checks"], columns)
    yield ()
    yield from _settings("SETTINGS of this network namespace, read only", examined["sysctl"], columns)


def _traced(snapshot: Snapshot, start: Start | None, columns: int) -> Iterator[TextLine]:
    """What was said of the traced host when it was traced."""
    if start is None:
        text = "This host has not answered yet, or was not asked; this is what the trace says:"
    else:
        text = "A replay: this host was not asked; this is what the trace says:"
    yield from paragraph("", text, columns, Severity.STRONG)
    yield from _labelled("host", snapshot.host, columns)
    yield from _labelled("kernel", f"Linux {snapshot.kernel}", columns)
    hooks = {"source": snapshot.hooks}
    if start is not None:
        yield from _labelled("twtrace", start.version, columns)
        yield from _labelled("command", " ".join(start.argv), columns)
        yield from _labelled("filters", " ".join(map(_filter, start.filters.items())) or "none", columns)
        hooks = start.hooks
    yield ()
    yield _heading("HOOKS, by what is known from each")
    for name, hook in hooks.items():
        yield from paragraph(f"  {fit(printable(name), 14)} ", hook, columns)
    for namespaces, values in _alike(snapshot.settings):
        yield ()
        yield from _settings(f"SETTINGS of netns {', '.join(namespaces)}, read only", values, columns)


def _labelled(label: str, text: str, columns: int) -> tuple[TextLine, ...]:
    return paragraph(label, text, columns, indent=LABEL)


def _filter(given: tuple[str, object]) -> str:
    name, value = given
    return f"{name}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"


def _heading(text: str) -> TextLine:
    return (Cell(printable(text), Severity.FAINT),)


def _checks(checks: Iterable[Mapping[str, Any]], columns: int) -> Iterator[TextLine]:
    found = [{name: _plain(value) for name, value in check.items()} for check in checks]
    failed = [check for check in found if check["status"] != "works"]
    needed = sum(bool(check["needed"]) for check in failed)
    sums = f"CHECKS  {len(found)} tried, {len(found) - len(failed)} work"
    if failed:
        sums += f", {len(failed)} do not, {needed or 'none'} of them needed"
    yield _heading(sums)
    beside = _BEFORE_NAME + max((width(printable(str(check["name"]))) for check in found), default=0)
    # What does not work comes first, and of that what is needed.
    for check in sorted(found, key=lambda one: (one["status"] == "works", not one["needed"])):
        yield from _check(check, beside, columns)


def _check(check: Mapping[str, Any], beside: int, columns: int) -> Iterator[TextLine]:
    """One, with its detail at column `beside` if there is room for that."""
    status, detail = str(check["status"]), printable(str(check["detail"]))
    need = "needed" if check["needed"] else "optional"
    severity = Severity.PLAIN
    if status != "works":
        severity = Severity.WARN if check["needed"] else Severity.STRONG
    head = f"{_MARKS.get(status, '?')} {fit(printable(status), 8)} {need:<9} {printable(str(check['name']))}"
    if beside + 2 + width(detail) <= columns:
        yield Cell(fit(head, beside + 2), severity), Cell(detail)
    else:
        yield (Cell(head, severity),)
        yield from paragraph(" " * _BEFORE_NAME, detail, columns)
    if check["hint"]:
        yield from paragraph(" " * _BEFORE_NAME, f"→ {check['hint']}", columns, Severity.STRONG)


def _plain(value: object) -> object:
    """An enum's value: `asdict()` leaves them in."""
    return getattr(value, "value", value)


def _settings(title: str, values: Mapping[str, int | str], columns: int) -> Iterator[TextLine]:
    yield _heading(title)
    known = {setting.name: setting for setting in SETTINGS}
    for name, value in values.items():
        yield from _setting(name, str(value), known.get(name), columns)


def _setting(name: str, value: str, setting: Setting | None, columns: int) -> Iterator[TextLine]:
    """One, and what it does; with what it does not where somebody has changed it."""
    differs = setting is not None and setting.differs(value)
    default = f"default {setting.default or 'none'}" if setting else ""
    mark = "≠" if differs else " "
    text = f"{mark} {printable(name):<24} {printable(value) or 'none'}"
    padded = fit(text, max(width(text), _BEFORE_VALUE + _VALUE))
    yield Cell(padded, Severity.STRONG if differs else Severity.PLAIN), Cell(f" {default}", Severity.FAINT)
    if setting:
        yield from paragraph(" " * 4, setting.does, columns)
        if differs:
            yield from paragraph(" " * 4, f"does not {setting.does_not}", columns, Severity.STRONG)


def _alike(
    settings: Mapping[int, Mapping[str, int | str]],
) -> list[tuple[list[str], Mapping[str, int | str]]]:
    """Namespaces with the same settings together."""
    groups: list[tuple[list[str], Mapping[str, int | str]]] = []
    for netns, values in settings.items():
        for namespaces, others in groups:
            if others == values:
                namespaces.append(str(netns))
                break
        else:
            groups.append(([str(netns)], values))
    return groups
