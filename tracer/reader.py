"""A trace read back: the same events again, and what casts doubt on them.

Traces come from strangers. Every value is checked against the definitions of the lines; what does not pass
is left out and told. Memory is bounded whatever the lines hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any, cast
from zlib import crc32

from msgspec import UNSET, DecodeError, Raw, Struct, UnsetType, ValidationError
from msgspec.json import Decoder
from msgspec.structs import asdict, astuple

from tracer.audit import Audit
from tracer.errors import TwtraceError, UsageError
from tracer.lines import (
    LINE_TYPES,
    AnyLine,
    BalanceLine,
    CloseLine,
    ConnectFailedLine,
    ConnectionLine,
    CountersLine,
    EndLine,
    HeldLine,
    Line,
    LostLine,
    OwnerLine,
    SiteLine,
    StartLine,
    StateLine,
    TimeWaitEndLine,
    TimeWaitLine,
)
from tracer.model import (
    SCHEMA,
    UNKNOWN_OWNER,
    Balance,
    Close,
    ConnectFailed,
    Counters,
    End,
    Endpoints,
    Event,
    Frame,
    Grade,
    Held,
    LivePorts,
    Lost,
    Owner,
    Process,
    Site,
    Start,
    State,
    TimeWait,
    TimeWaitEnd,
    Totals,
)
from tracer.tracelines import MAX_LINE, DamagedError, open_trace

__all__ = ["Doubt", "Reader", "open_trace"]

KEPT_DOUBTS = 100
MAX_DOUBTS = 1_000
"""With more than this it is not read further."""

_MAX_ADDRESSES = 65_536
_MAX_OWNER_BYTES = 1 << 24
_MAX_TEXT = 300

_HINT = "give a file of `twtrace record`"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why what was read may not be what was written."""

    line: int
    """By number, from 1; 0: the trace as a whole."""
    text: str
    """May hold hostile text."""

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


class _Kind(Struct):
    """What can be said of a line that is not as it should be."""

    type: str
    schema: Any = None


_LINE: Decoder[Line] = Decoder(AnyLine)
_KIND = Decoder(_Kind)
_OWNER = Decoder(OwnerLine)
_CRC = re.compile(rb',"crc32":[0-9]+}$', re.MULTILINE)
_NO_LINE = (DecodeError, UnicodeDecodeError, RecursionError)
_FAMILIES = {4: AF_INET, 6: AF_INET6}


