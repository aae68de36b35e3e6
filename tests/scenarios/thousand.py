"""Mini-sockets of mixed fate, a thousand of them or as many as are asked for.

    python -m tests.scenarios.thousand [COUNT]

Needs root. A ninth each stays in TIME_WAIT, stays in FIN_WAIT2, turns from
one to the other, is killed by `ss -K`, reused by a bound connect, ended by a
reset, ended by data that is answered with a reset, replaced by a new SYN; the
namespace of one more ninth ends. Tells in one line of JSON what a ledger must
say; the namespace stays until standard input ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import Any

from tests.scenarios.actors import Actor, bound_to_parent
from tests.scenarios.world import KERNEL, World, until

_SETTINGS = {"tcp_tw_reuse": "0", "tcp_max_tw_buckets": "100000"}


class Group:
    """Connections of one client process to one server process, all alike."""

    def __init__(self, world: World, name: str, count: int, sports: list[int] | None = None) -> None:
        self.world = world
        self.count = count
        self.client = world.actor(f"{name}-c")
        self.server = world.actor(f"{name}-s")
        self.connect(sports or [0] * count)

    def connect(self, sports: list[int]) -> None:
        """Connections from those ports; 0 is any."""
        self.port = self.world.listen(self.server)
        reuse = [[1, 2, 1]]  # SOL_SOCKET, SO_REUSEADDR
        rows = [
            [str(number), self.world.family, self.port, sport, reuse] for number, sport in enumerate(sports)
        ]
        made = self.client.do("many", "connect", rows)
        if failed := [one for one in made if isinstance(one, str)]:
            raise RuntimeError(f"connect: {Counter(failed)}")
        self.sports = [sport for _, sport, _, _ in made]
        self.server.do("many", "accept", [[str(number)] for number in range(len(sports))])
        for actor, step in (
            (self.client, "send"),
            (self.server, "receive"),
            (self.server, "send"),
            (self.client, "receive"),
        ):
            self.each(actor, step)

    def each(self, actor: Actor, step: str) -> Any:
        """That step with each of its connections."""
        return actor.do("many", step, [[str(number)] for number in range(self.count)])

    def wait(self, actor: Actor, state: str) -> None:
        """Until all of its sockets are in that state."""
        until(lambda: set(self.each(actor, "state")) == {state}, f"{self.count} in {state}")

    def minis(self, substate: str) -> int:
        """How many mini-sockets there are between the two, in that state."""
        return sum(
            row.mini and row.state == substate
            for (_, sport, _, dport), rows in self.world.rows().items()
            for row in rows
            if self.port in (sport, dport)
        )

    def wait_minis(self, substate: str, count: int) -> None:
        until(lambda: self.minis(substate) == count, f"{count} mini-sockets in {substate}")

    def close(self, first: Actor, second: Actor | None) -> None:
        """`first` closes, by shutdown() and close(); `second`, if it does, in between."""
        if second is None:
            self.each(first, "close")
            self.wait_minis("FIN_WAIT2", self.count)
            return
        first.do("many", "shutdown", [[str(number), 1] for number in range(self.count)])
        self.wait(first, "FIN_WAIT2")
        self.each(second, "close")
        self.wait_minis("TIME_WAIT", self.count)
        self.each(first, "close")

    def connect_again_and_reset(self) -> None:
        """From the same ports; those connections leave no TIME_WAIT."""
        self.connect(self.sports)
        self.each(self.client, "reset")
        self.wait(self.server, "CLOSE")
        self.each(self.server, "close")


def main(count: int) -> None:
    """Make them."""
    bound_to_parent("thousand")
    each = count // 9
    world = World("4", _SETTINGS)
    ended: Counter[str] = Counter()

    stays = Group(world, "stays", count - 8 * each)
    stays.close(stays.client, stays.server)
    half = Group(world, "half", each)
    half.close(half.client, None)
    turns = Group(world, "turns", each)
    turns.close(turns.server, None)
    turns.each(turns.client, "close")
    turns.wait_minis("TIME_WAIT", each)

    victims = Group(world, "victim", each)
    victims.close(victims.server, victims.client)
    killer = world.kill_all("time-wait", f"sport = :{victims.port}")
    if KERNEL >= (6, 1):  # before, tcp_abort() refuses mini-sockets
        victims.wait_minis("TIME_WAIT", 0)
        ended["killed"] = each

    reused = Group(world, "reused", each)
    reused.close(reused.client, reused.server)
    reused.connect_again_and_reset()
    replaced = Group(world, "replaced", each)
    replaced.close(replaced.server, replaced.client)
    replaced.connect_again_and_reset()
    reset = Group(world, "reset", each)
    reset.close(reset.client, None)
    reset.each(reset.server, "reset")
    reset.wait_minis("FIN_WAIT2", 0)
    answered = Group(world, "answered", each)
    answered.close(answered.client, None)
    answered.each(answered.server, "send")
    answered.wait_minis("FIN_WAIT2", 0)
    answered.wait(answered.server, "CLOSE")
    for reason in ("reused", "replaced", "reset", "reset_sent"):
        ended[reason] = each

    inner = _inner(each)
    ended["netns_exit"] = each
    sys.stdout.write(
        json.dumps(
            {
                "netns": world.netns,
                "inner": inner,
                "born": count,
                "ended": ended,
                "remaining": world.time_waits(),
                "counted": world.counter("TW") + world.counter("TWKilled"),
                "killer": killer["pid"],
            }
        )
        + "\n"
    )
    sys.stdout.flush()
    sys.stdin.read()


def _inner(count: int) -> dict[str, int]:
    """A namespace that ends with the process that made it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            bound_to_parent("inner")
            world = World("4", _SETTINGS)
            group = Group(world, "inner", count)
            group.close(group.client, group.server)
            world.wait_settled()
            world.leave()
            counted = world.counter("TW") + world.counter("TWKilled")
            os.write(writer, json.dumps({"netns": world.netns, "counted": counted}).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = file.read()
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the inner namespace failed")
    found: dict[str, int] = json.loads(told)
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
