"""What a scenario is."""

from __future__ import annotations

from dataclasses import dataclass

from tests.scenarios.real.stage import Play


@dataclass(frozen=True, slots=True)
class Count:
    """How many there may be."""

    least: int
    most: int

    def __contains__(self, number: int) -> bool:
        return self.least <= number <= self.most

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


def exactly(number: int) -> Count:
    """No other."""
    return Count(number, number)


NONE = exactly(0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `twtrace report` must say of the fault."""

    finding: str
    """Its id."""
    role: str
    """Who: the stage knows the pids of each role."""
    comm: str
    why: str
    """A word of it, in lower case."""
    remedy: str
    """The same of one of the remedies."""
    may_stay: tuple[str, ...] = ()
    """Ids of what the cure leaves for that process."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a trace must have of the process in `Verdict`."""

    time_waits: Count
    resets: Count = NONE
    refused: Count = NONE
    """connect() without a port."""
    held: Count = NONE
    """Half-closed for more than a second."""


@dataclass(frozen=True, slots=True)
class Part:
    """One half of a scenario."""

    what: str
    """In words."""
    play: Play
    facts: Facts


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fault, and the same when it is cured; each is played in a namespace of its own."""

    name: str
    before: Part
    after: Part
    verdict: Verdict

    def parts(self) -> dict[str, Part]:
        """Both, by name."""
        return {"before": self.before, "after": self.after}
