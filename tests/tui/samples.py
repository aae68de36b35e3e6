"""Invented rows and snapshots, and an engine that publishes what a test wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import hypothesis.strategies as st

from tracer.errors import TwtraceError
from tracer.model import (
    AgeBucket,
    CallSites,
    Close,
    Closed,
    Closing,
    Endpoints,
    Flow,
    Grade,
    HeldGroup,
    Owner,
    Place,
    Pool,
    Process,
    Row,
    Snapshot,
    TimeWaitEnd,
    Traffic,
    Ways,
    Who,
)
from tracer.replay import Playhead
from tracer.text import printable, width
from tracer.tui.cells import TextLine, text_of
from tracer.tui.scene import Scene

DEADLINE_S = 10.0

_EMPTY = Row(
    key="",
    label="",
    grade=Grade.CERTAIN,
    cgroup=None,
    role="client",
    closes=0,
    close_rate=0.0,
    time_waits=0,
    time_wait_rate=0.0,
    time_wait_now=0,
    held_close_wait=0,
    held_fin_wait2=0,
    first_local=0,
    first_remote=0,
    resets_sent=0,
    resets_received=0,
    failed=0,
    by_exit=0,
    age_p50_us=None,
    top_peer=None,
    history=(),
)


def row(label: str, **fields: Any) -> Row:
    """A row that did nothing, but for `fields`; its key is its label unless given."""
    return _EMPTY._replace(**{"key": label, "label": label, **fields})


ORDERS = row(
    "orders-api[4711]",
    cgroup="/system.slice/orders.service",
    closes=1000,
    close_rate=415.0,
    time_waits=993,
    time_wait_rate=412.0,
    time_wait_now=24_720,
    first_local=993,
    first_remote=7,
    age_p50_us=9_100,
    top_peer="10.2.0.9:5432",
    history=tuple(range(120)),
)
JAVA = row("java[2290]", role="server", held_close_wait=41, held_fin_wait2=2)
CURL = row(
    "curl ×412",
    grade=Grade.INFERRED,
    closes=80,
    close_rate=1.3,
    time_wait_rate=1.3,
    time_wait_now=78,
    first_local=80,
    resets_received=8,
    age_p50_us=88_000,
    top_peer="10.9.1.1:443",
    history=(0,) * 100 + (7,) + (0,) * 19,
)
UNKNOWN = row("unknown", grade=Grade.UNKNOWN, role="unknown", time_wait_now=12)
TOTAL = row("all", grade=None, role="mixed", close_rate=416.3, time_wait_now=24_810, held_close_wait=41)


def snapshot(*rows: Row, **fields: object) -> Snapshot:
    """A snapshot of `rows`, or of three usual ones."""
    usual = Snapshot(
        ts_us=1_700_000_000_000_000,
        elapsed_us=764_000_000,
        host="web-14",
        kernel="6.8",
        hooks="timer",
        filters="",
        rows=rows or (ORDERS, CURL, JAVA),
        unknown=UNKNOWN,
        total=TOTAL,
        lost=0,
    )
    return replace(usual, **fields)  # type: ignore[arg-type]


def scene(shown: Snapshot, **fields: Any) -> Scene:
    """What is drawn of a snapshot, live and without a filter, but for `fields`."""
    return Scene(**{"snapshot": shown, "shown": shown, "findings": (), "newest_us": shown.ts_us, **fields})


class FakeEngine:
    """Publishes what it is given, then waits to be stopped unless `lasts` says otherwise."""

    def __init__(self, *snapshots: Snapshot, lasts: bool = True, failure: Exception | None = None) -> None:
        self._snapshots = snapshots
        self._lasts = lasts
        self._failure = failure
        self.stopped = Event()
        self.published = Event()
        self.returned = Event()
        self.interval_s = 0.5
        self.told: list[tuple[object, ...]] = []
        """What it was asked to do."""

    @property
    def playhead(self) -> Playhead | None:
        """None: live."""
        return None

    def group_by(self, by: str) -> None:
        """Note it."""
        self.told.append(("group_by", by))

    def reset(self) -> None:
        """Note it."""
        self.told.append(("reset",))

    def run(self, publish: Callable[[Snapshot], None]) -> None:
        """Publish, then wait or fail or end."""
        try:
            for one in self._snapshots:
                publish(one)
            self.published.set()
            if self._failure:
                raise self._failure
            if self._lasts:
                self.stopped.wait(DEADLINE_S)
        finally:
            self.returned.set()

    def stop(self) -> None:
        """End `run`."""
        self.stopped.set()


class FakeRecorder(FakeEngine):
    """One that can record: notes it, and fails if it is to."""

    def __init__(self, *snapshots: Snapshot, refusal: TwtraceError | None = None) -> None:
        super().__init__(*snapshots)
        self._refusal = refusal
        self.recording: FakeRecording | None = None
        self.recording_failed: TwtraceError | None = None

    def start_recording(self, path: str) -> None:
        """Note it."""
        if self._refusal:
            raise self._refusal
        self.told.append(("start_recording", path))
        self.recording = FakeRecording(path, 41_000_000)

    def stop_recording(self) -> None:
        """Note it."""
        self.told.append(("stop_recording",))
        self.recording = None


@dataclass(frozen=True)
class FakeRecording:
    """A trace that nobody writes."""

    path: str
    size: int


class FakeReplay(FakeEngine):
    """One whose time is under control: notes what it is told."""

    def __init__(self, *snapshots: Snapshot) -> None:
        super().__init__(*snapshots)
        began = snapshot().ts_us - snapshot().elapsed_us
        self.head = Playhead(began, began + 764_000_000, began + 900_000_000, 1.0, playing=True, whole=True)

    @property
    def playhead(self) -> Playhead:
        """Where it is."""
        return self.head

    def play(self) -> None:
        """Note it."""
        self.told.append(("play",))

    def pause(self) -> None:
        """Note it."""
        self.told.append(("pause",))

    def seek(self, at_us: int) -> None:
        """Note it."""
        self.told.append(("seek", at_us))

    def step(self, intervals: int) -> None:
        """Note it."""
        self.told.append(("step", intervals))

    def set_speed(self, speed: float) -> None:
        """Note it."""
        self.told.append(("set_speed", speed))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`; fail at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the deadline has passed"
        await asyncio.sleep(0.01)


NETNS = 4026531840
SETTINGS = {NETNS: {"tcp_max_tw_buckets": 262_144, "ip_local_port_range": "32768 60999"}}


def who(label: str, grade: Grade | None = Grade.CERTAIN, row: str = "") -> Who:
    """A process, named by its label, `comm[pid]`."""
    comm, _, pid = label.rstrip("]").partition("[")
    return Who(label, comm, (int(pid),) if pid.isdigit() else (), grade, row or label)


_POOL = Pool(
    netns=NETNS,
    family=4,
    saddr="10.0.3.7",
    daddr="10.2.0.9",
    dport=5432,
    size=28_232,
    time_waits=24_600,
    live=120,
    failures=0,
    failures_lately=0,
    birth_rate=412.0,
    growth=0.0,
    lifetime_us=60_000_000,
    reuse=False,
    reuse_after_us=1_000_000,
    settles=24_840.0,
    exhausts_in_us=None,
    who=who("orders-api[4711]"),
)


def pool(**fields: Any) -> Pool:
    """A pool that is 88 % full and stays so, but for `fields`."""
    return replace(_POOL, **fields)


QUIET_POOL = pool(
    daddr="10.9.1.1",
    dport=443,
    time_waits=78,
    live=0,
    birth_rate=1.3,
    settles=78.0,
    who=who("curl ×412", Grade.INFERRED),
)

_FLOW = Flow(
    who=who("orders-api[4711]"),
    role="client",
    netns=NETNS,
    local="10.0.3.7",
    remote="10.2.0.9",
    port=5432,
    closes=29_442,
    first_local=29_400,
    time_waits=29_400,
    time_wait_rate=412.0,
    time_wait_now=24_103,
    reconnects=29_000,
    age_p50_us=9_100,
    resets_sent=0,
    reset_rate=0.0,
    lingering=0,
    peer=None,
)


def flow(**fields: Any) -> Flow:
    """What orders-api does with its database, but for `fields`."""
    return replace(_FLOW, **fields)


EDGES = {
    ("ESTABLISHED", "FIN_WAIT1"): Traffic(325_100, 425.5),
    ("FIN_WAIT1", "FIN_WAIT2"): Traffic(324_790, 425.1),
    ("FIN_WAIT1", "CLOSING"): Traffic(306, 0.4),
    ("FIN_WAIT1", "reset_received"): Traffic(4, 0.0),
    ("FIN_WAIT2", "TIME_WAIT"): Traffic(324_790, 425.1),
    ("CLOSING", "TIME_WAIT"): Traffic(306, 0.4),
    ("ESTABLISHED", "CLOSE_WAIT"): Traffic(40_644, 53.2),
    ("CLOSE_WAIT", "LAST_ACK"): Traffic(40_644, 53.2),
    ("LAST_ACK", "CLOSE"): Traffic(40_643, 53.2),
    ("ESTABLISHED", "reset_sent"): Traffic(8_404, 11.0),
    ("ESTABLISHED", "reset_received"): Traffic(764, 1.0),
}
ENDS = {"expired": Traffic(296_000, 421.0), "reused": Traffic(3_100, 4.0), "replaced": Traffic(12, 0.0)}
AGES = tuple(
    AgeBucket(*figures)
    for figures in (
        (1_000, 0, 702),
        (4_000, 9_000, 911),
        (16_000, 14_800, 300),
        (64_000, 700, 300),
        (256_000, 300, 0),
        (1_024_000, 90, 110),
        (4_096_000, 60, 1_640),
        (16_384_000, 0, 400),
        (65_536_000, 0, 128),
        (None, 0, 1),
    )
)


def process(pid: int, comm: str) -> Owner:
    """A process that was seen."""
    return Owner(Grade.CERTAIN, Process(pid, 1_699_999_000_000_000, comm))


def closed(**fields: Any) -> Closed:
    """orders-api closed first, and its TIME_WAIT is still there; but for `fields` of Close, and `end`."""
    end = fields.pop("end", None)
    whose = fields.get("owner", process(4711, "orders-api"))
    close = Close(
        ts_us=1_700_000_000_118_000,
        ends=Endpoints(1, NETNS, 4, "10.0.3.7", 51_224, "10.2.0.9", 5432),
        owner=whose,
        role="client",
        first="local",
        how="fin",
        via="close",
        age_us=9_100,
        states={},
        time_wait=True,
        opener=whose,
        closer=whose,
    )
    return Closed(close._replace(**fields), end, "")


def busy(**fields: object) -> Snapshot:
    """A snapshot with something in every panel."""
    total = TOTAL._replace(
        closes=374_912,
        close_rate=490.7,
        time_wait_now=25_530,
        age_p50_us=9_100,
        age_p99_us=2_400_000,
        held_fin_wait2=2,
    )
    haproxy = process(1201, "haproxy")
    usual: dict[str, object] = {
        "total": total,
        "pools": (pool(), QUIET_POOL),
        "flows": (flow(),),
        "settings": SETTINGS,
        "preexisting": 12,
        "edges": EDGES,
        "ends": ENDS,
        "ages": AGES,
        "recent": (
            closed(
                ts_us=1_700_000_000_116_000,
                ends=Endpoints(2, NETNS, 4, "10.0.3.7", 40_110, "10.2.0.4", 6379),
                owner=haproxy,
                first="none",
                how="reset_sent",
                age_us=2_000,
                time_wait=False,
            ),
            closed(),
        ),
    }
    return snapshot(**(usual | fields))


DRILLED = ORDERS._replace(
    closes=29_670,
    first_local=29_460,
    first_remote=200,
    resets_received=40,
    resets_sent=20,
    failed=8,
    ways=Ways(close=29_380, shutdown=14, exit=6, unknown=0),
    age_p99_us=31_000,
    pids=(4711,),
    process=Process(
        4711,
        1_699_725_600_000_000,
        "orders-api",
        uid=33,
        cgroup="/system.slice/orders.service",
        unit="orders.service",
        exe="/usr/bin/python3.12",
        cmdline="gunicorn orders.wsgi -w 8",
    ),
)
"""The row of what `drilled()` drills into."""

DATABASE, REPLICA, CACHE = (
    flow(),
    flow(
        remote="10.2.0.10",
        closes=20,
        first_local=0,
        time_waits=0,
        time_wait_rate=0.0,
        time_wait_now=0,
        reconnects=0,
        age_p50_us=3_400_000,
    ),
    flow(
        local="127.0.0.1",
        remote="127.0.0.1",
        port=6379,
        closes=208,
        first_local=8,
        time_waits=0,
        time_wait_rate=0.0,
        time_wait_now=0,
        reconnects=12,
        age_p50_us=1_000,
        peer=who("redis-server[880]"),
    ),
)


def ended(closed_us: int, **fields: Any) -> TimeWaitEnd:
    """A TIME_WAIT that took its minute, but for `fields`."""
    owner = process(4711, "orders-api")
    ends = Endpoints(1, NETNS, 4, "10.0.3.7", 51_224, "10.2.0.9", 5432)
    end = TimeWaitEnd(closed_us + 60_900_000, ends, owner, 60_899_500, 500, "expired", None, 0, False)
    return end._replace(**fields)


def _queries() -> tuple[Closed, ...]:
    """Those of orders-api with its database, the newest last."""
    made = []
    for number in range(9, 0, -1):
        states = {
            "SYN_SENT": 400 + number,
            "ESTABLISHED": 8_600 + 10 * (number % 3),
            "FIN_WAIT1": 80,
            "FIN_WAIT2": 420 + number,
        }
        one = closed(
            ts_us=1_700_000_000_000_000 - number * 7_003_000,
            ends=Endpoints(1_000 - number, NETNS, 4, "10.0.3.7", 51_000 - number, "10.2.0.9", 5432),
            age_us=sum(states.values()),
            states=states,
        )
        made.append(one._replace(row=ORDERS.key))
    return tuple(made)


def _others() -> tuple[Closed, ...]:
    """One each of orders-api's other ways to end."""
    loopback = Endpoints(2_001, NETNS, 4, "127.0.0.1", 33_518, "127.0.0.1", 6379)
    waits = {"SYN_SENT": 40, "ESTABLISHED": 700, "CLOSE_WAIT": 200, "LAST_ACK": 60}
    made = (
        closed(
            ts_us=1_699_999_999_200_000,
            ends=loopback,
            first="remote",
            age_us=1_000,
            states=waits,
            time_wait=False,
        ),
        closed(
            ts_us=1_699_999_999_300_000,
            ends=loopback._replace(conn=2_002, sport=33_520),
            first="none",
            how="reset_sent",
            age_us=2_000,
            time_wait=False,
        ),
        closed(
            ts_us=1_699_999_999_400_000,
            ends=loopback._replace(conn=2_003, sport=33_522),
            age_us=None,
            via="exit",
            end=ended(
                1_699_999_999_400_000, reason="reused", lifetime_us=1_100_000, by=process(4711, "orders-api")
            ),
        ),
        closed(
            ts_us=1_699_999_999_500_000,
            ends=loopback._replace(conn=2_004, sport=33_524),
            first="local",
            overflow=True,
            time_wait=False,
            age_us=4_000,
        ),
    )
    return tuple(one._replace(row=ORDERS.key) for one in made)


