"""Which ways connections took, and the last of them."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import SECOND, T0, birth, close, death, owner, start
from tracer.aggregate import Aggregator
from tracer.crowd import KEPT
from tracer.model import Close, Closed, Snapshot
from tracer.paths import edges_of

APP = owner(7)
ACTIVE = {"ESTABLISHED": 900, "FIN_WAIT1": 50, "FIN_WAIT2": 50}


@pytest.mark.parametrize(
    ("how", "states", "edges"),
    [
        ({}, ACTIVE, "ESTABLISHED>FIN_WAIT1>FIN_WAIT2>TIME_WAIT"),
        ({"first": "both", "time_wait": True}, {"CLOSING": 1}, "ESTABLISHED>FIN_WAIT1>CLOSING>TIME_WAIT"),
        ({"time_wait": False, "overflow": True}, ACTIVE, "ESTABLISHED>FIN_WAIT1>FIN_WAIT2>overflow"),
        (
            {"time_wait": False, "how": "reset_received"},
            ACTIVE,
            "ESTABLISHED>FIN_WAIT1>FIN_WAIT2>reset_received",
        ),
        ({"time_wait": False, "how": "timeout"}, {}, "ESTABLISHED>FIN_WAIT1>timeout"),
        ({"first": "remote"}, {"CLOSE_WAIT": 1, "LAST_ACK": 1}, "ESTABLISHED>CLOSE_WAIT>LAST_ACK>CLOSE"),
        (
            {"first": "remote", "how": "reset_sent"},
            {"CLOSE_WAIT": 1},
            "ESTABLISHED>CLOSE_WAIT>reset_sent",
        ),
        ({"first": "none", "how": "reset_sent"}, {"ESTABLISHED": 9}, "ESTABLISHED>reset_sent"),
        ({"first": "none", "how": "reset_received", "age_us": None}, {}, "ESTABLISHED>reset_received"),
        ({"first": "none", "how": "failed"}, {"SYN_SENT": 9}, ""),
        ({"first": "none", "how": "reset_received"}, {"SYN_SENT": 9}, ""),
    ],
)
def test_the_way_of_each_close(how: dict[str, object], states: dict[str, int], edges: str) -> None:
    found = list(edges_of(close(1, APP, **how)._replace(states=states)))  # type: ignore[arg-type]
    names = edges.split(">")
    assert found == list(pairwise(names))


STATES = ("ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSING", "LAST_ACK", "SYN_SENT")
CLOSES = st.builds(
    lambda first, how, waits, overflow, age_us, states: close(
        1, APP, first=first, how=how, time_wait=waits, overflow=overflow, age_us=age_us
    )._replace(states=dict.fromkeys(sorted(states), 5)),
    st.sampled_from(["local", "remote", "both", "none"]),
    st.sampled_from(["fin", "reset_sent", "reset_received", "timeout", "failed", "unknown"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 1000]),
    st.sets(st.sampled_from(STATES)),
)


def otherwise(one: Close) -> list[Close]:
    """Closes that differ from it in a single thing."""
    changed = [
        one._replace(time_wait=not one.time_wait),
        one._replace(overflow=not one.overflow),
        one._replace(age_us=1000 if one.age_us is None else None),
    ]
    for state in STATES:
        states = dict.fromkeys(set(one.states) ^ {state}, 5)
        changed.append(one._replace(states=states))
    return changed


@given(CLOSES, CLOSES)
def test_the_edges_counted_are_those_of_each_close(one: Close, other: Close) -> None:
    for another in [other, *otherwise(one)]:
        closes = [one, another, one]
        edges = seen(*closes, at=5).edges
        expected = Counter(edge for event in closes for edge in edges_of(event))
        assert {edge: traffic.number for edge, traffic in edges.items()} == expected
        assert {edge: traffic.rate for edge, traffic in edges.items()} == {
            edge: pytest.approx(number / 5) for edge, number in expected.items()
        }


def seen(*events: object, at: float = 10) -> Snapshot:
    aggregator = Aggregator(start())
    aggregator.add(events)  # type: ignore[arg-type]
    return aggregator.snapshot(T0 + int(at * SECOND))


def test_edges_ends_and_ages_are_counted() -> None:
    events = []
    for conn in range(20):
        events += [close(conn, APP, at=1, age_us=900)._replace(states=ACTIVE), birth(conn, APP, at=1)]
    events += [close(99, APP, at=2, first="remote", age_us=5_000, time_wait=False)]
    events += [death(1, at=9), death(2, at=9)._replace(reason="reused")]
    shot = seen(*events)
    assert {edge: traffic.number for edge, traffic in shot.edges.items()} == {
        ("ESTABLISHED", "FIN_WAIT1"): 20,
        ("FIN_WAIT1", "FIN_WAIT2"): 20,
        ("FIN_WAIT2", "TIME_WAIT"): 20,
        ("ESTABLISHED", "CLOSE_WAIT"): 1,
        ("CLOSE_WAIT", "CLOSE"): 1,
    }
    assert shot.edges["FIN_WAIT2", "TIME_WAIT"].rate == pytest.approx(20 / 9)
    assert {reason: traffic.number for reason, traffic in shot.ends.items()} == {"expired": 1, "reused": 1}
    assert [tuple(bucket) for bucket in shot.ages if bucket.time_wait or bucket.other] == [
        (1_000, 20, 0),
        (16_000, 0, 1),
    ]


def test_the_last_connections_with_their_ends() -> None:
    events = [close(1, APP, at=1), birth(1, APP, at=1), close(2, APP, at=2), death(1, at=3)]
    shot = seen(*events)
    assert shot.recent == (
        Closed(close(1, APP, at=1), death(1, at=3), shot.rows[0].key),
        Closed(close(2, APP, at=2), None, shot.rows[0].key),
    )


def test_the_last_connections_are_so_many_at_most() -> None:
    shot = seen(*(close(conn, APP) for conn in range(3 * KEPT)))
    assert [one.close.ends.conn for one in shot.recent] == list(range(2 * KEPT, 3 * KEPT))


def test_counting_anew_leaves_what_is_there() -> None:
    aggregator = Aggregator(start())
    aggregator.add([close(1, APP, at=1), birth(1, APP, at=1)])
    aggregator.reset(T0 + 2 * SECOND)
    aggregator.add([close(2, APP, at=3, first="remote", time_wait=False)])
    shot = aggregator.snapshot(T0 + 4 * SECOND)
    (row,) = shot.rows
    for one in (row, shot.total):
        assert (one.closes, one.first_local, one.time_waits, one.time_wait_now) == (1, 0, 0, 1)
    assert [flow.closes for flow in shot.flows] == [1]
    assert list(shot.edges) == [("ESTABLISHED", "CLOSE_WAIT"), ("CLOSE_WAIT", "CLOSE")]
