"""What is taken in as crowds is what is taken in one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import start
from tests.unit.test_decode import CLOSE, PREEXISTING, TIME_WAIT, TURNED, TW_END, Bench, process, record, v4
from tracer.aggregate import Aggregator
from tracer.crowd import KEPT, Reading
from tracer.kernel.decode import Decoder
from tracer.kernel.ledger import Ledger
from tracer.kernel.opensockets import OpenSockets
from tracer.kernel.processes import Processes
from tracer.model import Close, Endpoints, Snapshot, TimeWait, TimeWaitEnd
from tracer.record import Encoder

MILLISECOND = 1_000_000
NO_ONE, OVERFLOW = 0, 64
FIN, RESET_SENT, FAILED = 1, 2, 5


@dataclass(frozen=True)
class Shape:
    """What closes drawn together have in common."""

    role: int
    pid: int
    host: str
    how: int
    flags: int
    substate: int

    def closed(self, conn: int, port: int, ts_ns: int, age_us: int) -> bytes:
        ports = {"sport": 80, "dport": port} if self.role == 2 else {"sport": port, "dport": 80}
        saddr, daddr = ("10.0.0.1", self.host) if self.role == 2 else (self.host, "10.0.0.1")
        return record(
            CLOSE,
            **ports,
            conn=conn,
            ts_ns=ts_ns,
            span_us=age_us,
            established=age_us // 2,
            role=self.role,
            how=self.how,
            flags=self.flags,
            old=self.substate,
            first=1,
            via=1,
            seen=1 << 1 | 1 << 5,
            saddr=v4(saddr),
            daddr=v4(daddr),
            opener_pid=self.pid,
            opener_start=self.pid,
            fin_wait2=3,
        )

    def ended(self, conn: int, port: int, ts_ns: int, reason: int, waited_us: int) -> bytes:
        return record(
            TW_END,
            **{"sport": 80, "dport": port} if self.role == 2 else {"sport": port, "dport": 80},
            conn=conn,
            ts_ns=ts_ns,
            span_us=9_000,
            reason=reason,
            flags=TURNED,
            old=self.substate,
            closer_pid=self.pid,
            closer_start=self.pid,
            fin_wait2=waited_us,
        )


shapes = st.builds(
    Shape,
    role=st.sampled_from([0, 1, 2]),
    pid=st.sampled_from([NO_ONE, 11, 12]),
    host=st.sampled_from(["10.0.0.1", "10.0.0.8"]),
    how=st.sampled_from([FIN, FIN, FIN, RESET_SENT, FAILED]),
    flags=st.sampled_from([TIME_WAIT, TIME_WAIT, TIME_WAIT, 0, PREEXISTING, OVERFLOW]),
    substate=st.sampled_from([5, 6]),
)


@st.composite
def readings(draw: st.DrawFn) -> list[bytes]:
    """Records of the ring, as they are read: many alike, their ends among later ones."""
    made: list[list[bytes]] = []
    open_: list[tuple[Shape, int, int]] = []
    conn, ts_ns = 0, 0
    for _ in range(draw(st.integers(1, 6))):
        reading: list[tuple[int, bytes]] = []
        for shape in draw(st.lists(shapes, max_size=4)):
            for _ in range(draw(st.integers(1, 9))):
                conn += 1
                ts_ns += draw(st.integers(1, 300)) * MILLISECOND
                age_us = draw(st.integers(1, 2_000_000))
                reading.append((ts_ns, shape.closed(conn, 1000 + conn, ts_ns, age_us)))
                if shape.flags == TIME_WAIT:
                    open_.append((shape, conn, 1000 + conn))
        for _ in range(draw(st.integers(0, len(open_)))):
            shape, which, port = open_.pop(draw(st.integers(0, len(open_) - 1)))
            ts_ns += MILLISECOND
            reason, waited_us = draw(st.integers(0, 7)), draw(st.sampled_from([0, 5, 2_000_000]))
            reading.append((ts_ns, shape.ended(which, port, ts_ns, reason, waited_us)))
        made.append([one for _, one in reading])
    return [b"".join(one) for one in made]


@cache
def known() -> Processes:
    """The owners, the same objects for each decoder, as they are in one run."""
    processes = Processes()
    processes.add_records(process(11, 11, b"eleven") + process(12, 12, b"twelve"))
    return processes


def decoder() -> Decoder:
    return Decoder(1000, known(), OpenSockets(list, known(), lambda: 0))


def both(given_: list[bytes]) -> Iterator[tuple[Reading, Reading]]:
    """Each reading one by one and as crowds."""
    single, crowds = decoder(), decoder()
    for records in given_:
        yield Reading(single.decode(records)), crowds.read(records)


def in_order(snapshot: Snapshot) -> Snapshot:
    """What has the same weight may come in any order."""
    return replace(
        snapshot,
        rows=tuple(sorted((row._replace(top_peer=None) for row in snapshot.rows), key=str)),
        unknown=snapshot.unknown._replace(top_peer=None),
        total=snapshot.total._replace(top_peer=None),
        flows=tuple(sorted(snapshot.flows, key=str)),
        pools=tuple(sorted(snapshot.pools, key=str)),
    )


@given(readings())
def test_a_snapshot_is_the_same(given_: list[bytes]) -> None:
    one_by_one, together = Aggregator(start()), Aggregator(start())
    now_us = 2_000
    for single, crowds in both(given_):
        for event in single.events:
            now_us = max(now_us, event.ts_us)
        one_by_one.take(single)
        together.take(crowds)
        for by in ("process", "port"):
            assert together._total.peers == one_by_one._total.peers
            assert in_order(together.snapshot(now_us, by)) == in_order(one_by_one.snapshot(now_us, by))


@given(readings())
def test_counts_are_the_same(given_: list[bytes]) -> None:
    one_by_one, together = Encoder(), Encoder()
    ledgers = Ledger(), Ledger()
    for ledger in ledgers:
        ledger.watch(0)
    for single, crowds in both(given_):
        one_by_one.count(single)
        together.count(crowds)
        for ledger, reading in zip(ledgers, (single, crowds), strict=True):
            ledger.add(reading, 0)
        assert crowds.closed() == single.closed()
        waits = sorted(single.waits(), key=lambda event: (event.ts_us, isinstance(event, TimeWaitEnd)))
        assert sorted(crowds.waits(), key=lambda e: (e.ts_us, isinstance(e, TimeWaitEnd))) == waits
    assert together.so_far(0, 0, {}, {}) == one_by_one.so_far(0, 0, {}, {})
    balances = [ledger.against_count(1, 0, 0) for ledger in ledgers]
    assert balances[0] == balances[1]


ALIKE = Shape(role=1, pid=11, host="10.0.0.8", how=FIN, flags=TIME_WAIT, substate=5)


ALIKE_ENDS = Endpoints(0, 1, 4, "10.0.0.8", 0, "10.0.0.1", 80)


def many(count: int, first: int = 1) -> bytes:
    return b"".join(ALIKE.closed(conn, conn, conn * MILLISECOND, 10) for conn in range(first, first + count))


def test_many_alike_make_no_events() -> None:
    crowds = decoder()
    reading = crowds.read(many(500))
    assert reading.events == []
    (closes,) = reading.closes
    assert (list(closes.conns), set(closes.ages_us)) == (list(range(1, 501)), {10})
    ends = b"".join(ALIKE.ended(conn, conn, 600 * MILLISECOND, 1, 7) for conn in range(1, 501))
    reading = crowds.read(ends)
    assert reading.events == []
    (ended,) = reading.ends
    assert (ended.reason, len(ended.conns), set(ended.fin_wait2_us)) == ("expired", 500, {7})


def test_few_alike_are_no_crowd() -> None:
    reading = decoder().read(many(3))
    assert (reading.closes, [type(event) for event in reading.events]) == ([], 3 * [Close, TimeWait])


def test_a_crowd_is_of_one_second() -> None:
    reading = decoder().read(many(1500))
    assert [(closes.second, len(closes.conns)) for closes in reading.closes] == [(0, 998), (1, 502)]


def test_of_very_many_the_last_are_kept() -> None:
    aggregator, crowds = Aggregator(start()), decoder()
    for first in range(1, 6 * KEPT, KEPT // 2):
        aggregator.take(crowds.read(many(KEPT // 2, first)))
    last = 6 * KEPT
    aggregator.take(crowds.read(ALIKE.ended(last, last, last * MILLISECOND, 2, 7)))
    recent = aggregator.snapshot(last * 1_000).recent
    assert [one.close.ends.conn for one in recent] == list(range(5 * KEPT + 1, 6 * KEPT + 1))
    assert [one.end.reason for one in recent if one.end] == ["reused"]
    assert len(aggregator._paths._ended) == KEPT


def test_nothing_is_kept_for_a_screen_where_there_is_none() -> None:
    aggregator, single, crowds = Aggregator(start(), with_recent=False), decoder(), decoder()
    aggregator.add(single.decode(many(3)))
    aggregator.take(crowds.read(many(9, first=4)))
    aggregator.take(crowds.read(ALIKE.ended(5, 5, 600 * MILLISECOND, 2, 7)))
    shot = aggregator.snapshot(10**6)
    assert (shot.total.closes, shot.recent) == (12, ())
    assert (len(aggregator._paths._pending), aggregator._paths._ended) == (0, {})


def test_a_crowd_is_kept_as_long_as_any_of_it_waits() -> None:
    aggregator, crowds = Aggregator(start()), decoder()
    aggregator.take(crowds.read(many(500)))
    assert [wait.ends for wait in aggregator.crowd_waits()] == [
        ALIKE_ENDS._replace(conn=conn, sport=conn) for conn in range(1, 501)
    ]
    for first, last in ((1, 200), (200, 501)):
        assert len(aggregator._crowds) == len(aggregator._latest_crowds) == 1
        ends = (ALIKE.ended(conn, conn, 600 * MILLISECOND, 1, 7) for conn in range(first, last))
        aggregator.take(crowds.read(b"".join(ends)))
    assert [aggregator._crowds, aggregator._latest_crowds, aggregator._crowd_waits] == [{}, {}, {}]
    aggregator.take(crowds.read(many(9)))
    assert aggregator.snapshot(10**6).total.time_wait_now == 9


def test_a_process_with_a_new_name_has_it_in_the_next_crowd() -> None:
    bench_ = Bench()
    bench_.processes.add_records(process(11, 11, b"eleven"))
    assert bench_.decoder.read(many(9)).closes[0].alike.owner.process.comm == "eleven"  # type: ignore[union-attr]
    bench_.processes.add_records(process(11, 11, b"renamed"))
    assert bench_.decoder.read(many(9)).closes[0].alike.owner.process.comm == "renamed"  # type: ignore[union-attr]


def test_a_new_process_costs_others_nothing() -> None:
    bench_ = Bench()
    bench_.processes.add_records(process(11, 11, b"eleven"))
    before = bench_.decoder.read(many(9)).closes[0].alike
    bench_.processes.add_records(process(12, 12, b"twelve"))
    assert bench_.decoder.read(many(9)).closes[0].alike is before


def test_ends_of_older_ones_are_looked_at_one_by_one() -> None:
    ends = b"".join(record(TW_END, conn=conn, dport=conn, flags=PREEXISTING, old=6) for conn in range(1, 9))
    reading = decoder().read(ends)
    assert (reading.ends, len(reading.events)) == ([], 16)
