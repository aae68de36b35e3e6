"""The report as a page: well-formed, complete in itself, harmless, its pictures true to the data."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import SECOND, T0, birth, close, death, ends, held, owner, start
from tracer.cli import main
from tracer.model import Event, Lost
from tracer.record import Encoder
from tracer.report import page, pagetables, plots, statediagram
from tracer.report.many import read_all
from tracer.report.markup import LONGEST, element, number
from tracer.report.markup import page as document
from tracer.report.model import Bin, Dwell, Edge, Line, Population, Quantiles, Report
from tracer.report.reading import Part, Wanted
from tracer.whatif import parse_change

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "demo.ndjson")

VOID = {"meta", "br", "hr"}
ONE, TWO = owner(1, "a"), owner(2, "b")


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Page(HTMLParser):
    """Fails where an element is not closed, or closed by another."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.style = ""
        self._caption = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.tables[self._caption].append([])
        elif tag in {"td", "th"}:
            self.tables[self._caption][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            self.style += data
            return
        self.texts.append(data)
        if self.open and self.open[-1] == "caption":
            self._caption = data
            self.tables.setdefault(data, [])
        elif "td" in self.open or "th" in self.open:
            self.tables[self._caption][-1][-1] += data

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def of(self, tag: str, name: str) -> list[str]:
        return [
            str(attributes[name]) for one, attributes in self.elements if one == tag and name in attributes
        ]


def trace(*events: Event, host: str = "host", at: float = 0, lasts: float = 90, lost: int = 0) -> Part:
    encoder = Encoder()
    began = replace(start(ip_local_port_range="1000 1999"), host=host, ts_us=T0 + int(at * SECOND))
    lines = [encoder.start(began), *map(encoder.event, events)]
    gone = {"events": lost} if lost else {}
    return Part([*lines, encoder.end(T0 + int((at + lasts) * SECOND), int(lasts * SECOND), gone, {})[1]])


def story(at: float = 0, number: int = 40) -> list[Event]:
    """Each second a connection that closes first, every other one with a TIME_WAIT that ends; and others."""
    events: list[Event] = []
    for conn in range(number):
        whose = ONE if conn % 2 else TWO
        seen = {"ESTABLISHED": 900, "FIN_WAIT1": 50, "FIN_WAIT2": 40}
        events += [close(conn, whose, at=at + conn)._replace(states=seen), birth(conn, whose, at=at + conn)]
        events += [death(conn, whose, at=at + conn + 60)] if conn < 20 else []
    lingered = {"ESTABLISHED": 900, "CLOSE_WAIT": 50, "LAST_ACK": 40}
    events += [
        close(100, ONE, at=at + 5, first="remote")._replace(states=lingered),
        held(101, TWO, at=at + 6),
    ]
    events += [close(102, ONE, at=at + 7, first="none", how="reset_sent", via="abort")]
    return sorted(events, key=lambda event: event.ts_us)


def shown(*parts: Part, wanted: Wanted | None = None, compare: bool | None = None) -> Page:
    return Page(page.render(read_all(list(parts), wanted or Wanted(), compare=compare)))


def report_of(*events: Event) -> Report:
    (report,) = read_all([trace(*events)], Wanted()).reports
    return report


def example(*options: str) -> list[str]:
    return ["report", EXAMPLE, "--html", *options]


# The page


@pytest.mark.parametrize("options", [(), ("--by", "port"), ("--by", "state"), ("--what-if", "keepalive")])
def test_a_page_is_well_formed_and_complete_in_itself(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(example(*options)) == 0
    out = capsys.readouterr().out
    assert out.startswith('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">')
    assert out.isascii()
    found = Page(out)
    ids = [str(attributes["id"]) for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {href.removeprefix("#") for href in found.of("a", "href")} <= set(ids)
    assert not {tag for tag, _ in found.elements} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "use",
        "form",
    }
    names = {name for _, attributes in found.elements for name in attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "style", "xlink:href"}
    assert "url(" not in found.style
    assert "@import" not in found.style
    assert not re.search(r"https?:|//", found.style + "".join(found.of("a", "href")))


def test_only_its_own_style_may_be_applied() -> None:
    found = shown(trace(*story()))
    (policy,) = [
        str(attributes["content"]) for tag, attributes in found.elements if attributes.get("http-equiv")
    ]
    digest = b64encode(sha256(found.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_headings_go_down_one_by_one() -> None:
    levels = [int(tag[1]) for tag, _ in shown(trace(*story())).elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_limits_come_before_all_else() -> None:
    found = shown(trace(*story(), Lost(T0 + 89 * SECOND, "ring", 7), lost=7))
    assert found.of("h3", "id")[:4] == ["r1-limits", "r1-verdict", "r1-time", "r1-who"]
    assert "▲ figures may be wrong: " in found.text
    assert "records were lost" in found.text
    assert "▲ figures may be wrong, see what limits the conclusions." in found.text


def test_every_sentence_is_there() -> None:
    report = report_of(*story())
    text = shown(trace(*story())).text
    assert len(report.sentences) == 2
    for sentence in report.sentences:
        assert sentence.text in text


def test_figures_are_those_of_the_data() -> None:
    report = report_of(*story())
    tables = shown(trace(*story())).tables
    who = tables["Owners by process"]
    assert who[0][2] == "closes"
    assert [row[0] for row in who[1:]] == ["●\u00a0a[1]", "●\u00a0b[2]", "?\u00a0unknown", "Σ\u00a0all"]
    for column in (2, 8, 10):  # closes, TIME_WAITs, those at the end
        figures = [int(row[column]) for row in who[1:]]
        assert sum(figures[:-1]) == figures[-1]
    assert (who[-1][2], who[-1][8], who[-1][10]) == ("42", "40", str(report.remaining))
    legend = tables["Owners in the plot, from the bottom up"][1:]
    assert sum(int(row[2]) for row in legend) == report.remaining == 20
    ages = tables["Connections by how long they lasted"][1:]
    assert [sum(int(row[column]) for row in ages) for column in (1, 2)] == [40, 2]
    ways = tables["Ways out"][1:]
    assert sum(int(row[4]) for row in ways) == 42
    assert tables["Transitions"][1] == ["ESTABLISHED", "FIN_WAIT1", "40", "0.4/s"]
    assert tables["Ends of TIME_WAITs"][1][:3] == ["expired", "20", "100%"]
    assert tables["Never closed"][1][:2] == ["b[2]", "CLOSE_WAIT"]


def test_each_row_has_a_cell_for_each_column() -> None:
    for rows in shown(trace(*story()), wanted=Wanted(changes=(parse_change("keepalive"),))).tables.values():
        assert len({len(row) for row in rows}) == 1


def test_what_is_left_out_is_said() -> None:
    events: list[Event] = []
    for conn in range(pagetables.ROWS + 30):
        whose = owner(conn + 1, f"app{conn}")
        events += [close(conn, whose, at=conn / 10), birth(conn, whose, at=conn / 10)]
    found = shown(trace(*events))
    who = found.tables["Owners by process"]
    assert len(who) == 1 + pagetables.ROWS + 3
    assert who[-3][:3] == ["…\u00a030 more: see --json", "", "30"]
    assert "… and 30 more: --json has them" in found.text
    assert found.tables["Owners in the plot, from the bottom up"][-1][0] == "8\u00a0others"


EVIL = (
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "\"' onload='x' x=\"",
    "&lt;b&gt;&#60;",
    "\x1b[31m\x00\n\u202e\u2066",
    "]]><!-- -->",
)


@pytest.mark.parametrize("evil", EVIL)
def test_hostile_text_is_text(evil: str) -> None:
    def names(found: Page) -> set[str]:
        return {name for _, attributes in found.elements for name in attributes}

    def trace_of(name: str) -> Part:
        whose = owner(1, name, cgroup=f"/{name}")
        return trace(close(1, whose), birth(1, whose), held(2, whose, at=1), host=name)

    plain, found = shown(trace_of("plain")), shown(trace_of(evil))
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
    assert names(found) == names(plain)
    assert not set(found.text) & set("\x1b\x00\u202e\u2066")
    if evil.isprintable():
        assert f"{evil}[1] closes first" in found.text
    else:
        assert "\\x1b[31m\\x00\\n\\u202e\\u2066[1] closes first" in found.text


def test_a_name_of_a_megabyte_and_two_thousand_processes_make_no_large_page() -> None:
    events: list[Event] = []
    for conn in range(2_000):
        whose = owner(conn + 1, f"{conn}-" + "x" * (1 << 20 if conn < 3 else 200))
        at = conn / 25
        where = ends(conn, daddr=f"10.0.{conn % 200}.{conn // 200}")
        events += [close(conn, whose, at=at, where=where), birth(conn, whose, at=at)]
    text = page.render(read_all([trace(*events)], Wanted()))
    Page(text)
    assert len(text) < 500_000


def test_nothing_happened() -> None:
    found = shown(trace())
    assert found.of("h3", "id") == ["r1-limits", "r1-verdict", "r1-who", "r1-settings"]


def test_before_and_after() -> None:
    found = shown(trace(*story()), trace(*story(1000, 10), at=1000))
    assert found.of("h2", "id") == ["changed", "r1", "r2"]
    assert "Before: host" in found.texts
    assert "After: host" in found.texts
    rows = {tuple(row[:2]): row[2:] for row in found.tables["Changes"]}
    assert rows["all", "TIME_WAITs /s"] == ["0.44", "0.11", "÷ 3.7"]


def test_both_ends() -> None:
    there = ends(1, dport=5432)
    back = there._replace(saddr=there.daddr, sport=there.dport, daddr=there.saddr, dport=there.sport)
    web = trace(close(1, ONE, at=1, where=there), birth(1, ONE, at=1), host="web")
    db = trace(close(1, TWO, at=1, where=back, role="server", first="remote"), host="db")
    found = shown(web, db)
    assert found.of("h2", "id") == ["ends", "r1", "r2"]
    assert "a[1] on web → b[2] on db, port 5432: 1 connections; a[1] closed first in 1" in found.text


def test_html_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(example("--json")) == 2
    assert "--json: not allowed with argument --html" in capsys.readouterr().err


# The plots


def population(*lines: tuple[int, ...], peak: int = 0, peak_at: float = 0) -> Population:
    total = tuple(map(sum, zip(*lines, strict=True)))
    made = tuple(Line(f"k{at}", f"app{at}", counts) for at, counts in enumerate(lines))
    return Population(T0, SECOND, made, total, peak or max(total), T0 + int(peak_at * SECOND))


def all_of(root: Element, tag: str, style: str = "") -> list[Element]:
    return [one for one in root.iter(tag) if style in one.get("class", "").split() or not style]


def words(root: Element, style: str = "") -> list[str]:
    return [one.text or "" for one in all_of(root, "text", style)]


def test_areas_are_stacked_the_highest_first() -> None:
    drawn = plots.over_time(population((0, 5, 5, 10), (5, 5, 0, 10)))
    paths = [(one.get("class"), one.get("d")) for one in all_of(drawn, "path")]
    # 20 is the top of the axis, and 220 pixels high.
    assert paths == [
        ("area s2", "M0 220V165H1V110H2V165H3V0H4V220Z"),
        ("area s1", "M0 220V220H1V165H3V110H4V220Z"),
    ]
    (areas,) = [one for one in drawn.iter("svg") if one.get("preserveAspectRatio")]
    assert (areas.get("viewBox"), areas.get("width")) == ("0 0 4 220", "100%")
    assert words(drawn, "end")[:5] == ["0", "5", "10", "15", "20"]


def test_times_below_the_plot() -> None:
    drawn = plots.over_time(population(tuple(range(90))))
    below = [(one.get("x"), one.text) for one in all_of(drawn, "text", "middle") if one.get("y") == "258"]
    assert below == [("0%", "0"), ("33.3%", "30 s"), ("66.7%", "60 s"), ("100%", "90 s")]
    assert words(drawn, "faint") == ["22:13:20", "22:13:50", "22:14:20", "22:14:50"]


def test_the_peak_is_marked_where_it_was() -> None:
    drawn = plots.over_time(population((10,) * 10, peak=12, peak_at=5))
    (mark,) = all_of(drawn, "circle", "ink")
    assert (mark.get("cx"), mark.get("cy")) == ("50%", "64")  # 12 of 15, below 20 for the text
    assert words(drawn, "strong") == ["peak 12"]


def test_areas_have_numbers_that_do_not_overlap() -> None:
    drawn = plots.over_time(population(*((100,) * 30,) * 8))
    chips = all_of(drawn, "circle", "chip")
    # Each in the middle of its 27.5 pixels.
    middles = ["226.2", "198.8", "171.2", "143.8", "116.2", "88.8", "61.2", "33.8"]
    assert [one.get("cy") for one in chips] == middles
    spots = [(float(one.get("cx", "")[:-1]) * 3, float(one.get("cy", ""))) for one in chips]
    for at, (x, y) in enumerate(spots):
        assert all(abs(x - left) >= 15.9 or abs(y - above) >= 15.9 for left, above in spots[:at])


@given(st.lists(st.lists(st.integers(0, 1 << 40), min_size=7, max_size=7), min_size=1, max_size=13))
def test_no_owner_is_lost_among_the_colours(lines: list[list[int]]) -> None:
    people = population(*map(tuple, lines))
    told = plots.told_apart(people)
    assert len(told) == min(len(lines), plots.SERIES)
    assert tuple(map(sum, zip(*(line.counts for line in told), strict=True))) == people.total


@given(st.integers(0, 1 << 50))
def test_an_axis_reaches_what_is_highest(highest: int) -> None:
    top, step = plots.scale(highest)
    assert top % step == 0
    assert highest <= top < highest + step or (highest, top) == (0, 1)
    assert 1 <= top // step <= 5
    assert re.fullmatch("[125]0*", str(step))


@given(st.integers(1, 300), st.integers(0, 30))
def test_times_are_few_enough_for_a_narrow_page(bins: int, doublings: int) -> None:
    people = replace(population((1,) * bins), bin_us=SECOND << doublings)
    assert 1 <= len(words(plots.over_time(people), "faint")) <= 6


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (((3, "full"), (1, "hollow")), [("0%", "37.5%", "full"), ("37.5%", "12.5%", "hollow")]),
        (((0, "full"), (8, "hollow")), [("0%", "100%", "hollow")]),
        (((0, "full"), (0, "hollow")), []),
    ],
)
def test_bars(parts: tuple[tuple[int, str], ...], expected: list[tuple[str, str, str]]) -> None:
    drawn = all_of(plots.bar(parts, 8), "rect")
    assert [(one.get("x"), one.get("width"), one.get("class")) for one in drawn] == expected


def test_a_histogram_has_figures_beside_its_bars() -> None:
    table = pagetables.durations("Lasted", ("yes", "no"), (Bin(0, 1, 2, 0), Bin(1, 2, 1, 3)))
    assert table is not None
    found = Page(document(table))
    bars = [(one.get("class"), one.get("width")) for one in all_of(table, "rect")]
    assert bars == [("full", "50%"), ("full", "25%"), ("hollow", "75%")]
    assert found.tables["Lasted"] == [
        ["lasted", "yes (full)", "no (hollow)", ""],
        ["< 1 µs", "2", "0", "\n"],
        ["1 µs to 2 µs", "1", "3", "\n"],
    ]


def test_quantiles_of_a_state() -> None:
    table = pagetables.dwells((Dwell("LAST_ACK", Quantiles(1_234, 5, 60, 7_000, 61_500_000)),))
    assert table is not None
    rows = Page(document(table)).tables["Time in each state"]
    assert rows[1] == ["LAST_ACK", "1,234", "5 µs", "60 µs", "7.0 ms", "61.5 s"]


# The diagram


def test_the_diagram_has_the_counts_of_its_edges() -> None:
    drawn = statediagram.diagram(report_of(*story()))
    assert words(drawn)[:3] == ["this side first", "40", "0.4/s"]
    counts = " ".join(text for text in words(drawn, "strong") if text.isdigit())
    assert counts == "40 1 1 40 1 40 1 20"
    assert "20 at the end" in words(drawn)
    assert "▲ 1 held" in words(drawn)
    never = all_of(drawn, "line", "never")
    assert [(one.get("x1"), one.get("y1")) for one in never] == [("124", "135"), ("124", "233")]
    thickest = all_of(drawn, "line", "went")[0]
    assert (thickest.get("x1"), thickest.get("y1"), thickest.get("y2")) == ("30", "37", "84")
    assert thickest.get("stroke-width") == "5"


def test_what_it_does_not_draw_is_told() -> None:
    edges = (Edge("ESTABLISHED", "FIN_WAIT1", 9), Edge("FIN_WAIT1", "reset_received", 4))
    assert statediagram.left_out(edges) == 4
    reset = close(1, ONE, first="local", how="reset_received", time_wait=False)
    assert "1 times they went another way: see the table." in shown(trace(reset)).text


@pytest.mark.parametrize(
    ("count", "seconds", "expected"),
    [(0, 1, "0.0/s"), (1, 100, "<0.1/s"), (1, 20, "0.1/s"), (99, 1, "99.0/s"), (12_345, 10, "1,234/s")],
)
def test_rates(count: int, seconds: int, expected: str) -> None:
    assert statediagram.per_second(count, seconds * SECOND) == expected


# Elements


def test_attributes_and_text() -> None:
    made = element("a", "x", None, element("b"), "y", "z", class_="c", stroke_width=1.25, hidden=None)
    assert (made.text, made[0].tail) == ("x", "yz")
    assert made.attrib == {"class": "c", "stroke-width": "1.2"}
    assert len(element("p", "\x00" * LONGEST).text or "") == LONGEST


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (12.0, "12"), (12.34, "12.3"), (-0.26, "-0.3")])
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text
