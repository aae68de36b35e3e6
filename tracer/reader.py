"""A trace read back: the same events again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from tracer.errors import TwtraceError, UsageError, say
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

Json = dict[str, Any]

_OWNERS = frozenset({"owner", "opener", "closer", "by"})

_HINT = "was it edited, or cut in the middle? the lines before it are good"


@contextmanager
def open_trace(path: str) -> Iterator[BinaryIO]:
    """The lines of a trace; `-` is standard input. Raises UsageError."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", "give a file of `twtrace record`"
        ) from error


class Reader:
    """Decodes lines; equal owners come back as one object."""

    def __init__(self) -> None:
        self._owners: dict[bytes, Owner] = {}

    def read(self, lines: Iterable[bytes]) -> Iterator[Start | Event | End]:
        """What the lines say, in order.

        A last line without its newline is left out with a warning: the trace was
        cut off. Any other that cannot be read raises TwtraceError with its number.
        """
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                say(f"warning: line {number} is cut off: read up to the line before")
                return
            try:
                yield self._decode(orjson.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise TwtraceError(f"line {number} is no line of a trace: {error!r}", _HINT) from error

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
