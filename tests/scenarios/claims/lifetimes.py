"""Whose it is, how long it lasts, and what that is good for."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

from tests.scenarios.claims.lab import (
    Lab,
    Seen,
    agree,
    contradicts,
    experiment,
    hasty_experiment,
    is_a_minute,
    lifetimes,
    seconds,
    shows,
    supports,
)
from tests.scenarios.netlink import mini_sockets
from tests.scenarios.script import FULL_FIN_WAIT2
from tests.scenarios.world import ACK, EXPIRY, LAG, SECOND, until

_MINUTE = 60 * SECOND


@experiment(1)
def who_closes_first(lab: Lab) -> Iterator[Seen]:
    count = 10
    for actor, role, port in (
        (lab.client, "client", lab.serve("second")),
        (lab.server, "server", lab.serve("first")),
    ):
        lab.visit(port, count, first=actor is lab.client)
        lab.wait_time_waits(count, owner=actor)
        side = "dport" if actor is lab.client else "sport"
        agree(
            "in the kernel's list", sum(port == end[1 if side == "sport" else 3] for end in _listed()), count
        )
        whose = lab.told("time_wait", **{side: port})
        owned = sum(line["owner"]["pid"] == actor.pid for line in whose)
        yield supports(f"{role} closes first", f"{owned} of {count} are the {role}'s", owned == count)
    closes = lab.wait_lines("close", 4 * count)
    first = {line["conn"] for line in closes if line["first"] == "local"}
    agree("who sent the first FIN has the TIME_WAIT", first, {line["conn"] for line in lab.told("time_wait")})


def _listed() -> list[tuple[str, int, str, int]]:
    return list(mini_sockets(socket.AF_INET))


@experiment(2, **FULL_FIN_WAIT2)
def how_long(lab: Lab) -> Iterator[Seen]:
    """Ends by themselves; one gets a segment after six seconds."""
    count = 10
    client, server = lab.pair()
    expected = client.next_expected() + 1  # and the FIN
    client.close()
    server.wait("CLOSE_WAIT")
    server.close()
    lab.wait_mini(client, "TIME_WAIT")
    born = time.monotonic()
    lab.visit(lab.serve("second"), count)
    lab.visit(lab.serve("first"), count, first=False)
    lab.wait_time_waits(2 * count + 1)
    time.sleep(max(0.0, born + 6 - time.monotonic()))
    lab.forge(client, ACK, expected)
    ends = lab.wait_all_gone()
    agree("all expired", {line["reason"] for line in ends}, {"expired"})
    plain = lifetimes(line for line in ends if line["sport"] != client.address[1])
    (late,) = (line for line in ends if line["sport"] == client.address[1])
    agree("lifetimes", len(plain), 2 * count)
    yield supports(f"{len(plain)} left alone, 60 s", seconds(plain), is_a_minute(plain))
    yield contradicts("2 or 4 minutes", f"{sum(one > 2 * _MINUTE - LAG for one in plain)} of {len(plain)}",
                      max(plain) < 2 * _MINUTE - LAG)  # fmt: skip
    yield contradicts(
        "one that gets a segment after 6 s",
        f"{seconds(lifetimes([late]))}, timer started anew {late['rearmed']}×",
        EXPIRY[1] < late["lifetime_us"] < EXPIRY[1] + 30 * SECOND and late["rearmed"] == 1,
    )


@hasty_experiment(3, tcp_fin_timeout="5")
def fin_timeout(lab: Lab) -> Iterator[Seen]:
    count = 5
    lab.visit(lab.serve("never"), count)
    halves = lab.wait_lines("time_wait", count, substate="FIN_WAIT2")
    lab.visit(lab.serve("second"), count)
    ends = lab.wait_lines("time_wait_end", count, lifetime_us=None)
    agree("those that ended first", {line["conn"] for line in ends}, {line["conn"] for line in halves})
    short = [line["fin_wait2_us"] for line in ends]
    yield shows(
        "FIN_WAIT2 whose peer does not close, tcp_fin_timeout=5",
        seconds(short),
        all(5 * SECOND - LAG <= one <= 7 * SECOND for one in short),
    )
    agree("TIME_WAITs that outlast them", lab.remaining(), count)
    lab.wait_all_gone()
    times = lifetimes(line for line in lab.told("time_wait_end") if line["lifetime_us"] is not None)
    agree("lifetimes", len(times), count)
    yield contradicts("TIME_WAIT, tcp_fin_timeout=5", seconds(times), is_a_minute(times))


@experiment(4)
def recycle(lab: Lab) -> Iterator[Seen]:
    """4396e46187ca "tcp: remove tcp_tw_recycle" (v4.12)."""
    try:
        lab.set("tcp_tw_recycle", 1)
        outcome = "written"
    except FileNotFoundError:
        outcome = "no such file"
    yield contradicts("writing 1 to net.ipv4.tcp_tw_recycle", outcome, outcome == "no such file")
    count = 5
    lab.visit(lab.serve("second"), count)
    lab.wait_time_waits(count)
    times = lifetimes(lab.wait_all_gone())
    yield contradicts("TIME_WAIT after that", seconds(times), is_a_minute(times))


@hasty_experiment(16, **FULL_FIN_WAIT2)
def last_ack_lost(lab: Lab) -> Iterator[Seen]:
    """The passive side hears nothing more once it has the first FIN."""
    client, server = lab.pair()
    client.close()
    server.wait("CLOSE_WAIT")
    server.deafen()
    server.shutdown()
    lab.wait_mini(client, "TIME_WAIT")
    until(lambda: lab.counter("RetransSegs") >= 4, "the FIN is sent again")
    state = server.actor.do("state", server.name)
    agree("the side without the last ACK", state, "LAST_ACK")
    server.hear()
    server.wait("CLOSE")
    again = lab.counter("RetransSegs")
    server.close()
    yield supports("FIN sent again until it is answered", f"{again}×", again > 0)
    yield supports("then TIME_WAIT's answer ends the peer's LAST_ACK", "closed", True)
    (end,) = lab.wait_all_gone()
    (close,) = lab.told("close", owner=server.actor)
    agree("the passive side's end", (close["how"], close["first"]), ("fin", "remote"))
    waited = close["states"]["LAST_ACK"]
    since = end["lifetime_us"] - waited
    yield supports(
        "TIME_WAIT starts anew",
        f"{end['rearmed']}× at least; it ends {seconds([since])} after the last FIN, "
        f"{seconds([end['lifetime_us']])} after the first",
        end["rearmed"] >= 1 and EXPIRY[0] - SECOND <= since <= EXPIRY[1],
    )


@experiment(17, tcp_keepalive_time="5", tcp_keepalive_intvl="5")
def close_wait(lab: Lab) -> Iterator[Seen]:
    count = 5
    leaker, checks = lab.actor("leaks"), lab.actor("checks")
    served = lab.serve("never", by=leaker)
    checked = lab.serve("never", by=checks)
    checks.do("option", f"listener {checked}", socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    waits = lab.serve("second")
    clients_files, leakers_files = lab.client.do("open_files"), leaker.do("open_files")
    lab.visit(served, count)
    lab.visit(checked)
    lab.visit(waits, 2 * count)
    held = lab.wait_lines("held", count, state="CLOSE_WAIT", owner=leaker)
    ends = lab.wait_all_gone()
    gone = [line for line in ends if line["lifetime_us"] is not None]
    agree("TIME_WAITs", len(gone), 2 * count)
    still = _in_close_wait(lab, served)
    waited = time.time_ns() // 1000 - max(line["ts_us"] for line in held)
    yield supports(
        f"{2 * count} TIME_WAIT, and {count} CLOSE_WAIT of a server that does not close",
        f"after {waited // SECOND} s: {lab.time_waits()} TIME_WAIT, {still} CLOSE_WAIT",
        still == count and waited >= EXPIRY[0],
    )
    kept = [lab.client.do("open_files") - clients_files, leaker.do("open_files") - leakers_files]
    yield supports(
        "file descriptors behind them", f"{kept[0]} of TIME_WAIT, {kept[1]} of CLOSE_WAIT", kept == [0, count]
    )
    until(lambda: not _in_close_wait(lab, checked), "keep-alive has found that the peer is gone")
    agree("its descriptor", checks.do("kept_count"), 1)
    yield shows("one more with SO_KEEPALIVE, once its peer is gone", "CLOSE, its descriptor still open")
    leaker.do("close_kept")
    lab.wait_lines("close", count, owner=leaker)
    left = _in_close_wait(lab, served)
    yield shows("once the server closes", f"{left} CLOSE_WAIT", left == 0)


def _in_close_wait(lab: Lab, port: int) -> int:
    return sum(
        row.state == "CLOSE_WAIT" and address[1] == port
        for address, rows in lab.rows().items()
        for row in rows
    )
