"""VERDICT: the worst finding, who is behind it and what to change, in two lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tracer.lifetime import TIMEWAIT_US
from tracer.model import Flow, Grade, Snapshot
from tracer.text import duration, endpoint, percent, printable, width
from tracer.tui.cells import Cell, Severity, TextLine, clip, cut, text_of
from tracer.tui.ports import fitting, longest, named, part
from tracer.verdict import HOST, MARKS, Finding
from tracer.verdict import Severity as Weight

_OPEN = "[f]"
"""Opens all findings and their remedies."""
_GAP = "   "
_NAME = 34
_ROOMY = 90
_OWN = 3
"""The most lines that the worst finding has."""
_CLAUSE = re.compile(r"(?<!:): |; |, | \(")
"""Where a sentence may end early; not after an IPv6 address that ends in `::`."""
_ENOUGH = 0.6
"""The part of the room a sentence has to fill if it is to end there."""
_OF_PORTS = ("connect_failing", "ports_exhausting")


def title(snapshot: Snapshot, columns: int) -> str:
    """The border's title."""
    del snapshot
    return longest(("VERDICT",), columns)


def render(
    findings: tuple[Finding, ...], snapshot: Snapshot, columns: int, rows: int
) -> tuple[TextLine, ...]:
    """What `judge()` found: the worst, then who, why and what to do; the others if there are more rows.

    The last line of the worst one ends in how many others are not shown, and the key that shows them.
    """
    if not findings or rows < 1:
        return ()
    worst, *others = findings
    is_fine = worst.severity is Weight.FINE
    own = min(rows, 2 if is_fine else _OWN)
    shown, left_out = others[: rows - own], others[rows - own :]
    key = _key(sum(one.severity > Weight.FINE for one in left_out), columns)
    sizes = [columns] * (own - 1) + [columns - width(key) - len(_GAP)]
    lines = _fine(snapshot, sizes) if is_fine else _worst(worst, snapshot, sizes)
    blank = columns - width(text_of(lines[-1])) - width(key)
    lines[-1] = (*lines[-1], Cell(" " * blank), Cell(key, Severity.STRONG))
    lines += [_sentence(one, columns, f"{one.who.label}: ") for one in shown]
    return tuple(lines)


def _key(left_out: int, columns: int) -> str:
    if not left_out:
        return _OPEN
    return f"+{left_out} more {_OPEN}" if columns >= _ROOMY else f"+{left_out} {_OPEN}"


def _fine(snapshot: Snapshot, sizes: list[int]) -> list[TextLine]:
    """That all is well, and how sure that is."""
    forms = tuple(f"{MARKS[Weight.FINE]} nothing to worry about: {how}" for how in _how_well(snapshot))
    checked = [part(1, "no connect() failed, nobody leaves sockets open")]
    if snapshot.elapsed_us < TIMEWAIT_US:
        seen = f"only {duration(snapshot.elapsed_us)} were traced, a TIME_WAIT lasts 60"
        checked.append(part(0, seen, Severity.FAINT))
    lines: list[TextLine] = [(Cell(longest(forms, sizes[0]), Severity.STRONG),)]
    return lines + [fitting(checked, size, _GAP) for size in sizes[1:]]


def _how_well(snapshot: Snapshot) -> Iterator[str]:
    count = f"{snapshot.total.time_wait_now:,} TIME_WAITs"
    pools = [(pool.used / pool.size, pool, pool.size) for pool in snapshot.pools if pool.size]
    if not pools:
        yield f"{count}, none of which holds a source port of a client"
        yield count
        return
    _, pool, size = max(pools, key=lambda one: one[0])
    share = percent(min(pool.used, size), size)
    there = "any destination" if pool.daddr is None else endpoint(pool.daddr, pool.dport or 0)
    where = printable(f"{pool.saddr} → {there}")
    holds = f"{pool.used:,} of {size:,} ports ({share})"
    yield f"{count}, the fullest pool {where} holds {holds}"
    yield f"{count}, the fullest pool holds {holds}"
    yield f"{count}, the fullest pool is {share} full"
    yield count


def _worst(finding: Finding, snapshot: Snapshot, sizes: list[int]) -> list[TextLine]:
    """Its sentence; then who, why and what to do, in one line or, if there are three, in two."""
    sentence = _sentence(finding, sizes[0])
    who, why, do = _who(finding, snapshot), _why(finding, snapshot), _do(finding)
    if len(sizes) < _OWN:
        return [sentence, *(_first(_in_one(who, why, do), size) for size in sizes[1:])]
    doubt = [] if finding.confidence == "high" else [_field("confidence", finding.confidence)]
    behind = [[who[0], *why[:1], *doubt], [who[0], *why[:1]], [who[-1], *why[-1:]], [who[-1]]]
    return [sentence, _first(behind, sizes[1]), _first([[one] for one in do], sizes[2])]


def _in_one(who: list[TextLine], why: list[TextLine], do: list[TextLine]) -> list[list[TextLine]]:
    """Who, why and what to do in ever fewer words."""
    return [
        *([who[0], *why[:1], one] for one in do[:-1]),
        [who[-1], *why[:1], *do[-2:-1]],
        [who[-1], *why[:1], *do[-1:]],
        [who[-1], *why[-1:], *do[-1:]],
        [who[-1], *do[-1:]],
    ]


