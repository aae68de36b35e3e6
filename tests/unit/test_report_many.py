"""Several files: parts of one recording, before and after, both ends of a connection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from tests.unit.samples import SECOND, T0, birth, close, ends, held, owner, start
from tracer.cli import main
from tracer.errors import UsageError
from tracer.model import UNKNOWN_OWNER, Close, Endpoints, Event, Held, Owner, TimeWait, TimeWaitEnd
from tracer.record import Encoder
from tracer.report.joining import MAX_WAITING, SKEW_US, Joiner
from tracer.report.many import read_all
from tracer.report.model import Change, Reports
from tracer.report.reading import Part, Wanted
from tracer.report.text import render_all


def trace(
    *events: Event,
    host: str = "host",
    at: float = 0,
    lasts: float = 60,
    run: str | None = None,
    number: int = 1,
) -> list[bytes]:
    encoder = Encoder()
    began = replace(
        start(ip_local_port_range="1000 1999"), host=host, ts_us=T0 + int(at * SECOND), run=run, part=number
    )
    lines = [encoder.start(began), *map(encoder.event, events)]
    return [*lines, encoder.end(T0 + int((at + lasts) * SECOND), int(lasts * SECOND), {}, {})[1]]


def part(lines: Iterable[bytes]) -> Part:
    made = Part(lines)
    made.name = f"part{made.number}.ndjson"
    return made


ONE, TWO = owner(1, "a"), owner(2, "b")


def lived(conn: int, whose: Owner, at: float, until: float | None = None) -> list[Event]:
    events: list[Event] = [close(conn, whose, at=at), birth(conn, whose, at=at)]
    if until is not None:
        events.append(
            TimeWaitEnd(
                T0 + int(until * SECOND),
                ends(conn),
                whose,
                60 * SECOND,
                None,
                "expired",
                None,
                0,
                preexisting=False,
            )
        )
    return events


def later(events: list[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event.ts_us)


def story() -> list[Event]:
    """Two minutes of it."""
    events: list[Event] = [TimeWait(T0, ends(900), UNKNOWN_OWNER, "TIME_WAIT", preexisting=True)]
    for conn in range(1, 50):
        events += lived(conn, ONE if conn % 2 else TWO, conn, conn + 61 if conn < 40 else None)
    events += [held(100, ONE, at=10), held(101, TWO, at=20), close(101, TWO, at=90, first="remote")]
    return later(events)


def cut(events: list[Event], *at: float, run: str = "r") -> list[list[bytes]]:
    """As a recording that rotates: each file begins with what is there."""
    files: list[list[bytes]] = []
    bounds = [0.0, *at, 120.0]
    waiting: dict[int, TimeWait] = {}
    half_closed: dict[int, Held] = {}
    for begins, over in pairwise(bounds):
        found: list[Event] = []
        if begins:
            now_us = T0 + int(begins * SECOND)
            found = [
                one._replace(ts_us=now_us, preexisting=True, owner=UNKNOWN_OWNER) for one in waiting.values()
            ]
            found += [one._replace(ts_us=now_us, preexisting=True) for one in half_closed.values()]
        there_before = set(waiting)
        for event in events:
            if not T0 + begins * SECOND <= event.ts_us < T0 + over * SECOND:
                continue
            if isinstance(event, TimeWait):
                waiting[event.ends.conn] = event
            elif isinstance(event, TimeWaitEnd):
                waiting.pop(event.ends.conn, None)
                event = event._replace(preexisting=event.ends.conn in there_before)  # noqa: PLW2901
            elif isinstance(event, Held):
                half_closed[event.ends.conn] = event
            elif isinstance(event, Close):
                half_closed.pop(event.ends.conn, None)
            found.append(event)
        files.append(trace(*found, at=begins, lasts=over - begins, run=run, number=len(files) + 1))
    return files


def test_parts_of_a_recording_are_read_as_one() -> None:
    (whole,) = read_all([Part(trace(*story(), lasts=120))], Wanted()).reports
    parts = list(map(part, cut(story(), 30, 45.5, 80)))
    (joined,) = read_all([parts[2], parts[0], parts[3], parts[1]], Wanted()).reports
    assert joined.parts == (1, 2, 3, 4)
    for name in ("who", "sentences", "ways", "edges", "dwells", "reasons", "population", "never_closed"):
        assert getattr(joined, name) == getattr(whole, name), name
    assert (joined.born, joined.preexisting, joined.remaining) == (49, 1, 11)
    assert [limit.id for limit in joined.limits] == [limit.id for limit in whole.limits]
    assert joined.snapshot == whole.snapshot


def test_a_part_in_the_middle_is_missed() -> None:
    files = cut(story(), 30, 45.5, 80)
    (report,) = read_all([part(files[0]), part(files[3])], Wanted()).reports
    (first, *_) = report.limits
    assert (first.id, first.grave) == ("part_missing", True)
    assert first.text.startswith("not among the files: parts 2, 3 of the recording;")
    assert "parts 1, 4" in render_all(Reports((report,)))


def test_so_are_the_first_ones() -> None:
    files = cut(story(), 30, 45.5, 80)
    (report,) = read_all([part(files[2]), part(files[3])], Wanted()).reports
    (missing,) = (limit for limit in report.limits if limit.id == "part_missing")
    assert not missing.grave
    assert "parts 3-4" in render_all(Reports((report,)))
    # What is there when it begins counts as from before, once.
    before = [event for event in story() if event.ts_us < T0 + 45.5 * SECOND]
    born = sum(isinstance(event, TimeWait) for event in before)
    assert report.preexisting == born - sum(isinstance(event, TimeWaitEnd) for event in before)


def test_a_part_given_twice() -> None:
    files = cut(story(), 30)
    with pytest.raises(UsageError, match=r"same part, 2, of one recording"):
        read_all([part(files[1]), part(files[0]), part(files[1])], Wanted())


def test_a_part_that_was_cut_off_is_named() -> None:
    files = cut(story(), 30)
    (report,) = read_all([part(files[0][:-1]), part(files[1])], Wanted()).reports
    assert not report.whole
    assert [limit.text for limit in report.limits if limit.id == "cut_off"] == [
        "part 1 has no `end` line: it was cut off, and counts are at least what is said"
    ]


def test_settings_are_those_of_the_last_part() -> None:
    files = cut(story(), 30)
    files[1][0] = files[1][0].replace(b'"1000 1999"', b'"1024 65535"')
    (report,) = read_all(list(map(part, files)), Wanted()).reports
    assert report.snapshot.settings[1]["ip_local_port_range"] == "1024 65535"


def test_another_run_is_another_recording() -> None:
    files = [*cut(story(), 30, run="r"), *cut(story(), 30, run="s")]
    assert [one.parts for one in read_all(list(map(part, files)), Wanted()).reports] == [(1, 2), (1, 2)]


# Before and after.


def busy(host: str, whose: Owner, at: float, number: int, *, first: str = "local") -> list[bytes]:
    events: list[Event] = []
    for conn in range(number):
        moment = at + 50 * conn / number
        events.append(close(conn, whose, at=moment, first=first))
        if first == "local":
            events.append(birth(conn, whose, at=moment))
    return trace(*events, host=host, at=at)


def figures(reports: Reports) -> dict[tuple[str, str], Change]:
    assert reports.comparison is not None
    return {(change.what, change.figure): change for change in reports.comparison.changes}


def test_two_times_of_one_host_are_compared() -> None:
    before, after = busy("h", owner(1, "api"), 0, 600), busy("h", owner(9, "api"), 1000, 600, first="remote")
    reports = read_all([Part(before), Part(after)], Wanted())
    changes = figures(reports)
    change = changes["api", "time_waits_per_connection"]
    assert (change.before, change.after, change.unit) == (1.0, 0.0, "/connection")
    assert change.factor == pytest.approx(1 / 601)
    rate = changes["all", "time_waits_per_s"]
    assert (rate.before, rate.after) == (10.0, 0.0)
    assert ("api", "closes_per_s") not in changes
    assert ("all", "connection_p50_us") not in changes
    assert changes["api", "finding reconnects"].after is None
    measured = [one.factor for one in reports.comparison.changes if one.factor] if reports.comparison else []
    sizes = [round(max(factor, 1 / factor), 6) for factor in measured]
    assert sizes == sorted(sizes, reverse=True)
    assert reports.joined is None
    text = render_all(reports)
    assert text.startswith("BEFORE\n")
    assert "÷ 601" in text
    assert max(map(len, text.splitlines())) < 100


def test_given_the_other_way_round_the_first_is_before() -> None:
    early, late = busy("h", ONE, 0, 600), busy("h", ONE, 1000, 60)
    change = figures(read_all([Part(late), Part(early)], Wanted()))["all", "closes_per_s"]
    assert (change.before, change.after) == (1.0, 10.0)
    assert change.factor == pytest.approx(601 / 61)


def test_what_chance_may_do_is_no_change() -> None:
    before, after = busy("h", ONE, 0, 20), busy("h", ONE, 1000, 30)
    reports = read_all([Part(before), Part(after)], Wanted())
    assert reports.comparison is not None
    assert [one for one in reports.comparison.changes if one.factor is not None] == []
    assert reports.comparison.unchanged > 10


def test_settings_that_changed() -> None:
    before, after = busy("h", ONE, 0, 30), busy("h", ONE, 1000, 30)
    after[0] = after[0].replace(b'"1000 1999"', b'"1024 65535"')
    change = figures(read_all([Part(before), Part(after)], Wanted()))[
        "net.ipv4.ip_local_port_range", "setting"
    ]
    assert (change.before, change.after, change.factor) == ("1000 1999", "1024 65535", None)


def test_other_rows_are_compared_by_their_names() -> None:
    before = busy("h", owner(1, "api", "/x"), 0, 600)
    after = busy("h", owner(9, "other", "/x"), 1000, 60)
    changes = figures(read_all([Part(before), Part(after)], Wanted("cgroup")))
    assert changes["/x", "closes_per_s"].after == 1.0


def test_recordings_that_overlap_are_told_apart() -> None:
    reports = read_all([Part(busy("h", ONE, 0, 30)), Part(busy("h", ONE, 30, 30))], Wanted())
    assert reports.comparison is None
    assert reports.joined is not None
    assert all(report.who is report.processes for report in reports.reports)


def test_so_are_hosts_unless_told_otherwise() -> None:
    files = busy("h", ONE, 0, 300), busy("other", ONE, 1000, 600)
    assert read_all(list(map(Part, files)), Wanted()).comparison is None
    assert read_all(list(map(Part, files)), Wanted(), compare=True).comparison is not None
    same = busy("h", ONE, 0, 300), busy("h", ONE, 1000, 600)
    assert read_all(list(map(Part, same)), Wanted(), compare=False).comparison is None


@pytest.mark.parametrize("number", [1, 3])
def test_only_two_can_be_compared(number: int) -> None:
    files = [Part(busy("h", ONE, 100 * index, 3)) for index in range(number)]
    with pytest.raises(UsageError, match=f"two recordings can be compared, and here (is|are) {number}"):
        read_all(files, Wanted(), compare=True)


# Both ends.


def end_of(  # noqa: PLR0913 - each test names the few that matter to it
    conn: int,
    whose: Owner,
    four: tuple[str, int, str, int],
    *,
    at: float,
    role: str,
    first: str,
    age_us: int | None = 2000,
    how: str = "fin",
) -> Close:
    where = Endpoints(conn, 1, 4, *four)
    return close(conn, whose, at=at, role=role, first=first, age_us=age_us, where=where, how=how)


def four(number: int, service: int = 5432) -> tuple[str, int, str, int]:
    return "10.0.0.1", 30_000 + number, "10.0.0.2", service


def turned(ends_of: tuple[str, int, str, int]) -> tuple[str, int, str, int]:
    return ends_of[2:] + ends_of[:2]


WEB, DB = owner(1, "web"), owner(2, "db")


def both(skew: float = 0.3) -> tuple[list[bytes], list[bytes]]:
    web: list[Event] = []
    db: list[Event] = []
    for number in range(20):
        web_first = number < 15
        web.append(
            end_of(
                number, WEB, four(number), at=number, role="client", first="local" if web_first else "remote"
            )
        )
        db.append(
            end_of(
                number,
                DB,
                turned(four(number)),
                at=number + skew,
                role="server",
                first="remote" if web_first else "local",
            )
        )
    return trace(*web, host="web-1"), trace(*db, host="db-1", at=0.1)


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("skew", [-4, 0.3, 4])
def test_both_ends_are_joined(skew: float, turn: bool) -> None:
    files = list(map(Part, both(skew)))
    reports = read_all(files[::-1] if turn else files, Wanted())
    assert reports.joined is not None
    (pair,) = reports.joined.pairs
    assert (pair.a.label, pair.a_host, pair.b.label, pair.b_host) == ("web[1]", "web-1", "db[2]", "db-1")
    assert (pair.port, pair.connections, pair.a_first, pair.b_first) == (5432, 20, 15, 5)
    assert (pair.a_time_waits, pair.b_time_waits, pair.neither, pair.disputed) == (15, 5, 0, 0)
    assert (reports.joined.connections, reports.joined.alone) == (20, 0)
    text = render_all(reports)
    assert text.startswith("BOTH ENDS of connections between these hosts\n")
    assert " ".join(text.split()).count(
        "web[1] on web-1 → db[2] on db-1, port 5432: 20 connections; web[1] closed first in 15, so it sits on"
        " web-1 (15 TIME_WAITs); db[2] closed first in 5, so it sits on db-1 (5 TIME_WAITs)"
    ) == 1  # fmt: skip


def test_the_same_ports_at_another_time_are_another_connection() -> None:
    apart = SKEW_US / SECOND + 1
    reports = read_all(list(map(Part, both(apart))), Wanted())
    assert reports.joined is not None
    assert (reports.joined.connections, reports.joined.alone) == (0, 40)


def test_an_end_that_was_there_before_is_joined_all_the_same() -> None:
    web = end_of(1, WEB, four(1), at=50, role="unknown", first="local", age_us=None)
    db = end_of(1, DB, turned(four(1)), at=20, role="server", first="remote")
    files = trace(web, host="web-1"), trace(db, host="db-1")
    joined = read_all(list(map(Part, files)), Wanted()).joined
    assert joined is not None
    assert [(pair.a.label, pair.connections) for pair in joined.pairs] == [("web[1]", 1)]


@pytest.mark.parametrize(
    ("firsts", "expected"),
    [(("none", "none"), (0, 0, 1, 0)), (("both", "both"), (0, 0, 0, 1)), (("local", "local"), (0, 0, 0, 1))],
)
def test_who_closed_first_may_be_disputed(firsts: tuple[str, str], expected: tuple[int, ...]) -> None:
    web = end_of(1, WEB, four(1), at=1, role="client", first=firsts[0], how="reset_sent")
    db = end_of(1, DB, turned(four(1)), at=1, role="server", first=firsts[1], how="reset_received")
    joined = read_all([Part(trace(web, host="w")), Part(trace(db, host="d"))], Wanted()).joined
    assert joined is not None
    (pair,) = joined.pairs
    assert (pair.a_first, pair.b_first, pair.neither, pair.disputed) == expected


def test_loopback_and_failed_connects_have_no_other_end() -> None:
    loopback = ("127.0.0.1", 1, "127.0.0.1", 2)
    one = trace(
        end_of(1, WEB, loopback, at=1, role="client", first="local"),
        end_of(2, WEB, four(2), at=1, role="client", first="none", how="failed"),
        host="w",
    )
    other = trace(end_of(1, DB, turned(loopback), at=1, role="server", first="remote"), host="d")
    joined = read_all([Part(one), Part(other)], Wanted()).joined
    assert joined is not None
    assert (joined.pairs, joined.connections, joined.alone) == ((), 0, 0)


def test_both_ends_on_one_host_are_no_pair_of_hosts() -> None:
    one = trace(
        end_of(1, WEB, four(1), at=1, role="client", first="local"),
        end_of(2, DB, turned(four(1)), at=1, role="server", first="remote"),
        host="w",
    )
    joined = read_all([Part(one), Part(trace(host="d"))], Wanted()).joined
    assert joined is not None
    assert (joined.pairs, joined.connections, joined.alone) == ((), 0, 0)


def test_ends_that_wait_are_so_many_at_most() -> None:
    from tracer.account import Account  # noqa: PLC0415

    joiner = Joiner(["a", "b"])
    account = Account((1,), "x", None)
    told = joiner.of(0), joiner.of(1)
    for number in range(MAX_WAITING + 10):
        ours = (f"10.0.{number >> 8}.{number & 255}", 1, "10.9.9.9", 2)
        told[0](end_of(number, WEB, ours, at=1, role="client", first="local"), account)
    for number in (0, MAX_WAITING + 9):
        ours = (f"10.0.{number >> 8}.{number & 255}", 1, "10.9.9.9", 2)
        told[1](end_of(number, DB, turned(ours), at=1, role="server", first="remote"), account)
    joined = joiner.joined()
    assert (joined.connections, joined.alone) == (1, MAX_WAITING + 10)


def test_json_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = []
    for number, lines in enumerate(both()):
        names.append(str(tmp_path / f"{number}.ndjson"))
        Path(names[-1]).write_bytes(b"".join(lines))
    assert main(["report", "--json", *names]) == 0
    told = orjson.loads(capsys.readouterr().out)
    assert [report["host"] for report in told["reports"]] == ["web-1", "db-1"]
    assert told["joined"]["pairs"][0]["a_time_waits"] == 15
    assert main(["report", "--json", "--compare", *names]) == 0
    told = orjson.loads(capsys.readouterr().out)
    assert told["comparison"]["changes"]
    assert main(["report", "--compare", names[0]]) == 2
    assert "hint: give the files of one from before" in capsys.readouterr().err
