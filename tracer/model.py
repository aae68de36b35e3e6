"""The facts of this product, as types. No kernel, no terminal, no files here."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, NamedTuple, get_args

SCHEMA = 1

StateName = Literal[
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
]

STATES: tuple[str, ...] = ("", *get_args(StateName))
"""State names by the kernel's number (include/net/tcp_states.h), without `TCP_`."""


class Grade(str, Enum):
    """How an owner is known."""

    CERTAIN = "certain"
    """Seen in that process's own context: connect, read, write, shutdown, close."""
    INFERRED = "inferred"
    """Found by looking through open files."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Process:
    """One process: `(pid, start_us)` is unique on a host, `pid` alone comes back."""

    pid: int
    start_us: int
    """Microseconds since the Unix epoch."""
    comm: str
    uid: int | None = None
    cgroup: str | None = None
    unit: str | None = None
    container: str | None = None
    exe: str | None = None
    cmdline: str | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """Who is behind a socket, and how we know."""

    grade: Grade
    process: Process | None = None

    def __post_init__(self) -> None:
        if (self.process is None) != (self.grade is Grade.UNKNOWN):
            raise ValueError(f"an owner of grade {self.grade.value} with process {self.process}")


UNKNOWN_OWNER = Owner(Grade.UNKNOWN)


# Events are named tuples, not dataclasses: they are made by the hundred
# thousand a second, and a frozen dataclass of this size takes six times as long
# to make (1.5 µs against 0.25 µs, CPython 3.11).


class Endpoints(NamedTuple):
    """Both ends of a connection, the local one first."""

    conn: int
    """The same number from open to the end of TIME_WAIT; below 2^53."""
    netns: int
    """Inode number of the network namespace."""
    family: int
    """4 or 6; an IPv4-mapped peer is 4."""
    saddr: str
    sport: int
    daddr: str
    dport: int


class State(NamedTuple):
    """A transition of a full socket."""

    ts_us: int
    ends: Endpoints
    owner: Owner
    old: str
    new: str
    dwell_us: int | None
    """Time spent in `old`; None when its beginning was not seen."""
    context: str
    """`process`: in the context of a user of the socket, or `softirq`."""


class Held(NamedTuple):
    """A half-closed full socket that a process still holds.

    CLOSE_WAIT: the peer closed, the process has not. FIN_WAIT2: the process
    shut down its side and keeps the descriptor, the peer has not closed.
    """

    ts_us: int
    """When the state was entered; for a preexisting one, when it was found."""
    ends: Endpoints
    owner: Owner
    state: str
    preexisting: bool
    role: str = "unknown"
    """`client`, `server` or `unknown`."""
    site: int | None = None
    """Where the process opened it, if that was looked at: `Site.site`."""


class Close(NamedTuple):
    """The full socket is gone."""

    ts_us: int
    ends: Endpoints
    owner: Owner
    role: str
    """`client`, `server` or `unknown`."""
    first: str
    """Who sent the first FIN: `local`, `remote`, `both` or `none`."""
    how: str
    """`fin`, `reset_sent`, `reset_received`, `timeout`, `failed` or `unknown`."""
    via: str
    """`close`, `shutdown`, `exit`, `abort` or `unknown`."""
    age_us: int | None
    """From the first transition to this; None when the socket is older than the trace."""
    states: dict[str, int]
    """State name → microseconds spent in it, for the states entered under our eyes."""
    time_wait: bool
    opener: Owner
    closer: Owner
    overflow: bool = False
    """No TIME_WAIT followed because there were too many (tcp_max_tw_buckets)."""
    bound: bool = False
    """Its port was taken at bind(), and so for all destinations, not at connect()."""
    site: int | None = None
    """Where in the process the first FIN or reset was sent, if that was looked at: `Site.site`."""


class ConnectFailed(NamedTuple):
    """connect() gave EADDRNOTAVAIL; the socket's `close` follows."""

    ts_us: int
    ends: Endpoints
    """`sport` is 0 when no port was left."""
    owner: Owner
    error: str
    cause: str
    """`exhausted`: no automatic port left; `conflict`: the bound port has this destination already."""


class TimeWait(NamedTuple):
    """A mini-socket is born: TIME_WAIT, or an orphaned FIN_WAIT2 on its way there."""

    ts_us: int
    ends: Endpoints
    owner: Owner
    substate: str
    preexisting: bool


