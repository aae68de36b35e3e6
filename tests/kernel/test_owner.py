"""Whose is it: the ways a socket changes hands, and what is said of those from before the trace."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.kernel.support import Line, Namespace, ends_of, eventually, of, recording
from tracer.kernel.hooks import kernel_release

pytestmark = pytest.mark.kernel


def by_comm(lines: list[Line], comm: str) -> list[Line]:
    return [line for line in lines if line["owner"]["comm"] == comm]


def test_a_server_that_closes_first_is_named_every_time(netns: Namespace, tmp_path: Path) -> None:
    """Peers name the task on the CPU in softirq: on loopback the client, 20 of 20."""
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        pids = netns.run("mixed", "4", "20", "0", "0")
        lines = running.stop()
    births = of(lines, "time_wait")
    assert [(line["owner"]["pid"], line["owner"]["grade"]) for line in births] == [
        (pids["server"], "certain")
    ] * 20


def test_fork_server(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        pids = netns.run("fork_server", "4", "5")
        lines = running.stop()
    births = of(lines, "time_wait")
    assert [line["owner"]["pid"] for line in births] == pids["children"]
    assert {line["owner"]["comm"] for line in births} == {"the-handler"}
    assert {line["owner"]["grade"] for line in births} == {"certain"}
    assert pids["server"] not in {line["owner"]["pid"] for line in of(lines, "close")}


def test_descriptor_passed_to_another_process(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        pids = netns.run("pass_descriptor", "6", "5")
        lines = running.stop()
    births = of(lines, "time_wait")
    assert Counter(line["owner"]["pid"] for line in births) == {pids["worker"]: 5}
    for line in of(lines, "close", first="local"):
        assert line["opener"]["pid"] == line["closer"]["pid"] == pids["worker"]


@pytest.mark.skipif(kernel_release() < (6, 3), reason="sock_send_length came with Linux 6.3")
def test_who_only_sends_is_named_too(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        pids = netns.run("greet_and_leave", "4", "5")
        closes = of(running.stop(), "close", first="local")
    assert [line["opener"]["pid"] for line in closes] == 5 * [pids["greeter"]]
    assert {line["opener"]["grade"] for line in closes} == {"certain"}
    assert {line["closer"]["comm"] for line in closes} == {"the-closer"}


def test_ways_of_ending(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        pids = netns.run("endings", "4")
        lines = running.stop()
    closes = {line["closer"]["pid"]: line for line in of(lines, "close", role="client")}
    assert {name: closes[pid]["via"] for name, pid in pids.items() if name != "server"} == {
        "exits": "exit",
        "killed": "exit",
        "shuts_wr": "shutdown",
        "shuts_rdwr": "shutdown",
        "in_thread": "close",
    }
    for line in closes.values():
        assert (line["first"], line["how"], line["time_wait"]) == ("local", "fin", True)
        assert line["owner"]["grade"] == "certain"
    # A thread's name is its own; the process is what people know.
    assert closes[pids["in_thread"]]["owner"]["comm"] == "in_thread"
    assert len(of(lines, "time_wait")) == 5


def test_a_process_that_lived_for_milliseconds_has_its_facts(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        pids = netns.run("short_lived", "4", "mayfly")
        lines = running.stop()
    (birth,) = of(lines, "time_wait")
    owner = birth["owner"]
    assert (owner["pid"], owner["comm"], owner["uid"]) == (pids["client"], "mayfly", 0)
    assert "workloads.py short_lived 4 mayfly" in owner["cmdline"]


@pytest.mark.parametrize("name", ["\x1b[31mred", "[bold]x", "a\nb\tc", '"quoted\\'])
def test_hostile_names_come_through_as_they_are(netns: Namespace, tmp_path: Path, name: str) -> None:
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        netns.run("short_lived", "4", name)
        lines = running.stop()
    assert [line["owner"]["comm"] for line in of(lines, "time_wait")] == [name]
    assert b"\x1b" not in (tmp_path / "trace").read_bytes()


def test_a_name_that_is_no_utf8(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        netns.run("short_lived", "4", "bad\udcff\udcfe")
        lines = running.stop()
    assert [line["owner"]["comm"] for line in of(lines, "time_wait")] == ["bad\\xff\\xfe"]


def test_sockets_left_in_close_wait(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        with subprocess.Popen(
            netns.workload("hold", "4", "7"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as workload:
            assert workload.stdout
            pids = json.loads(workload.stdout.readline())
            running.wait_for_lines("held", 7)
            in_kernel = netns.kernel_sockets("close-wait")
            workload.communicate("")
        running.wait_for_lines("close", 14)
        lines = running.stop()
    held = of(lines, "held")
    assert len(held) == 7
    assert {ends_of(line) for line in held} == in_kernel
    assert {(line["state"], line["owner"]["pid"], line["owner"]["grade"]) for line in held} == {
        ("CLOSE_WAIT", pids["server"], "certain")
    }
    # Only kill -9 closed them in the end.
    closed = of(lines, "close", role="server")
    assert {line["conn"] for line in closed} == {line["conn"] for line in held}
    assert {(line["via"], line["first"]) for line in closed} == {("exit", "remote")}


def test_close_wait_from_before_the_trace(netns: Namespace, tmp_path: Path) -> None:
    with subprocess.Popen(
        netns.workload("hold", "6", "3"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as workload:
        assert workload.stdout
        pids = json.loads(workload.stdout.readline())
        with recording(tmp_path / "trace", "-N", netns.name) as running:
            running.wait_for_lines("held", 3)
            workload.communicate("")
            running.wait_for_lines("close", 3)
            lines = running.stop()
    held = of(lines, "held")
    assert [(line["owner"]["pid"], line["owner"]["grade"]) for line in held] == [
        (pids["server"], "inferred")
    ] * 3
    assert {line["preexisting"] for line in held} == {True}
    assert {line["conn"] for line in of(lines, "close")} == {line["conn"] for line in held}


def test_a_socket_open_before_the_trace(netns: Namespace, tmp_path: Path) -> None:
    with subprocess.Popen(
        netns.workload("keep_open", "4"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as workload:
        assert workload.stdout
        pids = json.loads(workload.stdout.readline())
        with recording(tmp_path / "trace", "-N", netns.name) as running:
            workload.communicate("\n")
            running.wait_for_lines("close", 2)
            lines = running.stop()
    (server,) = of(lines, "close", role="server")
    assert (server["opener"]["pid"], server["opener"]["grade"]) == (pids["server"], "inferred")
    assert (server["closer"]["pid"], server["closer"]["grade"]) == (pids["server"], "certain")
    assert server["age_us"] is None
    (client,) = (line for line in of(lines, "close") if line is not server)
    assert client["opener"]["pid"] == pids["client"]


def test_time_waits_from_before_the_trace(netns: Namespace, tmp_path: Path) -> None:
    netns.run("mixed", "4", "6", "0", "0")
    before = netns.kernel_sockets("time-wait")
    assert len(before) == 6
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        netns.run("mixed", "4", "2", "0", "0")
        running.wait_for_lines("time_wait_end", 6, seconds=80)
        lines = running.stop()
    older = [line for line in of(lines, "time_wait") if line.get("preexisting")]
    assert {ends_of(line) for line in older} == before
    assert {line["owner"]["grade"] for line in older} == {"unknown"}
    ends = of(lines, "time_wait_end", reason="expired")
    numbers = {line["conn"] for line in older}
    assert {line["conn"] for line in ends} >= numbers
    assert {line["lifetime_us"] for line in ends if line["conn"] in numbers} == {None}


def test_filters_by_owner_port_and_family(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "all", "-N", netns.name) as everything:
        with (
            recording(tmp_path / "comm", "-N", netns.name, "-C", "the-server") as by_name,
            recording(tmp_path / "six", "-N", netns.name, "-6") as by_family,
        ):
            netns.run("mixed", "4", "3", "2", "1")
            netns.run("mixed", "6", "5", "0", "0")
            traces = by_name.stop(), by_family.stop()
        lines = everything.stop()
    assert len(of(lines, "time_wait")) == 10
    named, six = traces
    assert {line["owner"]["comm"] for line in of(named, "close")} == {"the-server"}
    assert len(of(named, "close")) == 11
    assert {line["family"] for line in of(six, "close")} == {6}
    assert len(of(six, "time_wait")) == 5
    port = of(six, "close", role="server")[0]["sport"]
    with recording(tmp_path / "port", "-N", netns.name, "-L", str(port)) as by_port:
        netns.run("mixed", "4", "3", "0", "0")
        assert of(by_port.stop(), "close") == []


def test_every_transition_with_states(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "trace", "-N", netns.name, "--states") as running:
        pids = netns.run("mixed", "4", "1", "0", "0")
        lines = running.stop()
    (server,) = of(lines, "close", role="server")
    (client,) = of(lines, "close", role="client")
    path = {
        conn: [(line["old"], line["new"]) for line in of(lines, "state", conn=conn)]
        for conn in (server["conn"], client["conn"])
    }
    assert path[server["conn"]] == [
        ("LISTEN", "SYN_RECV"),
        ("SYN_RECV", "ESTABLISHED"),
        ("ESTABLISHED", "FIN_WAIT1"),
        ("FIN_WAIT1", "FIN_WAIT2"),
        ("FIN_WAIT2", "CLOSE"),
    ]
    assert path[client["conn"]] == [
        ("CLOSE", "SYN_SENT"),
        ("SYN_SENT", "ESTABLISHED"),
        ("ESTABLISHED", "CLOSE_WAIT"),
        ("CLOSE_WAIT", "LAST_ACK"),
        ("LAST_ACK", "CLOSE"),
    ]
    for line in of(lines, "state", conn=client["conn"]):
        assert line["owner"]["pid"] == pids["client"]
    (fin,) = of(lines, "state", conn=server["conn"], new="FIN_WAIT1")
    assert (fin["owner"]["pid"], fin["context"]) == (pids["server"], "process")
    # The listener too: it opens and closes.
    assert of(lines, "state", old="CLOSE", new="LISTEN")
    assert of(lines, "state", old="LISTEN", new="CLOSE")


def test_first_use_names_a_holder_that_never_closes(netns: Namespace, tmp_path: Path) -> None:
    """The accepting process is certain from its first read on, long before any close."""
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        with subprocess.Popen(
            netns.workload("hold", "mapped", "1"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as workload:
            assert workload.stdout
            pids = json.loads(workload.stdout.readline())
            eventually(lambda: netns.kernel_sockets("close-wait") != set())
            running.wait_for_lines("held", 1)
            workload.communicate("")
        (held,) = of(running.stop(), "held")
    assert (held["owner"]["pid"], held["owner"]["grade"], held["family"]) == (pids["server"], "certain", 4)
