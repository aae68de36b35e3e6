"""A trace read back: the same events again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from tracer.errors import TwtraceError
from tracer.model import (
    CONNECTION_EVENTS,
    SCHEMA,
    UNKNOWN_OWNER,
    Balance,
    Counters,
    End,
    Endpoints,
    Event,
    Grade,
    LivePorts,
    Lost,
    Owner,
    Process,
    Start,
    Totals,
)
from tracer.tracelines import MAX_LINE, DamagedError, open_trace

__all__ = ["Doubt", "Reader", "open_trace"]

Json = dict[str, Any]

_OWNERS = frozenset({"owner", "opener", "closer", "by"})

_HINT = "was it edited, or cut in the middle? the lines before it are good"


KEPT_DOUBTS = 100


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why what was read may not be what was written."""

    line: int
    """By number, from 1; 0: the trace as a whole."""
    text: str
    """May hold hostile text."""


class Reader:
    """Decodes lines; equal owners come back as one object."""

    def __init__(self) -> None:
        self._owners: dict[bytes, Owner] = {}
        self.doubts: list[Doubt] = []
        """The first KEPT_DOUBTS, by the line they came up at."""
        self.doubted = 0
        """How many there are in all."""

    def read(self, lines: Iterable[bytes]) -> Iterator[Start | Event | End]:
        """What the lines say, in order; doubts are noted on the way.

        A last line without its newline is left out with a doubt: the trace was
        cut off. Any other that cannot be read raises TwtraceError with its number.
        """
        number = 0
        try:
            for number, line in enumerate(lines, 1):
                if len(line) > MAX_LINE:
                    self._doubt(number, f"longer than {MAX_LINE:,} bytes: left out")
                    continue
                if not line.endswith(b"\n"):
                    self._doubt(number, "cut off: read up to the line before")
                    return
                try:
                    yield self._decode(orjson.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise TwtraceError(f"line {number} is no line of a trace: {error!r}", _HINT) from error
        except DamagedError as error:
            self._doubt(number + 1, error.cause)

    def _doubt(self, line: int, text: str) -> None:
        self.doubted += 1
        if len(self.doubts) < KEPT_DOUBTS:
            self.doubts.append(Doubt(line, text))

    def _decode(self, line: Json) -> Start | Event | End:
        kind = line.pop("type")
        if kind == "start":
            return _start(line)
        if kind == "end":
            return _end(line)
        if kind == "lost":
            return Lost(**line)
        if kind == "counters":
            live = tuple(LivePorts(**held) for held in line.pop("live", ()))
            return Counters(**{**line, "ledger": _ledger(line["ledger"]), "live": live})
        made = CONNECTION_EVENTS[kind]
        ends = Endpoints(*(line.pop(name) for name in Endpoints._fields))
        for name in _OWNERS & line.keys():
            line[name] = line[name] and self._owner(line[name])
        if "preexisting" in made._fields:
            line.setdefault("preexisting", False)
        return made(ends=ends, **line)

    def _owner(self, value: Json) -> Owner:
        if value["grade"] == Grade.UNKNOWN.value:
            return UNKNOWN_OWNER
        key = orjson.dumps(value)
        owner = self._owners.get(key)
        if owner is None:
            grade = Grade(value.pop("grade"))
            owner = self._owners[key] = Owner(grade, Process(**value))
        return owner


def _start(line: Json) -> Start:
    schema = line.pop("schema")
    if schema != SCHEMA:
        raise TwtraceError(f"this trace is of schema {schema}, not {SCHEMA}", "read it with a newer twtrace")
    return Start(**{**line, "argv": tuple(line["argv"])})


def _end(line: Json) -> End:
    totals = line["totals"]
    waits = totals["time_wait"]
    return End(
        line["ts_us"],
        Totals(
            totals["lines"],
            waits["born"],
            waits["preexisting"],
            waits["ended"],
            totals["kernel"],
            waits.get("overflowed", 0),
            _ledger(totals.get("ledger", {})),
        ),
        line["lost"],
        line["duration_us"],
    )


def _ledger(value: Json) -> dict[str, Balance]:
    return {netns: Balance(**balance) for netns, balance in value.items()}