class TimeWaitEnd(NamedTuple):
    """A mini-socket is gone."""

    ts_us: int
    ends: Endpoints
    owner: Owner
    lifetime_us: int | None
    """From the moment of TIME_WAIT; None if that was not reached, or not seen."""
    fin_wait2_us: int | None
    """As a FIN_WAIT2 mini-socket; None if born as TIME_WAIT or not seen."""
    reason: str
    """`expired`, `reused`, `replaced`, `reset`, `reset_sent`, `killed`, `netns_exit`, `unknown`."""
    by: Owner | None
    """Who reused or killed it."""
    rearmed: int
    """How often its TIME_WAIT timer was started anew."""
    preexisting: bool


class Frame(NamedTuple):
    """A call on the way to a site."""

    module: str | None
    """Path of the mapped file as the process sees it, `[vdso]`, or None: memory of no file."""
    build_id: str | None
    """Hexadecimal, by which the file and its debug information are found again."""
    offset: int | None
    """In that file, of the call; in bytes."""
    function: str | None
    file: str | None
    line: int | None
    inlined: bool = False
    """Part of the function of the next frame, whose offset it has."""


class Site(NamedTuple):
    """A place in a program from which connections are closed or opened, told once it is known."""

    ts_us: int
    site: int
    """Events that were there refer to it by this number; from 1 on."""
    what: str
    """`close`, `accept`, `use` or `connect`. `use`: the first read or write, where accept() is not seen."""
    owner: Owner
    frames: tuple[Frame, ...]
    """Innermost first."""
    whole: bool
    """Whether the stack was followed to its outermost call."""


@dataclass(frozen=True, slots=True)
class Place:
    """A call site as people see it: sites of which all this is the same are one place."""

    what: str
    """As `Site.what`."""
    function: str
    """The innermost that is the program's own, or where in its file that is; may be hostile text."""
    file: str | None
    line: int | None
    path: tuple[str, ...]
    """Calls, outermost first; `…` stands for those not seen. Without the runtime's, but for the last."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Something could not be recorded."""

    ts_us: int
    what: str
    count: int


DROPPED = "lines for which the disk was too slow"
"""What is lost while too many lines wait for the disk, or for whoever reads the trace."""


@dataclass(frozen=True, slots=True)
class Balance:
    """The ledger of one network namespace against the kernel's own count."""

    born: int
    preexisting: int
    ended: int
    expected: int
    """TIME_WAITs that should be there at the moment of the kernel's count."""
    kernel: int | None
    """Those the kernel counts (FIN_WAIT2 mini-sockets too); None when it could not be asked."""
    residue: int | None
    """expected - kernel, less what came and went while the kernel counted: 0 is a ledger that balances."""


class LivePorts(NamedTuple):
    """Automatic ports that full sockets to one destination hold, by the kernel's socket dump."""

    netns: int
    family: int
    saddr: str
    daddr: str
    dport: int
    ports: int


@dataclass(frozen=True, slots=True)
class Counters:
    """A running account: what the kernel side counted, and each namespace's balance."""

    ts_us: int
    kernel: dict[str, int]
    ledger: dict[str, Balance]
    """By the namespace's inode number."""
    live: tuple[LivePorts, ...] = ()
    """Ports held by full sockets, most first; of the destinations that hold the most."""
    sysctl: dict[str, dict[str, int | str]] = field(default_factory=dict)
    """As in `Start`, of namespaces that are new or whose settings have changed."""


ConnectionEvent = State | Held | Close | ConnectFailed | TimeWait | TimeWaitEnd
Event = ConnectionEvent | Site | Lost | Counters

CONNECTION_EVENTS: dict[str, type[ConnectionEvent]] = {
    "state": State,
    "held": Held,
    "close": Close,
    "connect_failed": ConnectFailed,
    "time_wait": TimeWait,
    "time_wait_end": TimeWaitEnd,
}
"""By the `type` of their lines."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a trace was taken on, and how."""

    ts_us: int
    version: str
    host: str
    kernel: str
    argv: tuple[str, ...]
    filters: dict[str, object]
    hooks: dict[str, str]
    """Which hook each kind of fact comes from."""
    clock: dict[str, int]
    """`realtime_us - monotonic_us` at the start, and the kernel's tick in microseconds."""
    sysctl: dict[str, dict[str, int | str]]
    """Namespace inode → those settings that matter."""
    run: str | None = None
    """Of a trace in parts: the same in each."""
    part: int = 1


