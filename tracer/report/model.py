"""What a report says, as data: text.py, data.py and whoever draws a page make what they show from this alone.

All names in here may be hostile text. All times are microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracer.model import Grade, Opening, Snapshot, Start, Who
from tracer.verdict import Finding
from tracer.whatif import Outcome

GROUPINGS = ("process", "comm", "cgroup", "unit", "container", "netns", "peer", "port", "state")
"""What the rows of WHO may stand for."""

ERROR = 1 / 64
"""Quantiles are off by no more than this part of what they are."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that limits what can be concluded from the trace."""

    id: str
    """`doubt`, `cut_off`, `part_missing`, `lost`, `ledger`, `filter`, `hooks`, `preexisting`,
    `unseen`, `unknown`, `sites`, `short`."""
    text: str
    grave: bool = False
    """Figures may be wrong, and not only less than everything."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Durations: half of them are at most `p50_us`, and so on; 0 of none."""

    count: int
    p50_us: int
    p90_us: int
    p99_us: int
    max_us: int
    """Exact."""


@dataclass(frozen=True, slots=True)
class Dwell:
    """How long connections stayed in a state."""

    state: str
    """`FIN_WAIT2 (orphan)` is that of a mini-socket, on its way to `TIME_WAIT`."""
    times: Quantiles


@dataclass(frozen=True, slots=True)
class Way:
    """So many connections were closed in this way; the names are those of a `close` line."""

    role: str
    first: str
    how: str
    via: str
    closes: int
    time_waits: int
    """Of these, those that a TIME_WAIT followed."""


@dataclass(frozen=True, slots=True)
class Reason:
    """TIME_WAITs that ended so."""

    reason: str
    count: int
    in_fin_wait2: int
    """Those of them that never came to TIME_WAIT."""
    rearmed: int
    """Those whose timer was started anew."""
    times: Quantiles
    """Their lifetimes, where known."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Connections that went from one state to another on their way out, as in Snapshot.edges."""

    old: str
    new: str
    count: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Durations from `low_us` up to, not including, `high_us`."""

    low_us: int
    high_us: int
    time_wait: int
    """Those of connections that left a TIME_WAIT on this side, ..."""
    other: int
    """... and of those that did not."""


@dataclass(frozen=True, slots=True)
class WhoRow:
    """One line of WHO. The rows of a table add up to its total."""

    key: str
    """As Row.key where rows stand for processes."""
    label: str
    grade: Grade | None
    """The worst among its attributions; None where a row is no process."""
    role: str
    """`client`, `server`, `mixed` or `unknown`."""
    closes: int
    """All that ended, connects that failed among them."""
    closes_per_s: float
    """Over the whole trace."""
    time_waits: int
    """TIME_WAITs it caused."""
    time_wait_now: int
    """Those there at the end, preexisting ones too."""
    time_wait_peak: int
    """Most there at once; of the total that is no sum."""
    time_wait_ends: dict[str, int]
    """Ended, by reason."""
    orphans: int
    """Of the TIME_WAITs it caused, those born in FIN_WAIT2: it had closed, the peer had yet to."""
    orphan_ends: dict[str, int]
    """Of those that ended, the ones that did so in FIN_WAIT2, by reason."""
    rearmed: int
    """TIME_WAITs whose timer was started anew."""
    held_close_wait: int
    """Held half-closed at the end."""
    held_fin_wait2: int
    endings: dict[str, int]
    """Closes by what ended them, which add up to `closes`: `closed_first`, `peer_first`, `both_first`,
    `reset_sent`, `reset_received`, `timed_out`, `connect_failed`, `unknown`."""
    ways: dict[str, int]
    """Of `closed_first`, by what was called: `close`, `shutdown`, `exit`, `abort`, `unknown`."""
    ages: Quantiles
    """Of its connections that were established under our eyes."""


@dataclass(frozen=True, slots=True)
class Table:
    """WHO."""

    by: str
    """One of GROUPINGS."""
    rows: tuple[WhoRow, ...]
    """Most TIME_WAITs first."""
    unknown: WhoRow
    """What none of them has."""
    total: WhoRow


@dataclass(frozen=True, slots=True)
class Sentence:
    """What a process does, in words."""

    key: str
    """Of its row."""
    text: str


@dataclass(frozen=True, slots=True)
class PoolPeak:
    """The source ports for one destination, over the whole trace."""

    netns: int
    saddr: str
    daddr: str | None
    """None: for all destinations together, since bind() took the ports."""
    dport: int | None
    size: int | None
    """Ports there are; None: settings not known."""
    peak: int
    """Most held at once, ..."""
    peak_us: int
    """... and when."""
    since_us: int
    """When the first was held."""
    growth: float
    """Ports per second from the first to the peak; 0 if that is one moment."""
    now: int
    """Held at the end."""
    failures: int
    who: Who


@dataclass(frozen=True, slots=True)
class NeverClosed:
    """Half-closed connections of one process that were still there at the end."""

    who: Who
    """Who holds them."""
    state: str
    """`CLOSE_WAIT`: the peer has closed, the process has not; `FIN_WAIT2`: the other way round."""
    role: str
    netns: int
    port: int
    """The service's."""
    count: int
    longest_us: int
    shortest_us: int
    from_before: int
    """Those that were there when the trace began: held for longer than is said."""
    closed_late: int
    """As many like them were closed before the end, after having been held."""
    peers: tuple[str, ...]
    """The most frequent, at most three."""
    opened: tuple[Opening, ...]
    """Where, of those of which that was looked at; most first."""


