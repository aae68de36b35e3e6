"""A report against counts taken from the lines themselves, by other means."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.bench.million import write
from tests.unit.samples import SECOND, T0, birth, close, death, ends, held, owner, start
from tests.unit.truth import assert_true_of_each
from tracer.model import UNKNOWN_OWNER, Event, TimeWaitEnd
from tracer.record import Encoder
from tracer.report.data import as_json
from tracer.report.many import read_all
from tracer.report.model import ERROR, GROUPINGS, Report, Reports, Table, WhoRow
from tracer.report.reading import Part, Wanted, read
from tracer.report.tally import ENDINGS
from tracer.report.text import render

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "demo.ndjson"
GOLDEN = ROOT / "tests" / "golden" / "report-demo.txt"

Json = dict[str, Any]


def lines_of(*events: Event, at_end: float = 90) -> list[bytes]:
    encoder = Encoder()
    lines = [encoder.start(start(ip_local_port_range="32768 60999")), *map(encoder.event, events)]
    return [*lines, encoder.end(T0 + int(at_end * SECOND), int(at_end * SECOND), {}, {})[1]]


def report_of(path: Path, by: str = "process") -> Report:
    with path.open("rb") as lines:
        (report,) = read_all([Part(lines)], Wanted(by)).reports
    return report


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace with owners of all grades, resets, reuses, CLOSE_WAITs, three namespaces."""
    path = tmp_path_factory.mktemp("busy") / "busy.ndjson"
    write(path, 6_000, closes_per_second=20)
    return path


@pytest.fixture(params=["demo", "busy"])
def path(request: pytest.FixtureRequest, busy: Path) -> Path:
    return EXAMPLE if request.param == "demo" else busy


def raw(path: Path) -> list[Json]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


# Rows that add up.

FIGURES: tuple[Callable[[WhoRow], int], ...] = (
    lambda row: row.closes,
    lambda row: row.time_waits,
    lambda row: row.time_wait_now,
    lambda row: row.orphans,
    lambda row: row.rearmed,
    lambda row: row.held_close_wait,
    lambda row: row.held_fin_wait2,
    lambda row: row.ages.count,
    lambda row: sum(row.time_wait_ends.values()),
    lambda row: sum(row.orphan_ends.values()),
    lambda row: sum(row.ways.values()),
    *(lambda row, name=name: row.endings.get(name, 0) for name in ENDINGS),
)


@pytest.mark.parametrize("by", GROUPINGS)
def test_rows_add_up_to_what_the_lines_say(by: str, path: Path) -> None:
    table = report_of(path, by).who
    assert table.by == by
    for figure in FIGURES:
        assert sum(map(figure, (*table.rows, table.unknown))) == figure(table.total)
    lines = raw(path)
    kinds = Counter(line["type"] for line in lines)
    closed = [line for line in lines if line["type"] == "close"]
    total = table.total
    assert total.closes == kinds["close"]
    assert total.time_waits == kinds["time_wait"]
    assert total.time_wait_now == kinds["time_wait"] - kinds["time_wait_end"]
    assert total.endings.get("closed_first", 0) == sum(line["first"] == "local" for line in closed)
    assert total.endings.get("peer_first", 0) == sum(line["first"] == "remote" for line in closed)
    for how in ("reset_sent", "reset_received"):
        expected = sum(line["how"] == how and line["first"] == "none" for line in closed)
        assert total.endings.get(how, 0) == expected
    ended = [line for line in lines if line["type"] == "time_wait_end"]
    assert total.rearmed == sum(line["rearmed"] > 0 for line in ended)
    gone = {line["conn"] for line in closed}
    assert total.held_close_wait == sum(line["type"] == "held" and line["conn"] not in gone for line in lines)
    assert total.time_wait_ends == Counter(
        line["reason"] for line in lines if line["type"] == "time_wait_end"
    )


KEYS: dict[str, Callable[[Json], str | None]] = {
    "comm": lambda line: line["owner"]["comm"],
    "cgroup": lambda line: line["owner"].get("cgroup"),
    "unit": lambda line: line["owner"].get("unit"),
    "container": lambda line: line["owner"].get("container"),
    "netns": lambda line: f"netns {line['netns']}",
}


