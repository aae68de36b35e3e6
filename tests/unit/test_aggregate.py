from __future__ import annotations

import sys

import pytest

from tests.unit.samples import SECOND, T0, birth, close, death, ends, held, owner, start
from tracer.account import MAX_PIDS
from tracer.aggregate import Aggregator
from tracer.model import Event, Grade, Lost, Row, Snapshot
from tracer.series import HISTORY_SECONDS, Histogram, Series


def snapshot(*events: Event, at: float = 1) -> Snapshot:
    aggregator = Aggregator(start())
    aggregator.add(events)
    return aggregator.snapshot(T0 + int(at * SECOND))


def row(shot: Snapshot, label: str) -> Row:
    (found,) = (row for row in shot.rows if row.label == label)
    return found


def test_counts_by_process_and_in_all() -> None:
    a, b = owner(1, "a"), owner(2, "b")
    shot = snapshot(
        *(close(n, a) for n in range(3)),
        *(birth(n, a) for n in range(3)),
        close(10, b, first="remote", role="server"),
        close(11, b, first="none", how="reset_sent"),
        close(12, b, first="none", how="reset_received"),
        close(13, b, first="none", how="failed"),
        close(14, b, first="none", how="timeout"),
        close(15, b, via="exit"),
        death(0, a, at=0.5),
    )
    first = row(shot, "a[1]")
    assert (first.closes, first.time_waits, first.time_wait_now, first.first_local) == (3, 3, 2, 3)
    second = row(shot, "b[2]")
    assert (second.closes, second.time_waits, second.time_wait_now) == (6, 0, 0)
    assert (second.first_local, second.first_remote, second.by_exit) == (1, 1, 1)
    assert (second.resets_sent, second.resets_received, second.failed) == (1, 1, 2)
    assert (shot.total.closes, shot.total.time_waits, shot.total.time_wait_now) == (9, 3, 2)
    assert [one.label for one in shot.rows] == ["a[1]", "b[2]"]


def test_the_sum_is_the_rows_and_the_unknown() -> None:
    shot = snapshot(close(1, owner(1)), birth(1, owner(1)), birth(2, preexisting=True), birth(3))
    assert shot.unknown.time_wait_now == 2
    assert shot.unknown.time_waits == 1  # one was there before
    assert shot.total.time_wait_now == 3 == shot.unknown.time_wait_now + shot.rows[0].time_wait_now


def test_an_end_goes_to_who_had_the_birth_even_under_a_new_name() -> None:
    shot = snapshot(birth(1, owner(1, "before")), death(1, owner(1, "after"), at=0.5), death(9, at=0.6))
    assert shot.total.time_wait_now == 0
    assert [one.time_wait_now for one in shot.rows] == [0]


def test_many_processes_of_one_name_are_one_row() -> None:
    several = [owner(pid, "curl") for pid in range(1, 8)]
    events: list[Event] = [birth(pid, one) for pid, one in enumerate(several)]
    events += [held(100 + pid, one) for pid, one in enumerate(several)]
    shot = snapshot(*events, close(100, several[0], first="remote"), death(0, several[0], at=0.5))
    assert [one.label for one in shot.rows] == ["curl ×7"]
    assert (shot.rows[0].time_waits, shot.rows[0].time_wait_now, shot.rows[0].held_close_wait) == (7, 6, 6)
    assert shot.rows[0].history[-1] + shot.rows[0].history[-2] == 7


def test_few_processes_of_one_name_stay_apart_and_so_do_cgroups() -> None:
    shot = snapshot(
        *(birth(pid, owner(pid, "nginx")) for pid in range(1, 5)),
        *(birth(pid, owner(pid, "nginx", f"/{pid}")) for pid in range(10, 20)),
    )
    assert len(shot.rows) == 14


def test_a_process_of_unknown_cgroup_goes_with_its_like() -> None:
    known = [birth(pid, owner(pid, "sh")) for pid in range(1, 7)]
    shot = snapshot(birth(0, owner(100, "sh", cgroup=None)), *known, birth(7, owner(7, "sh", cgroup=None)))
    assert [one.label for one in shot.rows] == ["sh ×8"]


def test_pids_are_bounded() -> None:
    shot = snapshot(*(birth(pid, owner(pid, "cgi")) for pid in range(1, MAX_PIDS + 100)))
    assert [(one.label, one.time_waits) for one in shot.rows] == [(f"cgi ×{MAX_PIDS}+", MAX_PIDS + 99)]


def test_half_closed_sockets_come_and_go() -> None:
    a = owner(1)
    aggregator = Aggregator(start())
    aggregator.add([held(1, a), held(2, a, state="FIN_WAIT2"), held(3, a)])
    shot = aggregator.snapshot(T0)
    assert (shot.rows[0].held_close_wait, shot.rows[0].held_fin_wait2) == (2, 1)
    aggregator.add([held(1, a, state="LAST_ACK"), close(2, a), held(3, a)])
    shot = aggregator.snapshot(T0)
    assert (shot.rows[0].held_close_wait, shot.rows[0].held_fin_wait2) == (1, 0)
    assert (shot.total.held_close_wait, shot.total.held_fin_wait2) == (1, 0)


