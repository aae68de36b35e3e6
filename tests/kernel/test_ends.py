"""How a TIME_WAIT ends before its time, as far as the timer source can tell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.kernel.support import Namespace, namespace, of, recording

pytestmark = pytest.mark.kernel


def test_reused_by_a_bound_connect(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        who = netns.run("reuse", "4")
        running.wait_for_lines("time_wait_end", 1)
        lines = running.stop()
    (end,) = of(lines, "time_wait_end")
    assert (end["reason"], end["sport"]) == ("reused", who["port"])
    assert (end["by"]["pid"], end["by"]["grade"]) == (who["client"], "certain")
    assert end["lifetime_us"] < 5_000_000


def test_killed_by_an_administrator(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        netns.run("mixed", "4", "3", "0", "0")
        subprocess.run(netns.command("ss", "-K", "state", "time-wait"), check=True, capture_output=True)
        running.wait_for_lines("time_wait_end", 3)
        lines = running.stop()
    ends = of(lines, "time_wait_end")
    assert [(line["reason"], line["by"]["comm"]) for line in ends] == [("killed", "ss")] * 3
    assert {line["owner"]["comm"] for line in ends} == {"the-server"}


def test_an_established_socket_killed_stays_its_owners(netns: Namespace, tmp_path: Path) -> None:
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        with subprocess.Popen(
            netns.workload("hold", "4", "1"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as workload:
            assert workload.stdout
            workload.stdout.readline()
            subprocess.run(netns.command("ss", "-K", "state", "close-wait"), check=True, capture_output=True)
            running.wait_for_lines("close", 2)
            workload.communicate("")
        (close,) = of(running.stop(), "close", role="server")
    assert (close["owner"]["comm"], close["closer"]["comm"]) == ("the-leak", "ss")
    assert (close["how"], close["via"], close["first"]) == ("reset_sent", "abort", "remote")


def test_gone_with_its_namespace(tmp_path: Path) -> None:
    with namespace() as place:
        inode = place.inode
        running = recording(tmp_path / "trace", "-N", place.name)
        trace = running.__enter__()
        place.run("mixed", "6", "4", "0", "0")
        trace.wait_for_lines("time_wait", 4)
    trace.wait_for_lines("time_wait_end", 4)
    lines = trace.stop()
    running.__exit__(None, None, None)
    assert [line["reason"] for line in of(lines, "time_wait_end", netns=inode)] == ["netns_exit"] * 4


def test_a_turn_that_moved_no_timer_and_a_rearming_that_did(netns: Namespace, tmp_path: Path) -> None:
    waited = 4
    with recording(tmp_path / "trace", "-N", netns.name) as running:
        netns.run("rearm", "4", str(waited))
        running.wait_for_lines("time_wait_end", 1)
        lines = running.stop()
    (birth,) = of(lines, "time_wait")
    (end,) = of(lines, "time_wait_end")
    assert birth["substate"] == "FIN_WAIT2"
    assert (end["reason"], end["rearmed"]) == ("reset", 1)
    # It turned when the peer closed, 0.1 s after its birth and not at the re-arming; to a tick or two.
    assert 50_000 <= end["fin_wait2_us"] <= 500_000
    assert abs(end["lifetime_us"] - waited * 1_000_000) < 500_000