@pytest.mark.parametrize("by", KEYS)
def test_each_row_has_what_its_lines_say(by: str, busy: Path) -> None:
    table = report_of(busy, by).who
    closes = Counter(KEYS[by](line) for line in raw(busy) if line["type"] == "close")
    nameless = {"unit": "no unit", "container": "no container", "cgroup": "no cgroup known"}.get(by, "")
    for row in table.rows:
        if row.label != nameless:
            assert row.closes == closes[row.label]
    named = {name for name in closes if name is not None}
    assert named <= {row.label for row in table.rows}


def test_by_port_and_peer(busy: Path) -> None:
    ports: Counter[str] = Counter()
    peers: Counter[str] = Counter()
    for line in raw(busy):
        if line["type"] == "close" and line["role"] == "server":
            ports[f":{line['sport']} here"] += 1
            peers[f"{line['daddr']} (:{line['sport']})"] += 1
        elif line["type"] == "close":
            ports[f":{line['dport']} there"] += 1
            peers[f"{line['daddr']}:{line['dport']}"] += 1
    assert {row.label: row.closes for row in report_of(busy, "port").who.rows if row.closes} == ports
    assert {row.label: row.closes for row in report_of(busy, "peer").who.rows if row.closes} == peers


def test_by_state() -> None:
    one = owner(1)
    events: list[Event] = [
        close(1, one),
        birth(1, one),
        close(2, one, first="remote")._replace(states={"ESTABLISHED": 1, "CLOSE_WAIT": 2, "LAST_ACK": 3}),
        close(3, one, first="remote", how="reset_sent")._replace(states={"ESTABLISHED": 1, "CLOSE_WAIT": 2}),
        close(4, one, first="none", how="reset_received"),
        close(5, one, first="none", how="failed", age_us=7)._replace(states={"SYN_SENT": 7}),
        close(6, one, first="none", how="unknown", age_us=None)._replace(states={}),
        held(7, one),
        held(8, one, state="FIN_WAIT2"),
        birth(9, preexisting=True),
    ]
    (report,) = read_all([Part(lines_of(*events))], Wanted("state")).reports
    found = {
        row.label: (row.closes, row.time_wait_now, row.held_close_wait + row.held_fin_wait2)
        for row in (*report.who.rows, report.who.unknown)
    }
    assert found == {
        "TIME_WAIT": (1, 2, 0),
        "LAST_ACK": (1, 0, 0),
        "CLOSE_WAIT": (1, 0, 1),
        "ESTABLISHED": (2, 0, 0),
        "SYN_SENT": (1, 0, 0),
        "FIN_WAIT2": (0, 0, 1),
        "unknown": (0, 0, 0),
    }


# Sentences that are true.


def test_each_process_of_the_demo_has_a_true_sentence() -> None:
    sentences = [sentence.text for sentence in report_of(EXAMPLE).sentences]
    assert len(sentences) == 10
    assert_true_of_each(sentences, raw(EXAMPLE))


def said(*events: Event) -> str:
    (sentence,) = read(lines_of(*events)).sentences
    return sentence.text


def test_a_sentence_tells_of_everything() -> None:
    one = owner(7)
    events: list[Event] = []
    for conn in range(1, 4):
        events += [close(conn, one, via="shutdown"), birth(conn, one)]
    events += [close(4, one, via="exit"), birth(4, one)._replace(substate="FIN_WAIT2")]
    events += [close(5, one, first="remote"), close(6, one, first="none", how="failed", age_us=9)]
    events += [death(1, one), death(2, one)._replace(reason="reused", lifetime_us=3)]
    events += [death(4, one)._replace(lifetime_us=None, fin_wait2_us=60 * SECOND)]
    events += [held(10, one, at=1), held(11, one, state="FIN_WAIT2", at=2)]
    assert said(*events) == (
        "app[7] closes first in 67% of 6 connections, by shutdown() in 3 of them and by ending without"
        " close() in 1 of them, lets its peer close first in 1, fails to connect in 1; its connections last"
        " 999 µs at the median; 4 TIME_WAITs, 1 of them born in FIN_WAIT2: 1 expired, 1 expired in FIN_WAIT2,"
        " 1 reused by connect(), 1 still there; has not closed 1 connection it has, though the peer has"
        " (CLOSE_WAIT, the longest for 89.0 s); waits for the peer to close 1 connection it has (FIN_WAIT2,"
        " the longest for 88.0 s)."
    )


