"""What of a snapshot a filter lets pass."""

from __future__ import annotations

import pytest

from tests.tui.samples import (
    CACHE,
    CURL,
    DATABASE,
    DRILLED,
    JAVA,
    QUIET_POOL,
    REPLICA,
    busy,
    drilled,
    flow,
    pool,
    who,
)
from tracer.expression import EVERYTHING, Expression, parse
from tracer.narrow import rows_passing, with_rows, without_others


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", (DRILLED, CURL, JAVA)),
        ("proc:orders", (DRILLED,)),
        ("!proc:orders", (CURL, JAVA)),
        ("tw>50", (DRILLED, CURL)),
        ("tw>50 !proc:curl", (DRILLED,)),
        ("!( tw>50 )", (JAVA,)),
        ("dport:5432", (DRILLED,)),
        ("dport:6379", (DRILLED,)),
        # One without flows has its top peer.
        ("dport:443", (CURL,)),
        ("peer:10.2.0.0/16", (DRILLED,)),
        # Of one and the same flow both hold.
        ("dport:6379 peer:10.2.0.9", ()),
        ("dport:6379 peer:127.0.0.1", (DRILLED,)),
        ("held>0", (JAVA,)),
        ("uid:33", (DRILLED,)),
        ("nobody", ()),
    ],
)
def test_rows(text: str, rows: tuple[object, ...]) -> None:
    shown = drilled()
    assert rows_passing(shown, parse(text)) == rows
    narrow = with_rows(shown, parse(text))
    assert narrow.rows == rows
    assert (narrow.unknown, narrow.total) == (shown.unknown, shown.total)
    assert (narrow.pools, narrow.flows, narrow.recent) == (shown.pools, shown.flows, shown.recent)


def test_a_row_is_asked_with_its_own_flows() -> None:
    java = flow(who=who("java[2290]"), port=9999)
    shown = drilled(flows=(DATABASE, java))
    assert rows_passing(shown, parse("dport:9999")) == (JAVA,)
    assert rows_passing(shown, parse("dport:5432")) == (DRILLED,)


def test_others_go_from_pools_flows_and_connections() -> None:
    shown = drilled()
    narrow = without_others(shown, parse("dport:6379"))
    assert narrow.flows == (CACHE,)
    assert narrow.pools == ()
    assert {one.close.ends.dport for one in narrow.recent} == {6379}
    assert len(narrow.recent) == 4
    assert narrow.rows == shown.rows
    other = without_others(shown, parse("!dport:6379"))
    assert other.flows == (DATABASE, REPLICA)
    assert other.pools == (pool(), QUIET_POOL)
    assert len(other.recent) == len(shown.recent) - 4


def test_connections_are_asked_for_their_owner() -> None:
    assert [
        one.close.owner.process and one.close.owner.process.comm
        for one in without_others(busy(), parse("proc:haproxy")).recent
    ] == ["haproxy"]
    assert len(without_others(busy(), parse("!proc:haproxy")).recent) == 1


def test_what_can_only_be_said_of_rows_hides_nothing_else() -> None:
    shown = drilled()
    narrow = without_others(shown, parse("tw>1000000"))
    assert (narrow.flows, narrow.pools, narrow.recent) == (shown.flows, shown.pools, shown.recent)


@pytest.mark.parametrize("expression", [EVERYTHING, parse(""), parse("   ")])
def test_without_a_filter_it_is_the_same_snapshot(expression: Expression) -> None:
    shown = drilled()
    assert with_rows(shown, expression) is shown
    assert without_others(shown, expression) is shown
    assert rows_passing(shown, expression) is shown.rows
