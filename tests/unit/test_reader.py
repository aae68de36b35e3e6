"""The reader: what is wrong with a trace is told, line by line, and never a wrong total as right."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest

from tests.unit.samples import SECOND, T0, birth, close, death, ends, held, owner, start
from tracer.errors import TwtraceError, UsageError
from tracer.model import UNKNOWN_OWNER, Close, End, Event, Lost, Owner, Start, State
from tracer.reader import KEPT_DOUBTS, MAX_DOUBTS, Doubt, Reader
from tracer.record import Encoder
from tracer.tracelines import MAX_LINE

A, B = owner(1), owner(2, "other")

STORY: list[Event] = [
    close(1, A, at=1),
    birth(1, A, at=1),
    close(2, B, at=2, first="remote"),
    held(3, A, at=1),
    Lost(T0 + 3 * SECOND, "x", 2),
    close(4, B, at=4, overflow=True, time_wait=False),
    State(T0 + 5 * SECOND, ends(5), A, "ESTABLISHED", "FIN_WAIT1", 7, "process"),
    birth(6, UNKNOWN_OWNER, at=6, preexisting=True),
    death(1, A, at=61),
]
"""Line 2 and the next ones; line 11 is the `end` line."""

NO_END = Doubt(0, "no `end` line: the trace was cut off, or is still being written")
OTHER_CRC = Doubt(0, "not what was written: the checksum (crc32) of the `end` line is another")

Json = dict[str, Any]


def written(events: list[Event]) -> list[bytes]:
    encoder = Encoder()
    lines = [encoder.start(start()), *map(encoder.event, events)]
    return [*lines, encoder.end(T0 + 70 * SECOND, 70 * SECOND, {}, {})[1]]


WHOLE = written(STORY)


def read(lines: list[bytes]) -> tuple[list[Event], list[Doubt]]:
    reader = Reader()
    first, *items = reader.read(lines)
    assert first == start()
    assert reader.doubted == len(reader.doubts)
    return [item for item in items if not isinstance(item, Start | End)], reader.doubts


def edited(line: bytes, change: Callable[[Json], object]) -> bytes:
    value = json.loads(line)
    change(value)
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def with_line(number: int, line: bytes) -> list[bytes]:
    return [*WHOLE[: number - 1], line, *WHOLE[number:]]


def differs(what: str, told: int, counted: int) -> Doubt:
    return Doubt(0, f"{what}: {told:,} by the `end` line, {counted:,} by the lines read")


def test_nothing_is_wrong_with_what_was_written() -> None:
    assert read(WHOLE) == (STORY, [])


def test_it_reads_again() -> None:
    reader = Reader()
    for _ in range(2):
        assert len(list(reader.read(WHOLE[:-1]))) == len(WHOLE) - 1
        assert (reader.doubts, reader.doubted) == ([NO_END], 1)


def test_cut_at_every_byte_of_the_last_two_lines() -> None:
    before_last = b"".join(WHOLE[:-2])
    for cut in range(1, len(WHOLE[-1])):
        part = WHOLE[-1][:-cut]
        assert read([*WHOLE[:-1], part]) == (STORY, [Doubt(11, "cut off: left out"), NO_END])
    assert read(WHOLE[:-1]) == (STORY, [NO_END])
    for cut in range(1, len(WHOLE[-2])):
        part = WHOLE[-2][:-cut]
        assert read([*WHOLE[:-2], part]) == (STORY[:-1], [Doubt(10, "cut off: left out"), NO_END])
    assert before_last.endswith(b"\n")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"\n", "left out: Input data was truncated"),
        (b"[]\n", "left out: Expected `object`, got `array`"),
        (b"{}\n", "left out: Object missing required field `type`"),
        (b'{"type":"close"}\n', "left out: Object missing required field `ts_us`"),
        (b'{"type":5}\n', "left out: Expected `str` - at `$.type`"),
        (b"\xff\n", "left out: JSON is malformed: invalid character (byte 0)"),
        (WHOLE[3].replace(b"fin", b"f\xffn"), "left out: not UTF-8"),
        (WHOLE[3].replace(b'"comm":"', b'"comm":"\xff'), "left out: not UTF-8"),
        (
            WHOLE[3].replace(b'"age_us":1000', b'"age_us":NaN'),
            "left out: JSON is malformed: invalid character (byte 305)",
        ),
        (WHOLE[3][:-2] + b"\n", "left out: Input data was truncated"),
        (WHOLE[3][:-1] + b"{}\n", "left out: JSON is malformed: trailing characters (byte 566)"),
        (b'{"type":"close","x":' + b"[" * 100_000 + b"\n", "left out: nested too deeply"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "left out: nested too deeply"),
        (b'{"x":"' + b"y" * MAX_LINE + b'"}\n', "longer than 1,048,576 bytes: left out"),
        (b'{"type":"new","x":1}\n', "unknown type 'new': such lines are left out"),
        (b'{"type":"\\u001b[31m"}\n', "unknown type '\\x1b[31m': such lines are left out"),
    ],
)  # fmt: skip
def test_a_line_that_is_none(line: bytes, why: str) -> None:
    events, doubts = read(with_line(4, line))
    assert events == [*STORY[:2], *STORY[3:]]
    assert doubts == [Doubt(4, why), differs("close lines", 3, 2), OTHER_CRC]


def change(**fields: object) -> Callable[[Json], object]:
    return lambda line: line.update(fields)


def change_owner(**fields: object) -> Callable[[Json], object]:
    return lambda line: line["owner"].update(fields)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (change(ts_us="1"), "Expected `int`, got `str` - at `$.ts_us`"),
        (change(ts_us=-1), "Expected `int` >= 0 - at `$.ts_us`"),
        (change(ts_us=2**53 + 1), "Expected `int` <= 9007199254740992 - at `$.ts_us`"),
        (change(ts_us=10**40), "Expected `int` <= 9007199254740992 - at `$.ts_us`"),
        (change(ts_us=1.5), "Expected `int`, got `float` - at `$.ts_us`"),
        (change(ts_us=True), "Expected `int`, got `bool` - at `$.ts_us`"),
        (change(conn=None), "Expected `int`, got `null` - at `$.conn`"),
        (change(sport=65_536), "Expected `int` <= 65535 - at `$.sport`"),
        (change(family=5), "Invalid enum value 5 - at `$.family`"),
        (change(family=6), "no IPv6 address: '10.0.0.1'"),
        (change(daddr="10.0.0.1\x1b[31m"), r"no IPv4 address: '10.0.0.1\x1b[31m'"),
        (change(daddr="::1"), "no IPv4 address: '::1'"),
        (change(family=6, saddr="::1", daddr="fe80::1%\x1b[31m"), r"no IPv6 address: 'fe80::1%\x1b[31m'"),
        (change(saddr="1" * 46), "Expected `str` of length <= 45 - at `$.saddr`"),
        (change(how="well"), "Invalid enum value 'well' - at `$.how`"),
        (change(states={"OPEN": 1}), "Invalid enum value 'OPEN' - at `key` in `$.states`"),
        (change(states={"CLOSE": -1}), "Expected `int` >= 0 - at `$.states[...]`"),
        (lambda line: line.pop("via"), "Object missing required field `via`"),
        (change(owner=None), "Expected `object`, got `null`, of an owner"),
        (change(owner=[]), "Expected `object`, got `array`, of an owner"),
        (change_owner(pid=0), "Expected `int` >= 1 - at `$.pid`, of an owner"),
        (change_owner(pid=None), "pid and comm are null if the grade is unknown, and only then, of an owner"),
        (change_owner(grade="sure"), "Invalid enum value 'sure' - at `$.grade`, of an owner"),
        (change_owner(comm="x" * 257), "Expected `str` of length <= 256 - at `$.comm`, of an owner"),
        (change_owner(exe="x" * 900_000), "Expected `str` of length <= 16384 - at `$.exe`, of an owner"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be(edit: Callable[[Json], object], why: str) -> None:
    events, doubts = read(with_line(4, edited(WHOLE[3], edit)))
    assert events == [*STORY[:2], *STORY[3:]]
    assert doubts == [Doubt(4, f"left out: {why}"), differs("close lines", 3, 2), OTHER_CRC]


def test_a_value_that_could_be_shows_in_the_checksum() -> None:
    events, doubts = read(with_line(4, edited(WHOLE[3], change(sport=41_000))))
    assert isinstance(events[2], Close)
    assert events[2].ends.sport == 41_000
    assert doubts == [OTHER_CRC]


def test_addresses_are_told_in_one_way() -> None:
    long = "2001:DB8:0:0::7"
    line = edited(WHOLE[3], change(family=6, saddr=long, daddr="::ffff:10.0.0.1"))
    for _ in range(2):
        (event, *_), _ = read([WHOLE[0], line, line])
        assert isinstance(event, Close)
        assert event.ends[3::2] == ("2001:db8::7", "::ffff:10.0.0.1")


@pytest.mark.parametrize("number", range(2, 11))
def test_each_line_twice(number: int) -> None:
    doubled = [*WHOLE[:number], *WHOLE[number - 1 :]]
    events, doubts = read(doubled)
    assert events == STORY
    told = {
        "Close": f"a second close of connection {number - 1}",
        "TimeWait": f"a second time_wait of connection {number - 2}",
        "TimeWaitEnd": "a second time_wait_end of connection 1",
    }
    numbers = {4: 2, 7: 4, 9: 6}
    kind = type(STORY[number - 2]).__name__
    text = told.get(kind, "the same as an earlier line")
    if number in numbers:
        text = f"{text.rpartition(' ')[0]} {numbers[number]}"
    assert doubts == [Doubt(number + 1, f"{text}: left out"), OTHER_CRC]


def test_a_second_close_of_a_connection_in_other_words() -> None:
    events, doubts = read([*WHOLE[:3], edited(WHOLE[1], change(how="unknown")), *WHOLE[3:]])
    assert events == STORY
    assert doubts == [Doubt(4, "a second close of connection 1: left out"), OTHER_CRC]


@pytest.mark.parametrize(
    ("number", "missing"),
    [
        (2, [differs("close lines", 3, 2)]),
        (3, [
            differs("time_wait lines", 2, 1),
            differs("TIME_WAITs born", 1, 0),
            differs("TIME_WAITs remaining", 1, 0),
        ]),
        (5, [differs("held lines", 1, 0)]),
        (6, [differs("lost lines", 1, 0), differs("lost x", 2, 0)]),
        (7, [differs("close lines", 3, 2), differs("closes without room for a TIME_WAIT", 1, 0)]),
        (8, [differs("state lines", 1, 0)]),
        (9, [
            differs("time_wait lines", 2, 1),
            differs("TIME_WAITs from before", 1, 0),
            differs("TIME_WAITs remaining", 1, 0),
        ]),
        (10, [
            differs("time_wait_end lines", 1, 0),
            differs("TIME_WAITs expired", 1, 0),
            differs("TIME_WAITs remaining", 1, 2),
        ]),
    ],
)  # fmt: skip
def test_each_line_missing(number: int, missing: list[Doubt]) -> None:
    events, doubts = read([*WHOLE[: number - 1], *WHOLE[number:]])
    assert events == [*STORY[: number - 2], *STORY[number - 1 :]]
    assert doubts == [*missing, OTHER_CRC]


def test_an_end_without_its_beginning() -> None:
    lines = written([death(number, A) for number in range(1, 4)])
    assert read(lines)[1] == [Doubt(0, "3 TIME_WAITs end whose beginning is not in the trace")]
    assert read(written([*(death(number, A) for number in range(1, 4)), Lost(T0, "x", 3)]))[1] == []
    by_owner = [edited(lines[0], change(filters={"pids": [1]})), *lines[1:]]
    assert read_any(by_owner) == [OTHER_CRC]
    by_port = [edited(lines[0], change(filters={"local_ports": [1]})), *lines[1:]]
    assert read_any(by_port) == [OTHER_CRC, Doubt(0, "3 TIME_WAITs end whose beginning is not in the trace")]


def read_any(lines: list[bytes]) -> list[Doubt]:
    reader = Reader()
    list(reader.read(lines))
    return reader.doubts


def test_reordered() -> None:
    moved = [*WHOLE[:2], WHOLE[9], *WHOLE[2:9], WHOLE[10]]
    assert read(moved)[1] == [
        Doubt(4, "the time_wait of connection 1 comes after its end"),
        Doubt(5, "59.0 s earlier than a line before it: out of order?"),
        OTHER_CRC,
    ]
    assert read([*WHOLE[:3], WHOLE[4], WHOLE[3], *WHOLE[5:]])[1] == [OTHER_CRC]


def test_told_a_little_late_is_no_doubt() -> None:
    assert read(written([close(1, A, at=3), close(2, A, at=1)]))[1] == []
    assert read(written([close(1, A, at=3), close(2, A, at=0.9)]))[1] == [
        Doubt(3, "2.1 s earlier than a line before it: out of order?")
    ]


def test_after_the_end() -> None:
    events, doubts = read([*WHOLE, WHOLE[1], WHOLE[10]])
    assert events == STORY
    assert doubts == [
        Doubt(12, "after the `end` line: left out"),
        Doubt(13, "after the `end` line: left out"),
    ]


def test_the_ledger_and_the_lines() -> None:
    def put(line: Json) -> None:
        balance = {"preexisting": 0, "expected": 0, "kernel": None, "residue": None}
        line["totals"]["ledger"] = {"1": {"born": 2, "ended": 4, **balance}}

    lines = with_line(11, edited(WHOLE[10], put))
    assert read(lines)[1] == [
        differs("TIME_WAITs born in the ledger of netns 1", 2, 1),
        differs("TIME_WAITs ended in the ledger of netns 1", 4, 1),
        OTHER_CRC,
    ]
    lines[0] = edited(lines[0], change(filters={"comms": ["a"]}))
    assert read_any(lines) == [OTHER_CRC]


def test_the_checksum_is_of_all_but_itself() -> None:
    older = with_line(11, edited(WHOLE[10], lambda line: line.pop("crc32")))
    assert json.loads(WHOLE[-1])["crc32"] == crc32(b"".join(older))
    assert WHOLE[-1].endswith(b',"crc32":%d}\n' % crc32(b"".join(older)))
    assert read(with_line(11, edited(WHOLE[10], change(duration_us=1)))) == (STORY, [OTHER_CRC])
    assert read(older) == (STORY, [])
    assert read([*older[:3], older[4], older[3], *older[5:]])[1] == []


def test_what_a_newer_one_adds_is_skipped() -> None:
    def add(line: Json) -> None:
        line["new"] = {"x": [1]}
        line["owner"]["new"] = 1

    new = b'{"type":"new","ts_us":1}\n'
    lines = [*WHOLE[:3], new, edited(WHOLE[3], add), new, *WHOLE[4:]]
    events, doubts = read(lines)
    assert events == STORY
    assert doubts == [Doubt(4, "unknown type 'new': such lines are left out"), OTHER_CRC]


def test_what_an_older_one_lacks_has_a_value() -> None:
    event = read([WHOLE[0], edited(WHOLE[4], lambda line: line.pop("role"))])[0][0]
    assert event == STORY[3]
    (event,), _ = read([WHOLE[0], edited(WHOLE[1], lambda line: line["owner"].pop("start_us"))])
    assert isinstance(event, Close)
    assert event.owner.process is not None
    assert event.owner.process.start_us == 0


def test_too_many_doubts_end_it() -> None:
    bad = [WHOLE[0], *[b"{}\n"] * MAX_DOUBTS]
    reader = Reader()
    assert len(list(reader.read(bad))) == 1
    assert reader.doubted == MAX_DOUBTS + 1
    assert reader.doubts == [Doubt(n, reader.doubts[0].text) for n in range(2, KEPT_DOUBTS + 2)]
    with pytest.raises(TwtraceError) as raised:
        list(reader.read([*bad, b"\n"]))
    assert "more than 1,000 lines" in raised.value.cause
    assert "line 1002: left out: Input data was truncated" in raised.value.cause
    assert "line 2: left out" in raised.value.hint


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ([], "this is no trace: it is empty"),
        ([b"hello\n"], "this is no trace: its first line is not a `start` line"),
        ([b"\n"], "this is no trace: its first line is not a `start` line"),
        ([WHOLE[1]], "this is no trace: its first line is not a `start` line"),
        ([WHOLE[0][:-1]], "this is no trace: its first line is not a `start` line"),
        ([WHOLE[0][:-1] + b" " * MAX_LINE + b"\n"], "this is no trace: its first line is not a `start` line"),
        (
            [b'{"type":"start","schema":1}\n'],
            "this is no trace: its `start` line is none: Object missing required field `ts_us`",
        ),
        ([edited(WHOLE[0], change(schema=2))], "this trace is of schema 2, not 1"),
        ([edited(WHOLE[0], change(schema=2, version=7))], "this trace is of schema 2, not 1"),
        ([edited(WHOLE[0], change(schema="\x1b"))], r"this trace is of schema '\x1b', not 1"),
        ([WHOLE[0], WHOLE[0]], "a second `start` line"),
    ],
)  # fmt: skip
def test_what_is_no_trace(lines: list[bytes], cause: str) -> None:
    with pytest.raises(UsageError) as raised:
        list(Reader().read(lines))
    assert raised.value.cause == cause
    assert raised.value.hint


def test_owners_are_one_object_and_not_kept_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.reader._MAX_OWNER_BYTES", 10_000)
    reader = Reader()
    seen: list[Owner] = []
    for event in reader.read(written([close(number, owner(number % 500 + 1)) for number in range(1000)])):
        if isinstance(event, Close):
            assert event.owner is event.opener is event.closer
            seen.append(event.owner)
            assert sum(map(len, reader._owners)) <= 10_000
    assert seen == [owner(number % 500 + 1) for number in range(1000)]


def test_memory_of_what_was_told_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.audit._REMEMBERED", 10)
    monkeypatch.setattr("tracer.audit._MAX_FOLLOWED", 20)
    told: list[Event] = [birth(number, A) for number in range(50)]
    ended: list[Event] = [death(number, A) for number in range(50)]
    events, doubts = read(written([*told, *ended, *ended[45:], *ended[:5]]))
    assert events == [*told, *ended, *ended[:5]]
    assert doubts[:5] == [
        Doubt(57 + number, f"a second time_wait_end of connection {number}: left out")
        for number in range(45, 50)
    ]
    assert {doubt.line for doubt in doubts[5:]} == {0}
    assert not any("beginning" in doubt.text for doubt in doubts), "it is not known"