def test_a_sentence_of_one_connection() -> None:
    one = owner(7)
    assert said(close(1, one, first="none", how="timeout")) == (
        "app[7] times out in its only connection; its connection lasted 1.0 ms; no TIME_WAIT."
    )


def test_who_ended_nothing_has_one_too() -> None:
    one = owner(7)
    assert (
        said(close(1, UNKNOWN_OWNER), birth(1, one), death(1, one))
        == "app[7] ended no connection; 1 TIME_WAIT: 1 expired."
    )


# What is never closed.


def test_what_is_never_closed() -> None:
    one, other = owner(7), owner(8)
    events: list[Event] = [
        held(conn, one, at=conn)._replace(
            role="server", ends=ends(conn, sport=80, dport=40_000, daddr=f"10.0.0.{conn // 4}")
        )
        for conn in range(1, 6)
    ]
    from_before = held(20, other, at=30)._replace(preexisting=True, role="client")
    events += [close(1, one, at=9, first="remote"), from_before]
    first, second = read(lines_of(*events)).never_closed
    assert (first.who.label, first.state, first.role, first.port) == ("app[7]", "CLOSE_WAIT", "server", 80)
    assert (first.count, first.closed_late, first.from_before) == (4, 1, 0)
    assert (first.longest_us, first.shortest_us) == (88 * SECOND, 85 * SECOND)
    assert first.peers == ("10.0.0.0", "10.0.0.1")
    assert (second.who.label, second.count, second.from_before, second.port) == ("app[8]", 1, 1, 80)
    assert second.peers == ("10.0.0.2:80",)


def test_held_in_another_state_is_held_no_more() -> None:
    one = owner(7)
    events = [held(1, one), held(1, one, state="LAST_ACK", at=2)]
    report = read(lines_of(*events))
    assert not report.never_closed
    assert report.who.total.held_close_wait == 0


# Times.


