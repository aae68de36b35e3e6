"""A trace that begins and ends amid a run: its account is of its own time alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tracer.model import (
    UNKNOWN_OWNER,
    Balance,
    Counters,
    Event,
    Held,
    Start,
    TimeWait,
    TimeWaitEnd,
)
from tracer.record import Encoder
from tracer.tracefile import TraceFile

_NOTHING = Balance(0, 0, 0, 0, None, None)


class Recording:
    """One such trace, from its `start` line to its `end` line.

    A TIME_WAIT that is there when it begins is preexisting and of unknown owner, as in any trace (a reader
    of this one cannot see where the owner was seen), though its end tells the owner.
    """

    def __init__(
        self, trace: TraceFile, start: Start, here: Iterable[TimeWait | Held], base: Counters
    ) -> None:
        """`base` is the run's account as of now; nothing is written yet."""
        self._trace = trace
        self._encoder = Encoder()
        self._base = base
        self._began_us = base.ts_us
        began = [_found(one, base.ts_us) for one in here]
        self._older = {one.ends.conn for one in began if isinstance(one, TimeWait)}
        self._head = [
            self._encoder.start(replace(start, ts_us=base.ts_us)),
            *map(self._encoder.event, began),
            self._encoder.event(self._rebased(base)),
        ]

    @property
    def path(self) -> str:
        """Where it goes."""
        return self._trace.path

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._trace.size

    def write(self, events: Iterable[Event]) -> None:
        """Append events. Raises TwtraceError when it cannot; what was written stays."""
        head, self._head = self._head, []
        self._trace.write([*head, *(self._encoder.event(self._own(event)) for event in events)])

    def finish(self, account: Counters) -> None:
        """Write the last line, and close; `account` is the run's as of now."""
        try:
            self.write([])
            own = self._rebased(account)
            now_us = account.ts_us
            _, line = self._encoder.end(now_us, now_us - self._began_us, own.kernel, own.ledger)
            self._trace.write([line])
        finally:
            self._trace.close()

    def abandon(self) -> None:
        """Close it as it is."""
        self._trace.close()

    def _own(self, event: Event) -> Event:
        if isinstance(event, Counters):
            return self._rebased(event)
        if isinstance(event, TimeWaitEnd) and event.ends.conn in self._older:
            self._older.discard(event.ends.conn)
            return event._replace(preexisting=True)
        return event

    def _rebased(self, now: Counters) -> Counters:
        base = self._base
        return replace(
            now,
            kernel={what: number - base.kernel.get(what, 0) for what, number in now.kernel.items()},
            ledger={
                netns: _since(balance, base.ledger.get(netns, _NOTHING))
                for netns, balance in now.ledger.items()
            },
        )


def _found(one: TimeWait | Held, now_us: int) -> TimeWait | Held:
    found = one._replace(ts_us=now_us, preexisting=True)
    return found._replace(owner=UNKNOWN_OWNER) if isinstance(found, TimeWait) else found


def _since(now: Balance, base: Balance) -> Balance:
    return replace(
        now,
        born=now.born - base.born,
        preexisting=base.expected + now.preexisting - base.preexisting,
        ended=now.ended - base.ended,
    )
