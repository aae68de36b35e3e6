from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.unit.samples import SECOND, T0, birth, close, death, ends, held, owner, start
from tracer import verdict
from tracer.aggregate import Aggregator
from tracer.model import ConnectFailed, Event, Grade, Lost, Owner, Snapshot, Start
from tracer.verdict import Finding, Severity, Verdicts, judge

MAN = (Path(__file__).parents[2] / "man/twtrace.8").read_text()

A, B = owner(1, "a"), owner(2, "b")


def snapshot(*events: Event, at: float = 20, began: Start | None = None) -> Snapshot:
    aggregator = Aggregator(began or start(ip_local_port_range="32768 60999", tcp_tw_reuse=0))
    aggregator.add(events)
    return aggregator.snapshot(T0 + int(at * SECOND))


def findings(*events: Event, at: float = 20, began: Start | None = None) -> dict[str, Finding]:
    found = judge(snapshot(*events, at=at, began=began))
    assert len({finding.id for finding in found}) == len(found)
    return {finding.id: finding for finding in found}


def churn(
    whose: Owner, count: int = 200, *, role: str = "client", first: int = 0, lasts: float = 20
) -> list[Event]:
    """One connection after the other, closed first by `whose`."""
    events: list[Event] = []
    for number in range(first, first + count):
        at = (number - first) / count * lasts
        where = ends(number, sport=80, dport=number) if role == "server" else ends(number, sport=number)
        events += [close(number, whose, at=at, role=role, where=where), birth(number, whose, at=at)]
    return events


def above_fine(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.severity > Severity.FINE}


def test_a_quiet_host_has_nothing_above_fine() -> None:
    found = findings(close(1, A, first="remote"), close(2, B), birth(2, B))
    assert [*found] == ["nothing"]
    assert "no connect() failed" in found["nothing"].why
    assert findings()["nothing"].severity is Severity.FINE


@pytest.mark.parametrize(
    ("role", "words"), [("client", "connection pool"), ("server", "let clients keep their connections")]
)
def test_short_connections_one_after_the_other(role: str, words: str) -> None:
    found = findings(*churn(A, role=role))
    finding = found["reconnects"]
    assert (finding.who.pids, finding.severity) == ((1,), Severity.NOTICE)
    assert finding.evidence["reconnects"] == 199
    assert words in finding.remedies[0].do
    assert "spares 199 of 200 connections: TIME_WAITs from 200 to about 1" in finding.remedies[0].effect
    assert finding.confidence == ("high" if role == "client" else "medium")


def test_connections_far_apart_could_not_have_been_kept() -> None:
    assert above_fine(findings(*churn(A, 25, lasts=100), at=100)) == set()


def test_the_peer_that_closes_first_is_the_one_that_is_named() -> None:
    events: list[Event] = []
    for number in range(100):
        at = number / 10
        mine = ends(number, sport=number + 1000)
        theirs = mine._replace(
            conn=1000 + number, saddr=mine.daddr, sport=mine.dport, daddr=mine.saddr, dport=mine.sport
        )
        events += [
            close(number, A, at=at, first="remote", where=mine),
            close(1000 + number, B, at=at, role="server", where=theirs),
            birth(1000 + number, B, at=at),
        ]
    found = findings(*events, at=10)
    assert {finding.who.comm for finding in found.values()} == {"b"}
    assert "b[2] closes first: its peer a[1]" in found["both_ends_here"].why


def test_ports_running_out_and_run_out() -> None:
    began = start(ip_local_port_range="1000 1499", tcp_tw_reuse=0)
    events = churn(A, 300, lasts=10)
    found = findings(*events, at=10, began=began)["ports_exhausting"]
    assert found.severity is Severity.WARN
    assert "connect() will fail in 6" in found.why
    failed = ConnectFailed(T0 + 11 * SECOND, ends(1, sport=0), A, "EADDRNOTAVAIL", "exhausted")
    worst = findings(*events, failed, at=12, began=began)
    assert worst["connect_failing"].severity is Severity.CRITICAL
    assert "ports_exhausting" not in worst
    do = [remedy.do for remedy in worst["connect_failing"].remedies]
    assert [*map(bool, do)] == [True] * 4
    assert "tcp_tw_reuse=1" in do[2]
    assert "28,232 ports instead of 500: 56.5 times" in worst["connect_failing"].remedies[3].effect


def test_with_reuse_ports_do_not_run_out() -> None:
    began = start(ip_local_port_range="1000 1499", tcp_tw_reuse=1)
    assert "ports_exhausting" not in findings(*churn(A, 300, lasts=10), at=10, began=began)


def test_close_wait_that_stays_is_a_leak() -> None:
    few = [held(n, A, at=1) for n in range(3)]
    found = findings(*few)["close_wait_leak"]
    assert (found.severity, found.evidence["count"], found.who.pids) == (Severity.WARN, 3, (1,))
    assert "the oldest for 19.0 s" in found.why
    assert above_fine(findings(*few, at=3)) == set()
    assert above_fine(findings(*few[:1])) == set()
    assert above_fine(findings(*few[:1], at=70)) == {"close_wait_leak"}
    assert above_fine(findings(*few, *(close(n, A, at=10, first="remote") for n in range(3)))) == set()