@dataclass(frozen=True, slots=True)
class Totals:
    """What a trace holds, for its last line."""

    lines: dict[str, int]
    born: int
    preexisting: int
    ended: dict[str, int]
    kernel: dict[str, int]
    """What the kernel side counted, told or not, before any filter by owner."""
    overflowed: int = 0
    """Closes without the TIME_WAIT they should have had."""
    ledger: dict[str, Balance] = field(default_factory=dict)
    """By the namespace's inode number; before any filter by owner, too."""

    @property
    def remaining(self) -> int:
        """TIME_WAITs still there: born + preexisting - ended."""
        return self.born + self.preexisting - sum(self.ended.values())


@dataclass(frozen=True, slots=True)
class End:
    """How a trace ended."""

    ts_us: int
    totals: Totals
    lost: dict[str, int]
    duration_us: int


class Ways(NamedTuple):
    """How the connections that this side closed first (FIN) were closed."""

    close: int
    shutdown: int
    exit: int
    unknown: int


NO_WAYS = Ways(0, 0, 0, 0)


class Traffic(NamedTuple):
    """So many of something so far, and per second over the last ten seconds."""

    number: int
    rate: float


class Row(NamedTuple):
    """One line of WHO: what one process (or several alike, or all) did so far."""

    key: str
    """Stable across snapshots: a cursor stays on it."""
    label: str
    """As a person reads it: `nginx[902]`, `curl ×41`, `unknown`, `all`; may hold hostile text."""
    grade: Grade | None
    """The worst grade among its attributions; None for the sum."""
    cgroup: str | None
    role: str
    """`client`, `server`, `mixed` or `unknown`."""
    closes: int
    close_rate: float
    """Closes per second over the last ten seconds."""
    time_waits: int
    """TIME_WAITs caused so far."""
    time_wait_rate: float
    time_wait_now: int
    held_close_wait: int
    """Sockets sitting in CLOSE_WAIT for more than a second."""
    held_fin_wait2: int
    first_local: int
    """Closes in which this side sent the first FIN."""
    first_remote: int
    resets_sent: int
    resets_received: int
    failed: int
    """connect() calls that never succeeded, and connections that timed out."""
    by_exit: int
    """Closes made by the kernel because the process ended."""
    age_p50_us: int | None
    """Median age of a connection at its close."""
    top_peer: str | None
    history: tuple[int, ...]
    """TIME_WAITs caused in each of the last seconds, oldest first."""
    pids: tuple[int, ...] = ()
    """The lowest ones; none for the sum, for unknown, and where a row is no process."""
    process: Process | None = None
    """The one of the last event."""
    ways: Ways = NO_WAYS
    age_p99_us: int | None = None


@dataclass(frozen=True, slots=True)
class Who:
    """A process, or several alike, as findings name it."""

    label: str
    """As `Row.label`; may hold hostile text."""
    comm: str | None
    pids: tuple[int, ...]
    grade: Grade | None
    row: str = ""
    """`Row.key` of its own row, when rows stand for processes."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The source ports for one destination: what holds them, and where that leads."""

    netns: int
    family: int
    saddr: str
    daddr: str | None
    """None: for all destinations together, since bind() took the ports."""
    dport: int | None
    size: int | None
    """Ports there are: ip_local_port_range less the reserved; None: settings not known."""
    time_waits: int
    """Held by TIME_WAITs, and by FIN_WAIT2 mini-sockets."""
    live: int
    """Held by full sockets, at the last socket dump."""
    failures: int
    """connect() calls that found none left, ..."""
    failures_lately: int
    """... and of these the last two minutes'."""
    birth_rate: float
    """TIME_WAITs per second over the last ten seconds."""
    growth: float
    """Births less ends, likewise."""
    lifetime_us: int
    """Of a TIME_WAIT that expires, on the average."""
    reuse: bool
    """Whether tcp_tw_reuse lets connect() take over a port in TIME_WAIT here."""
    reuse_after_us: int
    settles: float
    """Ports held once births and ends are even: birth_rate × lifetime, and the live ones."""
    exhausts_in_us: int | None
    """Until connect() fails if it goes on like this; None: it does not come to that."""
    who: Who

    @property
    def used(self) -> int:
        """Ports held now."""
        return self.time_waits + self.live