def test_the_worst_grade_is_shown() -> None:
    shot = snapshot(close(1, owner(1)), close(2, owner(1, grade=Grade.INFERRED)), close(3, owner(1)))
    assert shot.rows[0].grade is Grade.INFERRED


def test_rates_are_of_the_last_ten_seconds() -> None:
    a = owner(1)
    early = [close(n, a, at=0.5) for n in range(100)]
    late = [close(n, a, at=20.25) for n in range(30)]
    assert snapshot(*early, at=2).rows[0].close_rate == 50
    assert snapshot(*early, *late, at=20.5).rows[0].close_rate == 30 / 9.5
    assert snapshot(*early, at=30).rows[0].close_rate == 0


def test_roles_and_peers() -> None:
    served = ends(1, sport=443, dport=50000)
    shot = snapshot(
        close(1, owner(1), role="server", where=served),
        *(close(n, owner(2)) for n in range(2, 5)),
        close(5, owner(2), where=ends(5, dport=81)),
        *(close(n, owner(3), role="client" if n % 2 else "server") for n in range(6, 10)),
    )
    by_pid = {one.label: (one.role, one.top_peer) for one in shot.rows}
    assert by_pid["app[1]"] == ("server", "10.0.0.2 (:443)")
    assert by_pid["app[2]"] == ("client", "10.0.0.2:80")
    assert by_pid["app[3]"][0] == "mixed"


def test_peers_are_bounded_and_keep_the_frequent() -> None:
    a = owner(1)
    events = [close(n, a) for n in range(50)]
    events += [close(n, a, where=ends(n, daddr=f"10.{n >> 8}.{n & 255}.9")) for n in range(3000)]
    assert snapshot(*events).rows[0].top_peer == "10.0.0.2:80"


def test_who_becomes_the_most_frequent_peer_is_found_though_there_was_no_room() -> None:
    one = owner(1)
    events: list[Event] = [
        close(2 * number + again, one, where=ends(number, daddr=f"10.1.{number >> 8}.{number & 255}"))
        for number in range(400)
        for again in (0, 1)
    ]
    events += [close(number, one, where=ends(number, daddr="10.9.9.9")) for number in range(1_000)]
    assert snapshot(*events).rows[0].top_peer == "10.9.9.9:80"


def test_losses_add_up() -> None:
    assert snapshot(Lost(T0, "a", 3), Lost(T0, "b", 4)).lost == 7


def test_series_forgets_what_left_the_window() -> None:
    series = Series()
    series.add(1000, 5)
    series.add(1001)
    assert series.values(1001)[-2:] == (5, 1)
    series.add(1000, 2)  # late, but inside
    assert series.values(1002)[-3:] == (7, 1, 0)
    assert sum(series.values(1000 + HISTORY_SECONDS)) == 1
    series.add(1)  # long gone
    assert sum(series.values(1000 + HISTORY_SECONDS)) == 1


@pytest.mark.parametrize("second", [-1, 0, 1, 119, 120, 10**9])
def test_series_begin_with_nothing_and_share_nothing(second: int) -> None:
    one, other = Series(), Series()
    assert one._counts is other._counts
    one.add(second)
    assert one.values(second)[-2:] == (0, 1)
    assert sum(other.values(second)) == sum(Series().values(second)) == 0
    other.merge(one, second, -2)
    assert other.values(second)[-2:] == (0, -2)
    assert sum(one.values(second)) == 1
    assert sys.getsizeof(one._counts) < 6 * HISTORY_SECONDS


def test_median_is_within_a_quarter() -> None:
    for value in (0, 1, 3, 4, 7, 100, 12_345, 60_000_000, 86_400_000_000):
        histogram = Histogram()
        histogram.add(value, 3)
        found = histogram.quantile(0.5)
        assert found is not None
        assert abs(found - value) <= value / 8
    assert Histogram().quantile(0.5) is None


def test_very_many_processes_make_room_for_new_ones() -> None:
    events: list[Event] = []
    for pid in range(1, 10_001):
        whose = owner(pid, f"job-{pid}")
        events += [close(pid, whose, at=pid / 100), birth(pid, whose, at=pid / 100)]
    events.append(death(1, at=101))
    shot = snapshot(*events, at=101)
    assert len(shot.rows) <= 8_001
    assert row(shot, "job-10000[10000]").time_waits == 1
    assert sum(one.time_waits for one in shot.rows) == 10_000
    assert sum(one.time_wait_now for one in shot.rows) == 9_999 == shot.total.time_wait_now


def test_a_process_goes_by_the_name_it_has_now() -> None:
    before, after = owner(1, "bash"), owner(1, "curl")
    for owners, name in (([before, after], "curl[1]"), ([before, after, before], "bash[1]")):
        (row,) = snapshot(*(close(conn, one) for conn, one in enumerate(owners))).rows
        assert (row.label, row.closes) == (name, len(owners))
