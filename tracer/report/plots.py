"""The plots of a page: data in, SVG out. Pure.

What a plot shows is also in words or in a table beside it. Colours are classes (`s1` to `s8`, `ink`, …), so
that one picture serves light, dark and paper. Lengths along the x axis are parts of the width: texts keep
their size whether the page is 400 or 1400 pixels wide.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import accumulate
from xml.etree.ElementTree import Element

from tracer.report.markup import element, number
from tracer.report.model import Line, Population
from tracer.series import SECOND

SERIES = 8
"""Colours there are: what has more lines is told apart as far as that goes."""

_HEIGHT, _ABOVE, _BELOW = 220.0, 20.0, 38.0
"""Of the area, and of what stands above it (the peak) and below it (the times)."""
_NARROWEST = 300.0
"""Pixels of its width at which nothing may overlap yet."""
_TICKS = 5
_CHIP = 16.0
"""A number in an area takes so much room."""
_EDGE = 0.04
"""A part of the width at each side where no number goes."""

_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200)
_DAY_S = 86_400


def told_apart(population: Population) -> tuple[Line, ...]:
    """The owners that have a colour, most first, and the sum of all others as the last, key `others`."""
    lines = population.lines
    if len(lines) <= SERIES:
        return lines
    rest = tuple(map(sum, zip(*(line.counts for line in lines[SERIES - 1 :]), strict=True)))
    return (*lines[: SERIES - 1], Line("others", "others", rest))


def over_time(population: Population) -> Element:
    """TIME_WAITs at the end of each bin, stacked by owner, the one with the most at the bottom."""
    lines = told_apart(population)
    bins = len(population.total)
    top, every = scale(max(population.peak, *population.total))
    frame = _Frame(bins, bins * population.bin_us, top)
    stacked = list(accumulate((line.counts for line in lines), _plus))
    # The highest first: each of the others covers what is below it.
    areas = [
        element("path", element("title", line.label), d=frame.area(heights), class_=f"area s{order}")
        for order, (line, heights) in reversed(list(enumerate(zip(lines, stacked, strict=True), start=1)))
    ]
    drawn = element(
        "svg",
        *areas,
        y=_ABOVE,
        width="100%",
        height=_HEIGHT,
        viewBox=f"0 0 {bins} {number(_HEIGHT)}",
        preserveAspectRatio="none",
    )
    return element(
        "svg",
        *_levels(frame, every),
        drawn,
        *_times(frame, population.began_us),
        *_chips(frame, lines, stacked),
        *_peak(frame, population),
        class_="chart",
        width="100%",
        height=_ABOVE + _HEIGHT + _BELOW,
        role="img",
        aria_label=f"TIME_WAITs over time, stacked by owner: at most {population.peak:,} at once. "
        + "; ".join(f"{line.label} at most {max(line.counts):,}" for line in lines),
    )


def bar(parts: tuple[tuple[int, str], ...], whole: int) -> Element:
    """Lengths side by side, each with its class; `whole` takes all the width. The figures stand beside it."""
    drawn = []
    at = 0
    for length, style in parts:
        if length:
            drawn.append(
                element(
                    "rect",
                    x=f"{number(100 * at / whole)}%",
                    y=1,
                    width=f"{number(100 * length / whole)}%",
                    height=12,
                    class_=style,
                )
            )
        at += length
    return element("svg", *drawn, class_="bar", width="100%", height=14, aria_hidden="true")


def scale(highest: int) -> tuple[int, int]:
    """(top, step) of an axis from 0: at most five steps of 1, 2 or 5 times a power of ten."""
    step = 1
    while highest > _TICKS * step:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return max(-(-highest // step), 1) * step, step


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is where."""

    bins: int
    span_us: int
    top: int

    def y(self, level: float) -> float:
        """Pixels from the top of the area."""
        return _HEIGHT * (1 - level / self.top)

    def x(self, part: float) -> str:
        """As part of the width."""
        return f"{number(100 * part)}%"

    def area(self, heights: tuple[int, ...]) -> str:
        """A path down to 0; one unit of x is a bin, and a bin's level holds for all of it."""
        steps = []
        last: int | None = None
        for index, height in enumerate(heights):
            if height != last:
                steps.append(f"{f'H{index}' if index else ''}V{number(self.y(height))}")
                last = height
        base = number(_HEIGHT)
        return f"M0 {base}{''.join(steps)}H{self.bins}V{base}Z"


def _plus(below: tuple[int, ...], counts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip(below, counts, strict=True)))


def _levels(frame: _Frame, every: int) -> list[Element]:
    drawn = []
    for level in range(0, frame.top + 1, every):
        y = _ABOVE + frame.y(level)
        drawn.append(element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid"))
        drawn.append(element("text", f"{level:,}", x=-8, y=y + 4, class_="tick end"))
    return drawn


def _times(frame: _Frame, began_us: int) -> list[Element]:
    """How long after the beginning, and below it the time of day."""
    span_s = frame.span_us / SECOND
    step = next((one for one in _STEPS_S if span_s // one <= _TICKS), 0)
    if not step:
        step = _DAY_S * -(-int(span_s) // (_TICKS * _DAY_S))
    base = _ABOVE + _HEIGHT
    drawn = []
    for after in range(0, int(span_s) + 1, step):
        x = frame.x(after / span_s)
        clock = time.strftime("%H:%M:%S", time.localtime(began_us // SECOND + after))
        drawn += [
            element("line", x1=x, x2=x, y1=base, y2=base + 5, class_="axis"),
            element("text", _after(after, step), x=x, y=base + 18, class_="tick middle"),
            element("text", clock, x=x, y=base + 33, class_="tick middle faint"),
        ]
    return drawn


def _after(seconds: int, step: int) -> str:
    if not seconds:
        return "0"
    for unit_s, unit in ((_DAY_S, "d"), (3_600, "h"), (60, "min")):
        if step % unit_s == 0:
            return f"{seconds // unit_s} {unit}"
    return f"{seconds} s"


def _chips(frame: _Frame, lines: tuple[Line, ...], stacked: list[tuple[int, ...]]) -> list[Element]:
    """The number of each line in its area, where that is thick enough and no other number is."""
    drawn: list[Element] = []
    taken: list[tuple[float, float]] = []
    for order, (line, heights) in enumerate(zip(lines, stacked, strict=True), start=1):
        for index in sorted(range(frame.bins), key=lambda index: -line.counts[index]):
            thick = line.counts[index]
            if _HEIGHT * thick / frame.top < _CHIP:
                break
            part = (index + 0.5) / frame.bins
            x, y = part * _NARROWEST, _ABOVE + frame.y(heights[index] - thick / 2)
            free = all(abs(x - left) >= _CHIP or abs(y - above) >= _CHIP for left, above in taken)
            if free and _EDGE < part < 1 - _EDGE:
                taken.append((x, y))
                drawn += [
                    element("circle", cx=frame.x(part), cy=y, r=7.5, class_="chip"),
                    element("text", str(order), x=frame.x(part), y=y + 4, class_="tick middle"),
                ]
                break
    return drawn


def _peak(frame: _Frame, population: Population) -> list[Element]:
    """A mark above the moment with the most, and the number."""
    part = min((population.peak_us - population.began_us) / max(frame.span_us, 1), 1.0)
    x, y = frame.x(part), _ABOVE + frame.y(population.peak)
    anchor = "start" if part < _EDGE else "end" if part > 1 - 3 * _EDGE else "middle"
    return [
        element("circle", cx=x, cy=y, r=3, class_="ink"),
        element("text", f"peak {population.peak:,}", x=x, y=y - 7, class_=f"tick {anchor} strong"),
    ]
