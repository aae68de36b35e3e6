"""The trace format: what is written is what the contract says, and reads back the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import given
from jsonschema import Draft202012Validator

from tests.unit.samples import SECOND, T0, birth, close, death, ends, held, owner, start
from tracer.aggregate import Aggregator
from tracer.model import (
    GROUPINGS,
    STATES,
    UNKNOWN_OWNER,
    Balance,
    Close,
    ConnectFailed,
    Counters,
    End,
    Endpoints,
    Event,
    Frame,
    Grade,
    Held,
    LivePorts,
    Lost,
    Owner,
    Process,
    Site,
    Start,
    State,
    TimeWait,
    TimeWaitEnd,
)
from tracer.reader import Reader
from tracer.record import Encoder
from tracer.schema import json_schema
from tracer.text import printable

CONTRACT = Draft202012Validator(json.loads(Path(__file__).with_name("contract.schema.json").read_text()))
SCHEMA = Draft202012Validator(json_schema())

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
number = st.integers(0, 2**53 - 1)
maybe = st.none() | number
processes = st.builds(
    Process, st.integers(1, 2**22), number, text, st.none() | number, *[st.none() | text] * 5
)
known_owners = st.builds(Owner, st.sampled_from([Grade.CERTAIN, Grade.INFERRED]), processes)
owners = st.just(UNKNOWN_OWNER) | known_owners
ports = st.integers(0, 65535)
netns = st.integers(1, 2**32 - 1)


def of_family(make: Any) -> st.SearchStrategy[Any]:
    """What `make` makes of a family and a strategy of its addresses."""
    return st.one_of(
        make(4, st.sampled_from(["10.0.0.1", "127.0.0.1", "192.0.2.7"])),
        make(6, st.sampled_from(["::", "::1", "2001:db8::7", "fe80::1:0:0:2"])),
    )


endpoints = of_family(
    lambda family, address: st.builds(
        Endpoints, number, netns, st.just(family), address, ports, address, ports
    )
)
live_ports = of_family(
    lambda family, address: st.builds(LivePorts, netns, st.just(family), address, address, ports, number)
)
states = st.sampled_from(STATES[1:])
booleans = st.booleans()
roles = st.sampled_from(["client", "server", "unknown"])
substates = st.sampled_from(["TIME_WAIT", "FIN_WAIT2"])
settings = st.dictionaries(
    netns.map(str), st.dictionaries(text, st.integers(-(2**53), 2**53) | text, max_size=3), max_size=3
)
ledgers = st.dictionaries(
    netns.map(str),
    st.builds(Balance, number, number, number, number, maybe, st.none() | st.integers(-(2**53), 2**53)),
)
maybe_text = st.none() | text
frames = st.builds(Frame, maybe_text, maybe_text, maybe, maybe_text, maybe_text, maybe, booleans)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        State, number, endpoints, owners, states, states, maybe, st.sampled_from(["process", "softirq"])
    ),
    st.builds(
        Held,
        number,
        endpoints,
        owners,
        st.sampled_from(["CLOSE_WAIT", "FIN_WAIT2", "LAST_ACK"]),
        booleans,
        roles,
        maybe,
    ),
    st.builds(
        Close,
        number,
        endpoints,
        owners,
        roles,
        st.sampled_from(["local", "remote", "both", "none"]),
        st.sampled_from(["fin", "reset_sent", "reset_received", "timeout", "failed", "unknown"]),
        st.sampled_from(["close", "shutdown", "exit", "abort", "unknown"]),
        maybe,
        st.dictionaries(states, number),
        booleans,
        owners,
        owners,
        booleans,
        booleans,
        maybe,
    ),
    st.builds(
        ConnectFailed,
        number,
        endpoints,
        owners,
        st.just("EADDRNOTAVAIL"),
        st.sampled_from(["exhausted", "conflict"]),
    ),
    st.builds(
        Counters,
        number,
        st.dictionaries(text, number),
        ledgers,
        st.lists(live_ports, max_size=3).map(tuple),
        settings,
    ),
    st.builds(TimeWait, number, endpoints, owners, substates, booleans),
    st.builds(
        TimeWaitEnd,
        number,
        endpoints,
        owners,
        maybe,
        maybe,
        st.sampled_from(
            ["expired", "reused", "replaced", "reset", "reset_sent", "killed", "netns_exit", "unknown"]
        ),
        st.none() | known_owners,
        st.integers(0, 65535),
        booleans,
    ),
    st.builds(Lost, number, text, st.integers(1, 2**32)),
    st.builds(
        Site,
        number,
        number,
        st.sampled_from(["close", "accept", "use", "connect"]),
        owners,
        st.lists(frames, max_size=3).map(tuple),
        booleans,
    ),
)


LEDGER = {"4026531840": Balance(2, 1, 3, 0, 0, 0), "4026531841": Balance(1, 0, 0, 1, None, None)}


def written(given_events: Iterable[Event]) -> list[bytes]:
    encoder = Encoder()
    lines = [encoder.start(start()), *map(encoder.event, given_events)]
    _, last = encoder.end(T0, SECOND, {"closes": 1, "time_wait_born": 2, "time_wait_ended": 3}, LEDGER)
    return [*lines, last]


def told_once(given_events: list[Event]) -> list[Event]:
    """Each of another connection and moment: no event comes twice."""
    return [
        replace(event, ts_us=T0 + number)
        if isinstance(event, Lost | Counters)
        else event._replace(ts_us=T0 + number, site=number)
        if isinstance(event, Site)
        else event._replace(ts_us=T0 + number, ends=event.ends._replace(conn=number))
        for number, event in enumerate(given_events)
    ]


@given(events)
def test_every_event_is_as_the_contract_says_and_reads_back_the_same(event: Event) -> None:
    lines = written([event])
    for line in lines:
        CONTRACT.validate(json.loads(line))
        SCHEMA.validate(json.loads(line))
    first, again, last = Reader().read(lines)
    assert first == start()
    assert again == event
    assert isinstance(last, End)
    assert last.totals.lines["end"] == 1
    assert last.totals.ledger == LEDGER


@given(st.lists(events, max_size=30).map(told_once))
def test_a_trace_gives_the_snapshot_it_was_taken_from(given_events: list[Event]) -> None:
    lines = written(given_events)
    live, recorded = Aggregator(start()), Aggregator(start())
    live.add(given_events)
    read = [event for event in Reader().read(lines) if not isinstance(event, Start | End)]
    assert read == given_events
    recorded.add(read)
    for by in GROUPINGS:
        assert live.snapshot(T0 + SECOND, by) == recorded.snapshot(T0 + SECOND, by)


def test_totals_are_the_lines() -> None:
    a = owner(1)
    lines = written(
        [close(1, a), birth(1, a), birth(2, preexisting=True), death(1, a), held(3, a), Lost(T0, "x", 2)]
    )
    end = json.loads(lines[-1])
    assert end["totals"]["lines"] == {
        "start": 1, "close": 1, "time_wait": 2, "time_wait_end": 1, "held": 1, "lost": 1, "end": 1,
    }  # fmt: skip
    assert end["totals"]["time_wait"] == {
        "born": 1,
        "preexisting": 1,
        "ended": {"expired": 1},
        "remaining": 1,
        "overflowed": 0,
    }
    assert end["totals"]["ledger"]["4026531841"]["kernel"] is None
    assert end["lost"] == {"x": 2}


def test_words_that_are_no_utf8() -> None:
    given = replace(
        start(), argv=("twtrace", "a\udcff"), filters={"comms": ["\udcfe"], "filter": "x", "family": 4}
    )
    (read,) = Reader().read([Encoder().start(given)])
    assert isinstance(read, Start)
    assert read.argv == ("twtrace", r"a\xff")
    assert read.filters == {"comms": [r"\xfe"], "filter": "x", "family": 4}


def test_a_line_as_people_meet_it() -> None:
    whose = Owner(Grade.CERTAIN, Process(7, T0, "\x1b[31m", uid=0, cgroup="/a.service", unit="a.service"))
    line: dict[str, Any] = json.loads(written([birth(5, whose)])[1])
    assert line == {
        "type": "time_wait",
        "ts_us": T0,
        "conn": 5,
        "netns": 1,
        "family": 4,
        "saddr": "10.0.0.1",
        "sport": 40000,
        "daddr": "10.0.0.2",
        "dport": 80,
        "owner": {
            "pid": 7,
            "comm": "\x1b[31m",
            "grade": "certain",
            "start_us": T0,
            "uid": 0,
            "cgroup": "/a.service",
            "unit": "a.service",
        },
        "substate": "TIME_WAIT",
    }
    assert b"\x1b" not in written([birth(5, whose)])[1]


def test_unknown_owner_has_null_pid_and_comm() -> None:
    assert json.loads(written([birth(5)])[1])["owner"] == {"pid": None, "comm": None, "grade": "unknown"}


def test_ends_is_not_in_the_lines() -> None:
    assert "ends" not in json.loads(written([close(1, owner(1), where=ends(1))])[1])


def test_no_line_moves_a_cursor_where_it_is_shown() -> None:
    hostile = Process(7, 0, "\x9b31m\u202e", cmdline="\x1b]0;\x7f\u200b")
    encoder = Encoder()
    lines = [
        encoder.start(replace(start(), host="\x9bhost", argv=("twtrace", "\u202e"))),
        encoder.event(close(1, Owner(Grade.CERTAIN, hostile), at=1)),
    ]
    for line in lines:
        shown = line.decode().rstrip("\n")
        assert printable(shown) == shown
    assert json.loads(lines[0])["host"] == "\x9bhost"
    assert json.loads(lines[1])["owner"]["comm"] == hostile.comm
