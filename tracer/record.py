"""The trace: events to lines of JSON and back (schema 1 of the contract)."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import orjson

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
    Start,
    TimeWait,
    TimeWaitEnd,
    Totals,
)

_TYPES: dict[type, str] = {made: kind for kind, made in CONNECTION_EVENTS.items()} | {
    Lost: "lost",
    Counters: "counters",
}


class Encoder:
    """Events to lines, and the count of them for the `end` line."""

    def __init__(self) -> None:
        self._owners: dict[int, tuple[Owner, orjson.Fragment]] = {}
        self._lines: Counter[str] = Counter()
        self._overflowed = 0
        self._born = 0
        self._preexisting = 0
        self._ended: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def start(self, start: Start) -> bytes:
        """The first line."""
        self._lines["start"] += 1
        return _line({"type": "start", "schema": SCHEMA, **asdict(start)})

    def note(self, event: Event) -> None:
        """Count an event whose line nobody wants."""
        self._lines[_TYPES[type(event)]] += 1
        if isinstance(event, Lost):
            self._lost[event.what] += event.count
        elif isinstance(event, TimeWaitEnd):
            self._ended[event.reason] += 1
        elif isinstance(event, Close):
            self._overflowed += event.overflow
        elif isinstance(event, TimeWait):
            self._preexisting += event.preexisting
            self._born += not event.preexisting

    def event(self, event: Event) -> bytes:
        """One line of the middle, counted."""
        self.note(event)
        kind = _TYPES[type(event)]
        if isinstance(event, Lost):
            return _line({"type": kind, **asdict(event)})
        if isinstance(event, Counters):
            return _line({"type": kind, **asdict(event), "live": [held._asdict() for held in event.live]})
        line: dict[str, object] = {"type": kind, "ts_us": event.ts_us}
        line |= event.ends._asdict()
        line["owner"] = self._owner(event.owner)
        if isinstance(event, Close):
            line |= {
                "role": event.role,
                "first": event.first,
                "how": event.how,
                "via": event.via,
                "age_us": event.age_us,
                "states": event.states,
                "time_wait": event.time_wait,
                "opener": self._owner(event.opener),
                "closer": self._owner(event.closer),
            }
            if event.overflow:
                line["overflow"] = True
            if event.bound:
                line["bound"] = True
        elif isinstance(event, ConnectFailed):
            line |= {"error": event.error, "cause": event.cause}
        elif isinstance(event, TimeWait):
            line["substate"] = event.substate
            self._note_preexisting(line, event.preexisting)
        elif isinstance(event, TimeWaitEnd):
            line |= {
                "lifetime_us": event.lifetime_us,
                "fin_wait2_us": event.fin_wait2_us,
                "reason": event.reason,
                "by": None if event.by is None else self._owner(event.by),
                "rearmed": event.rearmed,
            }
            self._note_preexisting(line, event.preexisting)
        elif isinstance(event, Held):
            line |= {"state": event.state, "role": event.role}
            self._note_preexisting(line, event.preexisting)
        else:
            line |= {
                "old": event.old,
                "new": event.new,
                "dwell_us": event.dwell_us,
                "context": event.context,
            }
        return _line(line)

    def end(
        self, ts_us: int, duration_us: int, kernel: dict[str, int], ledger: dict[str, Balance]
    ) -> tuple[End, bytes]:
        """The last line, and what it says."""
        self._lines["end"] += 1
        totals = Totals(
            dict(self._lines),
            self._born,
            self._preexisting,
            dict(self._ended),
            kernel,
            self._overflowed,
            ledger,
        )
        end = End(ts_us, totals, dict(self._lost), duration_us)
        return end, _line(
            {
                "type": "end",
                "ts_us": ts_us,
                "totals": {
                    "lines": totals.lines,
                    "time_wait": {
                        "born": totals.born,
                        "preexisting": totals.preexisting,
                        "ended": totals.ended,
                        "remaining": totals.remaining,
                        "overflowed": totals.overflowed,
                    },
                    "kernel": kernel,
                    "ledger": {netns: asdict(balance) for netns, balance in ledger.items()},
                },
                "lost": end.lost,
                "duration_us": duration_us,
            }
        )

    @staticmethod
    def _note_preexisting(line: dict[str, object], preexisting: bool) -> None:
        if preexisting:
            line["preexisting"] = True

    def _owner(self, owner: Owner) -> orjson.Fragment:
        # By identity: hashing an owner costs more than encoding it. The owner is
        # kept beside its text, so that no other can take over its identity.
        known = self._owners.get(id(owner))
        if known is None:
            known = self._owners[id(owner)] = owner, orjson.Fragment(orjson.dumps(owner_json(owner)))
            if len(self._owners) > _MAX_OWNERS:
                self._owners.clear()
        return known[1]


_MAX_OWNERS = 65_536


def owner_json(owner: Owner) -> dict[str, object]:
    """An owner as the contract has it: what is not known is left out, but pid and comm are null."""
    if owner.process is None:
        return {"pid": None, "comm": None, "grade": owner.grade.value}
    process = {name: value for name, value in asdict(owner.process).items() if value is not None}
    return {"pid": process.pop("pid"), "comm": process.pop("comm"), "grade": owner.grade.value, **process}


def _line(value: dict[str, object]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
