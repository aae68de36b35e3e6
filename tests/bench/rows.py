"""The runs of a contender as a row of a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.figures import NONE, around, middle, number, percent, ratios, spread
from tests.bench.measure import Run, Series, Use

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Compared:
    """A contender's runs, and those with nothing attached in the same rounds."""

    series: Series
    base: Series

    def rate(self) -> str:
        return middle(spread(run.done.rate for run in self.series.runs))

    def share(self) -> str:
        rates, base = ([run.done.rate for run in one.runs] for one in (self.series, self.base))
        return percent(spread(ratios(rates, base)))

    def cpu(self) -> str:
        """Milliseconds for a thousand."""
        return around(spread(run.use.cpu_s * 1e6 / run.done.count for run in self.series.runs if run.use))

    def cpu_of_core(self) -> str:
        return percent(spread(run.use.cpu_s / run.done.seconds for run in self.series.runs if run.use))

    def bpf_each(self) -> str:
        """Microseconds for one of what is counted."""
        return self._timed(lambda run, use: number(use.bpf.ns / 1e3 / run.done.count))

    def bpf_run(self) -> str:
        """Nanoseconds for a run of a program."""
        return self._timed(lambda _, use: number(use.bpf.ns / max(use.bpf.runs, 1)))

    def bpf_runs(self) -> str:
        """Runs a second."""
        return self._timed(lambda run, use: number(use.bpf.runs / run.done.seconds))

    def bpf_of_core(self) -> str:
        return self._timed(lambda run, use: share_of_core(use.bpf.ns, run.done.seconds))

    def lost(self) -> str:
        counts = [use.lost for use in self.series.uses if use.lost is not None]
        return f"{sum(counts):,}" if counts else NONE

    def peak(self) -> str:
        peaks = [use.peak_kb for use in self.series.uses if use.peak_kb is not None]
        return number(max(peaks) * 1024 / _MIB) if peaks else NONE

    def maps(self) -> str:
        sizes = [use.map_bytes for use in self.series.uses if use.map_bytes]
        return number(max(sizes) / _MIB) if sizes else NONE

    def _timed(self, cell: Callable[[Run, Use], str]) -> str:
        run = self.series.counted
        return cell(run, run.use) if run and run.use else NONE


Columns = Mapping[str, Callable[[Compared], str]]

CONNECTIONS: Columns = {
    "connections/s": Compared.rate,
    "of untraced": Compared.share,
    "CPU ms/1,000": Compared.cpu,
    "eBPF µs each": Compared.bpf_each,
    "eBPF ns a run": Compared.bpf_run,
    "lost": Compared.lost,
    "MiB": Compared.peak,
    "maps MiB": Compared.maps,
}
HOW_TO_READ = """\
- **of untraced**: connections per second against runs with nothing attached in the same rounds; the median,
  and from the lowest to the highest.
- **CPU**: the tracer's own, user and system, for 1,000 connections, until their TIME_WAITs are gone too.
- **eBPF**: time of its programs in the kernel, for a connection (both ends) and for a run of a program, from
  a further run in which they are timed.
- **lost**: records, by its own account, in all runs together.
- **MiB**: the tracer's memory at its most. **maps MiB**: the kernel's for its eBPF maps, with twtrace's
  rings; the perf buffers of the others are not in it."""
TIMERS: Columns = {
    "round trips/s": Compared.rate,
    "of untraced": Compared.share,
    "CPU of a core": Compared.cpu_of_core,
    "eBPF of a core": Compared.bpf_of_core,
    "eBPF runs/s": Compared.bpf_runs,
    "eBPF ns a run": Compared.bpf_run,
    "lost": Compared.lost,
}


def rows(series: Sequence[Series], columns: Columns, *before: str) -> list[list[str]]:
    """A row for each, all against the first; `before` is in front of all."""
    compared = [Compared(one, series[0]) for one in series]
    return [[*before, one.series.title, *(cell(one) for cell in columns.values())] for one in compared]


def share_of_core(ns: float, seconds: float) -> str:
    """So much time of one core."""
    return f"{number(ns / 1e7 / seconds)} %"


def notes(series: Sequence[Series]) -> str:
    """For below a table: what else the host did, and what twtrace says that it lost."""
    busy = around(spread(run.before for one in series for run in one.all))
    return f"\nCores at work on other things before a run: {busy}.\n{_losses(series)}"


def _losses(series: Sequence[Series]) -> str:
    said = "\n".join(use.said for one in series for use in one.uses)
    counts = Counter[str]()
    for count, what in re.findall(r"warning: lost (\d+) ([^\r\n]+)", said):
        counts[what] += int(count)
    return "".join(f"\nLost by twtrace: {count:,} {what}.\n" for what, count in counts.items())


@dataclass(frozen=True, slots=True)
class Program:
    """One of twtrace's programs: how often it ran, and how long at a time."""

    name: str
    runs: int
    ns: int


def programs(said: str) -> list[Program]:
    """As `-v` tells them."""
    found = re.findall(r"(\w+): (\d+) runs, (\d+) ns each", said)
    return [Program(name, int(runs), int(ns)) for name, runs, ns in found]