def drilled(**fields: object) -> Snapshot:
    """A snapshot with all that a drill-down into `DRILLED` shows."""
    usual: dict[str, object] = {
        "rows": (DRILLED, CURL, JAVA),
        "flows": (DATABASE, REPLICA, CACHE),
        "held": (
            HeldGroup(who("java[2290]"), "CLOSE_WAIT", "server", NETNS, 8080, 41, 1_699_999_280_000_000),
            HeldGroup(who("java[2290]"), "FIN_WAIT2", "client", NETNS, 443, 2, 1_699_999_990_000_000),
        ),
        "recent": (*_queries(), *_others()),
    }
    return busy(**(usual | fields))


def _place(function: str, file: str | None, line: int | None, *callers: str) -> Place:
    return Place("close", function, file, line, (*callers, function, "close"))


FINISH, REAP = (
    _place("finish_request", "src/server.c", 88, "main", "serve"),
    _place("Pool::reap(Clock&)", "/home/ci/build/orders/src/pool/reaper.cc", 1117, "main", "Pool::run()"),
)
SITES = CallSites(
    who("orders-api[4711]"),
    29_670,
    29_400,
    (
        Closing(FINISH, 91, 91),
        Closing(_place("give_up", "src/server.c", 131, "main", "serve"), 20, 20),
        Closing(REAP, 8, 8),
        Closing(None, 6, 6),
        Closing(_place("stop", None, None, "main"), 3, 3),
    ),
)
"""From where orders-api closes."""

HOSTILE = st.one_of(
    st.sampled_from(
        (
            "\x1b]0;pwn\x07\x1b[2J",
            "[bold red]x[/]",
            "[/]\\[",
            "日本語プロセス名前",
            "e\u0301\u0301\u0301t",
            "\ufe0f\u20e3 1\ufe0f",
            "\u2764\ufe0f" * 5,
            "\u202egnp.exe\u2066",
            "a\nb\rc\td\x9b1m",
            "👍🏽👩\u200d👩\u200d👧",
            "×[ ×1",
            "",
        )
    ),
    st.binary(max_size=15).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.text(max_size=40),
)
"""Names and addresses as whoever wants to may choose them."""
COLUMNS, ROWS = st.integers(20, 200), st.integers(1, 40)


def fitted(lines: tuple[TextLine, ...], columns: int, rows: int) -> list[str]:
    """The lines as they are drawn, which has to be inside so much room and harmless."""
    drawn = [text_of(line) for line in lines]
    assert len(drawn) <= rows
    for line in lines:
        assert sum(width(cell.text) for cell in line) <= columns
    for text in drawn:
        assert width(text) <= columns
        assert printable(text) == text
    return drawn
