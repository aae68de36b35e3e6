"""Traces of earlier versions are read for ever: each file of tests/golden as it was written then.

The same small load in a namespace of its own: clients that close first, a server that does, a reset, a
half-closed connection, IPv6, a refused connect, no port left. A file's name ends in the commit that wrote it,
or in what is new in it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tracer.model import (
    CONNECTION_EVENTS,
    Close,
    ConnectFailed,
    Counters,
    End,
    Event,
    Held,
    Start,
    State,
    TimeWait,
    TimeWaitEnd,
)
from tracer.reader import Reader, open_trace
from tracer.report.reading import read

GOLDEN = Path(__file__).parents[1] / "golden"

FIRST = {"close": 24, "time_wait": 10, "time_wait_end": 10, "held": 1}

LINES = {
    "1-ca4d49e": FIRST,  # the first
    "2-7ad6352": FIRST,
    "3-a4dd8a1": {**FIRST, "connect_failed": 1, "counters": 6},  # since: overflow, ledger too
    "4-8493f2b": {**FIRST, "connect_failed": 1, "counters": 8},  # since: bound, role, live, sysctl too
}

STATES = "5-crc32"
"""With --states, and a checksum."""


def events_of(name: str) -> tuple[Start, list[Event], End]:
    reader = Reader()
    with open_trace(str(GOLDEN / f"{name}.ndjson")) as lines:
        start, *middle, end = reader.read(lines)
    assert reader.doubts == []
    assert isinstance(start, Start)
    assert isinstance(end, End)
    return start, [event for event in middle if not isinstance(event, Start | End)], end


def test_each_is_here_and_small() -> None:
    assert {path.stem for path in GOLDEN.glob("*.ndjson")} == {*LINES, STATES}
    assert max(path.stat().st_size for path in GOLDEN.iterdir()) < 40_000


@pytest.mark.parametrize("name", LINES)
def test_lines_and_what_they_say(name: str) -> None:
    start, events, end = events_of(name)
    names: dict[type, str] = {made: kind for kind, made in CONNECTION_EVENTS.items()}
    names[Counters] = "counters"
    assert Counter(names[type(event)] for event in events) == LINES[name]
    assert (start.version, start.host) == ("0.1.0", "example-host")
    closes = [event for event in events if isinstance(event, Close)]
    assert Counter((event.first, event.how) for event in closes) == {
        ("local", "fin"): 10,
        ("remote", "fin"): 9,
        ("none", "failed"): 2,
        ("none", "reset_sent"): 1,
        ("none", "reset_received"): 1,
        ("remote", "reset_received"): 1,
    }
    assert Counter(event.role for event in closes) == {"client": 13, "server": 11}
    assert Counter(event.ends.family for event in closes) == {4: 22, 6: 2}
    # Until 3, a connect without a port left had no owner.
    processes = [event.owner.process for event in closes if event.owner.process]
    assert [process.comm for process in processes] == ["python3"] * (23 if name < "3" else 24)
    assert Counter(event.reason for event in events if isinstance(event, TimeWaitEnd)) == {
        "expired": 9,
        "reused": 1,
    }
    substates = Counter(event.substate for event in events if isinstance(event, TimeWait))
    orphans = 3 if name < "2" else 2
    assert substates == {"TIME_WAIT": 10 - orphans, "FIN_WAIT2": orphans}
    assert [(event.state, event.role) for event in events if isinstance(event, Held)] == [
        ("CLOSE_WAIT", "unknown" if name < "4" else "server")
    ]
    assert [event.cause for event in events if isinstance(event, ConnectFailed)] == ["exhausted"] * (
        "connect_failed" in LINES[name]
    )
    assert (end.totals.born, end.totals.remaining, end.lost) == (10, 0, {})


@pytest.mark.parametrize("name", LINES)
def test_a_report_of_it(name: str) -> None:
    with open_trace(str(GOLDEN / f"{name}.ndjson")) as lines:
        snapshot = read(lines).snapshot
    assert (snapshot.total.closes, snapshot.total.time_waits, snapshot.lost) == (24, 10, 0)
    assert snapshot.total.time_wait_now == 0


def test_one_with_states() -> None:
    _, events, end = events_of(STATES)
    states = Counter((event.old, event.new, event.context) for event in events if isinstance(event, State))
    assert states == {
        ("CLOSE", "SYN_SENT", "process"): 5,
        ("SYN_SENT", "ESTABLISHED", "process"): 4,
        ("SYN_SENT", "CLOSE", "process"): 1,
        ("CLOSE", "LISTEN", "process"): 2,
        ("LISTEN", "CLOSE", "process"): 2,
        ("LISTEN", "SYN_RECV", "softirq"): 4,
        ("SYN_RECV", "ESTABLISHED", "softirq"): 4,
        ("ESTABLISHED", "FIN_WAIT1", "process"): 4,
        ("ESTABLISHED", "CLOSE_WAIT", "softirq"): 4,
        ("FIN_WAIT1", "FIN_WAIT2", "softirq"): 4,
        ("FIN_WAIT2", "CLOSE", "softirq"): 4,
        ("CLOSE_WAIT", "LAST_ACK", "process"): 3,
        ("CLOSE_WAIT", "CLOSE", "process"): 1,
        ("LAST_ACK", "CLOSE", "process"): 3,
    }
    assert Counter(event.reason for event in events if isinstance(event, TimeWaitEnd)) == {
        "expired": 3,
        "reset": 1,
    }
    assert end.totals.lines == {
        "start": 1,
        "counters": 8,
        "state": 45,
        "close": 9,
        "time_wait": 4,
        "time_wait_end": 4,
        "connect_failed": 1,
        "held": 1,
        "end": 1,
    }
