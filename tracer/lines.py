"""The lines of a trace (schema 1), field by field: what writes, reads and describes them is made of this.

Within a schema fields are only added, and a field that older traces lack has a default. The classes are
those of msgspec, in the order of the fields as written; `type` comes first.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from tracer.model import StateName

MAX_NUMBER = 2**53
"""As far as any reader of JSON counts exactly."""

Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
Signed = Annotated[int, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Crc = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Name = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=16_384)]
"""A path, or a command line: of 4,096 bytes at most, each of which may be written as `\\xNN`."""
Argument = Annotated[str, Meta(max_length=131_072)]
Inode = Annotated[int, Meta(ge=1, le=2**32 - 1)]
InodeKey = Annotated[str, Meta(pattern="^[0-9]{1,10}$")]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Address = Annotated[
    str, Meta(max_length=45, extra_json_schema={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})
]
Timestamp = Annotated[Number, Meta(description="When it happened, in microseconds since the Unix epoch.")]

Role = Literal["client", "server", "unknown"]
Reason = Literal["expired", "reused", "replaced", "reset", "reset_sent", "killed", "netns_exit", "unknown"]
Setting = Signed | Text
Filter = bool | Signed | Text | list[Signed | Text] | None

Preexisting = Annotated[
    bool | UnsetType, Meta(description="true if it was there before the trace; else left out.")
]


class OwnerLine(Struct, gc=False):
    """Who is behind a socket, and how that is known; what is not known is left out."""

    pid: Annotated[
        Annotated[int, Meta(ge=1, le=2**22)] | None,
        Meta(description="Process id; null if the grade is unknown."),
    ]
    comm: Annotated[Name | None, Meta(description="Process name; null if the grade is unknown.")]
    grade: Annotated[
        Literal["certain", "inferred", "unknown"],
        Meta(
            description="certain: seen in that process's own context. inferred: found by looking through"
            " open files."
        ),
    ]
    start_us: Annotated[
        Number | UnsetType,
        Meta(description="When the process started, in microseconds since the Unix epoch; unique with pid."),
    ] = UNSET
    uid: Annotated[Number | UnsetType, Meta(description="User id.")] = UNSET
    cgroup: Annotated[Text | UnsetType, Meta(description="Path of its cgroup.")] = UNSET
    unit: Annotated[Text | UnsetType, Meta(description="The innermost systemd unit in that path.")] = UNSET
    container: Annotated[Text | UnsetType, Meta(description="The id of the container in that path.")] = UNSET
    exe: Annotated[Text | UnsetType, Meta(description="Path of its executable.")] = UNSET
    cmdline: Annotated[Text | UnsetType, Meta(description="Its command line, as one string.")] = UNSET

    def __post_init__(self) -> None:
        is_unknown = self.grade == "unknown"
        if (self.pid is None) is not is_unknown or (self.comm is None) is not is_unknown:
            raise ValueError("pid and comm are null if the grade is unknown, and only then")


OWNER_RULE = {
    "if": {"properties": {"grade": {"const": "unknown"}}},
    "then": {"properties": {"pid": {"type": "null"}, "comm": {"type": "null"}}},
    "else": {"properties": {"pid": {"type": "integer"}, "comm": {"type": "string"}}},
}
"""What __post_init__ asks of an OwnerLine, in JSON Schema."""

_OWNER = {"$ref": "#/$defs/OwnerLine"}
OwnerField = Annotated[
    Raw,
    Meta(
        description="The closer if it is known, else the opener; as known at that line.",
        extra_json_schema=_OWNER,
    ),
]
"""An OwnerLine, not decoded: there are few, each in many lines."""


class BalanceLine(Struct, gc=False):
    """The ledger of one network namespace against the kernel's own count."""

    born: Number
    preexisting: Annotated[Signed, Meta(description="TIME_WAITs from before the trace.")]
    ended: Number
    expected: Annotated[Signed, Meta(description="TIME_WAITs that should be there.")]
    kernel: Annotated[
        Number | None, Meta(description="Those the kernel counts; null if it could not be asked.")
    ]
    residue: Annotated[
        Signed | None,
        Meta(description="expected less kernel, with what came and went meanwhile taken into account."),
    ]


Ledger = Annotated[
    dict[InodeKey, BalanceLine],
    Meta(description="By inode number of each network namespace, before any filter in user space."),
]
KernelCounts = Annotated[
    dict[Name, Number],
    Meta(description="What the kernel side counted, told or lost, before any filter in user space."),
]
Settings = Annotated[
    dict[InodeKey, dict[Name, Setting]],
    Meta(description="By inode number of each network namespace: settings under net.ipv4."),
]


class LivePortsLine(Struct, gc=False):
    """Automatic ports that full sockets to one destination hold."""

    netns: Inode
    family: Literal[4, 6]
    saddr: Address
    daddr: Address
    dport: Port
    ports: Number


class Line(Struct, tag_field="type", gc=False):
    """A line of a trace."""