class Reader:
    """Decodes the lines of one trace; equal owners mostly come back as one object.

    It may read again, from the beginning: doubts are those of the last time.
    """

    def __init__(self) -> None:
        self._owners: dict[bytes, Owner] = {}
        self._owner_bytes = 0
        self._addresses: dict[int, dict[str, str]] = {4: {}, 6: {}}
        self._unknown_types: set[str] = set()
        self.doubts: list[Doubt] = []
        """The first KEPT_DOUBTS, as they came up."""
        self.doubted = 0
        """How many there are in all."""
        self._made: dict[type[Line], Callable[[Any], Event]] = {
            StateLine: self._state,
            HeldLine: self._held,
            CloseLine: self._close,
            ConnectFailedLine: self._connect_failed,
            TimeWaitLine: self._time_wait,
            TimeWaitEndLine: self._time_wait_end,
            SiteLine: self._site,
            LostLine: _lost,
            CountersLine: self._counters,
        }

    def read(self, lines: Iterable[bytes]) -> Iterator[Start | Event | End]:
        """What the lines say, in order: a Start, events, and an End if there is one.

        What cannot be so is left out, and noted in `doubts`. Raises TwtraceError if it is no trace, one of a
        later schema, more than one, or if there are more than MAX_DOUBTS.
        """
        self.doubts, self.doubted = [], 0
        self._unknown_types.clear()
        numbered = enumerate(lines, 1)
        start, crc = self._first(numbered)
        audit = Audit(start, self._doubt)
        yield _start(start)
        end: EndLine | None = None
        end_crc = number = 1
        try:
            for number, line in numbered:
                parsed = self._parsed(number, line)
                if parsed is None:
                    pass
                elif isinstance(parsed, StartLine):
                    raise UsageError("a second `start` line", "give one trace at a time")
                elif end is not None:
                    self._doubt(number, "after the `end` line: left out")
                elif isinstance(parsed, EndLine):
                    end, end_crc = parsed, crc32(_CRC.sub(b"}", line), crc)
                    yield _end(end)
                else:
                    event = self._event(number, parsed)
                    if event is not None and audit.admits(number, line, parsed, event):
                        yield event
                crc = crc32(line, crc)
        except DamagedError as error:
            self._doubt(number + 1, error.cause)
        audit.close(end, end_crc)

    def _first(self, numbered: Iterable[tuple[int, bytes]]) -> tuple[StartLine, int]:
        """The `start` line, and its checksum."""
        try:
            for _, line in numbered:
                return _start_line(line), crc32(line)
        except DamagedError as error:
            raise UsageError(f"this is no trace: {error.cause}", error.hint) from error
        raise UsageError("this is no trace: it is empty", _HINT)

    def _parsed(self, number: int, line: bytes) -> Line | None:
        if len(line) > MAX_LINE:
            self._doubt(number, f"longer than {MAX_LINE:,} bytes: left out")
        elif not line.endswith(b"\n"):
            self._doubt(number, "cut off: left out")
        else:
            try:
                return _LINE.decode(line)
            except _NO_LINE as error:
                kind = _kind(line)
                if kind is None or kind.type in LINE_TYPES:
                    self._doubt(number, f"left out: {_why(error)}")
                elif kind.type not in self._unknown_types:
                    self._unknown_types.add(kind.type)
                    self._doubt(number, f"unknown type {_short(kind.type)}: such lines are left out")
        return None

    def _event(self, number: int, line: Line) -> Event | None:
        try:
            return self._made[type(line)](line)
        except _NO_LINE as error:
            self._doubt(number, f"left out: {_why(error)}")
            return None

    def _doubt(self, line: int, text: str) -> None:
        self.doubted += 1
        if len(self.doubts) < KEPT_DOUBTS:
            self.doubts.append(Doubt(line, text))
        if line and self.doubted > MAX_DOUBTS:
            raise TwtraceError(
                f"more than {MAX_DOUBTS:,} lines are not as they should be, the last is line {line}: {text}",
                f"was it edited? the first is {self.doubts[0]}",
            )

    def _state(self, line: StateLine) -> State:
        return State(
            line.ts_us,
            self._ends(line),
            self._owner(line.owner),
            line.old,
            line.new,
            line.dwell_us,
            line.context,
        )

    def _held(self, line: HeldLine) -> Held:
        return Held(
            line.ts_us,
            self._ends(line),
            self._owner(line.owner),
            line.state,
            line.preexisting is True,
            line.role,
            _number(line.site),
        )

    def _close(self, line: CloseLine) -> Close:
        return Close(
            line.ts_us,
            self._ends(line),
            self._owner(line.owner),
            line.role,
            line.first,
            line.how,
            line.via,
            line.age_us,
            cast("dict[str, int]", line.states),
            line.time_wait,
            self._owner(line.opener),
            self._owner(line.closer),
            line.overflow is True,
            line.bound is True,
            _number(line.site),
        )

    def _connect_failed(self, line: ConnectFailedLine) -> ConnectFailed:
        return ConnectFailed(line.ts_us, self._ends(line), self._owner(line.owner), line.error, line.cause)

    def _time_wait(self, line: TimeWaitLine) -> TimeWait:
        return TimeWait(
            line.ts_us,
            self._ends(line),
            self._owner(line.owner),
            line.substate,
            line.preexisting is True,
        )

    def _time_wait_end(self, line: TimeWaitEndLine) -> TimeWaitEnd:
        return TimeWaitEnd(
            line.ts_us,
            self._ends(line),
            self._owner(line.owner),
            line.lifetime_us,
            line.fin_wait2_us,
            line.reason,
            None if bytes(line.by) == b"null" else self._owner(line.by),
            line.rearmed,
            line.preexisting is True,
        )

    def _site(self, line: SiteLine) -> Site:
        frames = tuple(Frame(**_FRAME | _known(frame)) for frame in line.frames)
        return Site(line.ts_us, line.site, line.what, self._owner(line.owner), frames, line.whole)

    def _counters(self, line: CountersLine) -> Counters:
        live = tuple(
            LivePorts(
                ports.netns,
                ports.family,
                self._address(ports.family, ports.saddr),
                self._address(ports.family, ports.daddr),
                ports.dport,
                ports.ports,
            )
            for ports in line.live
        )
        return Counters(line.ts_us, line.kernel, _ledger(line.ledger), live, line.sysctl)

    def _ends(self, line: ConnectionLine) -> Endpoints:
        family = line.family
        known = self._addresses[family]
        saddr, daddr = known.get(line.saddr), known.get(line.daddr)
        return Endpoints(
            line.conn,
            line.netns,
            family,
            saddr or self._address(family, line.saddr),
            line.sport,
            daddr or self._address(family, line.daddr),
            line.dport,
        )

    def _address(self, family: int, text: str) -> str:
        """The address as the kernel's functions write it, so that each is told in one way alone."""
        try:
            kind = _FAMILIES[family]
            address = inet_ntop(kind, inet_pton(kind, text))
        except (OSError, ValueError) as error:  # ValueError: a NUL in it
            raise ValidationError(f"no IPv{family} address: {_short(text)}") from error
        known = self._addresses[family]
        if len(known) >= _MAX_ADDRESSES:
            known.clear()
        known[text] = address
        return address

    def _owner(self, raw: Raw) -> Owner:
        key = bytes(raw)
        owner = self._owners.get(key)
        if owner is None:
            owner = _owner(key)
            self._owner_bytes += len(key)
            if self._owner_bytes > _MAX_OWNER_BYTES:
                self._owners.clear()
                self._owner_bytes = len(key)
            self._owners[key] = owner
        return owner


