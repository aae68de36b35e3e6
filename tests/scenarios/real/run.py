"""Plays scenarios under `twtrace record`, and asks `twtrace report` about each."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.support import ROOT, TWTRACE, Line, of, recording
from tests.scenarios.real.scenario import Part, Scenario, Verdict
from tests.scenarios.real.stage import stage

_AT_ONCE = 6
"""Each waits most of the time."""
_REPORT_SECONDS = 60

FINE = "fine"


@dataclass(frozen=True, slots=True)
class Played:
    """What came of one half of a scenario."""

    lines: list[Line]
    pids: dict[str, frozenset[int]]
    """By role."""
    reported: subprocess.CompletedProcess[str]

    def everyone(self) -> frozenset[int]:
        """The pids of all roles."""
        return frozenset[int]().union(*self.pids.values())

    def of(self, verdict: Verdict, kind: str, **fields: object) -> list[Line]:
        """Lines whose certain owner is the process in question."""
        found = of(self.lines, kind, **fields)
        return [
            line
            for line in found
            if (owner := line["owner"])["pid"] in self.pids[verdict.role]
            and (owner["comm"], owner["grade"]) == (verdict.comm, "certain")
        ]

    def findings(self) -> list[Line]:
        """What `twtrace report --json` has found."""
        if self.reported.returncode:
            raise RuntimeError(f"twtrace report: {self.reported.returncode}: {self.reported.stderr}")
        found: list[Line] = json.loads(self.reported.stdout)["findings"]
        return found

    def findings_on(self, verdict: Verdict) -> list[Line]:
        """Those that name the process in question, or its pids."""
        return [
            finding
            for finding in self.findings()
            if (who := finding["who"])
            and (who["comm"] == verdict.comm or self.pids[verdict.role] & set(who["pids"]))
        ]


def play(part: Part, folder: Path) -> Played:
    """Play it in a new namespace, recorded from before its first program to before their end."""
    folder.mkdir(parents=True)
    trace = folder / "trace.ndjson"
    with stage(folder) as on, recording(trace, "-N", on.netns.name) as running:
        part.play(on)
        running.wait_for_lines("held", part.facts.held.least)
        on.check()
        lines = running.stop()
        pids = {role: frozenset(pids) for role, pids in on.pids.items()}
    reported = subprocess.run(
        [*TWTRACE, "report", str(trace), "--json"],
        check=False, cwd=ROOT, capture_output=True, text=True, timeout=_REPORT_SECONDS,
    )  # fmt: skip
    return Played(lines, pids, reported)


@contextmanager
def playing(scenarios: Iterable[Scenario], folder: Path) -> Iterator[dict[tuple[str, str], Future[Played]]]:
    """All of them, several at once: by name and `before` or `after`."""
    # A program ends at the latest with the thread that has started it.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            yield {
                (one.name, name): pool.submit(play, part, folder / one.name / name)
                for one in scenarios
                for name, part in one.parts().items()
            }
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
