"""From which places the closes of a process come: exact counts, whatever is resolved when."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.unit.samples import birth, close, ends, held, owner, start
from tests.unit.stacks import START, closing, frame, libc, site
from tracer import sites
from tracer.aggregate import Aggregator
from tracer.callsites import headline, opened_at, rest, shares_of, top_opening, top_site
from tracer.model import CallSites, Close, Event, Owner, Site
from tracer.places import NOT_RESOLVED
from tracer.sites import MAX_PLACES, OTHERS
from tracer.verdict import judge

APP = owner(7)


def aggregated(*events: Event) -> Aggregator:
    aggregator = Aggregator(start())
    aggregator.add(events)
    return aggregator


def found(*events: Event) -> tuple[CallSites, ...]:
    return aggregated(*events).snapshot(events[-1].ts_us).sites


def closes(count: int, number: int | None, whose: Owner = APP, *, first: int = 0) -> list[Event]:
    """So many closes that leave a TIME_WAIT, from that site."""
    made: list[Event] = []
    for conn in range(first, first + count):
        made += [close(conn, whose)._replace(site=number), birth(conn, whose)]
    return made


def counts(of: CallSites) -> dict[str, tuple[int, int]]:
    return {
        one.place.function if one.place else NOT_RESOLVED: (one.closes, one.time_waits) for one in of.places
    }


def test_thirty_and_seventy_of_a_hundred() -> None:
    (one,) = found(closing(1), closing(2, "give_up", 131), *closes(30, 1), *closes(70, 2, first=30))
    assert one.who.label == "app[7]"
    assert (one.closes, one.time_waits) == (100, 100)
    assert list(counts(one).items()) == [("give_up", (70, 70)), ("finish_request", (30, 30))]
    shares = shares_of(one)
    assert headline(shares) == "2 call sites make 100% of its TIME_WAITs (100 of 100)"
    assert rest(shares) == []
    assert top_site(one) == "70 of its 100 TIME_WAITs come from give_up (src/server.c:131)"


def test_of_some_that_was_looked_at() -> None:
    sampled = [*closes(6, 1), *closes(2, 2, first=6)]
    (one,) = found(closing(1), closing(2, "give_up", 131), *sampled, *closes(92, None, first=8))
    assert headline(shares_of(one)) == ("2 call sites make 100% of its TIME_WAITs (8 of 8 looked at, of 100)")
    assert top_site(one).startswith("6 of its 8 TIME_WAITs looked at come from finish_request")


def test_closes_that_leave_none_are_told_if_no_other_is_there() -> None:
    peer_first = [close(conn, APP, first="remote")._replace(site=1) for conn in range(5)]
    (one,) = found(closing(1), *peer_first)
    assert counts(one) == {"finish_request": (5, 0)}
    assert headline(shares_of(one)) == "1 call site makes 100% of its closes (5 of 5)"
    (one,) = found(closing(1), *peer_first, *closes(2, 1, first=5))
    assert counts(one) == {"finish_request": (7, 2)}
    assert headline(shares_of(one)) == "1 call site makes 100% of its TIME_WAITs (2 of 2)"


def test_a_site_may_come_after_its_closes_or_never() -> None:
    aggregator = aggregated(*closes(3, 1), *closes(1, 2, first=3), *closes(2, None, first=4))
    (one,) = aggregator.snapshot(0).sites
    assert counts(one) == {NOT_RESOLVED: (4, 4)}
    assert headline(shares_of(one)) == "call sites not resolved (4 TIME_WAITs looked at, of 6)"
    assert top_site(one) == ""
    assert aggregator.looked_at() == (4, 4)
    aggregator.add([closing(1), *closes(1, 1, first=6)])
    (one,) = aggregator.snapshot(0).sites
    assert counts(one) == {"finish_request": (4, 4), NOT_RESOLVED: (1, 1)}
    assert rest(shares_of(one)) == [(NOT_RESOLVED, 1)]
    assert aggregator.looked_at() == (5, 1)


def test_a_site_without_a_stack_is_not_resolved() -> None:
    (one,) = found(site(1), *closes(2, 1))
    assert counts(one) == {NOT_RESOLVED: (2, 2)}


def test_the_same_place_in_two_processes() -> None:
    """Of one row, it is one; of two rows, it is told of both."""
    one, other = owner(1, "one"), owner(2, "two")
    told = found(closing(1), closing(2), *closes(3, 1, one), *closes(2, 2, other, first=3))
    assert [counts(row) for row in told] == [{"finish_request": (3, 3)}, {"finish_request": (2, 2)}]
    workers = [owner(pid) for pid in range(10, 18)]
    forked: list[Event] = []
    for number, worker in enumerate(workers):
        forked += [*closes(2, number, worker, first=100 * number), closing(number)]
    (row,) = found(*forked)
    assert row.who.label == "app ×8"
    assert counts(row) == {"finish_request": (16, 16)}


def many(number: int) -> Iterable[Event]:
    for one in range(number):
        yield closing(one, f"f{one}")
        yield from closes(1, one, first=one)


def test_a_thousand_and_one_places() -> None:
    events = [*many(MAX_PLACES + 1), *closes(5, 3, first=5_000), *closes(4, MAX_PLACES, first=6_000)]
    (one,) = found(*events)
    shown = counts(one)
    assert len(shown) == 21
    assert sum(closed for closed, _ in shown.values()) == MAX_PLACES + 10
    assert shown["f3"] == (6, 6)
    assert shown[OTHERS.function] == (MAX_PLACES + 10 - 6 - 19, MAX_PLACES + 10 - 6 - 19)
    assert f"f{MAX_PLACES}" not in shown
    shares = shares_of(one)
    assert len(shares.told) == 5
    assert shares.elsewhere == shares.looked_at - sum(count for _, count in shares.told)


def test_counts_take_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "_MAX_COUNTS", 10)
    monkeypatch.setattr(sites, "MAX_SITES", 10)
    (one,) = found(*many(40), *closes(3, 999, first=50))
    assert sum(closed for closed, _ in counts(one).values()) == 43
    aggregator = aggregated(*many(40))
    assert len(aggregator._sites._closes) <= 12
    assert len(aggregator._sites._resolved) <= 10


def test_a_number_told_anew() -> None:
    (one,) = found(closing(1), *closes(2, 1), closing(1, "give_up"), *closes(3, 1, first=2))
    assert counts(one) == {"give_up": (3, 3), "finish_request": (2, 2)}


def test_counting_anew() -> None:
    aggregator = aggregated(closing(1), *closes(2, 1))
    aggregator.reset(0)
    assert aggregator.snapshot(0).sites == ()
    aggregator.add(closes(1, 1, first=2))
    assert counts(aggregator.snapshot(0).sites[0]) == {"finish_request": (1, 1)}


def test_where_each_connection_was_closed() -> None:
    aggregator = aggregated(*closes(1, 1), *closes(1, 2, first=1), *closes(1, None, first=2), closing(1))
    places = [one.place for one in aggregator.snapshot(0).recent]
    assert places[0] is not None
    assert places[0].function == "finish_request"
    assert places[1:] == [None, None]


def accepting(number: int) -> Site:
    return site(number, libc("accept4"), frame("handle_client", "src/leak.c", 31), *START, what="accept")


def test_where_what_is_held_was_opened() -> None:
    told: list[Event] = [
        held(conn, APP)._replace(site=1 if conn < 38 else 2, role="server") for conn in range(40)
    ]
    told += [close(39, APP, first="remote", at=70)]
    aggregator = aggregated(accepting(1), *told)
    (group,) = aggregator.snapshot(told[-1].ts_us).held
    assert opened_at(group.opened, group.count) == [
        "38 of 39 accepted at handle_client  src/leak.c:31",
        "1 of 39 opened at a call site that is not resolved",
    ]
    assert top_opening(group.opened, group.count) == (
        "38 of 39 were accepted at handle_client (src/leak.c:31)"
    )
    assert opened_at(group.opened, 50)[0].startswith("38 of 39 looked at accepted at")
    assert top_opening((), 3) == ""


def test_findings_name_the_place() -> None:
    story = [
        held(conn, APP, at=-80)._replace(site=1, ends=ends(conn, sport=80), role="server")
        for conn in range(3)
    ]
    ended: list[Event] = []
    for number in range(60):
        conn = 100 + number
        where = ends(conn, sport=2000 + number)
        gone: Close = close(conn, APP, at=number / 10, where=where)
        ended += [gone._replace(site=2), birth(conn, APP, at=number / 10)]
    aggregator = aggregated(accepting(1), closing(2), *story, *ended)
    by_id = {one.id: one for one in judge(aggregator.snapshot(ended[-1].ts_us))}
    assert by_id["close_wait_leak"].where == "3 of 3 were accepted at handle_client (src/leak.c:31)"
    assert by_id["reconnects"].where == ("60 of its 60 TIME_WAITs come from finish_request (src/server.c:88)")
    assert {one.where for name, one in by_id.items() if name not in ("close_wait_leak", "reconnects")} <= {""}