_FRAME: dict[str, Any] = dict.fromkeys(Frame._fields) | {"inlined": False}


def _number(value: int | UnsetType) -> int | None:
    return None if value is UNSET else value


def _start_line(line: bytes) -> StartLine:
    why = "its first line is not a `start` line"
    if len(line) <= MAX_LINE and line.endswith(b"\n"):
        try:
            parsed = _LINE.decode(line)
        except _NO_LINE as error:
            kind = _kind(line)
            if kind and kind.type == "start":
                if kind.schema != SCHEMA:
                    raise UsageError(
                        f"this trace is of schema {_short(kind.schema)}, not {SCHEMA}",
                        "read it with a newer twtrace",
                    ) from error
                why = f"its `start` line is none: {_why(error)}"
        else:
            if isinstance(parsed, StartLine):
                return parsed
    raise UsageError(f"this is no trace: {why}", _HINT)


def _kind(line: bytes) -> _Kind | None:
    try:
        return _KIND.decode(line)
    except _NO_LINE:
        return None


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)[:_MAX_TEXT]


def _short(value: object) -> str:
    return repr(value)[:_MAX_TEXT]


def _owner(text: bytes) -> Owner:
    try:
        line = _OWNER.decode(text)
    except DecodeError as error:
        raise ValidationError(f"{error}, of an owner") from error
    known = _known(line)
    grade = Grade(known.pop("grade"))
    return UNKNOWN_OWNER if grade is Grade.UNKNOWN else Owner(grade, Process(**{"start_us": 0, **known}))


def _known(line: Struct) -> dict[str, Any]:
    return {name: value for name, value in asdict(line).items() if value is not UNSET}


def _lost(line: LostLine) -> Lost:
    return Lost(line.ts_us, line.what, line.count)


def _start(line: StartLine) -> Start:
    fields = {name: value for name, value in asdict(line).items() if value is not UNSET}
    del fields["schema"]
    return Start(**{**fields, "clock": _known(line.clock)})


def _end(line: EndLine) -> End:
    totals, waits = line.totals, line.totals.time_wait
    told = Totals(
        totals.lines,
        waits.born,
        waits.preexisting,
        cast("dict[str, int]", waits.ended),
        totals.kernel,
        waits.overflowed,
        _ledger(totals.ledger),
    )
    return End(line.ts_us, told, line.lost, line.duration_us)


def _ledger(ledger: dict[str, BalanceLine]) -> dict[str, Balance]:
    return {netns: Balance(*astuple(balance)) for netns, balance in ledger.items()}
