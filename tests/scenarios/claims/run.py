"""All experiments at once, under one recording."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from tests.kernel.support import Recording, attached
from tests.scenarios.actors import bound_to_parent
from tests.scenarios.claims import habits, lifetimes, ports, resources
from tests.scenarios.claims.lab import EXPERIMENTS, Experiment, Seen, netns
from tests.scenarios.world import Line
from tracer.claims import Truth

__all__ = ["EXPERIMENTS", "habits", "lifetimes", "ports", "resources"]


@dataclass(frozen=True)
class Result:
    """What came out."""

    number: int
    netns: int
    seen: list[Seen]
    failed: str
    """Why it could not be done; empty if it was."""
    seconds: float

    @property
    def verdict(self) -> Truth | None:
        """Of all that speaks for or against the claim; None: it could not be done."""
        said = {one.speaks for one in self.seen} - {None}
        if self.failed or not said:
            return None
        if len(said) > 1:
            return Truth.DEPENDS
        return Truth.PROVED if said == {True} else Truth.REFUTED


@dataclass(frozen=True)
class Session:
    """All results, and the trace's own account."""

    kernel: str
    source: str
    """Where facts about TIME_WAITs came from."""
    seconds: float
    lost: Line
    residues: dict[int, int]
    """By experiment: TIME_WAITs by the trace less those of the kernel."""
    results: list[Result]

    @classmethod
    def from_json(cls, text: str) -> Session:
        """What `--json` printed."""
        fields = json.loads(text)
        results = []
        for one in fields["results"]:
            del one["verdict"]
            results.append(Result(**one | {"seen": [Seen(**fact) for fact in one["seen"]]}))
        return cls(**fields | {"results": results})


def run(numbers: Sequence[int], folder: Path) -> Session:
    """Those experiments; the trace is left in `folder`."""
    began = time.monotonic()
    trace = folder / "claims.ndjson"
    with attached({"it": Recording(trace, "--hooks", "auto")}) as recordings:
        playing = [_Playing(EXPERIMENTS[number], trace) for number in numbers]
        try:
            results = [one.result() for one in playing]
            start, *_, end = recordings["it"].stop()
        finally:
            for one in playing:
                one.end()
    ledger = end["totals"]["ledger"]
    return Session(
        kernel=start["kernel"],
        source=start["hooks"]["source"],
        seconds=round(time.monotonic() - began, 1),
        lost=end["lost"],
        residues={
            one.number: ledger[str(one.netns)]["residue"] for one in results if str(one.netns) in ledger
        },
        results=results,
    )


class _Playing:
    """An experiment's process; its namespace stays until `end`.

    An inode number is given out again when its namespace is gone.
    """

    def __init__(self, one: Experiment, trace: Path) -> None:
        self._number = one.number
        self._told, tell = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._told)
            _play(one, trace, tell)
        os.close(tell)

    def result(self) -> Result:
        with os.fdopen(self._told, "rb") as file:
            told = file.read()
        if not told:
            return Result(self._number, 0, [], "it ended", 0)
        fields = json.loads(told)
        return Result(**fields | {"seen": [Seen(**one) for one in fields["seen"]]})

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _play(one: Experiment, trace: Path, tell: int) -> NoReturn:
    """In a process of its own."""
    try:
        bound_to_parent(f"claim-{one.number}")
        began = time.monotonic()
        seen: list[Seen] = []
        failed = ""
        try:
            seen.extend(one.run(trace))
        except Exception:  # the result has it  # noqa: BLE001
            failed = traceback.format_exc()
        result = Result(one.number, netns(), seen, failed, round(time.monotonic() - began, 1))
        with os.fdopen(tell, "wb") as file:
            file.write(json.dumps(asdict(result)).encode())
        signal.pause()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(1)
