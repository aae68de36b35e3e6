"""Every birth, end and closing way of a TCP connection, and what a trace must say of each.

    python -m tests.scenarios.life [SCENARIO...]

Needs root. Each scenario plays in a network namespace of its own, several at once.
A line of JSON for each that has played: its namespace, the lines a trace must
have of it (`lines`), and the mini-sockets in the kernel's dump at its end
(`waiting`, between the two times of `listed_us`). Then the namespaces stay, so
that what waits can expire: a last line comes when the kernel has no mini-socket
left, and the program ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import NoReturn

from tests.scenarios import closings, lives
from tests.scenarios.actors import bound_to_parent
from tests.scenarios.script import SCENARIOS, Scenario
from tests.scenarios.world import Line, World

__all__ = ["SCENARIOS", "closings", "lives"]


_AT_ONCE = 8
"""More tasks than cores, but in an emulated guest not so many that programs are preempted by the dozen."""

_AGAIN = 2
"""Times that a scenario plays again, in a new namespace, which the kernel did not let come about: a
starved guest's packets come late or twice. Nothing of the tracer decides it; each time is told."""
_TELLING = ("RetransSegs", "OutRsts", "EstabResets", "TCPTimeouts", "DelayedACKs", "TWKilled", "TWRecycled")


@dataclass
class _Playing:
    """A scenario's process, seen from the program that started it."""

    name: str
    pid: int
    go: int
    told: int
    pending: bytes = b""

    def start(self) -> None:
        os.write(self.go, b"g")


def _start(one: Scenario) -> _Playing:
    may_go, go = os.pipe()
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go)
        os.close(told)
        _play(one, may_go, tell)
    os.close(may_go)
    os.close(tell)
    return _Playing(one.name, pid, go, told)


def _play(one: Scenario, may_go: int, tell: int) -> NoReturn:
    told: Line = {"scenario": one.name, "pid": os.getpid()}
    try:
        bound_to_parent(f"life/{one.name}"[:15])
        began_us = time.time_ns() // 1000
        world = World(one.family, one.settings, one.haste)
        told["netns"] = world.netns
        _tell(tell, {})
        os.read(may_go, 1)
        failures: list[str] = []
        outcome = _outcome(one, world)
        while "failed" in outcome and len(failures) < _AGAIN:
            failures.append(outcome["failed"])
            began_us = time.time_ns() // 1000
            world = World(one.family, one.settings, one.haste)
            outcome = _outcome(one, world)
        _tell(tell, told | {"netns": world.netns, "began_us": began_us, "failures": failures} | outcome)
        while world.time_waits():
            time.sleep(1)
        _tell(tell, {})
        signal.pause()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(1)


def _outcome(one: Scenario, world: World) -> Line:
    began = time.monotonic()
    try:
        one.play(world)
        world.wait_settled()
        if not one.haste:
            # A SYN sent again by a guest that had no time is no harm; a FIN would re-arm a TIME_WAIT.
            world.counted(RetransSegs=world.counter("TCPSynRetrans"))
        before = time.time_ns() // 1000
        waiting = world.waiting()
        listed = [before, time.time_ns() // 1000]
        world.leave()
    except Exception:  # the test reports it  # noqa: BLE001
        happened = {name: number for name in _TELLING if (number := world.counter(name))}
        return {"failed": f"{traceback.format_exc()}{happened}\n", "lines": world.lines}
    seconds = round(time.monotonic() - began, 2)
    return {"lines": world.lines, "waiting": waiting, "listed_us": listed, "seconds": seconds}


def _tell(to: int, what: Line) -> None:
    content = json.dumps(what).encode() + b"\n"
    while content:
        content = content[os.write(to, content) :]


def _say(line: Line) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class _Audience:
    """Hears all that play, until our standard input ends."""

    def __init__(self, playing: list[_Playing]) -> None:
        self._playing = playing
        self._selector = selectors.PollSelector()  # poll() takes any kind of standard input
        for one in playing:
            self._selector.register(one.told, selectors.EVENT_READ, one)

    def hear_all(self, say: Callable[[Line], None] | None = None) -> None:
        """One more line from each."""
        missing = {one.name for one in self._playing if not self._hear(one, say)}
        while missing:
            for key, _ in self._selector.select():
                if key.data is None:
                    if not os.read(key.fd, 1 << 16):
                        sys.exit()
                    continue
                one: _Playing = key.data
                if not (content := os.read(one.told, 1 << 16)):
                    sys.exit(f"{one.name} ended")
                one.pending += content
                if one.name in missing and self._hear(one, say):
                    missing.discard(one.name)

    @staticmethod
    def _hear(one: _Playing, say: Callable[[Line], None] | None) -> bool:
        """Whether it has told a whole line."""
        line, separator, rest = one.pending.partition(b"\n")
        if separator:
            one.pending = rest
            if say:
                say(json.loads(line))
        return bool(separator)

    def hear_input(self) -> None:
        """From here on, an end of standard input ends the program."""
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)


def main(names: list[str]) -> None:
    """Play those scenarios, or all."""
    if unknown := set(names) - SCENARIOS.keys():
        sys.exit(f"no such scenario: {', '.join(sorted(unknown))}; there are: {', '.join(SCENARIOS)}")
    began = time.monotonic()
    playing = [_start(SCENARIOS[name]) for name in names or SCENARIOS]
    try:
        audience = _Audience(playing)
        # All namespaces are there before the first one goes: inode numbers are given out again.
        audience.hear_all()
        ready = reversed(playing)  # those that take their time are among the last
        for one in islice(ready, _AT_ONCE):
            one.start()

        def hear(line: Line) -> None:
            _say(line)
            for one in islice(ready, 1):
                one.start()

        audience.hear_all(hear)
        _say({"played": len(playing), "seconds": round(time.monotonic() - began, 2)})
        audience.hear_input()
        audience.hear_all()
        _say({"gone": True, "seconds": round(time.monotonic() - began, 2)})
        sys.stdin.read()
    finally:
        for one in playing:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
