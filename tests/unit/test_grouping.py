"""Rows by command, cgroup, namespace, peer and port add up to the same sum."""

from __future__ import annotations

import pytest

from tests.unit.samples import SECOND, T0, birth, close, ends, held, owner, start
from tracer.aggregate import Aggregator
from tracer.model import GROUPINGS, UNKNOWN_OWNER, Event, Snapshot

WEB = owner(1, "web", "/web.service")
WEB_TOO = owner(2, "web", "/other.service")
CURL = owner(3, "curl", "/web.service")


def shown(by: str) -> Snapshot:
    events: list[Event] = []
    for conn in range(10):
        where = ends(conn, sport=40_000 + conn, dport=443)
        events += [close(conn, CURL, at=1, where=where), birth(conn, CURL, at=1)._replace(ends=where)]
    for conn in range(10, 14):
        where = ends(conn, sport=80, dport=50_000 + conn, daddr="10.9.9.9")
        whose = WEB if conn % 2 else WEB_TOO
        events.append(close(conn, whose, at=2, role="server", first="remote", where=where))
    events.append(close(20, CURL, at=3, first="none", how="failed", time_wait=False))
    events.append(close(21, UNKNOWN_OWNER, at=3, role="unknown", age_us=None))
    events.append(birth(22, preexisting=True, at=0))
    events.append(held(23, WEB, at=4))
    aggregator = Aggregator(start())
    aggregator.add(events)
    return aggregator.snapshot(T0 + 5 * SECOND, by)


@pytest.mark.parametrize(
    ("by", "closes"),
    [
        ("process", {"curl[3]": 11, "web[1]": 2, "web[2]": 2, "unknown": 1}),
        ("comm", {"curl[3]": 11, "web ×2": 4, "unknown": 1}),
        ("cgroup", {"/web.service ×2": 13, "/other.service[2]": 2, "unknown": 1}),
        ("netns", {"netns 1": 15, "unknown": 1}),
        ("peer", {"10.0.0.2:443": 10, "10.9.9.9 (:80)": 4, "10.0.0.2:80": 1, "unknown": 1}),
        ("port", {":443 there": 10, ":80 here": 4, ":80 there": 1, "unknown": 1}),
    ],
)
def test_rows_by(by: str, closes: dict[str, int]) -> None:
    shot = shown(by)
    assert {one.label: one.closes for one in (*shot.rows, shot.unknown) if one.closes} == closes
    assert shot.by == by


@pytest.mark.parametrize("by", GROUPINGS)
def test_they_add_up(by: str) -> None:
    shot = shown(by)
    rows = (*shot.rows, shot.unknown)
    for field in (
        "closes",
        "time_waits",
        "time_wait_now",
        "first_local",
        "first_remote",
        "failed",
        "held_close_wait",
    ):
        assert sum(getattr(one, field) for one in rows) == getattr(shot.total, field), field
    assert sum(one.time_wait_rate for one in rows) == pytest.approx(shot.total.time_wait_rate)
    assert len({one.key for one in rows}) == len(rows)