class ClockLine(Struct, gc=False):
    """How times are told."""

    realtime_minus_monotonic_us: Annotated[
        Signed | UnsetType,
        Meta(description="What was added to the kernel's clock, once for the whole trace."),
    ] = UNSET
    tick_us: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)], Meta(description="The length of a kernel tick.")
    ] = 4_000


class StartLine(Line, tag="start"):
    """The first line, written once everything that follows will be seen."""

    schema: Literal[1]
    ts_us: Timestamp
    version: Annotated[Name, Meta(description="The version of twtrace.")]
    host: Annotated[Name, Meta(description="Host name.")]
    kernel: Annotated[Name, Meta(description="Kernel release.")]
    argv: Annotated[tuple[Argument, ...], Meta(description="The command line of twtrace.")]
    filters: Annotated[dict[Name, Filter], Meta(description="The filters given.")]
    hooks: Annotated[dict[Name, Text], Meta(description="What each kind of fact is taken from.")]
    clock: ClockLine
    sysctl: Settings
    run: Annotated[
        Name | UnsetType, Meta(description="Of a trace in parts (--rotate-...): the same in each part.")
    ] = UNSET
    part: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_NUMBER)] | UnsetType,
        Meta(description="Of a trace in parts: which it is, from 1 on."),
    ] = UNSET


class ConnectionLine(Line):
    """What every line about a connection has; the local side is first."""

    ts_us: Timestamp
    conn: Annotated[
        Number, Meta(description="The connection's number, from its opening to the end of its TIME_WAIT.")
    ]
    netns: Annotated[Inode, Meta(description="Inode number of the network namespace.")]
    family: Annotated[Literal[4, 6], Meta(description="4 for an IPv4-mapped peer.")]
    saddr: Annotated[Address, Meta(description="Local address.")]
    sport: Annotated[Port, Meta(description="Local port.")]
    daddr: Annotated[Address, Meta(description="Remote address.")]
    dport: Annotated[Port, Meta(description="Remote port.")]
    owner: OwnerField


class StateLine(ConnectionLine, tag="state"):
    """A transition of a full socket."""

    old: StateName
    new: StateName
    dwell_us: Annotated[
        Number | None, Meta(description="Time spent in old; null if its beginning was not seen.")
    ]
    context: Literal["process", "softirq"]


class HeldLine(ConnectionLine, tag="held"):
    """A half-closed full socket has stayed so for a second."""

    state: Annotated[
        Literal["CLOSE_WAIT", "FIN_WAIT2", "LAST_ACK"],
        Meta(description="LAST_ACK: one told before is no longer held, and its close line has not come yet."),
    ]
    role: Role = "unknown"
    preexisting: Preexisting = UNSET
    site: Annotated[
        Number | UnsetType,
        Meta(description="The number of the `site` line of where it was opened, if that was looked at."),
    ] = UNSET


class CloseLine(ConnectionLine, tag="close"):
    """The full socket is gone."""

    role: Annotated[Role, Meta(description="client: it connected. server: it was accepted.")]
    first: Annotated[
        Literal["local", "remote", "both", "none"],
        Meta(description="Who sent the first FIN; also none if that was before the trace."),
    ]
    how: Annotated[
        Literal["fin", "reset_sent", "reset_received", "timeout", "failed", "unknown"],
        Meta(description="failed: a connect that never succeeded."),
    ]
    via: Annotated[
        Literal["close", "shutdown", "exit", "abort", "unknown"],
        Meta(description="By what the process ended it; unknown if no process did."),
    ]
    age_us: Annotated[
        Number | None,
        Meta(description="Time since its first transition; null if it was open before the trace."),
    ]
    states: Annotated[
        dict[StateName, Number],
        Meta(description="State to time spent in it; only states whose beginning was seen."),
    ]
    time_wait: Annotated[bool, Meta(description="Whether a time_wait line follows.")]
    opener: Annotated[
        Raw,
        Meta(
            description="The process that connected, accepted, or first read or wrote.",
            extra_json_schema=_OWNER,
        ),
    ]
    closer: Annotated[
        Raw, Meta(description="The process that sent FIN or reset; never inferred.", extra_json_schema=_OWNER)
    ]
    overflow: Annotated[
        bool | UnsetType,
        Meta(description="true if there was no room for the TIME_WAIT it should have had; else left out."),
    ] = UNSET
    bound: Annotated[
        bool | UnsetType,
        Meta(description="true if bind() had taken its port, for all destinations; else left out."),
    ] = UNSET
    site: Annotated[
        Number | UnsetType,
        Meta(
            description="The number of the `site` line of where the first FIN or reset was sent, if that was"
            " looked at; that line may come later."
        ),
    ] = UNSET


class ConnectFailedLine(ConnectionLine, tag="connect_failed"):
    """connect() gave an error for want of a port; the close line of the socket follows."""

    error: Literal["EADDRNOTAVAIL"]
    cause: Annotated[
        Literal["exhausted", "conflict"],
        Meta(
            description="exhausted: no automatic port was left, and sport is 0. conflict: the bound port has"
            " this destination already."
        ),
    ]


