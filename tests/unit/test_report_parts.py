"""What a report is made of: durations, populations, limits; and the command."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import SECOND, T0, birth, close, death, ends, held, owner, start
from tracer.account import Account
from tracer.cli import main
from tracer.model import UNKNOWN_OWNER, Balance, Event, Lost, TimeWait
from tracer.record import Encoder
from tracer.report.limits import Facts, limits_of
from tracer.report.model import ERROR, Limit
from tracer.report.population import MAX_BINS, MAX_LINES, Populations
from tracer.report.quantiles import Durations, by_doubling
from tracer.report.reading import Part, Reading, Wanted, read
from tracer.report.text import render

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "demo.ndjson")

TIMES = st.lists(st.integers(-3, 1 << 45), min_size=1, max_size=60)


@given(TIMES, TIMES)
def test_quantiles_are_as_near_as_they_say(some: list[int], others: list[int]) -> None:
    durations, more = Durations(), Durations()
    for value in some:
        durations.add(value)
    more.add_all(others)
    durations.merge(more)
    exact = sorted(max(value, 0) for value in some + others)
    found = durations.quantiles()
    assert (found.count, found.max_us) == (len(exact), exact[-1])
    for share, value in ((50, found.p50_us), (90, found.p90_us), (99, found.p99_us)):
        wanted = exact[-(-len(exact) * share // 100) - 1]
        assert abs(value - wanted) <= wanted * ERROR + 0.5


@given(TIMES)
def test_one_by_one_or_all_at_once(values: list[int]) -> None:
    one, all_of_them = Durations(), Durations()
    for value in values:
        one.add(value)
    all_of_them.add_all(values)
    assert one.quantiles() == all_of_them.quantiles()
    assert one.buckets() == all_of_them.buckets()


@given(TIMES, TIMES)
def test_bins_of_a_factor_of_two(some: list[int], others: list[int]) -> None:
    left, rest = Durations(), Durations()
    left.add_all(some)
    rest.add_all(others)
    bins = by_doubling(left, rest)
    for one in bins:
        assert one.time_wait == sum(one.low_us <= max(value, 0) < one.high_us for value in some)
        assert one.other == sum(one.low_us <= max(value, 0) < one.high_us for value in others)
    assert sum(one.time_wait for one in bins) == len(some)
    assert all(one.high_us == other.low_us for one, other in pairwise(bins))


def test_durations_take_bounded_room() -> None:
    durations = Durations()
    durations.add_all([int(1.0002**power) for power in range(200_000)])
    assert len(durations._buckets) < 2_000


def test_nothing_has_quantiles_too() -> None:
    assert Durations().quantiles().p99_us == 0
    assert by_doubling(Durations(), Durations()) == ()


# Populations.


def accounts(number: int) -> list[Account]:
    made = [Account((pid, 0), f"p{pid}", None) for pid in range(number)]
    for pid, account in enumerate(made):
        account.note_pid(pid)
    return made


LIVES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5_000), st.integers(0, 5_000)), max_size=60)


@given(LIVES)
def test_a_population_is_who_is_there(lives: list[tuple[int, int, int]]) -> None:
    owners = accounts(31)
    population = Populations(T0)
    changes = [(begins, who, 1) for who, begins, _ in lives]
    changes += [(begins + lasts, who, -1) for who, begins, lasts in lives]
    for at, who, by in sorted(changes, key=lambda change: (change[0], -change[2])):
        population.change(T0 + at * SECOND, owners[who], by)
    last = max((begins + lasts for _, begins, lasts in lives), default=0)
    made = population.made(T0 + last * SECOND)
    assert len(made.total) <= MAX_BINS
    assert len(made.lines) <= MAX_LINES + 1
    for index, count in enumerate(made.total):
        until = (index + 1) * made.bin_us // SECOND
        assert count == sum(begins < until <= begins + lasts for _, begins, lasts in lives)
        assert count == sum(line.counts[index] for line in made.lines)
    for line in made.lines:
        if line.key != "others":
            who = int(line.key.partition("/")[0])
            assert line.counts[-1] == 0
            until = made.bin_us // SECOND
            assert line.counts[0] == sum(
                one == who and begins < until <= begins + lasts for one, begins, lasts in lives
            )


def test_very_many_owners_are_others() -> None:
    population = Populations(T0)
    owners = accounts(5_000)
    big, *small = owners
    for at in range(100):
        population.change(T0 + at * SECOND, big, 1)
    for account in small:
        population.change(T0 + 100 * SECOND, account, 1)
    assert len(population._changes) <= 1_000
    for account in small[:4_000]:
        population.change(T0 + 101 * SECOND, account, -1)
    made = population.made(T0 + 101 * SECOND)
    assert (made.lines[0].label, made.lines[0].counts[99:]) == ("p0[0]", (100, 100, 100))
    assert made.lines[-1].label == "others"
    assert made.total[100:] == (5_099, 1_099)
    assert (made.peak, made.peak_us) == (5_099, T0 + 100 * SECOND)
    assert all(min(line.counts) >= 0 for line in made.lines)
    assert set(population._merged.values()) <= {1}
    assert len(population._merged) <= 1_000


# Limits.


def facts(*events: Event, source: str = "fentry", lasts: float = 90, residue: int | None = 0) -> Facts:
    encoder = Encoder()
    began = replace(start(), hooks={"source": source})
    ledger = {"1": Balance(0, 0, 0, 5, None if residue is None else 5 - residue, residue)}
    lines = [encoder.start(began), *map(encoder.event, events)]
    lines.append(encoder.end(T0 + int(lasts * SECOND), int(lasts * SECOND), {}, ledger)[1])
    reading = Reading([Part(lines)], Wanted())
    while reading.read_some():
        pass
    snapshot = reading._aggregator.snapshot(T0 + int(lasts * SECOND))
    return replace(reading._facts(snapshot, reading.collector.processes(1)), doubts=(), doubted=0)


def told(found: Facts) -> list[tuple[str, bool]]:
    return [(limit.id, limit.grave) for limit in limits_of(found)]


def test_a_good_trace_has_no_limits() -> None:
    assert limits_of(facts(close(1, owner(1)), birth(1, owner(1)), death(1, owner(1)))) == ()


def test_limits() -> None:
    lost = facts(Lost(T0, "event_ring", 3), Lost(T0, "event_ring", 4))
    (limit,) = limits_of(lost)
    assert limit == Limit(
        "lost", "records were lost (7 event_ring): counts are at least what is said", grave=True
    )
    assert told(facts(residue=-2)) == [("ledger", True)]
    assert "(residue -2)" in limits_of(facts(residue=-2))[0].text
    assert told(facts(residue=None)) == [("ledger", False)]
    assert told(facts(lasts=59)) == [("short", False)]
    assert told(facts(source="timer")) == told(facts(source="kprobe")) == [("hooks", False)]
    before = birth(1, UNKNOWN_OWNER, preexisting=True)
    assert told(facts(before)) == [("preexisting", False)]
    assert "1 TIME_WAITs are from before" in limits_of(facts(before, death(1)))[0].text
    assert told(facts(close(1, UNKNOWN_OWNER, age_us=None))) == [("unknown", False), ("unseen", False)]


def test_the_grave_ones_come_first() -> None:
    both = replace(facts(lasts=59), doubts=tuple(f"line {n}: no" for n in range(9)), doubted=700)
    assert told(both) == [("doubt", True)] * 6 + [("short", False)]
    assert limits_of(both)[5].text == "and 695 more such lines"


def test_filters_are_told() -> None:
    found = facts()
    began = replace(found.starts[0], filters={"local_ports": [80, 443], "filter": "proc:x"})
    texts = [limit.text for limit in limits_of(replace(found, starts=(began,), filters="pids=3"))]
    assert texts == [
        "it was recorded with filters, and nothing else is in it: local_ports=80,443 filter=proc:x",
        "this report is of a part of it: pids=3",
    ]


def test_a_trace_cut_off_says_so() -> None:
    encoder = Encoder()
    lines = [encoder.start(start()), encoder.event(close(1, owner(1))), b'{"type":"clo']
    limits = read(lines).limits
    assert [limit.id for limit in limits] == ["doubt", "cut_off", "short", "hooks"]
    text = render(read(lines))
    assert text.index("▲ line 3: cut off: left out") < text.index("WHO")
    assert "\nWHO, by process (▲ figures may be wrong, see LIMITS)\n" in text


# The command.


def test_sections_of_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", EXAMPLE]) == 0
    out = capsys.readouterr().out
    sections = ["LIMITS", "▲ WARN", "NO HELP", "WHO", "WHAT EACH", "NEVER CLOSED", "CLOSED HOW", "STATES"]
    sections += ["TIME_WAITS and", "TIME_WAITS over", "CONNECTIONS", "SOURCE PORTS"]
    places = [out.index(f"\n{section}") for section in sections]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("arguments", "closes"),
    [
        (["-C", "cli-resets"], 100),
        (["-p", "15206", "-p", "15207"], 100),
        (["-u", "0"], 890),
        (["-u", "1"], 0),
        (["--cgroup", "/example"], 890),
        (["-N", "4026532178"], 890),
        (["-N", "1"], 0),
        (["-L", "53229"], 100),
        (["-D", "53229,45655"], 190),
        (["-4"], 890),
        (["-6"], 0),
        (["--filter", "proc:srv !port:53229"], 300),
    ],
)
def test_filters(arguments: list[str], closes: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", EXAMPLE, *arguments]) == 0
    out = capsys.readouterr().out
    (total,) = (line for line in out.splitlines() if line.startswith("Σ all"))
    assert int(total.split()[2].replace(",", "")) == closes
    assert "· this report is of a part of it: " in out


@pytest.mark.parametrize(
    ("arguments", "cause", "hint"),
    [
        (["--filter", "tw/s>10 proc:x"], "filter tw/s>10: asks about the rows of a view", "or --json"),
        (["--filter", "prc:x"], "filter prc:x: no key 'prc'", "did you mean proc?"),
        (["-N", "web"], "web: names and paths of namespaces", "--by netns"),
        (["--by", "host"], "argument --by: invalid choice: 'host'", "report --help"),
        (["--compare", "--apart"], "not allowed with argument", "report --help"),
        (["/nowhere"], "cannot read /nowhere: No such file", "twtrace record"),
        (["--compare"], "two recordings can be compared, and here is 1", "from before"),
    ],
)
def test_errors(arguments: list[str], cause: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", EXAMPLE, *arguments]) == 2
    captured = capsys.readouterr()
    error, advice = captured.err.splitlines()
    assert cause in error
    assert hint in advice
    assert captured.out == ""


def test_an_error_in_a_file_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.ndjson"
    bad.write_bytes(b'{"type":"close"}\n')
    assert main(["report", EXAMPLE, str(bad)]) == 2
    assert f"{bad}: this is no trace" in capsys.readouterr().err


def test_more_files_than_can_be_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import resource  # noqa: PLC0415

    encoder = Encoder()
    trace = b"".join((encoder.start(start()), encoder.end(T0 + SECOND, SECOND, {}, {})[1]))
    names = []
    for number in range(60):
        names.append(str(tmp_path / f"{number}.ndjson"))
        Path(names[-1]).write_bytes(trace)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(map(int, os.listdir("/proc/self/fd"))) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, limits[1]))
    try:
        assert main(["report", *names]) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert capsys.readouterr().out.count("WHO, by process") == 60


def test_colour_marks_titles_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", EXAMPLE, "--color", "always"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[1mWHO, by process\x1b[0m\n" in out
    assert "\x1b[33m▲ WARN" in out
    assert main(["report", EXAMPLE]) == 0
    plain = capsys.readouterr().out
    assert "\x1b" not in plain
    assert out.replace("\x1b[1m", "").replace("\x1b[33m", "").replace("\x1b[0m", "") == plain


def test_memory_goes_with_owners_and_not_with_lines() -> None:
    """What is kept after twice as many connections is as much."""
    sizes = []
    for rounds in (1, 2):
        events: list[Event] = []
        for conn in range(1_000 * rounds):
            moment = conn / 10
            events += [close(conn, owner(1 + conn % 5), at=moment), birth(conn, owner(1), at=moment)]
            events.append(death(conn, owner(1), at=moment + 0.05))
        encoder = Encoder()
        reading = Reading([Part([encoder.start(start()), *map(encoder.event, events)])], Wanted("peer"))
        while reading.read_some():
            pass
        collector = reading.collector
        sizes.append((len(collector._by_account), len(collector._waiting), len(collector._by_name)))
    assert sizes[0] == sizes[1] == (5, 0, 1)


def test_preexisting_is_no_birth() -> None:
    row = read([Encoder().start(start()), Encoder().event(birth(1, preexisting=True))]).processes.unknown
    assert (row.time_waits, row.time_wait_now) == (0, 1)
    assert isinstance(birth(1), TimeWait)


def test_what_lasted_for_minutes_is_judged_though_little_else_happened() -> None:
    events: list[Event] = [
        close(conn, owner(1), at=1, where=ends(conn, daddr=f"10.0.{conn >> 8}.{conn & 255}"))
        for conn in range(400)
    ]
    leaked = range(500, 510)
    events += [held(conn, owner(2), at=10) for conn in leaked]
    events += [close(600 + at, owner(1), at=at) for at in range(20, 190, 10)]
    events += [close(conn, owner(2), at=200, first="remote") for conn in leaked]
    encoder = Encoder()
    lines = [encoder.start(start()), *map(encoder.event, events)]
    lines.append(encoder.end(T0 + 210 * SECOND, 210 * SECOND, {}, {})[1])
    assert "close_wait_leak" in {finding.id for finding in read(lines).findings}


def test_folded_processes_make_room_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.report.collect.MAX_ROWS", 4)
    events = [close(pid, owner(pid, "worker")) for pid in range(1, 6)]
    events += [close(100 + pid, owner(100 + pid, f"p{pid}")) for pid in range(20)]
    encoder = Encoder()
    table = read([encoder.start(start()), *map(encoder.event, events)]).processes
    closes = {row.label: row.closes for row in table.rows}
    assert closes.pop("worker ×5") == 5
    assert set(closes.values()) == {1}
    assert table.total.closes == 25


def test_who_left_nothing_among_the_others_begins_anew() -> None:
    population = Populations(T0)
    first, *many = accounts(1_400)
    population.change(T0, first, 1)
    population.change(T0 + 1, first, -1)
    for account in many:
        population.change(T0 + 2, account, 1)
    for _ in range(5):
        population.change(T0 + SECOND, first, 1)
    assert population.made(T0 + SECOND).lines[0].counts == (0, 5)