def _first(forms: list[list[TextLine]], columns: int) -> TextLine:
    """The first of them that fits; the last one cut if none does."""
    joined = [tuple(cell for field in form for cell in (Cell(_GAP), *field))[1:] for form in forms]
    return next((line for line in joined if width(text_of(line)) <= columns), clip(joined[-1], columns))


def _field(name: str, text: str, severity: Severity = Severity.PLAIN) -> TextLine:
    return Cell(f"{name}: ", Severity.FAINT), Cell(printable(text), severity)


def _sentence(finding: Finding, columns: int, before: str = "") -> TextLine:
    """Mark and word of its severity, and what it says, in fewer words if there is little room."""
    severity = Severity.WARN if finding.severity >= Weight.WARN else Severity.STRONG
    head = Cell(f"{MARKS[finding.severity]} {finding.severity.name}  ", severity)
    forms = [printable(f"{before}{form}") for form in (finding.why, *_shorter(finding))]
    return head, Cell(_cut(forms, columns - width(head.text)))


def _cut(forms: list[str], columns: int) -> str:
    """The first form that fits; or else the last one to the end of a clause, or of a word."""
    for form in forms:
        if width(form) <= columns:
            return form
    clauses = [forms[-1][: found.start()] for found in _CLAUSE.finditer(forms[-1])]
    whole = [one for one in clauses if one.count("(") == one.count(")") and width(one) <= columns]
    if whole and width(whole[-1]) >= _ENOUGH * columns:
        return whole[-1]
    short = cut(forms[-1], columns).rstrip()
    if forms[-1][len(short) - 1 :].startswith(" "):  # it ends with a word
        return short
    words, _, _ = short.rpartition(" ")
    return f"{words}…" if width(words) >= _ENOUGH * columns else short


def _shorter(finding: Finding) -> Iterator[str]:
    """The same in fewer words, its figures last."""
    facts = finding.evidence
    if finding.id == "reconnects":
        kept = f"{_int(facts['reconnects']):,} of {_int(facts['closes']):,} connections"
        yield f"closes first and reconnects within a second: {kept}"
        yield f"closes first and reconnects: {kept}"
    if finding.id not in _OF_PORTS:
        return
    used, size = _int(facts["time_waits"]) + _int(facts["live"]), _int(facts["ports"])
    held = f"{used:,} of {size:,} ports" if size else f"{used:,} ports"
    there = "any destination"
    if facts["daddr"] is not None:
        there = endpoint(str(facts["daddr"]), _int(facts["dport"]))
    if finding.id == "connect_failing":
        failed = f"connect() failed {_int(facts['failures']):,}×"
        yield f"{facts['saddr']} → {there}: {failed}, {held} held"
        yield f"→ {there}: {failed}, {held} held"
        yield f"→ {there}: {failed}"
    else:
        then = finding.why.rpartition(": ")[2]
        yield f"{facts['saddr']} → {there} holds {held}: {then}"
        yield f"→ {there} holds {held}: {then}"
        yield f"→ {there} is {percent(min(used, size), size)} full: {then}"


def _int(fact: float | str | None) -> int:
    return int(fact or 0)


def _who(finding: Finding, snapshot: Snapshot) -> list[TextLine]:
    """With its share of a pool's TIME_WAITs, if that is known, and without."""
    if finding.who == HOST:
        return [_field("who", HOST.label)]
    name = named(finding.who.label, finding.who.grade or Grade.UNKNOWN, _NAME)
    flow = _flow(finding, snapshot)
    whole = _int(finding.evidence.get("time_waits")) if finding.id in _OF_PORTS else 0
    plain = _field("who", name, Severity.STRONG)
    if flow is None or not 0 < flow.time_wait_now <= whole:
        return [plain]
    return [(*plain, Cell(f", {percent(flow.time_wait_now, whole)} of them")), plain]


def _why(finding: Finding, snapshot: Snapshot) -> list[TextLine]:
    """Its habit, where the sentence is about ports and does not tell; the longest form first."""
    flow = _flow(finding, snapshot)
    if finding.id not in (*_OF_PORTS, "time_wait_overflow") or flow is None:
        return []
    if 2 * flow.first_local <= flow.closes:
        return []
    closes = f"closes first after {duration(flow.age_p50_us)}"
    if 2 * flow.reconnects >= flow.closes:
        return [_field("why", f"{closes} and reconnects"), _field("why", closes)]
    return [_field("why", closes)]


def _flow(finding: Finding, snapshot: Snapshot) -> Flow | None:
    """What it mainly did, with the destination that the finding is about, if it is about one."""
    there = (finding.evidence.get("daddr"), finding.evidence.get("dport"))
    flows = [
        flow
        for flow in snapshot.flows
        if flow.who == finding.who and (there[0] is None or (flow.remote, flow.port) == there)
    ]
    return max(flows, key=lambda flow: flow.closes, default=None)


def _do(finding: Finding) -> list[TextLine]:
    """The first remedy and what it brings, in ever fewer words."""
    if not finding.remedies:
        return [()]
    remedy = finding.remedies[0]
    do, effect = _gist(remedy.do), _gist(remedy.effect)
    forms = (f"{remedy.do} → {remedy.effect}", f"{do} → {remedy.effect}", f"{do} → {effect}", do)
    return [_field("do", form) for form in forms]


def _gist(text: str) -> str:
    """Its first clause."""
    return _CLAUSE.split(text, maxsplit=1)[0]
