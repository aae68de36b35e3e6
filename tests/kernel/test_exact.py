"""23 closed first by the server, 17 by the client, 13 reset: exactly those, each with its owner."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel import brim
from tests.kernel.support import ROOT, Line, Namespace, ends_of, namespace, of, owners, read, recording
from tracer.kernel import flags

pytestmark = pytest.mark.kernel

ACTIVE, PASSIVE, RESETS = 23, 17, 13
WAITS = ACTIVE + PASSIVE
FAMILIES = ("4", "6", "mapped")


@dataclass(frozen=True)
class Outcome:
    family: str
    netns: int
    pids: dict[str, int]
    dumped: set[tuple[str, int, str, int]]
    lines: list[Line]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    """All families at once, each recorded in a namespace of its own to the last TIME_WAIT's end.

    Beside them the same goes on in a namespace that nobody asked for.
    """
    folder: Path = tmp_path_factory.mktemp("exact")
    with ExitStack() as stack:
        places = {family: stack.enter_context(namespace()) for family in FAMILIES}
        elsewhere = stack.enter_context(namespace())
        running = {
            family: stack.enter_context(recording(folder / f"{family}.ndjson", "-N", place.name))
            for family, place in places.items()
        }
        pids, dumped = {}, {}
        for family, place in places.items():
            pids[family] = place.run("mixed", family, str(ACTIVE), str(PASSIVE), str(RESETS))
            elsewhere.run("mixed", "4", "2", "2", "2")
            dumped[family] = _waiting(place)
        for one in running.values():
            one.wait_for_lines("time_wait_end", WAITS, seconds=80)
        yield {
            family: Outcome(family, place.inode, pids[family], dumped[family], running[family].stop())
            for family, place in places.items()
        }


def _waiting(place: Namespace) -> set[tuple[str, int, str, int]]:
    return place.kernel_sockets("time-wait") | place.kernel_sockets("fin-wait-2")


@pytest.fixture(params=FAMILIES)
def outcome(request: pytest.FixtureRequest, outcomes: dict[str, Outcome]) -> Outcome:
    return outcomes[request.param]


def test_nothing_lost(outcome: Outcome) -> None:
    end = outcome.lines[-1]
    assert end["lost"] == {}
    assert not of(outcome.lines, "lost")
    assert end["totals"]["kernel"] == {
        "closes": 2 * (WAITS + RESETS),
        "time_wait_born": WAITS,
        "time_wait_ended": WAITS,
        "time_wait_overflowed": 0,
    }
    assert end["totals"]["ledger"][str(outcome.netns)] == {
        "born": WAITS,
        "preexisting": 0,
        "ended": WAITS,
        "expected": 0,
        "kernel": 0,
        "residue": 0,
    }


def test_only_the_namespace_asked_for(outcome: Outcome) -> None:
    assert {line["netns"] for line in outcome.lines if "netns" in line} == {outcome.netns}


def test_family_and_addresses(outcome: Outcome) -> None:
    connections = [line for line in outcome.lines if "conn" in line]
    expected = (6, "::1") if outcome.family == "6" else (4, "127.0.0.1")
    assert {(line["family"], line["saddr"]) for line in connections} == {expected}
    assert {line["daddr"] for line in connections} == {expected[1]}


def test_every_time_wait_has_its_owner(outcome: Outcome) -> None:
    births = of(outcome.lines, "time_wait")
    assert Counter((line["owner"]["pid"], line["owner"]["comm"]) for line in births) == {
        (outcome.pids["server"], "the-server"): ACTIVE,
        (outcome.pids["client"], "the-client"): PASSIVE,
    }
    assert {line["owner"]["grade"] for line in births} == {"certain"}
    assert {ends_of(line) for line in births} == outcome.dumped


def test_every_close(outcome: Outcome) -> None:
    closes = of(outcome.lines, "close")
    assert Counter(
        (line["owner"]["comm"], line["role"], line["first"], line["how"], line["time_wait"])
        for line in closes
    ) == {
        ("the-server", "server", "local", "fin", True): ACTIVE,
        ("the-client", "client", "remote", "fin", False): ACTIVE,
        ("the-server", "server", "remote", "fin", False): PASSIVE,
        ("the-client", "client", "local", "fin", True): PASSIVE,
        ("the-server", "server", "none", "reset_received", False): RESETS,
        ("the-client", "client", "none", "reset_sent", False): RESETS,
    }
    assert owners(closes) == {
        (outcome.pids["server"], "the-server", "certain"),
        (outcome.pids["client"], "the-client", "certain"),
    }
    for line in closes:
        assert line["opener"] == line["owner"]
        assert line["age_us"] >= sum(line["states"].values()) - 10
        if line["how"] == "reset_received":
            assert line["closer"] == {"pid": None, "comm": None, "grade": "unknown"}
            assert line["via"] == "unknown"
        else:
            assert line["closer"] == line["owner"]
            assert line["via"] == "close"


def test_the_states_of_a_close_are_those_it_went_through(outcome: Outcome) -> None:
    for line in of(outcome.lines, "close"):
        opening = {"SYN_SENT"} if line["role"] == "client" else {"SYN_RECV"}
        closing = {
            ("fin", "local"): {"FIN_WAIT1", "FIN_WAIT2"},
            ("fin", "remote"): {"CLOSE_WAIT", "LAST_ACK"},
        }.get((line["how"], line["first"]), set())
        assert set(line["states"]) == opening | {"ESTABLISHED"} | closing


def test_a_connection_keeps_its_number(outcome: Outcome) -> None:
    waited = {line["conn"] for line in of(outcome.lines, "close", time_wait=True)}
    assert len(waited) == WAITS
    assert {line["conn"] for line in of(outcome.lines, "time_wait")} == waited
    assert {line["conn"] for line in of(outcome.lines, "time_wait_end")} == waited


def test_every_time_wait_expires_after_a_minute(outcome: Outcome) -> None:
    ends = of(outcome.lines, "time_wait_end")
    assert len(ends) == WAITS
    births = {line["conn"]: line for line in of(outcome.lines, "time_wait")}
    for line in ends:
        assert line["reason"] == "expired"
        assert line["by"] is None
        assert line["rearmed"] == 0
        assert 60_000_000 <= line["lifetime_us"] <= 64_000_000
        birth = births[line["conn"]]
        assert line["owner"] == birth["owner"]
        assert (line["fin_wait2_us"] is None) == (birth["substate"] == "TIME_WAIT")
        # From birth to turn and from turn to end is all of it.
        whole = line["lifetime_us"] + (line["fin_wait2_us"] or 0)
        assert abs(line["ts_us"] - birth["ts_us"] - whole) <= 1_000


def test_stopping_amid_traffic_makes_nothing_up(tmp_path: Path) -> None:
    """While hooks are taken off one by one, a close is not seen without its TIME_WAIT."""
    with namespace() as where:
        load = where.command(sys.executable, "-m", "tests.scenarios.steady", "client", "4000", "30")
        with subprocess.Popen(load, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as playing:
            try:
                for number in range(5):
                    path = tmp_path / f"{number}.ndjson"
                    with recording(path, "-N", where.name, "-d", "1s") as running:
                        running.wait()
                    closes = of(read(path), "close", first="local", how="fin")
                    assert len(closes) > 100
                    assert [line for line in closes if line.get("overflow") or not line["time_wait"]] == []
            finally:
                playing.kill()


def test_a_birth_that_is_not_found_is_lost(netns: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven of seven, and none is taken for an overflow; the ledger's residue says so as well."""
    monkeypatch.setattr(flags, "_LONGEST_CHAIN", 0)
    seen = brim.watch("timer", netns)
    waits = brim.ACTIVE + brim.PASSIVE
    assert seen.lost == {"births of time_waits, chain in the kernel's table too long to follow": waits}
    assert [(close.how, close.time_wait, close.overflow) for close in seen.closes] == [
        ("fin", False, False)
    ] * waits
    assert (seen.totals["time_wait_born"], seen.totals["time_wait_overflowed"]) == (0, 0)
    assert (seen.balance.born, seen.balance.kernel, seen.balance.residue) == (0, waits, -waits)
