"""A trace from its `start` line to its `end` line, of a whole run or of a time amid one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tracer.model import (
    DROPPED,
    UNKNOWN_OWNER,
    Balance,
    Close,
    Counters,
    End,
    Event,
    Held,
    Lost,
    Site,
    Start,
    TimeWait,
    TimeWaitEnd,
)
from tracer.record import Encoder
from tracer.writing import Writer

_NOTHING = Balance(0, 0, 0, 0, None, None)
_CHUNK = 1024
"""Events between two looks at how much waits for the disk."""


class Here:
    """What a trace that begins now finds there: TIME_WAITs, and half-closed sockets that are held."""

    def __init__(self) -> None:
        self._here: dict[int, TimeWait | Held] = {}

    def take(self, events: Iterable[Event]) -> None:
        """Take in events."""
        here = self._here
        for event in events:
            if isinstance(event, TimeWait | Held):
                here[event.ends.conn] = event
            elif isinstance(event, Close | TimeWaitEnd):
                here.pop(event.ends.conn, None)

    def forget(self, conns: Iterable[int]) -> None:
        """These are over, or a TIME_WAIT of them is."""
        for conn in self._here.keys() & conns:
            del self._here[conn]

    def now(self) -> list[TimeWait | Held]:
        """All of it."""
        return list(self._here.values())


class Recording:
    """One trace.

    Its account is of its own time alone. A TIME_WAIT that is there when it begins is preexisting and of
    unknown owner, as in any trace (a reader of this one cannot see where the owner was seen), though its
    end tells the owner.
    """

    def __init__(
        self,
        writer: Writer,
        start: Start,
        here: Sequence[TimeWait | Held] = (),
        base: Counters | None = None,
    ) -> None:
        """`base` is the run's account as of now, if the trace begins amid the run; nothing is written yet."""
        self._writer = writer
        self._encoder = Encoder()
        self._base = base
        self._dropped = 0
        self._began_us = base.ts_us if base else start.ts_us
        self._latest_us = self._began_us
        began = [_found(one, self._began_us) for one in here]
        self._older = {one.ends.conn for one in began if isinstance(one, TimeWait)}
        self._head = [
            self._encoder.start(replace(start, ts_us=self._began_us)),
            *map(self._encoder.event, began),
            *([self._encoder.event(self._rebased(base))] if base else []),
        ]

    @property
    def path(self) -> str:
        """Where it goes."""
        return self._writer.path

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._writer.size

    @property
    def began_us(self) -> int:
        """When."""
        return self._began_us

    def write(self, events: Sequence[Event]) -> None:
        """Append events, or count them as lost while too much waits for the disk.

        Raises TwtraceError or BrokenPipeError when it cannot; what was written stays.
        """
        head, self._head = self._head, []
        if head:
            self._writer.put(head)
        for at in range(0, len(events), _CHUNK):
            self._write_some(events[at : at + _CHUNK])

    def finish(self, account: Counters, *, wait: bool = True) -> End:
        """Have the last line written and the file closed; `account` is the run's as of now.

        With `wait` all of it is in the file then.
        """
        self.write([])
        if self._dropped:
            self._writer.put([self._tell_dropped()])
        own = self._rebased(account)
        now_us = account.ts_us
        end, line = self._encoder.end(now_us, now_us - self._began_us, own.kernel, own.ledger)
        self._writer.put([line])
        if wait:
            self._writer.close()
        else:
            self._writer.end()
        return end

    def so_far(self, now_us: int) -> End:
        """What the last line would say now, but for the kernel's own account."""
        return self._encoder.so_far(now_us, now_us - self._began_us, {}, {})

    def check(self) -> None:
        """Raise what the writing met, if anything."""
        self._writer.check()

    def flush(self) -> None:
        """Let all so far be in the file soon."""
        self._writer.flush()

    def abandon(self) -> None:
        """Close it as it is. Raises as write() does."""
        self._writer.close()

    def _write_some(self, events: Sequence[Event]) -> None:
        encoder = self._encoder
        self._latest_us = max(self._latest_us, events[-1].ts_us)
        if not self._writer.is_full:
            lines = [self._tell_dropped()] if self._dropped else []
            own = events if self._base is None else map(self._own, events)
            lines += map(encoder.event, own)
            self._writer.put(lines)
            return
        kept = []
        for event in map(self._own, events):
            if isinstance(event, Site | Lost | Counters):  # a few
                kept.append(encoder.event(event))
            else:
                encoder.skip(event)
                self._dropped += 1
        self._writer.put(kept)

    def _tell_dropped(self) -> bytes:
        lost, self._dropped = Lost(self._latest_us, DROPPED, self._dropped), 0
        return self._encoder.event(lost)

    def _own(self, event: Event) -> Event:
        if self._base is None:
            return event
        if isinstance(event, Counters):
            return self._rebased(event)
        if isinstance(event, TimeWaitEnd) and event.ends.conn in self._older:
            self._older.discard(event.ends.conn)
            return event._replace(preexisting=True)
        return event

    def _rebased(self, now: Counters) -> Counters:
        base = self._base
        if base is None:
            return now
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
