"""One run of a load under a contender, and rounds of them in turn."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import runtimes
from tests.bench.contenders import PROBE, Contender, Look, Site
from tests.bench.errors import BenchError
from tests.bench.loads import Done, Load, running
from tests.bench.proc import Account, busy_cores
from tests.bench.started import Seen, started
from tests.kernel.support import Namespace, namespace

_REST_S = 0.5
_EXPIRY_S = 90
_PROBE = Load("churn", (100_000, 100, PROBE))


@dataclass(frozen=True, slots=True)
class Use:
    """What a contender used and lost in one run."""

    cpu_s: float
    lost: int | None
    peak_kb: int | None
    map_bytes: int
    bpf: Account
    """Zero, unless it was counted."""
    said: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run; without `use` nothing was attached."""

    done: Done
    before: float
    """Cores that were at work on other things just before it."""
    use: Use | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The runs of one contender, and one in which its programs were timed."""

    contender: Contender | None
    runs: tuple[Run, ...]
    counted: Run | None

    @property
    def title(self) -> str:
        return self.contender.title if self.contender else "nothing attached"

    @property
    def all(self) -> tuple[Run, ...]:
        return (*self.runs, self.counted) if self.counted else self.runs

    @property
    def uses(self) -> list[Use]:
        return [run.use for run in self.all if run.use]


@dataclass(frozen=True, slots=True)
class Bench:
    """What measuring needs."""

    folder: Path
    """With the load programs in it, and room for what contenders write."""
    rounds: int
    quick: bool
    contenders: tuple[Contender, ...]
    """Those that run here."""

    def pick(self, *keys: str) -> tuple[Contender, ...]:
        """Of those that run here."""
        return tuple(one for one in self.contenders if one.key in keys)

    def site(self, *places: Namespace) -> Site:
        return Site(self.folder / "trace.ndjson", places)

    def paired(
        self,
        load: Load,
        contenders: Sequence[Contender],
        rounds: int,
        beside: tuple[Namespace, ...] = (),
        *,
        expiring: bool = False,
    ) -> list[Series]:
        """A B C A B C …, first with nothing attached; then each once more, its programs timed.

        `expiring`: of those who see it, until every TIME_WAIT has expired or been replaced; otherwise
        what is left of them ends with its namespace, which takes the programs longer.
        """
        everyone = (None, *contenders)
        runs: dict[Contender | None, list[Run]] = {one: [] for one in everyone}
        for turn in range(rounds):
            for one in everyone:
                runs[one].append(self.run(load, one, beside))
                _tell(load, f"round {turn + 1} of {rounds}", one, runs[one][-1])
        counted: dict[Contender | None, Run] = {}
        for one in contenders:
            if one.in_kernel:
                with runtimes.counted():
                    counted[one] = self.run(load, one, beside, expiring=expiring and one.is_ours)
                _tell(load, "timed", one, counted[one])
        return [Series(one, tuple(runs[one]), counted.get(one)) for one in everyone]

    def run(
        self,
        load: Load,
        contender: Contender | None,
        beside: tuple[Namespace, ...] = (),
        *,
        expiring: bool = False,
    ) -> Run:
        """One run."""
        before = busy_cores(_REST_S)
        if contender is None:
            return Run(self._bare(load), before)
        done, use = self._traced(load, contender, beside, expiring=expiring)
        return Run(done, before, use)

    def _bare(self, load: Load) -> Done:
        with namespace() as place, running(self.folder, load, place) as going:
            going.go()
            done = going.done()
        time.sleep(_REST_S)
        return done

    def _traced(
        self, load: Load, contender: Contender, beside: tuple[Namespace, ...], *, expiring: bool
    ) -> tuple[Done, Use]:
        """The load waits until the contender is attached.

        What the contender uses is counted until the load's namespace is gone, and its TIME_WAITs with it,
        and all of that has been dealt with.
        """
        with ExitStack() as attached:
            with namespace() as place, running(self.folder, load, place) as going:
                tracer = attached.enter_context(started(contender, self.site(place, *beside)))
                tracer.wait_attached()
                cpu_s, before = tracer.cpu_s(), tracer.held().account
                going.go()
                done = going.done()
                if expiring:
                    _wait_for_expiry(place)
                map_bytes = tracer.held().map_bytes
            tracer.settle()
            cpu_s = tracer.cpu_s() - cpu_s
            bpf = tracer.held().account.since(before)
            peak_kb = tracer.peak_kb()
            tracer.stop()
            return done, Use(cpu_s, tracer.lost(), peak_kb, map_bytes, bpf, tracer.said())

    def first_event(self, contender: Contender) -> Seen:
        """From exec to the first event of a connection that is closed each 10 ms."""
        with (
            self.probe() as (place, port),
            started(contender, self.site(place), watched=True) as tracer,
        ):
            return tracer.wait_for_event(port)

    def refusal(self, contender: Contender) -> str | None:
        """Why it does not run here; None: it does."""
        try:
            with self.probe() as (place, _), started(contender, self.site(place)) as tracer:
                tracer.wait_attached()
                tracer.stop()
        except BenchError as error:
            return str(error)
        return None if contender.look is Look.NOWHERE else self._sees_nothing(contender)

    def _sees_nothing(self, contender: Contender) -> str | None:
        try:
            self.first_event(contender)
        except BenchError as error:
            return str(error)
        return None

    @contextmanager
    def probe(self) -> Iterator[tuple[Namespace, int]]:
        """A connection closed each 10 ms: where, and the server's port."""
        with namespace() as place, running(self.folder, _PROBE, place) as going:
            going.go()
            yield place, going.port


def _wait_for_expiry(place: Namespace) -> None:
    deadline = time.monotonic() + _EXPIRY_S
    while place.time_waits():
        if time.monotonic() > deadline:
            raise BenchError(f"{place.name} still has TIME_WAITs after {_EXPIRY_S} s")
        time.sleep(_REST_S)


def _tell(load: Load, when: str, contender: Contender | None, run: Run) -> None:
    who = contender.title if contender else "nothing attached"
    lost = f", lost {run.use.lost}" if run.use and run.use.lost else ""
    sys.stderr.write(f"bench: {load}, {when}, {who}: {run.done.rate:,.0f}/s{lost}\n")