@dataclass(frozen=True, slots=True)
class Line:
    """One owner's part of a population."""

    key: str
    label: str
    counts: tuple[int, ...]
    """TIME_WAITs there at the end of each bin."""


@dataclass(frozen=True, slots=True)
class Population:
    """TIME_WAITs over time."""

    began_us: int
    bin_us: int
    lines: tuple[Line, ...]
    """The owners with the most, most first; at most twelve, and then all others as one, key `others`."""
    total: tuple[int, ...]
    """The sum of the lines."""
    peak: int
    """Most there at once, exact, ..."""
    peak_us: int
    """... and when that was first so."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of one recording, of one host."""

    start: Start
    """Of its first file."""
    parts: tuple[int, ...]
    """Of one run that were read, in order."""
    whole: bool
    """False: it was cut off."""
    snapshot: Snapshot
    """As of its end; rows are processes."""
    findings: tuple[Finding, ...]
    outcomes: tuple[Outcome, ...]
    limits: tuple[Limit, ...]
    """The grave ones first."""
    who: Table
    processes: Table
    """The same as `who` where that is by process."""
    sentences: tuple[Sentence, ...]
    """One a process, in the order of its rows."""
    ways: tuple[Way, ...]
    """The most frequent first."""
    edges: tuple[Edge, ...]
    dwells: tuple[Dwell, ...]
    """In the order that a connection passes through them."""
    reasons: tuple[Reason, ...]
    """The most frequent first."""
    born: int
    preexisting: int
    remaining: int
    """At the end: born + preexisting - ended."""
    ages: tuple[Bin, ...]
    """Connections by how long they lasted; bins of a factor of two."""
    lifetimes: tuple[Bin, ...]
    """TIME_WAITs by theirs, in bins of a second: `time_wait` those that expired, `other` the rest."""
    pools: tuple[PoolPeak, ...]
    """The fullest first."""
    never_closed: tuple[NeverClosed, ...]
    population: Population


@dataclass(frozen=True, slots=True)
class Pair:
    """Two processes on two hosts, and the connections between them that both traces have."""

    a: Who
    a_host: str
    """Here the connection was opened, if that is known of one end."""
    b: Who
    b_host: str
    port: int
    """The service's, at `b`."""
    connections: int
    a_first: int
    """Both say that `a` closed first."""
    b_first: int
    disputed: int
    """Each says that it was the first, or that the other was; FINs that crossed."""
    neither: int
    """Ended without a FIN: resets, timeouts."""
    a_time_waits: int
    b_time_waits: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Both ends of connections, where both hosts were traced."""

    pairs: tuple[Pair, ...]
    """The most connections first."""
    connections: int
    alone: int
    """Ends whose other end is in no trace."""
    skew_us: int
    """Clocks may differ by so much."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after."""

    what: str
    """What it is of: a command name, a setting, or `all`."""
    figure: str
    """Such as `time_waits_per_s`."""
    unit: str
    """`/s`, `/connection`, `µs`, `%`, or nothing."""
    before: float | str | None
    after: float | str | None
    factor: float | None
    """How many times as much, reckoned with one more event in each, so that nothing has one; None of text."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed between two traces."""

    changes: tuple[Change, ...]
    """The largest first."""
    unchanged: int
    """Figures that differ by no more than chance or a tenth."""


@dataclass(frozen=True, slots=True)
class Reports:
    """All that was read."""

    reports: tuple[Report, ...]
    """In the order given: a host's parts as one."""
    comparison: Comparison | None = None
    """Of two reports."""
    joined: Joined | None = None
    """Of several, unless compared."""