@dataclass(frozen=True, slots=True)
class Flow:
    """What a process does with one peer: a client with its destination, a server with a client host."""

    who: Who
    role: str
    netns: int
    local: str
    remote: str
    port: int
    """The service's: the remote port of a client, the local one of a server."""
    closes: int
    first_local: int
    time_waits: int
    """Born on this side."""
    time_wait_rate: float
    time_wait_now: int
    reconnects: int
    """Connections that came when an earlier one of the same process and peer had just been closed."""
    age_p50_us: int | None
    resets_sent: int
    reset_rate: float
    """Per second over the last ten."""
    lingering: int
    """Orphaned FIN_WAIT2s that waited for the peer's FIN for more than a second."""
    peer: Who | None
    """The process at the other end, if that is on this host."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened so often in a namespace."""

    netns: int
    count: int
    lately: int
    """In the last two minutes."""
    who: Who
    """Whose it is mostly."""


@dataclass(frozen=True, slots=True)
class Closing:
    """How many closes came from a place."""

    place: Place | None
    """None: its site was not resolved."""
    closes: int
    time_waits: int
    """Those of them that left a TIME_WAIT."""


@dataclass(frozen=True, slots=True)
class CallSites:
    """From where in its program a process closes connections: of some closes that was looked at."""

    who: Who
    closes: int
    """All there were, looked at or not."""
    time_waits: int
    places: tuple[Closing, ...]
    """Of those looked at, all of them; most TIME_WAITs first, then closes."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How many half-closed sockets were opened at a place."""

    place: Place | None
    """None: its site was not resolved."""
    sockets: int


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """Half-closed sockets of one process, in one state, for one service."""

    who: Who
    state: str
    role: str
    netns: int
    port: int
    """The local one of a server, the remote one otherwise."""
    count: int
    oldest_us: int
    """When the oldest came into that state; of a preexisting one, when it was found."""
    opened: tuple[Opening, ...] = ()
    """Where, of those of which that was looked at; most first."""


class AgeBucket(NamedTuple):
    """Connections that lasted less than `below_us`, and no less than the bucket before; None: no bound."""

    below_us: int | None
    time_wait: int
    """Those that left a TIME_WAIT on this side, ..."""
    other: int
    """... and those that did not."""


class Closed(NamedTuple):
    """A connection that is over, and how its TIME_WAIT ended, if it has."""

    close: Close
    end: TimeWaitEnd | None
    row: str
    """`Row.key` of the process that owns it."""
    place: Place | None = None
    """Where it was closed; None: not looked at (`close.site` is None), or not resolved."""


GROUPINGS = ("process", "comm", "cgroup", "netns", "peer", "port")
"""What the rows of a Snapshot may stand for."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a view draws, at one moment."""

    ts_us: int
    elapsed_us: int
    host: str
    kernel: str
    hooks: str
    """The source of the TIME_WAIT facts: `timer`, `kprobe`, `fentry`."""
    filters: str
    rows: tuple[Row, ...]
    """Processes, most TIME_WAITs first; without unknown and sum."""
    unknown: Row
    total: Row
    lost: int
    pools: tuple[Pool, ...] = ()
    """Fullest first."""
    flows: tuple[Flow, ...] = ()
    """Most TIME_WAITs first."""
    held: tuple[HeldGroup, ...] = ()
    overflows: tuple[Tally, ...] = ()
    """Closes without their TIME_WAIT."""
    conflicts: tuple[Tally, ...] = ()
    """connect() calls whose bound port had that destination already."""
    preexisting: int = 0
    """TIME_WAITs from before the trace that are still there: nobody knows whose."""
    settings: dict[int, dict[str, int | str]] = field(default_factory=dict)
    """By namespace."""
    by: str = "process"
    """What the rows stand for, one of GROUPINGS. `unknown` is then what none of them has."""
    edges: dict[tuple[str, str], Traffic] = field(default_factory=dict)
    """Transitions that connections made on their way out, as (old, new): known when they are over.

    The old state is ESTABLISHED or a later one; `TIME_WAIT` stands for mini-sockets of either substate. Into
    CLOSE, the new state tells how: `CLOSE` by FIN, else `reset_sent`, `reset_received`, `timeout`, `overflow`
    or `unknown`.
    """
    ends: dict[str, Traffic] = field(default_factory=dict)
    """TIME_WAITs ended, by reason."""
    ages: tuple[AgeBucket, ...] = ()
    """Of all connections so far."""
    recent: tuple[Closed, ...] = ()
    """The last connections that ended, oldest first."""
    sites: tuple[CallSites, ...] = ()
    """Of processes, whatever the rows stand for; most TIME_WAITs first."""
