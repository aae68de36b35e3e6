"""What a guest told: JSON lines from guest.sh and from pytest_results.py."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum


class Verdict(str, Enum):
    """What came of a test."""

    PASSED = "passed"
    UNKNOWN = "unknown"
    """Passed, and the source leaves open what another one tells."""
    SKIPPED = "skipped"
    """Or failed as expected."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test in one guest."""

    test: str
    """pytest's node id."""
    verdict: Verdict
    reason: str
    """Why it was skipped, failed or is unknown, in a line."""
    seconds: float


@dataclass(slots=True)
class Results:
    """All that one guest told."""

    kernel: str | None = None
    """`uname -r`; None: it did not come that far."""
    started: list[str] = field(default_factory=list)
    """Node ids of the tests that began."""
    outcomes: list[Outcome] = field(default_factory=list)
    status: int | None = None
    """Exit status of the command; None: it did not end."""

    @property
    def unfinished(self) -> list[str]:
        """Tests that began and said no more."""
        told = {outcome.test for outcome in self.outcomes}
        return [test for test in self.started if test not in told]


def parse(text: str) -> Results:
    """The results in `text`; a line that is not whole is left out."""
    results = Results()
    for line in text.splitlines():
        try:
            fact = json.loads(line)
        except ValueError:
            continue
        match fact:
            case {"kernel": str(kernel)}:
                results.kernel = kernel
            case {"status": int(status)}:
                results.status = status
            case {"started": str(test)}:
                results.started.append(test)
            case {"test": str(test), "verdict": str(verdict), "reason": str(reason), "seconds": seconds}:
                results.outcomes.append(Outcome(test, Verdict(verdict), reason, float(seconds)))
            case _:
                pass
    return results