def test_fin_wait2_held_and_lingering() -> None:
    held_open = [held(n, A, state="FIN_WAIT2", at=1) for n in range(3)]
    assert "shut down its side" in findings(*held_open)["fin_wait2_held"].why
    orphans: list[Event] = []
    for number in range(30):
        orphans += [close(number, A), birth(number, A)._replace(substate="FIN_WAIT2")]
        orphans.append(death(number, A, at=5)._replace(fin_wait2_us=4 * SECOND, lifetime_us=None))
    assert "30 connections it closed to 10.0.0.2:80 waited" in findings(*orphans)["fin_wait2_held"].why


def test_resets_where_closes_were_meant() -> None:
    events = [close(n, A, first="none", how="reset_sent", at=n / 10) for n in range(50)]
    assert "50 of 50 connections to 10.0.0.2:80 were reset" in findings(*events, at=5)["resets_sent"].why
    assert above_fine(findings(*events[:10])) == set()


def test_overflow_and_conflict() -> None:
    skipped = close(1, A, time_wait=False, overflow=True)
    assert findings(skipped)["time_wait_overflow"].who.pids == (1,)
    conflict = ConnectFailed(T0, ends(1), B, "EADDRNOTAVAIL", "conflict")
    assert findings(conflict)["connect_conflict"].who.pids == (2,)


def test_what_is_over_is_no_finding_any_more() -> None:
    resets = [close(n, A, first="none", how="reset_sent", at=n / 10) for n in range(50)]
    failed = ConnectFailed(T0, ends(1, sport=0), A, "EADDRNOTAVAIL", "exhausted")
    skipped = close(1, A, time_wait=False, overflow=True)
    past = (*churn(B), *resets, failed, failed._replace(cause="conflict"), skipped)
    assert above_fine(findings(*past)) >= {"reconnects", "connect_failing", "connect_conflict"}
    assert above_fine(findings(*past, at=200)) == set()


def test_doubts() -> None:
    began = start(ip_local_port_range="32768 60999")
    sure = findings(*churn(A), began=began)["reconnects"]
    assert sure.confidence == "high"
    assert any("shorter than a TIME_WAIT" in limit for limit in sure.limits)
    lossy = findings(*churn(A), Lost(T0, "records", 3), birth(9999, preexisting=True))["reconnects"]
    assert lossy.confidence == "medium"
    assert lossy.limits[:2] == (
        "3 records were lost: counts are at least what is said",
        "1 TIME_WAITs are from before the trace: nobody knows whose",
    )
    inferred = findings(*churn(owner(3, "c", grade=Grade.INFERRED)), Lost(T0, "records", 3))["reconnects"]
    assert inferred.confidence == "low"


def test_no_mix_of_habits_blames_another() -> None:
    """100 shuffled mixes: whoever behaves well is never named above fine."""
    for seed in range(100):
        chosen = random.Random(seed)  # noqa: S311 - nothing secret
        bad, good = owner(1, "bad"), owner(2, "good")
        habits: dict[str, list[Event]] = {
            "reconnects": churn(bad),
            "close_wait_leak": [held(5000 + n, bad, at=1) for n in range(5)],
            "resets_sent": [
                close(6000 + n, bad, first="none", how="reset_sent", at=n / 10) for n in range(100)
            ],
        }
        wanted = {name for name in habits if chosen.random() < 0.5}
        events: list[Event] = [
            close(7000 + n, good, first="remote", at=n / 10, where=ends(7000 + n, daddr="10.0.0.9"))
            for n in range(150)
        ]
        for name in wanted:
            events += habits[name]
        chosen.shuffle(events)
        events.sort(key=lambda event: event.ts_us)
        found = findings(*events)
        assert above_fine(found) <= wanted, seed
        assert {found[name].who.comm for name in above_fine(found)} <= {"bad"}
        assert {"close_wait_leak"} & wanted <= above_fine(found)


def test_a_trace_is_judged_at_its_worst_moment() -> None:
    verdicts = Verdicts()
    leak = [held(n, A, at=1) for n in range(3)]
    verdicts.note(snapshot(*leak))
    verdicts.note(snapshot(*leak, *(close(n, A, at=30, first="remote") for n in range(3)), at=40))
    assert [finding.id for finding in verdicts.findings()] == ["close_wait_leak"]
    quiet = Verdicts()
    quiet.note(snapshot())
    assert [finding.id for finding in quiet.findings()] == ["nothing"]


def test_the_manual_has_every_finding() -> None:
    named = set(re.findall(r'Finding\(\s*"(\w+)"', Path(verdict.__file__).read_text()))
    section = MAN.split(".Sh THE VERDICT")[1].split(".Sh ")[0]
    assert set(re.findall(r"^\.It Li (\w+)$", section, re.MULTILINE)) == named


def towards(count: int, destinations: int) -> Snapshot:
    """So many TIME_WAITs of one process, as they are after a minute at a steady rate."""
    events: list[Event] = []
    for number in range(count):
        peer = number % destinations
        where = ends(
            number, sport=32_768 + number % 28_000, dport=5432, daddr=f"10.9.{peer // 200}.{peer % 200 + 1}"
        )
        at = number * 60 / count
        events += [close(number, A, at=at, age_us=9_000, where=where)]
        events += [birth(number, A, at=at)._replace(ends=where)]
    return snapshot(*events, at=60)


def test_it_is_not_the_number_of_time_waits_that_matters() -> None:
    spread, single = judge(towards(25_000, 500)), judge(towards(24_000, 1))
    assert [finding.id for finding in spread] == ["nothing"]
    assert (single[0].id, single[0].severity) == ("ports_exhausting", Severity.WARN)
    assert single[0].who.label == "a[1]"
    assert single[0].evidence["time_waits"] == 24_000
