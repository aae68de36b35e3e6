"""The sections of docs/performance.md, in their order: what each measures and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench import pipeline
from tests.bench.contenders import WITH_SITES, Look
from tests.bench.figures import around, number, spread, table
from tests.bench.loads import Load, running
from tests.bench.measure import Bench, Series
from tests.bench.rows import CONNECTIONS, HOW_TO_READ, TIMERS, notes, programs, rows, share_of_core
from tests.kernel.support import namespace


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the document, measured by itself."""

    key: str
    title: str
    reading: str
    """How its table is read."""
    measure: Callable[[Bench], str]
    """Its table, in Markdown."""


def _first_event(bench: Bench) -> str:
    told = []
    for contender in bench.contenders:
        if contender.look is Look.NOWHERE:
            continue
        seen = [bench.first_event(contender) for _ in range(1 if bench.quick else 3)]
        times = ([one.output_s for one in seen], [one.event_s for one in seen])
        told.append([contender.title, *(around(spread(some)) for some in times)])
    return table(["contender", "first output, s", "first event, s"], told)


def _churn(bench: Bench) -> str:
    load = Load("churn", (6_000 if bench.quick else 50_000,))
    series = bench.paired(load, bench.contenders, bench.rounds, expiring=not bench.quick)
    return table(["contender", *CONNECTIONS], rows(series, CONNECTIONS)) + notes(series)


def _open(bench: Bench) -> str:
    contenders = bench.pick("record", "table", "screen", "tcpstates", "ss")
    load = Load("churn", (2_000, 1_000) if bench.quick else (6_000, 2_000))
    told: list[list[str]] = []
    measured: list[Series] = []
    for sockets in (1_000, 10_000) if bench.quick else (1_000, 10_000, 100_000):
        with namespace() as place, running(bench.folder, Load("open", (sockets // 2,)), place):
            series = bench.paired(load, contenders, min(bench.rounds, 2), (place,))
        told += rows(series, CONNECTIONS, f"{sockets:,}")
        measured += series
    return table(["open sockets", "contender", *CONNECTIONS], told) + notes(measured)


def _processes(bench: Bench) -> str:
    contenders = bench.pick("record", "table", "screen", "tcplife")
    told: list[list[str]] = []
    measured: list[Series] = []
    for processes in (100, 1_000) if bench.quick else (100, 1_000, 5_000):
        load = Load("processes", (processes, (2_000 if bench.quick else 20_000) // processes))
        series = bench.paired(load, contenders, min(bench.rounds, 3))
        told += rows(series, CONNECTIONS, f"{processes:,}")
        measured += series
    return table(["processes", "contender", *CONNECTIONS], told) + notes(measured)


def _bursts(bench: Bench) -> str:
    contenders = bench.pick("record", "table", "screen", "tcpstates", "tcplife")
    load = Load("bursts", (4_000, 2) if bench.quick else (20_000, 3))
    series = bench.paired(load, contenders, min(bench.rounds, 3))
    return table(["contender", *CONNECTIONS], rows(series, CONNECTIONS)) + notes(series)


def _timers(bench: Bench) -> str:
    load = Load("timers", (2 if bench.quick else 5,))
    contenders = bench.pick("record", "tcpstates", "tcplife", "bpftrace", "ss")
    series = bench.paired(load, contenders, min(bench.rounds, 3))
    told = table(["contender", *TIMERS], rows(series, TIMERS))
    return told + "".join(map(_by_program, series)) + notes(series)


def _by_program(series: Series) -> str:
    """Of a contender that tells its programs apart."""
    run = series.counted
    if run is None or run.use is None or not (ran := programs(run.use.said)):
        return ""
    seconds = run.done.seconds
    told = table(
        ["program", "runs/s", "ns a run", "of a core"],
        (
            [
                f"`{one.name}`",
                number(one.runs / seconds),
                number(one.ns),
                share_of_core(one.runs * one.ns, seconds),
            ]
            for one in ran
        ),
    )
    return f"\n{series.title}, by program:\n\n{told}"


def _sites(bench: Bench) -> str:
    load = Load("churn", (2_000 if bench.quick else 20_000,))
    series = bench.paired(load, WITH_SITES, min(bench.rounds, 3))
    return table(["contender", *CONNECTIONS], rows(series, CONNECTIONS)) + notes(series)


def _pipeline(bench: Bench) -> str:
    rates = pipeline.measure(2 if bench.quick else 6)
    told = [[rate.what, f"{rate.per_second:,}", f"{rate.seconds / rate.number * 1e6:.2f}"] for rate in rates]
    return table(["one core, in Python alone", "a second", "µs each"], told)


SECTIONS = (
    Section(
        "start",
        "From start to the first event",
        """\
Seconds from exec until its first output, and until a connection shows in it; one is closed each 10 ms. On a
terminal, where its output would wait in a buffer elsewhere. twtrace has run before: BCC's work is kept.""",
        _first_event,
    ),
    Section(
        "churn",
        "As many connections as the host closes",
        """\
One client and one server process on the loopback, 50,000 connections a run. The run in which twtrace's
programs are timed goes on until each TIME_WAIT has expired or been replaced; further down, what is left of
them ends with its namespace, which takes the programs longer.

"""
        + HOW_TO_READ,
        _churn,
    ),
    Section(
        "open",
        "Many open sockets",
        """\
2,000 connections a second while so many idle sockets are open, which were there before the tracer. What each
connection costs should not grow with them. Columns as above.""",
        _open,
    ),
    Section(
        "processes",
        "Many processes",
        "So many client processes start at once and close 20,000 connections together. Columns as above.",
        _processes,
    ),
    Section(
        "bursts",
        "Bursts",
        """\
20,000 connections are opened, then closed at once; a pause of a second, not in the time; three times.
twtrace must lose none. Columns as above.""",
        _bursts,
    ),
    Section(
        "timers",
        "Timers without closes",
        """\
Requests and responses on 32 connections and bulk transfers on 4, for 5 s; reads have a time-out, and nothing
is closed. What it costs to look at every timer of the host (the timer hooks), and at reads and writes, where
there is nothing to tell. **of a core**: CPU time of the tracer, and run time of its programs, in the time of
the load.""",
        _timers,
    ),
    Section(
        "sites",
        "Where in the program",
        """\
As above, 20,000 connections a run; of those who close and open stacks are taken: none, some by chance, all.
What `all` has no time to look at is told as lost.""",
        _sites,
    ),
    Section(
        "pipeline",
        "From the ring to rows and lines",
        """\
What twtrace does with the kernel's records, without the kernel: those of a client and a server that close
15,000 connections a second, in readings of 100 ms, of each connection two closes and the end of a TIME_WAIT.
The best of three rounds, by processor time.""",
        _pipeline,
    ),
)
