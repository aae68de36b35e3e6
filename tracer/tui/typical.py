"""A TYPICAL CONNECTION: the commonest course of a process's last ones, as a line in time. No Textual here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median_low
from typing import NamedTuple

from tracer.lifetime import TIMEWAIT_US
from tracer.model import Closed, Flow, Row, Snapshot
from tracer.series import SECOND
from tracer.text import fit, percent, width
from tracer.tui.cells import Cell, Severity, TextLine, clip
from tracer.tui.drill import CALLS, closes_of, closes_with, flows_of, is_poolable
from tracer.tui.sockets import ORDER
from tracer.tui.wrapping import flow as flowing
from tracer.tui.wrapping import paragraph, within

_LATE_US = 5 * SECOND
"""By so much a timer of a minute may be late."""


class _Step(NamedTuple):
    words: str
    us: int
    """Until the next one."""
    fill: str = "─"


_WASTE = 2
"""Times what was of use, from which on it is worth saying."""
_WAITING, _IN_USE = "━", "═"
_WEIGHTS = {_WAITING: 5, _IN_USE: 3}
_ADDED = {_WAITING: 8}
"""What a step's drawing has at least beside its words, if not four columns."""


@dataclass(frozen=True, slots=True)
class _Course:
    steps: tuple[_Step, ...]
    useful_us: int
    measured: bool
    """Whether how long the TIME_WAIT lasts was seen, not reckoned."""
    alike: int
    known: int
    is_client: bool

    @property
    def whole_us(self) -> int:
        return sum(step.us for step in self.steps)

    @property
    def last(self) -> str:
        """What it comes to."""
        return "port free" if self.is_client else "gone"


def typical(snapshot: Snapshot, row: Row, columns: int, rows: int) -> tuple[TextLine, ...]:
    """The commonest course of its last connections as a line in time, and what use came of what cost."""
    busiest = next(iter(flows_of(snapshot, row)), None)
    return _drawn(_course(snapshot, closes_of(snapshot, row)), busiest, columns, rows)


def typical_with(snapshot: Snapshot, flow: Flow, columns: int, rows: int) -> tuple[TextLine, ...]:
    """The same of its connections with one peer."""
    return _drawn(_course(snapshot, closes_with(snapshot, flow)), flow, columns, rows)


def _drawn(course: _Course | None, flow: Flow | None, columns: int, rows: int) -> tuple[TextLine, ...]:
    if course is None:
        text = "none of the last connections was one of these and seen from beginning to end"
        return within(paragraph("", text, columns, Severity.FAINT), columns, rows)
    drawn = _timeline(course, columns)
    use = flowing(_use(course, flow), columns)
    return within((*drawn[max(0, len(drawn) + 1 - rows) :], *use), columns, rows)


def _course(snapshot: Snapshot, closes: tuple[Closed, ...]) -> _Course | None:
    """Medians over those of the commonest kind; None without any."""
    whole = [one for one in closes if one.close.age_us is not None and "ESTABLISHED" in one.close.states]
    kinds: dict[tuple[object, ...], list[Closed]] = {}
    for one in whole:
        close = one.close
        kinds.setdefault((close.role, close.first, close.how, close.time_wait), []).append(one)
    if not kinds:
        return None
    alike = max(kinds.values(), key=len)
    close = alike[0].close
    lifetimes = _lifetimes(snapshot, alike)
    return _Course(
        _steps(alike, _median(lifetimes) if lifetimes else _expected_us(snapshot)),
        _median(one.close.states["ESTABLISHED"] for one in alike),
        bool(lifetimes) or not close.time_wait,
        len(alike),
        len(whole),
        close.role == "client",
    )


def _steps(alike: list[Closed], lifetime_us: int) -> tuple[_Step, ...]:
    close = alike[0].close
    spent = {state: _median(one.close.states.get(state, 0) for one in alike) for state in ORDER}
    opening = {"SYN_SENT", "SYN_RECV"} & close.states.keys()
    steps = [_Step("SYN", sum(spent[state] for state in opening))] if opening else []
    steps.append(_Step("ESTABLISHED", spent["ESTABLISHED"], _IN_USE))
    if close.first == "remote":
        steps.append(_Step("peer FIN", spent["CLOSE_WAIT"]))
        if "LAST_ACK" in close.states:
            steps.append(_Step(_call(alike), spent["LAST_ACK"]))
    elif close.first != "none":
        orphaned = _median(one.end.fin_wait2_us or 0 for one in alike if one.end is not None)
        closing = spent["FIN_WAIT1"] + spent["FIN_WAIT2"] + spent["CLOSING"] + orphaned
        steps.append(_Step(_call(alike), closing))
    if close.how in _SUDDEN:
        steps.append(_Step(_SUDDEN[close.how], 0))
    if close.time_wait:
        steps += [_Step("peer FIN", 0), _Step("TIME_WAIT", lifetime_us, _WAITING)]
    return tuple(steps)


_SUDDEN = {"reset_sent": "RST sent", "reset_received": "RST received", "timeout": "timed out"}


