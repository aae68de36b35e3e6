"""The trace: events to lines of JSON (schema 1 of the contract)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from zlib import crc32

from msgspec import UNSET, Raw, UnsetType
from msgspec.json import Encoder as JsonEncoder

from tracer.crowd import Reading
from tracer.lines import (
    BalanceLine,
    ClockLine,
    CloseLine,
    ConnectFailedLine,
    CountersLine,
    EndLine,
    FrameLine,
    HeldLine,
    Line,
    LivePortsLine,
    LostLine,
    OwnerLine,
    SiteLine,
    StartLine,
    StateLine,
    TimeWaitEndLine,
    TimeWaitLine,
    TotalsLine,
    WaitTotals,
)
from tracer.model import (
    CONNECTION_EVENTS,
    SCHEMA,
    Balance,
    Close,
    ConnectFailed,
    Counters,
    End,
    Event,
    Held,
    Lost,
    Owner,
    Site,
    Start,
    State,
    TimeWait,
    TimeWaitEnd,
    Totals,
)
from tracer.text import json_safe

_TYPES: dict[type, str] = {made: kind for kind, made in CONNECTION_EVENTS.items()} | {
    Site: "site",
    Lost: "lost",
    Counters: "counters",
}

# An event's values are plain strings; which there may be is checked when they are read.
_Made = Callable[..., Line]
_state_line: _Made = StateLine
_held_line: _Made = HeldLine
_close_line: _Made = CloseLine
_connect_failed_line: _Made = ConnectFailedLine
_time_wait_line: _Made = TimeWaitLine
_time_wait_end_line: _Made = TimeWaitEndLine
_site_line: _Made = SiteLine
_frame_line: Callable[..., FrameLine] = FrameLine
_start_line: _Made = StartLine
_live_ports_line: Callable[..., LivePortsLine] = LivePortsLine
_wait_totals: Callable[..., WaitTotals] = WaitTotals

_MAX_OWNERS = 65_536
_NULL = Raw(b"null")
_encode = JsonEncoder().encode


class Encoder:
    """Events to lines, and the count of them for the `end` line."""

    def __init__(self) -> None:
        self._owners: dict[int, tuple[Owner, Raw]] = {}
        self._lines: Counter[str] = Counter()
        self._overflowed = 0
        self._born = 0
        self._preexisting = 0
        self._ended: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._crc32 = 0
        self._made: dict[type, Callable[[Any], Line]] = {
            State: self._state,
            Held: self._held,
            Close: self._close,
            ConnectFailed: self._connect_failed,
            TimeWait: self._time_wait,
            TimeWaitEnd: self._time_wait_end,
            Site: self._site,
            Lost: _lost,
            Counters: _counters,
        }

    def start(self, start: Start) -> bytes:
        """The first line."""
        self._lines["start"] += 1
        given = {**asdict(start), "argv": tuple(map(_utf8, start.argv)), "clock": ClockLine(**start.clock)}
        given["filters"] = {name: _utf8(value) for name, value in start.filters.items()}
        if start.run is None:
            given |= {"run": UNSET, "part": UNSET}
        return self._add(json_safe(_encode(_start_line(SCHEMA, **given))))

    def count(self, reading: Reading) -> None:
        """Count events whose lines nobody wants."""
        for event in reading.events:
            self._note(event)
        for closes in reading.closes:
            number = len(closes.conns)
            self._lines["close"] += number
            self._overflowed += number * closes.alike.overflow
            if closes.alike.substate is not None:
                self._lines["time_wait"] += number
                self._born += number
        for ends in reading.ends:
            self._lines["time_wait_end"] += len(ends.conns)
            self._ended[ends.reason] += len(ends.conns)

    def skip(self, event: Event) -> None:
        """Count an event whose line is lost."""
        if isinstance(event, Close):
            self._overflowed += event.overflow
        elif isinstance(event, TimeWait):
            self._preexisting += event.preexisting
            self._born += not event.preexisting
        elif isinstance(event, TimeWaitEnd):
            self._ended[event.reason] += 1
        elif isinstance(event, Lost):
            self._lost[event.what] += event.count

    def event(self, event: Event) -> bytes:
        """One line of the middle, counted."""
        self._note(event)
        kind = type(event)
        line = self._made[kind](event)
        # Names of functions and files are whatever a program's file says.
        return self._add(json_safe(_encode(line))) if kind is Site else self._line(line)

    def so_far(self, ts_us: int, duration_us: int, kernel: dict[str, int], ledger: dict[str, Balance]) -> End:
        """What the last line would say now."""
        totals = Totals(
            dict(self._lines),
            self._born,
            self._preexisting,
            dict(self._ended),
            kernel,
            self._overflowed,
            ledger,
        )
        return End(ts_us, totals, dict(self._lost), duration_us)

    def end(
        self, ts_us: int, duration_us: int, kernel: dict[str, int], ledger: dict[str, Balance]
    ) -> tuple[End, bytes]:
        """The last line, and what it says."""
        self._lines["end"] += 1
        end = self.so_far(ts_us, duration_us, kernel, ledger)
        totals = end.totals
        waits = _wait_totals(
            totals.born, totals.preexisting, totals.ended, totals.remaining, totals.overflowed
        )
        line = EndLine(ts_us, TotalsLine(totals.lines, waits, kernel, _ledger(ledger)), end.lost, duration_us)
        self._line(line)
        line.crc32 = self._crc32
        return end, self._line(line)

    def _note(self, event: Event) -> None:
        self._lines[_TYPES[type(event)]] += 1
        self.skip(event)

    def _line(self, line: Line) -> bytes:
        return self._add(_encode(line))

    def _add(self, encoded: bytes) -> bytes:
        encoded += b"\n"
        self._crc32 = crc32(encoded, self._crc32)
        return encoded

    # By position, and without a helper for what they have in common: these run for each event.

    def _state(self, event: State) -> Line:
        return _state_line(
            event.ts_us,
            *event.ends,
            self._owner(event.owner),
            event.old,
            event.new,
            event.dwell_us,
            event.context,
        )

    def _held(self, event: Held) -> Line:
        return _held_line(
            event.ts_us,
            *event.ends,
            self._owner(event.owner),
            event.state,
            event.role,
            _if_true(event.preexisting),
            UNSET if event.site is None else event.site,
        )

    def _close(self, event: Close) -> Line:
        return _close_line(
            event.ts_us,
            *event.ends,
            self._owner(event.owner),
            event.role,
            event.first,
            event.how,
            event.via,
            event.age_us,
            event.states,
            event.time_wait,
            self._owner(event.opener),
            self._owner(event.closer),
            _if_true(event.overflow),
            _if_true(event.bound),
            UNSET if event.site is None else event.site,
        )

    def _connect_failed(self, event: ConnectFailed) -> Line:
        return _connect_failed_line(
            event.ts_us, *event.ends, self._owner(event.owner), event.error, event.cause
        )

    def _time_wait(self, event: TimeWait) -> Line:
        return _time_wait_line(
            event.ts_us,
            *event.ends,
            self._owner(event.owner),
            event.substate,
            _if_true(event.preexisting),
        )

    def _time_wait_end(self, event: TimeWaitEnd) -> Line:
        return _time_wait_end_line(
            event.ts_us,
            *event.ends,
            self._owner(event.owner),
            event.lifetime_us,
            event.fin_wait2_us,
            event.reason,
            _NULL if event.by is None else self._owner(event.by),
            event.rearmed,
            _if_true(event.preexisting),
        )

    def _site(self, event: Site) -> Line:
        frames = tuple(
            _frame_line(*map(_if_known, frame[:-1]), _if_true(frame.inlined)) for frame in event.frames
        )
        return _site_line(event.ts_us, event.site, event.what, self._owner(event.owner), frames, event.whole)

    def _owner(self, owner: Owner) -> Raw:
        # By identity: hashing an owner costs more than encoding it. The owner is
        # kept beside its text, so that no other can take over its identity.
        known = self._owners.get(id(owner))
        if known is None:
            if len(self._owners) >= _MAX_OWNERS:
                self._owners.clear()
            known = self._owners[id(owner)] = owner, Raw(json_safe(_encode(_owner_line(owner))))
        return known[1]


def _utf8(value: object) -> object:
    r"""Words of a command line, with bytes that were no UTF-8 as `\xNN`, as in names."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return [_utf8(one) for one in value] if isinstance(value, list | tuple) else value


def _owner_line(owner: Owner) -> OwnerLine:
    if owner.process is None:
        return OwnerLine(None, None, owner.grade.value)
    known = {name: value for name, value in asdict(owner.process).items() if value is not None}
    return OwnerLine(grade=owner.grade.value, **known)


def _lost(event: Lost) -> LostLine:
    return LostLine(event.ts_us, event.what, event.count)


def _counters(event: Counters) -> Line:
    live = tuple(_live_ports_line(*ports) for ports in event.live)
    return CountersLine(event.ts_us, event.kernel, _ledger(event.ledger), live, event.sysctl)


def _ledger(ledger: dict[str, Balance]) -> dict[str, BalanceLine]:
    return {netns: BalanceLine(**asdict(balance)) for netns, balance in ledger.items()}


def _if_true(value: bool) -> bool | UnsetType:
    return value or UNSET


def _if_known(value: Any) -> Any:
    return UNSET if value is None else value
