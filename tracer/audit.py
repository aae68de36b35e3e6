"""What must hold of a trace as a whole: each fact once, in an order that writing allows, and all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from msgspec import UNSET

from tracer.lines import LINE_TYPES, EndLine, Line, StartLine
from tracer.model import DROPPED, Close, ConnectFailed, Event, Lost, State, TimeWait, TimeWaitEnd

Doubting = Callable[[int, str], None]
"""Told the number of a line, or 0 for the trace as a whole, and what is wrong."""

IN_KERNEL = frozenset({"netns", "local_ports", "remote_ports", "family"})
"""Filters that the ledger knows of; the others leave out lines of TIME_WAITs that it counts."""

NO_END = "no `end` line: the trace was cut off, or is still being written"

_REMEMBERED = 1 << 15
_MAX_FOLLOWED = 1 << 20
_MAX_BACK_US = 2_000_000
"""A record may be written this much later than its event: its CPU may be taken away in between."""


class Recent:
    """The last things told of, at least _REMEMBERED of them."""

    def __init__(self) -> None:
        self._new: set[int] = set()
        self._old: set[int] = set()

    def is_new(self, thing: int) -> bool:
        """Was it not told of lately? From now on it was."""
        if thing in self._new or thing in self._old:
            return False
        if len(self._new) >= _REMEMBERED:
            self._old, self._new = self._new, set()
        self._new.add(thing)
        return True


class Audit:
    """Follows the events of a trace as they are read; memory is bounded.

    Rests on how traces are written. A connection is closed once; its TIME_WAIT is born once, and ends once
    and later. What a CPU tells comes nearly in order of time. The `end` line counts what was written.
    """

    def __init__(self, start: StartLine, doubt: Doubting) -> None:
        self._doubt = doubt
        self._has_all_owners = start.filters.keys() <= IN_KERNEL
        self._lines: Counter[type[Line]] = Counter((StartLine,))
        self._told = Recent()
        self._closed = Recent()
        self._ended = Recent()
        self._waiting: set[int] = set()
        self._unborn: set[int] = set()
        self._orphans = 0
        self._latest_us = 0
        self._born: Counter[int] = Counter()
        self._gone: Counter[int] = Counter()
        self._preexisting = 0
        self._reasons: Counter[str] = Counter()
        self._overflowed = 0
        self._lost: Counter[str] = Counter()

    def admits(self, number: int, line: bytes, parsed: Line, event: Event) -> bool:
        """Count an event, or have it left out: it was told before."""
        if isinstance(event, Close):
            is_new = self._close(number, event)
        elif isinstance(event, TimeWait):
            is_new = self._time_wait(number, event)
        elif isinstance(event, TimeWaitEnd):
            is_new = self._time_wait_end(number, event)
        else:
            is_new = self._other(number, line, event)
        if is_new:
            self._lines[type(parsed)] += 1
        return is_new

    def _close(self, number: int, event: Close) -> bool:
        conn = event.ends.conn
        if not self._closed.is_new(conn):
            self._doubt(number, f"a second close of connection {conn}: left out")
            return False
        self._note_time(number, event.ts_us)
        self._overflowed += event.overflow
        return True

    def _time_wait(self, number: int, event: TimeWait) -> bool:
        conn = event.ends.conn
        if conn in self._waiting:
            self._doubt(number, f"a second time_wait of connection {conn}: left out")
            return False
        if conn in self._unborn:
            self._doubt(number, f"the time_wait of connection {conn} comes after its end")
            self._unborn.discard(conn)
            self._orphans -= 1
        elif len(self._waiting) < _MAX_FOLLOWED:
            self._waiting.add(conn)
        else:
            self._has_all_owners = False  # from here on an end may have its beginning without our knowing
        if event.preexisting:
            self._preexisting += 1
        else:
            self._born[event.ends.netns] += 1
        return True

    def _time_wait_end(self, number: int, event: TimeWaitEnd) -> bool:
        conn = event.ends.conn
        if not self._ended.is_new(conn):
            self._doubt(number, f"a second time_wait_end of connection {conn}: left out")
            return False
        self._note_time(number, event.ts_us)
        if conn in self._waiting:
            self._waiting.discard(conn)
        else:
            self._orphans += 1
            if len(self._unborn) < _REMEMBERED:
                self._unborn.add(conn)
        self._gone[event.ends.netns] += 1
        self._reasons[event.reason] += 1
        return True

    def _other(self, number: int, line: bytes, event: Event) -> bool:
        if not self._told.is_new(hash(line)):
            self._doubt(number, "the same as an earlier line: left out")
            return False
        if isinstance(event, State | ConnectFailed):
            self._note_time(number, event.ts_us)
        elif isinstance(event, Lost):
            self._lost[event.what] += event.count
        return True

    def _note_time(self, number: int, ts_us: int) -> None:
        if ts_us < self._latest_us - _MAX_BACK_US:
            seconds = (self._latest_us - ts_us) / 1e6
            self._doubt(number, f"{seconds:,.1f} s earlier than a line before it: out of order?")
        self._latest_us = ts_us

    def close(self, end: EndLine | None, crc32: int) -> None:
        """Hold it all against the last line; `crc32` is of what that should be of."""
        if end is None:
            self._doubt(0, NO_END)
        else:
            self._compare_lines(end)
            self._compare_time_waits(end)
            if end.crc32 not in (UNSET, crc32):
                self._doubt(0, "not what was written: the checksum (crc32) of the `end` line is another")
        lost = sum(self._lost.values())
        if self._has_all_owners and self._orphans > lost:
            self._doubt(0, f"{self._orphans:,} TIME_WAITs end whose beginning is not in the trace")

    def _compare_lines(self, end: EndLine) -> None:
        self._lines[EndLine] += 1
        for kind, made in LINE_TYPES.items():
            self._compare(f"{kind} lines", end.totals.lines.get(kind, 0), self._lines[made])
        for what in sorted(end.lost.keys() | self._lost.keys()):
            self._compare(f"lost {what}", end.lost.get(what, 0), self._lost[what])

    def _compare_time_waits(self, end: EndLine) -> None:
        waits = end.totals.time_wait
        born, gone = self._born.total(), self._gone.total()
        slack = end.lost.get(DROPPED, 0)  # such lines are in the totals
        self._compare("TIME_WAITs born", waits.born, born, slack)
        self._compare("TIME_WAITs from before", waits.preexisting, self._preexisting, slack)
        told = Counter[str](waits.ended)
        for reason in sorted(told.keys() | self._reasons.keys()):
            self._compare(f"TIME_WAITs {reason}", told[reason], self._reasons[reason], slack)
        self._compare("TIME_WAITs remaining", waits.remaining, born + self._preexisting - gone, slack)
        self._compare("closes without room for a TIME_WAIT", waits.overflowed, self._overflowed, slack)
        if self._has_all_owners:
            for netns, balance in end.totals.ledger.items():
                where = f"in the ledger of netns {netns}"
                self._compare(f"TIME_WAITs born {where}", balance.born, self._born[int(netns)], slack)
                self._compare(f"TIME_WAITs ended {where}", balance.ended, self._gone[int(netns)], slack)

    def _compare(self, what: str, told: int, counted: int, slack: int = 0) -> None:
        if abs(told - counted) > slack:
            self._doubt(0, f"{what}: {told:,} by the `end` line, {counted:,} by the lines read")
