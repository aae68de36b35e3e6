"""The ledger balances when nothing was missed, whatever comes and goes while the kernel counts."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.unit.samples import T0
from tracer.crowd import Reading
from tracer.errors import TwtraceError
from tracer.kernel.ledger import RECENT_US, Key, Ledger, key_of
from tracer.kernel.sockstat import count_time_waits
from tracer.model import UNKNOWN_OWNER, Balance, Endpoints, Event, TimeWait, TimeWaitEnd

NETNS = 1


def ends(port: int, netns: int = NETNS) -> Endpoints:
    return Endpoints(port, netns, 4, "10.0.0.1", port, "10.0.0.2", 80)


def change(ts_us: int, port: int, *, came: bool, netns: int = NETNS) -> Event:
    where = ends(port, netns)
    if came:
        return TimeWait(ts_us, where, UNKNOWN_OWNER, "TIME_WAIT", preexisting=False)
    return TimeWaitEnd(ts_us, where, UNKNOWN_OWNER, None, None, "expired", None, 0, preexisting=False)


def history(ports: list[int], every_us: int) -> list[tuple[Event, set[Key]]]:
    """Each port comes when it is away and goes when it is there; and who is there after each step."""
    there: set[Key] = set()
    steps = []
    for number, port in enumerate(ports):
        key = key_of(ends(port))
        steps.append((change(T0 + number * every_us, port, came=key not in there), there ^ {key}))
        there = steps[-1][1]
    return steps


histories = st.builds(history, st.lists(st.integers(1, 9), max_size=60), st.sampled_from([1, 10_000, 40_000]))


@given(histories, st.data())
def test_a_list_taken_in_the_middle_balances(
    steps: list[tuple[Event, set[Key]]], data: st.DataObject
) -> None:
    events = [event for event, _ in steps]
    # The list is of some moment at or after the mark; what comes later is read after it.
    at = data.draw(st.integers(0, len(events)))
    read_before = data.draw(st.integers(0, at))
    ledger = Ledger()
    mark = events[read_before - 1].ts_us if read_before else T0
    ledger.add(Reading(events[:read_before]), mark)
    since_us = ledger.watch(mark)
    listed = steps[at - 1][1] if at else set()
    ledger.add(Reading(events[read_before:]), mark)
    assert ledger.against_list(NETNS, listed, since_us).residue == 0


@given(histories, st.data())
def test_a_number_taken_in_the_middle_balances(
    steps: list[tuple[Event, set[Key]]], data: st.DataObject
) -> None:
    events = [event for event, _ in steps]
    at = data.draw(st.integers(0, len(events)))
    read_before = data.draw(st.integers(0, at))
    ledger = Ledger()
    mark = events[read_before - 1].ts_us if read_before else T0
    ledger.add(Reading(events[:read_before]), mark)
    since_us = ledger.watch(mark)
    ledger.add(Reading(events[read_before:]), mark)
    counted = len(steps[at - 1][1]) if at else 0
    assert ledger.against_count(NETNS, counted, since_us).residue == 0


@pytest.mark.parametrize(("missed", "residue"), [(0, -1), (3, 1)])
def test_what_was_missed_is_the_residue(missed: int, residue: int) -> None:
    steps = history([1, 2, 3, 1], RECENT_US * 3)
    events = [event for number, (event, _) in enumerate(steps) if number != missed]
    listed = steps[-1][1]
    ledger = Ledger()
    ledger.add(Reading(events), events[-1].ts_us)
    since_us = ledger.watch(events[-1].ts_us + 2 * RECENT_US)
    if missed == 0:  # 1 came unseen and went: two ends for three births
        assert ledger.against_list(NETNS, listed, since_us) == Balance(2, 0, 1, 1, 2, residue)
        assert ledger.against_count(NETNS, 2, since_us).residue == residue
    else:
        assert ledger.against_list(NETNS, listed, since_us) == Balance(3, 0, 0, 3, 2, residue)
        assert ledger.against_count(NETNS, 2, since_us).residue == residue


def test_what_is_read_late_is_not_kept() -> None:
    """Of a full ring that is read in pieces, only what a balance could ask for."""
    ledger = Ledger()
    now_us = T0 + 10 * RECENT_US
    for number in range(20):
        late = [change(T0 + number * RECENT_US // 2, port, came=True) for port in range(3)]
        ledger.add(Reading(late), now_us)
    assert len(ledger._recent) == 2
    ledger.add(Reading([]), now_us + 2 * RECENT_US)
    assert not ledger._recent


def test_namespaces_are_kept_apart_and_one_that_cannot_be_asked_is_said_so() -> None:
    ledger = Ledger()
    ledger.add(Reading([change(T0, 1, came=True), change(T0, 1, came=True, netns=2)]), T0)
    assert ledger.namespaces() == {1, 2}
    since_us = ledger.watch(T0 + 2 * RECENT_US)
    assert ledger.against_list(1, {key_of(ends(1))}, since_us).residue == 0
    assert ledger.against_list(2, None, since_us) == Balance(1, 0, 0, 1, None, None)
    assert ledger.against_list(3, {key_of(ends(1))}, since_us) == Balance(0, 0, 0, 0, 1, -1)


def test_the_kernels_number(tmp_path: Path) -> None:
    sockstat = tmp_path / "sockstat"
    sockstat.write_text("sockets: used 9\nTCP: inuse 3 orphan 1 tw 42 alloc 5 mem 0\nUDP: inuse 0 mem 0\n")
    assert count_time_waits(sockstat) == 42
    sockstat.write_text("sockets: used 9\n")
    with pytest.raises(TwtraceError, match="no line for TCP"):
        count_time_waits(sockstat)
