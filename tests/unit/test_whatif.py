from __future__ import annotations

import orjson
import pytest

from tests.unit.samples import SECOND, T0, birth, close, ends, owner, start
from tracer.cli import main
from tracer.errors import TwtraceError, UsageError
from tracer.model import ConnectFailed, Event, Start
from tracer.record import Encoder
from tracer.report.data import as_json
from tracer.report.model import Reports
from tracer.report.reading import read
from tracer.report.text import render
from tracer.whatif import Outcome, WhatIf, parse_change

A, B = owner(1, "a"), owner(2, "b")


def outcome(change: str, *events: Event, began: Start | None = None) -> Outcome:
    what_if = WhatIf(began or start(ip_local_port_range="1000 1099", tcp_tw_reuse=0))
    for event in events:
        what_if.add(event)
    return what_if.outcome(parse_change(change))


def churn(count: int, per_second: int = 10) -> list[Event]:
    """Connections of a client that closes first, as many as there are ports, then failures."""
    events: list[Event] = []
    for number in range(count):
        at = number / per_second
        if number < 100:
            where = ends(number, sport=1000 + number)
            events += [close(number, A, at=at, where=where), birth(number, A, at=at)]
        else:
            ts_us = T0 + int(at * SECOND)
            events.append(ConnectFailed(ts_us, ends(number, sport=0), A, "EADDRNOTAVAIL", "exhausted"))
    return events


def test_without_a_change_the_model_is_what_was_seen() -> None:
    found = outcome("tw_reuse=0", *churn(150))
    for figures in (found.seen, found.before, found.after):
        assert (figures.connections, figures.failures, figures.time_waits_end) == (100, 50, 100)
    assert found.before == found.after


def test_more_ports() -> None:
    after = outcome("port_range=1000-1199", *churn(150)).after
    assert (after.connections, after.failures, after.time_waits_peak, after.ports_peak) == (
        150,
        0,
        149,
        150,
    )  # the last is still open


def test_reuse_holds_at_half_the_ports() -> None:
    after = outcome("tw_reuse=1", *churn(150)).after
    assert (after.connections, after.failures, after.reused) == (150, 0, 100)
    assert (after.time_waits_peak, after.ports_peak) == (50, 50)


def test_kept_connections() -> None:
    after = outcome("keepalive", *churn(150)).after
    assert (after.connections, after.failures, after.time_waits_peak, after.ports_peak) == (1, 0, 0, 1)


def test_a_kept_connection_is_closed_when_idle() -> None:
    late = close(500, A, at=100, where=ends(500))
    after = outcome("keepalive", *churn(10), late).after
    assert (after.connections, after.time_waits_end) == (2, 1)


def test_peer_closes_first_moves_them_to_the_other_end_if_that_is_here() -> None:
    mine = ends(1)
    theirs = mine._replace(conn=2, saddr=mine.daddr, sport=mine.dport, daddr=mine.saddr, dport=mine.sport)
    here: list[Event] = [
        close(1, A, where=mine),
        close(2, B, role="server", first="remote", where=theirs),
        birth(1, A),
    ]
    found = outcome("peer-closes-first", *here)
    assert (found.before.client_side_peak, found.before.server_side_peak) == (1, 0)
    assert (found.after.client_side_peak, found.after.server_side_peak) == (0, 1)
    away = outcome("peer-closes-first", *churn(50)).after
    assert (away.time_waits_peak, away.ports_peak) == (0, 1)


def test_a_limit_leaves_out_the_rest() -> None:
    after = outcome("max_tw_buckets=30", *churn(100)).after
    assert (after.time_waits_peak, after.overflowed, after.connections) == (30, 70, 100)


@pytest.mark.parametrize(
    "text", ["", "keep", "tw_reuse=3", "port_range=9-1", "port_range=0-9", "max_tw_buckets=x"]
)
def test_changes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="no change"):
        parse_change(text)


def trace(*events: Event) -> list[bytes]:
    encoder = Encoder()
    began = start(ip_local_port_range="1000 1099", tcp_tw_reuse=0)
    lines = [encoder.start(began), *map(encoder.event, events)]
    _, end = encoder.end(T0 + 20 * SECOND, 20 * SECOND, {}, {})
    return [*lines, end]


def test_report_of_a_trace() -> None:
    found = read(trace(*churn(150)), (parse_change("keepalive"),))
    assert found.findings[0].id == "connect_failing"
    text = render(found)
    assert "CRITICAL a[1]  (connect_failing, confidence high)" in text
    assert "found no free source port 50 times" in text
    assert "WHAT IF keepalive" in text
    assert max(map(len, text.splitlines())) <= 110
    told = orjson.loads(as_json(Reports((found,))))
    assert told["findings"][0]["who"]["pids"] == [1]
    assert told["what_if"][0]["after"]["connections"] == 1


def test_hostile_names_do_not_reach_the_terminal() -> None:
    hostile = owner(1, "\x1b[31mevil\n")
    events = [close(n, hostile, at=n / 20) for n in range(200)] + [
        birth(n, hostile, at=15) for n in range(200)
    ]
    assert "\x1b" not in render(read(trace(*events)))


def test_what_is_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TwtraceError, match="no trace"):
        read([])
    with pytest.raises(TwtraceError, match="no trace"):
        read(trace()[1:])
    assert main(["report", "/nowhere"]) == 2
    assert "hint: give a file" in capsys.readouterr().err
