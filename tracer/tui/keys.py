"""Every key there is: bindings, footer, help and palette are made from this. No Textual here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from math import ceil

from tracer.text import fit, printable, width
from tracer.tui.cells import GLYPHS, NOTHING, WARNING, Cell, Severity, TextLine
from tracer.tui.drill import GRADES
from tracer.tui.wrapping import paragraph, within
from tracer.verdict import MARKS

_GAP = "   "
_ABREAST = 3


@dataclass(frozen=True, slots=True)
class Key:
    """One key and what it does."""

    key: str
    """As Textual names it; alternatives with commas."""
    shown: str
    """As it is printed on the keyboard."""
    action: str
    """A method of the app without its `action_`, with arguments."""
    label: str
    """For footer and palette: a word or two."""
    screens: frozenset[str]
    """Where it does that."""
    help: str
    footer: bool = False
    live_only: bool = False
    replay_only: bool = False
    in_replay: str = ""
    """What it does there, if that is something else."""

    @property
    def name(self) -> str:
        """The action without its arguments."""
        return self.action.partition("(")[0]

    def means(self, *, replay: bool) -> str:
        """What it does in a replay, or live; empty if nothing."""
        if self.live_only if replay else self.replay_only:
            return ""
        return self.in_replay if replay and self.in_replay else self.help


_ROWS = frozenset({"overview"})
_TABLES = _ROWS | {"detail"}
_DATA = _TABLES | {"page", "fix"}
"""Screens that show a moment of the trace; `page` is a peer's or a connection's."""
_EVERYWHERE = _DATA | {"doctor", "help"}
_STEPS, _SPEEDS, _INTERVALS = (
    "one view back, on",
    "half the speed, twice",
    "twice as many views a second, half",
)

KEYS = (
    *(Key(str(n), str(n), f"panel({n})", f"Panel {n}", _TABLES, "to that panel") for n in range(1, 6)),
    Key("tab", "tab", "app.focus_next", "Next panel", _TABLES, "to the next panel; shift+tab: to the last"),
    Key("enter", "⏎", "enter", "Into", _TABLES, "into the process, peer or connection here", footer=True),
    Key("escape", "esc", "out", "Back", _EVERYWHERE, "out of a zoom, a screen, a filter", footer=True),
    Key("slash", "/", "filter", "Filter", _DATA, "filter; up recalls earlier ones", footer=True),
    Key("exclamation_mark", "!", "invert", "Invert", _DATA, "what the filter hides, instead"),
    Key("s", "s", "sort", "Sort", _ROWS, "sort by the next column", footer=True),
    Key("S", "S", "reverse", "Reverse", _ROWS, "sort the other way round"),
    Key("a", "a", "group", "Group", _ROWS, "rows by comm, cgroup, netns, peer or port", footer=True),
    Key("z", "z", "zoom", "Zoom", _TABLES, "one panel on the whole screen, or back", footer=True),
    Key("w", "w", "wide", "Wide", _ROWS, "all columns; the table scrolls sideways"),
    Key("C", "C", "columns", "Columns", _ROWS, "choose the columns"),
    Key("n", "n", "names", "Names", _DATA, "names of peers, by DNS; at first addresses"),
    Key(
        "space",
        "space",
        "pause",
        "Pause",
        _DATA,
        "freeze the view, never the data",
        footer=True,
        in_replay="stop, or go on",
    ),
    Key("left_square_bracket", "[", "step(-1)", "Step back", _DATA, _STEPS),
    Key("right_square_bracket", "]", "step(1)", "Step on", _DATA, _STEPS),
    Key("at", "@", "goto", "Go to", _DATA, "to a moment: 12:04:31, 90s, -30s"),
    Key("less_than_sign", "<", "slower", "Slower", _DATA, _SPEEDS, replay_only=True),
    Key("greater_than_sign", ">", "faster", "Faster", _DATA, _SPEEDS, replay_only=True),
    Key("plus,equals_sign", "+", "interval(0.5)", "More often", _DATA, _INTERVALS),
    Key("minus", "-", "interval(2.0)", "Less often", _DATA, _INTERVALS),
    Key("f", "f", "fix", "Fix", _TABLES, "what to change, the selection first", footer=True),
    Key("y", "y", "yank", "Copy command", _DATA, "copy a command of Fix; again: the next one"),
    Key("c", "c", "copy", "Copy row", _TABLES, "copy the line under the cursor"),
    Key("e", "e", "export", "Export", _DATA, "what is in view as JSON, CSV or SVG"),
    Key("R", "R", "record", "Record", _DATA, "begin a trace, or end it", live_only=True),
    Key("x", "x x", "reset", "Count anew", _DATA, "count anew from here; press it twice"),
    Key("D", "D", "doctor", "Doctor", _DATA, "what this kernel and user allow"),
    Key("colon", ":", "command_palette", "Palette", _EVERYWHERE, "all of this by name; ctrl+p too"),
    Key("question_mark", "?", "help", "Help", _EVERYWHERE - {"help"}, "this", footer=True),
    Key("q,ctrl+c", "q", "quit", "Quit", _EVERYWHERE, "leave", footer=True),
    Key("Q", "Q", "quit_and_keep", "Quit, keep", _EVERYWHERE, "leave, and leave the view on the terminal"),
)
"""In the order of the help."""


def described(screen: str, *, replay: bool) -> list[tuple[str, str]]:
    """The keys of a screen as they are shown, each with what it does; those that do the same together."""
    here = [key for key in KEYS if screen in key.screens and key.means(replay=replay)]
    return [
        (_together([key.shown for key in alike]), means)
        for means, alike in groupby(here, lambda key: key.means(replay=replay))
    ]


def _together(shown: list[str]) -> str:
    """`[ ]`, but `1–5`."""
    are_numbers = len(shown) > 1 and all(map(str.isdigit, shown))
    return f"{shown[0]}–{shown[-1]}" if are_numbers else " ".join(shown)


def help_lines(
    screen: str, replay: bool, filter_keys: Iterable[tuple[str, str]], columns: int
) -> tuple[TextLine, ...]:
    """The keys of a screen, what its signs and words mean, and the filter; as many lines as it takes."""
    keys = f"KEYS of the {screen} screen{' in a replay' if replay else ''}"
    sections = [(keys, described(screen, replay=replay)), ("SIGNS", _SIGNS)]
    if screen in _WORDS:
        sections.append(("WORDS", _WORDS[screen]))
    if any(key.name == "filter" and screen in key.screens for key in KEYS):
        sections.append(("FILTER: terms with blanks between, of which all must hold", _TERMS))
        sections.append(("FILTER KEYS", [*filter_keys]))
    lines: list[TextLine] = []
    for title, entries in sections:
        lines += [(Cell(title, Severity.STRONG),), *_listed(entries, columns), ()]
    return within(lines[:-1], columns, len(lines))


_SIGNS = [
    *((GLYPHS[grade], f"owner {words}") for grade, words in GRADES.items()),
    (GLYPHS[None], "the sum of all, known and unknown"),
    (WARNING, "asks for attention"),
    (NOTHING, "nothing, or not known"),
    (" ".join(MARKS.values()), ", ".join(severity.name.lower() for severity in MARKS)),
]
_WORDS = {
    "overview": [
        ("TW", "TIME_WAIT, born (TW/s) or there now (TW NOW)"),
        ("HELD", "half-closed sockets it holds; ▲ CLOSE_WAIT"),
        ("FIRST", "closes in which this side sent the first FIN"),
        ("RST", "closes by reset, sent or received"),
        ("LIFE p50", "median age of a connection at its close"),
    ],
    "detail": [
        ("PORTS", "of the source ports for this peer, those held"),
        ("AGAIN", "came within 1 s of another's end: poolable"),
        ("FIRST", "closes in which this side sent the first FIN"),
        ("LASTED", "age of the connection at its close"),
        ("LEFT", "of the 60 s of TIME_WAIT; due: any moment now"),
        ("ENDED BY", "what began the end, on this side or the other"),
    ],
}
_TERMS = [
    ("proc:nginx,haproxy", "text: one of these is in it"),
    ("cgroup:/k8s.*burst/", "text: a regular expression matches"),
    ("exe=/usr/bin/curl", "text: this and nothing else"),
    ("peer:10.2.0.0/16", "addresses: a network, too"),
    ("dport:80,8000-8999", "numbers: one of these, or in a range"),
    ("tw/s>=1.5", "numbers: also > < <="),
    ("!proc:nginx", "what does not match"),
    ("orders", "a word: in the name[pid], or in a peer"),
]


def _listed(entries: list[tuple[str, str]], columns: int) -> Iterator[TextLine]:
    """Side by side as far as they fit whole, to be read downwards."""
    names = max((width(printable(name)) for name, _ in entries), default=0) + len(_GAP)
    widest = names + max((width(printable(means)) for _, means in entries), default=0)
    abreast = max(1, min(_ABREAST, (columns + len(_GAP)) // (widest + len(_GAP))))
    if abreast == 1:
        for name, means in entries:
            yield from paragraph(printable(name), means, columns, indent=names)
        return
    height = ceil(len(entries) / abreast)
    size = (columns + len(_GAP)) // abreast
    for top in range(height):
        line: list[Cell] = []
        for name, means in entries[top::height]:
            line.append(Cell(fit(printable(name), names), Severity.STRONG))
            line.append(Cell(fit(printable(means), size - names)))
        line[-1] = Cell(line[-1].text.rstrip())
        yield tuple(line)
