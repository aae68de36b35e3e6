"""Records of the kernel side to events, with the kernel replaced by bytes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

import pytest

from tracer.crowd import Reading
from tracer.filters import Filters
from tracer.kernel.decode import ALIKE_RECORD, EVENT_RECORD, HELD_RECORD, TIMES_RECORD, Decoder
from tracer.kernel.held import HeldSockets
from tracer.kernel.opensockets import OpenSocket, OpenSockets
from tracer.kernel.processes import PROCESS_RECORD, Processes
from tracer.kernel.procfs import start_ns_of
from tracer.model import (
    UNKNOWN_OWNER,
    Close,
    Counters,
    Endpoints,
    Event,
    Grade,
    Held,
    Lost,
    Owner,
    Process,
    Site,
    TimeWait,
    TimeWaitEnd,
)

CLOSE, TW_END = 2, 3
PREEXISTING, TIME_WAIT, TURNED, KILLED = 2, 8, 16, 32
MILLISECOND = 1_000_000


def v4(text: str) -> bytes:
    return b"\0" * 10 + b"\xff\xff" + socket.inet_aton(text)


TIMES = (
    *("established", "close_wait", "fin_wait2", "syn_sent", "syn_recv", "fin_wait1", "last_ack"),
    *("closing", "all_seen", "rearmed"),
)
ALIKE = (
    *("type", "family", "old", "new", "flags", "role", "first", "how", "via", "reason", "failed", "bound"),
    *("netns", "seen", "service", "unfollowed", "saddr", "daddr", "opener_start", "opener_pid"),
    *("closer_start", "closer_pid", "by_start", "by_pid"),
)


def record(kind: int, *, sport: int = 40000, dport: int = 80, **fields: object) -> bytes:
    values: dict[str, object] = dict.fromkeys((*TIMES, *ALIKE), 0)
    values |= {
        "span_us": 0,
        "ts_ns": 5 * MILLISECOND,
        "conn": 7,
        "saddr": v4("10.0.0.1"),
        "daddr": v4("10.0.0.2"),
        "netns": 1,
        "type": kind,
        "family": 4,
    }
    assert not fields.keys() - values.keys()
    values |= fields
    serves = values["role"] == 2 and kind != TW_END
    values["service"], values["port"] = (sport, dport) if serves else (dport, sport)
    alike = ALIKE_RECORD.pack(*(values[name] for name in ALIKE))
    times = TIMES_RECORD.pack(*(values[name] for name in TIMES))
    event = values["ts_ns"], values["conn"], values["span_us"], times, values["port"], alike
    return b"\0" * 8 + EVENT_RECORD.pack(*event)


def process(pid: int, start: int, comm: bytes) -> bytes:
    return b"\0" * 8 + PROCESS_RECORD.pack(start, pid, 0, 33, 4, comm, b"argv")


ENDS = Endpoints(7, 1, 4, "10.0.0.1", 40000, "10.0.0.2", 80)
LISTENER = OpenSocket(
    os.getpid(), start_ns_of(os.getpid()) or 0, "listener", 1, 4, "LISTEN", "::", 40000, "::", 0
)
HOLDER = OpenSocket(8, 80, "holder", 1, 4, "ESTABLISHED", "10.0.0.1", 40000, "10.0.0.2", 80)


class Bench:
    """A decoder with what it asks."""

    def __init__(self, *found: OpenSocket) -> None:
        self.found = list(found)
        self.scans = 0
        self.time = 10.0
        self.processes = Processes()
        self.open_sockets = OpenSockets(self._scan, self.processes, lambda: int(self.time * 1e6))
        self.decoder = Decoder(1000, self.processes, self.open_sockets)

    def _scan(self) -> Iterable[OpenSocket]:
        self.scans += 1
        return self.found

    def decode(self, *records: bytes) -> list[Event]:
        return self.decoder.decode(b"".join(records))


def name(owner: Owner) -> tuple[str | None, Grade]:
    return owner.process.comm if owner.process else None, owner.grade


def test_a_close_with_its_time_wait() -> None:
    bench = Bench()
    bench.processes.add_records(process(4711, 50, b"server") + process(1, 2, b"other"))
    close, birth = bench.decode(
        record(
            CLOSE,
            flags=TIME_WAIT,
            old=5,
            role=2,
            first=1,
            how=1,
            via=1,
            span_us=900,
            opener_pid=4711,
            opener_start=50,
            closer_pid=4711,
            closer_start=50,
            established=700,
            fin_wait1=3,
            seen=1 << 1 | 1 << 4,
        )
    )
    assert isinstance(close, Close)
    assert (close.ts_us, close.ends) == (5000 + 1000, ENDS)
    assert (close.role, close.first, close.how, close.via) == ("server", "local", "fin", "close")
    assert close.states == {"ESTABLISHED": 700, "FIN_WAIT1": 3}
    assert (close.age_us, close.time_wait) == (900, True)
    assert close.owner is close.opener is close.closer
    assert close.owner.process is not None
    assert (close.owner.process.pid, close.owner.process.uid) == (4711, 33)
    assert isinstance(birth, TimeWait)
    assert (birth.ends, birth.owner, birth.substate) == (ENDS, close.owner, "FIN_WAIT2")


def test_the_closer_is_the_owner_else_the_opener() -> None:
    bench = Bench()
    bench.processes.add_records(process(1, 10, b"opener") + process(2, 20, b"closer"))
    both, reset = bench.decode(
        record(CLOSE, opener_pid=1, opener_start=10, closer_pid=2, closer_start=20),
        record(CLOSE, opener_pid=1, opener_start=10, how=3),
    )
    assert isinstance(both, Close)
    assert isinstance(reset, Close)
    assert (name(both.owner)[0], name(both.opener)[0], name(both.closer)[0]) == ("closer", "opener", "closer")
    assert name(reset.owner) == ("opener", Grade.CERTAIN)
    assert reset.closer is UNKNOWN_OWNER


def test_same_pid_another_start_is_another_process() -> None:
    bench = Bench()
    bench.processes.add_records(process(1, 10, b"first") + process(1, 20, b"second"))
    events = bench.decode(*(record(CLOSE, closer_pid=1, closer_start=start) for start in (10, 20)))
    assert [name(event.owner)[0] for event in events if isinstance(event, Close)] == ["first", "second"]


def test_nobody_seen_is_looked_for_in_open_files() -> None:
    (held,) = Bench(HOLDER, LISTENER).decode(record(CLOSE, role=0))
    (served,) = Bench(LISTENER).decode(record(CLOSE, role=2))
    (client,) = Bench(LISTENER).decode(record(CLOSE, role=1))
    assert isinstance(held, Close)
    assert isinstance(served, Close)
    assert isinstance(client, Close)
    assert name(held.owner) == ("holder", Grade.INFERRED)
    assert name(served.owner) == ("listener", Grade.INFERRED)
    assert client.owner is UNKNOWN_OWNER


def inferred_server(*found: OpenSocket) -> tuple[str | None, Grade]:
    (close,) = Bench(*found).decode(record(CLOSE, role=2))
    assert isinstance(close, Close)
    return name(close.owner)


def test_a_listener_that_has_ended_is_nobody() -> None:
    assert inferred_server(LISTENER._replace(start_ns=LISTENER.start_ns - 10**9))[1] is Grade.UNKNOWN


def test_the_listener_of_the_very_address_comes_before_that_of_all() -> None:
    exact = LISTENER._replace(comm="exact", saddr="10.0.0.1")
    other = LISTENER._replace(comm="other", saddr="10.0.0.9")
    assert inferred_server(other, LISTENER, exact)[0] == "exact"
    assert inferred_server(other, LISTENER)[0] == "listener"
    assert inferred_server(other)[1] is Grade.UNKNOWN


def test_a_holder_found_before_the_connection_is_not_its() -> None:
    bench = Bench(HOLDER)
    bench.open_sockets.rescan()
    later = int((bench.time + 1) * 1e9)
    (close,) = bench.decode(record(CLOSE, role=1, ts_ns=later, span_us=10))
    (older,) = bench.decode(record(CLOSE, role=0, ts_ns=later, flags=PREEXISTING))
    assert isinstance(close, Close)
    assert isinstance(older, Close)
    assert (name(close.owner)[1], name(older.owner)[0]) == (Grade.UNKNOWN, "holder")


def test_a_time_wait_born_while_we_attached_is_told_once() -> None:
    bench = Bench()
    ends = bench.decoder.add_older(ENDS._replace(conn=0))
    (end,) = bench.decode(record(TW_END, conn=0, flags=PREEXISTING, old=6, reason=1))
    assert end.ends == ends if isinstance(end, TimeWaitEnd) else False
    ends = bench.decoder.add_older(ENDS._replace(conn=0))
    (close,) = bench.decode(record(CLOSE, conn=9, flags=TIME_WAIT, old=6))
    (end,) = bench.decode(record(TW_END, conn=9, flags=TURNED, old=6, reason=1))
    assert isinstance(close, Close)
    assert isinstance(end, TimeWaitEnd)
    assert close.ends == end.ends == ends


def test_looking_is_rationed() -> None:
    bench = Bench()
    for _ in range(50):
        bench.decode(record(CLOSE))
    assert bench.scans == 1
    bench.time += 2.5
    bench.found = [HOLDER]
    (close,) = bench.decode(record(CLOSE))
    assert isinstance(close, Close)
    assert (bench.scans, name(close.owner)[0]) == (2, "holder")


def test_of_two_looks_only_the_last_is_kept() -> None:
    kept: list[int] = []

    def scan() -> Iterable[OpenSocket]:
        kept.append(len(open_sockets._holders) + len(open_sockets._listeners))
        yield from (HOLDER, LISTENER)

    open_sockets = OpenSockets(scan, Processes(), lambda: 0)
    open_sockets.rescan()
    open_sockets.rescan()
    assert (kept, len(open_sockets._holders), len(open_sockets._listeners)) == ([0, 0], 1, 1)


def test_an_inferred_owner_stays_to_the_end_of_time_wait() -> None:
    bench = Bench(HOLDER)
    _, birth = bench.decode(record(CLOSE, flags=TIME_WAIT, old=6))
    bench.found = []
    bench.open_sockets.rescan()
    (end,) = bench.decode(record(TW_END, flags=TURNED, old=6, reason=1, span_us=60_000_000))
    assert isinstance(birth, TimeWait)
    assert isinstance(end, TimeWaitEnd)
    assert birth.owner == end.owner
    assert end.owner.grade is Grade.INFERRED


def test_an_older_connection_keeps_the_number_it_was_given() -> None:
    bench = Bench()
    ends = bench.decoder.add_older(ENDS._replace(conn=0))
    assert ends.conn > 2**52
    close, birth = bench.decode(record(CLOSE, flags=PREEXISTING | TIME_WAIT, old=6))
    (end,) = bench.decode(record(TW_END, flags=TURNED, old=6, reason=1))
    assert [
        event.ends.conn for event in (close, birth, end) if not isinstance(event, Site | Lost | Counters)
    ] == [ends.conn] * 3
    assert isinstance(close, Close)
    assert close.age_us is None


def test_the_end_of_an_older_time_wait() -> None:
    bench = Bench()
    ends = bench.decoder.add_older(ENDS._replace(conn=0))
    (known,) = bench.decode(record(TW_END, conn=0, flags=PREEXISTING, old=6, reason=1))
    born, ended = bench.decode(record(TW_END, conn=0, flags=PREEXISTING, old=6, reason=1))
    assert isinstance(known, TimeWaitEnd)
    assert (known.ends, known.lifetime_us, known.fin_wait2_us) == (ends, None, None)
    assert isinstance(born, TimeWait)
    assert born.preexisting
    assert isinstance(ended, TimeWaitEnd)
    assert born.ends == ended.ends != ends


def test_a_fin_wait2_that_never_turned_has_no_lifetime() -> None:
    (end,) = Bench().decode(record(TW_END, old=5, reason=1, fin_wait2=60_000_000))
    assert isinstance(end, TimeWaitEnd)
    assert (end.lifetime_us, end.fin_wait2_us) == (None, 60_000_000)


def entry(conn: int, since_us: int, state: int = 8) -> bytes:
    return HELD_RECORD.pack(
        conn, since_us * 1000, 0, 0, v4("10.0.0.1"), v4("10.0.0.2"), 1, 2, 1, 4, state, 0, 2
    )


def look_at(held: HeldSockets, now_us: int, *readings: Reading) -> list[Event]:
    found = held.look()
    for reading in readings:
        held.drop(found, reading)
    return held.tell(found, now_us)


def test_half_closed_sockets_are_told_once_they_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("tracer.kernel.held.time.monotonic", lambda: now[0])
    bench, present = Bench(), [entry(1, 0), entry(2, 1_500_000)]
    held = HeldSockets(lambda: iter(present), bench.decoder)

    def look(at_us: int, *events: Event) -> list[Event]:
        now[0] += 1.5
        return look_at(held, at_us + 1000, Reading(list(events)), Reading([]))

    def told(events: list[Event]) -> list[tuple[int, str]]:
        return [(event.ends.conn, event.state) for event in events if isinstance(event, Held)]

    assert told(look(2_000_000)) == [(1, "CLOSE_WAIT")]
    assert told(look(3_000_000)) == [(2, "CLOSE_WAIT")]
    present.clear()
    closed = bench.decode(record(CLOSE, conn=1))
    assert told(look(4_000_000, *closed)) == []
    assert told(look(5_000_000)) == [(2, "LAST_ACK")]
    assert told(look(6_000_000)) == []


def test_one_that_a_look_passed_over_is_still_held(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("tracer.kernel.held.time.monotonic", lambda: now[0])
    bench, present = Bench(), [entry(1, 0)]
    held = HeldSockets(lambda: iter(present), bench.decoder)
    news = []
    for at in range(2, 8):
        present[:] = [] if at % 2 else [entry(1, 0)]
        now[0] += 1.5
        news.append(look_at(held, at * 1_000_000))
    assert [len(events) for events in news] == [1, 0, 0, 0, 0, 0]


def test_a_close_that_comes_with_the_look_is_not_half_closed() -> None:
    bench = Bench()
    held = HeldSockets(lambda: iter([entry(1, 0)]), bench.decoder)
    closed = Reading(bench.decode(record(CLOSE, conn=1)))
    assert look_at(held, 9_000_000, Reading([]), closed, Reading([])) == []


def test_a_fin_wait2_that_goes_is_not_in_last_ack(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("tracer.kernel.held.time.monotonic", lambda: now[0])
    bench, present = Bench(), [entry(1, 0, state=5)]
    held = HeldSockets(lambda: iter(present), bench.decoder)
    (news,) = look_at(held, 9_000_000)
    assert isinstance(news, Held)
    assert news.state == "FIN_WAIT2"
    present.clear()
    now[0] += 2
    assert look_at(held, 11_000_000) == []


def test_looking_at_what_hangs_takes_a_small_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("tracer.kernel.held.time.monotonic", lambda: now[0])
    scans: list[float] = []

    def slow() -> Iterable[bytes]:
        scans.append(now[0])
        now[0] += 0.2
        return iter(())

    held = HeldSockets(lambda: iter(slow()), Bench().decoder)
    while now[0] < 150:
        held.look()
        now[0] += 0.1
    assert len(scans) == 5


def whose(pid: int, **facts: object) -> Owner:
    return Owner(Grade.CERTAIN, Process(pid, 0, **({"comm": "app"} | facts)))  # type: ignore[arg-type]


def test_filters() -> None:
    everything = Filters()
    assert everything.pass_ends(ENDS)
    assert everything.pass_owner(UNKNOWN_OWNER)
    assert everything.as_dict() == {}
    some = Filters(
        pids=frozenset({1, 2}), comms=frozenset({"app"}), cgroups=("/a",), local_ports=frozenset({40000})
    )
    assert some.pass_ends(ENDS)
    assert not some.pass_ends(ENDS._replace(sport=1))
    assert some.pass_owner(whose(1, cgroup="/a/b"))
    assert not some.pass_owner(whose(3, cgroup="/a/b"))
    assert not some.pass_owner(whose(1, cgroup="/ab"))
    assert not some.pass_owner(whose(1, comm="b", cgroup="/a"))
    assert not some.pass_owner(UNKNOWN_OWNER)
    assert not Filters(family=6).pass_ends(ENDS)
    assert not Filters(netns=2).pass_ends(ENDS)
    assert not Filters(remote_ports=frozenset({81})).pass_ends(ENDS)
    assert not Filters(uids=frozenset({5})).pass_owner(whose(1, uid=6))
    assert some.as_dict() == {"pids": [1, 2], "comms": ["app"], "cgroups": ("/a",), "local_ports": [40000]}
    assert some.describe() == "pids=1,2 comms=app cgroups=/a local_ports=40000"


def test_who_kills_a_socket_does_not_own_it() -> None:
    bench = Bench()
    bench.processes.add_records(process(1, 10, b"app") + process(2, 20, b"ss"))
    (close,) = bench.decode(
        record(
            CLOSE, flags=KILLED, how=2, via=4, opener_pid=1, opener_start=10, closer_pid=2, closer_start=20
        )
    )
    assert isinstance(close, Close)
    assert (name(close.owner)[0], name(close.closer)[0], close.via) == ("app", "ss", "abort")