def test_dwell_times_are_those_of_the_lines(path: Path) -> None:
    spent: dict[str, list[int]] = {}
    for line in raw(path):
        if line["type"] == "close":
            for state, us in line["states"].items():
                spent.setdefault(state, []).append(us)
        elif line["type"] == "time_wait_end":
            for name, state in (("lifetime_us", "TIME_WAIT"), ("fin_wait2_us", "FIN_WAIT2 (orphan)")):
                if line[name] is not None:
                    spent.setdefault(state, []).append(line[name])
    dwells = {dwell.state: dwell.times for dwell in report_of(path).dwells}
    assert dwells.keys() == spent.keys()
    for state, times in spent.items():
        times.sort()
        found = dwells[state]
        assert (found.count, found.max_us) == (len(times), times[-1])
        for share, value in ((50, found.p50_us), (90, found.p90_us), (99, found.p99_us)):
            exact = times[-(-len(times) * share // 100) - 1]
            assert abs(value - exact) <= exact * ERROR + 1


def test_population_is_that_of_the_lines(path: Path) -> None:
    population = report_of(path).population
    changes = [
        (line["ts_us"], 1 if line["type"] == "time_wait" else -1)
        for line in raw(path)
        if line["type"] in ("time_wait", "time_wait_end")
    ]
    for index, count in enumerate(population.total):
        until = population.began_us + (index + 1) * population.bin_us
        assert count == sum(by for ts_us, by in changes if ts_us < until)
    assert population.total == tuple(map(sum, zip(*(line.counts for line in population.lines), strict=True)))
    now = peak = 0
    for _, by in changes:
        now += by
        peak = max(peak, now)
    assert population.peak == peak


def test_ages_and_lifetimes(path: Path) -> None:
    report = report_of(path)
    lines = raw(path)
    ages = [line for line in lines if line["type"] == "close" and line["age_us"] is not None]
    for one in report.ages:
        inside = [line for line in ages if one.low_us <= line["age_us"] < one.high_us]
        assert one.time_wait == sum(line["time_wait"] for line in inside)
        assert one.other == len(inside) - one.time_wait
    assert sum(one.time_wait + one.other for one in report.ages) == len(ages)
    lifetimes = [line for line in lines if line.get("lifetime_us") is not None]
    for one in report.lifetimes:
        inside = [line for line in lifetimes if one.low_us <= line["lifetime_us"] < one.high_us]
        assert one.time_wait == sum(line["reason"] == "expired" for line in inside)
        assert one.other == len(inside) - one.time_wait
    assert sum(one.time_wait + one.other for one in report.lifetimes) == len(lifetimes)


def test_ways_edges_and_reasons(path: Path) -> None:
    report = report_of(path)
    lines = raw(path)
    closed = [line for line in lines if line["type"] == "close"]
    ways = Counter((line["role"], line["first"], line["how"], line["via"]) for line in closed)
    assert {(way.role, way.first, way.how, way.via): way.closes for way in report.ways} == ways
    assert sum(way.time_waits for way in report.ways) == sum(line["time_wait"] for line in closed)
    into = sum(edge.count for edge in report.edges if edge.new == "TIME_WAIT")
    assert into == sum(line["time_wait"] for line in closed)
    ended = [line for line in lines if line["type"] == "time_wait_end"]
    assert {one.reason: one.count for one in report.reasons} == Counter(line["reason"] for line in ended)
    assert sum(one.rearmed for one in report.reasons) == sum(line["rearmed"] > 0 for line in ended)
    assert report.born + report.preexisting - len(ended) == report.remaining


def test_pools_over_time() -> None:
    one = owner(1)
    events: list[Event] = []
    for conn in range(1, 11):
        events += [close(conn, one, at=conn), birth(conn, one, at=conn)]
    events += [death(conn, one, at=61 + conn) for conn in range(1, 11)]
    (pool,) = read(lines_of(*events)).pools
    assert (pool.saddr, pool.daddr, pool.dport, pool.size) == ("10.0.0.1", "10.0.0.2", 80, 28_232)
    assert (pool.peak, pool.now, pool.failures) == (10, 0, 0)
    assert (pool.since_us, pool.peak_us) == (T0 + SECOND, T0 + 10 * SECOND)
    assert pool.growth == pytest.approx(10 / 9)
    assert pool.who.label == "app[1]"


# Text and data.


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_text_of_the_example() -> None:
    text = render(report_of(EXAMPLE))
    verdict = text.index("▲ WARN"), text.index("WHO, by process")
    assert text[: verdict[0]] + text[verdict[1] :] == GOLDEN.read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) < 100


@pytest.mark.parametrize("by", GROUPINGS)
def test_text_fits(by: str, busy: Path) -> None:
    text = render(report_of(busy, by))
    assert max(map(len, text.splitlines())) < 100
    assert "\nΣ all " in text


def test_hostile_names_reach_no_terminal() -> None:
    evil = owner(1, "\x1b[31mevil\n\u202e", cgroup="/\x1b]0;x\x07")
    ours = ends(1)._replace(daddr="\x1b[2J")
    events: list[Event] = [close(1, evil, where=ours), birth(1, evil), held(2, evil, at=1)]
    events += [
        TimeWaitEnd(T0 + 9, ours, evil, 5, None, "\x1b[1m", None, 0, preexisting=False),
        close(3, evil, via="\x1b[3m", where=ends(3)._replace(daddr="\x1b[2J")),
    ]
    for by in GROUPINGS:
        (report,) = read_all([Part(lines_of(*events))], Wanted(by)).reports
        text = render(report)
        assert not set(text) & {"\x1b", "\x07", "\u202e"}
        orjson.loads(as_json(Reports((report,))))


def test_json_has_the_same(path: Path) -> None:
    report = report_of(path, "unit")
    told = orjson.loads(as_json(Reports((report,))))
    total = told["who"]["rows"][-1]
    assert (told["who"]["by"], total["label"], total["closes"]) == ("unit", "all", report.who.total.closes)
    assert told["by"] == "process"
    assert told["rows"][-1]["closes"] == total["closes"]
    assert sum(told["population"]["total"]) == sum(report.population.total)
    assert told["time_wait"]["born"] == report.born
    assert [one["text"] for one in told["sentences"]] == [one.text for one in report.sentences]
    assert told["dwells"][0]["times"]["count"] == report.dwells[0].times.count


def test_who_holds_nothing() -> None:
    table = read(lines_of()).who
    assert table.rows == ()
    assert total_of(table) == (0, 0, 0)
    assert "WHO, by process" in render(read(lines_of()))


def total_of(table: Table) -> tuple[int, int, int]:
    return table.total.closes, table.total.time_waits, table.total.time_wait_now
