from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.samples import SECOND, T0, birth, close, death, ends, owner, start
from tracer.aggregate import Aggregator
from tracer.kernel.liveports import live_ports
from tracer.kernel.sock_diag import DiagSocket
from tracer.lifetime import expected_lifetime_us
from tracer.model import ConnectFailed, Counters, Event, LivePorts, Pool, Start
from tracer.portmodel import PortModel
from tracer.settings import SETTINGS, automatic_ports, reuse_allowed

A, B = owner(1, "a"), owner(2, "b")


def pools(*events: Event, at: float = 10, began: Start | None = None) -> tuple[Pool, ...]:
    aggregator = Aggregator(began or start(ip_local_port_range="40000 40999", tcp_tw_reuse=2))
    aggregator.add(events)
    return aggregator.snapshot(T0 + int(at * SECOND)).pools


def steady(count: int, per_second: int) -> list[Event]:
    events: list[Event] = []
    for number in range(count):
        at = number / per_second
        events += [close(number, A, at=at), birth(number, A, at=at)]
    return events


@pytest.mark.parametrize(("hz", "seconds"), [(250, 61.024), (1000, 62.048), (100, 62.56)])
def test_a_minute_on_the_timer_wheel(hz: int, seconds: float) -> None:
    assert expected_lifetime_us(1_000_000 // hz) == seconds * SECOND


def test_a_steady_rate_settles_at_rate_by_lifetime_and_tells_when_ports_end() -> None:
    (pool,) = pools(*steady(300, 30))
    assert (pool.size, pool.time_waits, pool.live, pool.reuse) == (1000, 300, 0, False)
    assert pool.birth_rate == pytest.approx(30, rel=0.04)
    assert pool.settles == pytest.approx(30 * 61.024, rel=0.04)
    assert pool.exhausts_in_us == pytest.approx(700 / 30 * SECOND, rel=0.04)
    assert pool.who.pids == (1,)


def test_ends_free_ports_and_growth_is_births_less_ends() -> None:
    (pool,) = pools(*steady(100, 10), *(death(number, A, at=9) for number in range(40)))
    assert pool.time_waits == 60
    assert pool.growth == pytest.approx(pool.birth_rate - 4, rel=0.1)


def test_ports_bound_before_connect_are_one_pool_for_all_destinations() -> None:
    found = pools(
        *(close(n, A, where=ends(n, daddr=f"10.0.0.{n}"), bound=True) for n in range(5)),
        *(birth(n, A) for n in range(5)),
    )
    assert [(pool.daddr, pool.dport, pool.time_waits) for pool in found] == [(None, None, 5)]


def test_a_server_holds_no_source_port() -> None:
    assert pools(close(1, A, role="server"), birth(1, A)) == ()


def test_live_ports_are_those_of_the_last_dump_and_settings_the_newest() -> None:
    live = LivePorts(1, 4, "10.0.0.1", "10.0.0.2", 80, 7)
    (pool,) = pools(
        Counters(T0, {}, {}, (live._replace(ports=99),)),
        Counters(T0 + SECOND, {}, {}, (live,), {"1": {"ip_local_port_range": "1000 1099"}}),
        close(1, A, at=2),
        birth(1, A, at=2),
    )
    assert (pool.live, pool.used, pool.size) == (7, 8, 100)


def test_failed_connects_name_who_failed() -> None:
    failed = ConnectFailed(T0, ends(1, sport=0), B, "EADDRNOTAVAIL", "exhausted")
    (pool,) = pools(failed, failed._replace(cause="conflict"))
    assert (pool.failures, pool.who.comm) == (1, "b")


def test_older_time_waits_count_where_they_look_like_a_clients() -> None:
    (pool,) = pools(birth(1, preexisting=True))
    assert (pool.time_waits, pool.birth_rate, pool.who.comm) == (1, 0, None)


def test_automatic_ports_leave_out_the_reserved() -> None:
    values = {"ip_local_port_range": "100 199", "ip_local_reserved_ports": "90-109,150,300"}
    assert automatic_ports(values) == 100 - 10 - 1
    assert automatic_ports({}) is None
    assert automatic_ports({"ip_local_port_range": "what"}) is None


@pytest.mark.parametrize(
    ("reuse", "timestamps", "loopback", "allowed"),
    [(0, 1, True, False), (1, 1, False, True), (2, 1, False, False), (2, 1, True, True), (1, 0, True, False)],
)
def test_reuse(reuse: int, timestamps: int, loopback: bool, allowed: bool) -> None:
    values = {"tcp_tw_reuse": reuse, "tcp_timestamps": timestamps}
    assert reuse_allowed(values, loopback=loopback) is allowed


def test_a_setting_differs_only_from_a_known_default() -> None:
    by_name = {setting.name: setting for setting in SETTINGS}
    assert by_name["tcp_fin_timeout"].differs("30")
    assert not by_name["tcp_fin_timeout"].differs("60")
    assert not by_name["tcp_max_tw_buckets"].differs("8192")  # depends on memory
    assert by_name["ip_local_reserved_ports"].differs("8080")
    assert not by_name["tcp_orphan_retries"].differs("0")


def test_model_runs_out_and_recovers() -> None:
    model = PortModel(3)
    taken = [model.connect(n) for n in range(4)]
    assert [one and one[0] for one in taken] == [0, 2, 1, None]
    model.wait(2, 10)
    assert (model.used, model.connect(11)) == (3, None)
    model.release(2)
    assert model.connect(12) == (2, False)


def test_model_reuses_the_oldest_of_the_first_half_before_the_second_half() -> None:
    model = PortModel(4, reuse_after_us=SECOND)
    for _ in range(2):
        found = model.connect(0)
        assert found
        model.wait(found[0], 0)
    assert model.connect(SECOND - 1) == (1, False)  # too young: the other half
    assert model.connect(SECOND) == (0, True)
    assert model.since(0) is None
    assert model.since(2) == 0


def test_live_ports_are_counted_one_by_one_as_the_kernel_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[frozenset[str]] = []

    def listed(states: frozenset[str]) -> Iterator[DiagSocket]:
        asked.append(states)
        for state, sport, is_time_wait in (
            ("LISTEN", 40_000, False),
            ("ESTABLISHED", 40_000, False),  # accepted
            ("ESTABLISHED", 40_001, False),
            ("CLOSE_WAIT", 40_002, False),
            ("FIN_WAIT2", 40_003, True),
            ("ESTABLISHED", 100, False),
        ):
            if state in states:
                yield DiagSocket(state, 4, "10.0.0.1", sport, "10.0.0.2", 80, 0, 0, 0, is_time_wait)

    monkeypatch.setattr("tracer.kernel.liveports.dump", listed)
    found = live_ports({"ip_local_port_range": "32768 60999"})
    assert found == [((4, "10.0.0.1", "10.0.0.2", 80), 2)]
    assert not asked[0] & asked[1]
    assert live_ports({}) == []