class TimeWaitLine(ConnectionLine, tag="time_wait"):
    """A mini-socket is born, or one from before the start was found."""

    substate: Annotated[
        Literal["TIME_WAIT", "FIN_WAIT2"], Meta(description="FIN_WAIT2: it waits for the peer's FIN first.")
    ]
    preexisting: Preexisting = UNSET


class TimeWaitEndLine(ConnectionLine, tag="time_wait_end"):
    """A mini-socket is gone."""

    lifetime_us: Annotated[
        Number | None,
        Meta(description="Time in TIME_WAIT; null if that was not reached or its beginning not seen."),
    ]
    fin_wait2_us: Annotated[
        Number | None,
        Meta(description="Time as a FIN_WAIT2 mini-socket; null if born in TIME_WAIT, or not seen."),
    ]
    reason: Reason
    by: Annotated[
        Raw,
        Meta(
            description="Who reused or killed it; null for other reasons.",
            extra_json_schema={"anyOf": [_OWNER, {"type": "null"}]},
        ),
    ]
    rearmed: Annotated[Number, Meta(description="How often its TIME_WAIT timer was started anew.")]
    preexisting: Preexisting = UNSET


class FrameLine(Struct, gc=False):
    """A call; what is not known is left out."""

    module: Annotated[Text | UnsetType, Meta(description="Path of the file it is in, or [vdso].")] = UNSET
    build_id: Annotated[Name | UnsetType, Meta(description="Of that file, hexadecimal.")] = UNSET
    offset: Annotated[Number | UnsetType, Meta(description="In that file, in bytes.")] = UNSET
    function: Annotated[Text | UnsetType, Meta(description="Its name.")] = UNSET
    file: Annotated[Text | UnsetType, Meta(description="Its source file.")] = UNSET
    line: Annotated[Number | UnsetType, Meta(description="The line there.")] = UNSET
    inlined: Annotated[
        bool | UnsetType, Meta(description="true if it is part of the next frame's function; else left out.")
    ] = UNSET


class SiteLine(Line, tag="site"):
    """A place in a program from which connections are closed or opened."""

    ts_us: Timestamp
    site: Annotated[Number, Meta(description="By which `close` and `held` lines refer to it.")]
    what: Annotated[
        Literal["close", "accept", "use", "connect"],
        Meta(
            description="What the process did there with a connection; use: the first read or write, where"
            " accept() is not seen."
        ),
    ]
    owner: OwnerField
    frames: Annotated[
        Annotated[tuple[FrameLine, ...], Meta(max_length=256)], Meta(description="Calls, innermost first.")
    ]
    whole: Annotated[bool, Meta(description="Whether the stack was followed to its outermost call.")]


class LostLine(Line, tag="lost"):
    """Something could not be recorded. Filters do not apply to these lines."""

    ts_us: Timestamp
    what: Annotated[Name, Meta(description="What, and which room was full.")]
    count: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_NUMBER)], Meta(description="How many since the last such line.")
    ]


class CountersLine(Line, tag="counters"):
    """A running account. Filters in user space do not apply to it."""

    ts_us: Timestamp
    kernel: KernelCounts
    ledger: Ledger
    live: Annotated[
        tuple[LivePortsLine, ...],
        Meta(description="Source ports that full sockets hold, of the destinations that hold the most."),
    ] = ()
    sysctl: Settings = {}


class WaitTotals(Struct, gc=False):
    """TIME_WAITs that the lines tell of."""

    born: Number
    preexisting: Number
    ended: dict[Reason, Number]
    remaining: Annotated[Signed, Meta(description="born + preexisting - ended.")]
    overflowed: Annotated[Number, Meta(description="Closes whose TIME_WAIT there was no room for.")] = 0


class TotalsLine(Struct, gc=False):
    """What a trace holds."""

    lines: Annotated[dict[Name, Number], Meta(description="Lines by type, this one too.")]
    time_wait: WaitTotals
    kernel: KernelCounts
    ledger: Ledger = {}


class EndLine(Line, tag="end"):
    """The last line."""

    ts_us: Timestamp
    totals: TotalsLine
    lost: Annotated[dict[Name, Number], Meta(description="What was lost to how often.")]
    duration_us: Annotated[Number, Meta(description="Time since the start line.")]
    crc32: Annotated[
        Crc | UnsetType,
        Meta(
            description="Checksum as of gzip: of all bytes before this line, and of this line as it would be"
            " without this field, which is its last."
        ),
    ] = UNSET


AnyLine = (
    StartLine
    | StateLine
    | HeldLine
    | CloseLine
    | ConnectFailedLine
    | TimeWaitLine
    | TimeWaitEndLine
    | SiteLine
    | LostLine
    | CountersLine
    | EndLine
)

LINE_TYPES: dict[str, type[Line]] = {str(kind.__struct_config__.tag): kind for kind in get_args(AnyLine)}
"""By `type`."""
