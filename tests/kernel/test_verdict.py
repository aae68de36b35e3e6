"""The verdict on real traces: of a namespace where nothing happens, and of the demo's habits in all mixes."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.kernel.support import Line, namespace, recording
from tests.unit.truth import assert_true_of_each
from tracer.demo import PAIRS, Demo
from tracer.report.reading import read as report_of
from tracer.verdict import Severity

pytestmark = pytest.mark.kernel

SECONDS = 12
MIXES = 100

BLAMED = {
    "reconnects": {"cli-closes-1st", "srv-closes-1st", "cli-gives-up"},
    "close_wait_leak": {"srv-leaks"},
    "resets_sent": {"cli-resets"},
    "fin_wait2_held": {"cli-gives-up"},
}
"""What may be said of whom; above fine, nothing else of anybody."""


def above_fine(lines: list[bytes]) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for finding in report_of(lines).findings:
        if finding.severity > Severity.FINE:
            found.setdefault(finding.id, set()).add(finding.who.comm)
    return found


def test_where_nothing_happens_nothing_is_above_fine(tmp_path: Path) -> None:
    path = tmp_path / "quiet.ndjson"
    with namespace() as where, recording(path, "-N", where.name) as running:
        where.run("mixed", "4", "3", "2", "0")
        running.stop()
    assert above_fine(path.read_bytes().splitlines(keepends=True)) == {}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, Line]]:
    """A trace of the demo, line by line."""
    path = tmp_path_factory.mktemp("demo") / "demo.ndjson"
    played = Demo()
    played.start()
    try:
        with recording(path, "-N", str(played.netns)) as running:
            played.go()
            time.sleep(SECONDS)
            lines = running.stop()
    finally:
        played.stop()
    return list(zip(path.read_bytes().splitlines(keepends=True), lines, strict=True))


def test_all_of_the_demo(demo: list[tuple[bytes, Line]]) -> None:
    found = above_fine([raw for raw, _ in demo])
    assert found["close_wait_leak"] == {"srv-leaks"}
    assert found["resets_sent"] == {"cli-resets"}
    assert found["reconnects"] >= {"cli-closes-1st", "srv-closes-1st"}


def test_no_mix_of_the_demos_habits_blames_a_wrong_process(demo: list[tuple[bytes, Line]]) -> None:
    for seed in range(MIXES):
        chosen = random.Random(seed)  # noqa: S311 - nothing secret
        pairs = [pair for pair in PAIRS if chosen.random() < 0.5]
        present = {name for pair in pairs for name in (pair.client, pair.server)}
        lines = [raw for raw, line in demo if "owner" not in line or line["owner"]["comm"] in present]
        found = above_fine(lines)
        for name, blamed in found.items():
            assert blamed <= BLAMED.get(name, set()) & present, (seed, name)
        for name, certainly in (
            ("close_wait_leak", {"srv-leaks"}),
            ("resets_sent", {"cli-resets"}),
            ("reconnects", {"cli-closes-1st", "srv-closes-1st"}),
        ):
            assert found.get(name, set()) >= certainly & present, (seed, name)


def test_each_process_of_the_demo_has_a_true_sentence(demo: list[tuple[bytes, Line]]) -> None:
    sentences = [sentence.text for sentence in report_of(line for line, _ in demo).sentences]
    assert len(sentences) == 2 * len(PAIRS)
    assert_true_of_each(sentences, [line for _, line in demo])