def _call(alike: list[Closed]) -> str:
    """By which most of them were closed on this side."""
    calls = [CALLS.get(one.close.via, "our FIN") for one in alike]
    return max(sorted(set(calls)), key=calls.count)


def _lifetimes(snapshot: Snapshot, alike: list[Closed]) -> list[int]:
    """How long their TIME_WAITs lasted, of those so old that none can still be there.

    Of younger ones it is known only if they ended early.
    """
    settled_us = snapshot.ts_us - TIMEWAIT_US - _LATE_US
    return [
        one.end.lifetime_us
        for one in alike
        if one.close.ts_us <= settled_us and one.end is not None and one.end.lifetime_us is not None
    ]


def _expected_us(snapshot: Snapshot) -> int:
    return snapshot.pools[0].lifetime_us if snapshot.pools else TIMEWAIT_US


def _median(values: Iterable[int]) -> int:
    known = list(values)
    return median_low(known) if known else 0


def _use(course: _Course, flow: Flow | None) -> list[TextLine]:
    held = "port held" if course.is_client else "socket kept"
    about = "" if course.measured else "about "
    times = course.whole_us / course.useful_us if course.useful_us else 0
    ratio = f" = 1 : {times:,.0f}" if times >= _WASTE else ""
    text = f"useful {_ms(course.useful_us)} : {held} {about}{_ms(course.whole_us)}{ratio}"
    of = "" if course.alike == course.known else f" of {course.known:,}"
    parts: list[TextLine] = [
        (Cell(text, Severity.STRONG),),
        (Cell(f"median of {course.alike:,}{of}", Severity.FAINT),),
    ]
    if not any(step.fill == _WAITING for step in course.steps):
        parts.append((Cell("no TIME_WAIT on this side"),))
    if flow is not None and is_poolable(flow):
        share = percent(flow.reconnects, flow.closes)
        parts.append((Cell(f"{share} reconnect within 1 s: poolable"),))
    return parts


def _timeline(course: _Course, columns: int) -> tuple[TextLine, ...]:
    """Times, and below them what happens then; in words where there is no room for that."""
    moments = [0]
    for step in course.steps:
        moments.append(moments[-1] + step.us)
    # What comes with the step before it has that one's time.
    together = [False, *(not step.us for step in course.steps)]
    times = ["" if same else _ms(us) for same, us in zip(together, moments, strict=True)]
    for is_short in (False, True):
        steps = [step._replace(words=_worded(step, is_short=is_short)) for step in course.steps]
        last = course.last.removeprefix("port ") if is_short else course.last
        least = [
            max(width(step.words) + _ADDED.get(step.fill, 4), len(time) + 1)
            for step, time in zip(steps, times, strict=False)
        ]
        spare = columns - sum(least) - max(len(last), len(times[-1]))
        if spare >= 0:
            sizes = _stretched(steps, least, spare)
            return clip(_marks(times, sizes), columns), clip(_arrows(steps, last, sizes), columns)
    words = " → ".join(f"{step.words} {_ms(step.us)}" for step in course.steps if step.us)
    return paragraph("", f"{words} → {course.last}", columns)


def _worded(step: _Step, *, is_short: bool) -> str:
    words = (
        {"ESTABLISHED": "ESTAB", "TIME_WAIT": "TW"}.get(step.words, step.words) if is_short else step.words
    )
    return f"{words} {step.us / SECOND:.0f} s" if step.fill == _WAITING else words


def _stretched(steps: list[_Step], least: list[int], spare: int) -> list[int]:
    """What is left over goes mostly to what takes long, though by no scale."""
    weights = [_WEIGHTS.get(step.fill, 1) for step in steps]
    sizes = [size + spare * weight // sum(weights) for size, weight in zip(least, weights, strict=True)]
    sizes[weights.index(max(weights))] += spare - (sum(sizes) - sum(least))
    return sizes


def _marks(times: list[str], sizes: list[int]) -> TextLine:
    marks = [fit(time, size) for time, size in zip(times, sizes, strict=False)]
    return (Cell("".join([*marks, times[-1]]), Severity.FAINT),)


def _arrows(steps: list[_Step], last: str, sizes: list[int]) -> TextLine:
    drawn = []
    for step, size in zip(steps, sizes, strict=True):
        if step.fill == _WAITING:
            bars = size - width(step.words) - 6
            text = f"┃{_WAITING * (bars // 2)} {step.words} {_WAITING * (bars - bars // 2)}┃▶ "
            drawn.append(Cell(text, Severity.STRONG))
        else:
            drawn.append(Cell(f"{step.words} {step.fill * (size - width(step.words) - 3)}▶ "))
    return (*drawn, Cell(last))


def _ms(us: int) -> str:
    """In milliseconds however long, so that one can be held against another; shorter ones in µs."""
    if us < 1_000:  # noqa: PLR2004
        return f"{us} µs" if us else "0"
    return f"{us // 100 / 10:,.1f} ms" if us < 10_000 else f"{us // 1_000:,} ms"  # noqa: PLR2004
