"""The births and ends of mini-sockets, and the connects that found no way past them."""

from __future__ import annotations

import json
import os
import time

from tests.scenarios.actors import Actor, bound_to_parent
from tests.scenarios.closings import (
    ACTIVE,
    PASSIVE,
    close_first,
    expires,
    passive_close,
    reset_received,
)
from tests.scenarios.script import FULL_FIN_WAIT2, hasty_scenario, scenario
from tests.scenarios.world import (
    ACK,
    EXPIRY,
    KERNEL,
    LAG,
    RST,
    SECOND,
    End,
    Moment,
    World,
    moment,
)

_ONE_PORT = 40_000
_ONE_AUTOMATIC_PORT = {"ip_local_port_range": f"{_ONE_PORT} {_ONE_PORT}"}
_SERVER_PORT = 5000


def _closed_into_fin_wait2(world: World, end: End) -> Moment:
    """`end` closes, its peer does not yet; when the mini-socket was born."""
    with moment() as birth:
        end.close()
        world.wait_mini(end, "FIN_WAIT2")
    world.closes(
        end, first="local", how="fin", via="close", by=end.actor, states=ACTIVE, time_wait="FIN_WAIT2"
    )
    return birth


def _closed_into_time_wait(world: World, end: End, peer: End) -> Moment:
    with moment() as birth:
        close_first(world, end, peer)
    return birth


def _fin_meets_nobody(world: World, end: End) -> None:
    """`end`'s peer closed first and is gone; its own FIN is answered with a reset."""
    end.close()
    world.wait_gone(end)
    world.closes(end, first="remote", how="reset_received", via="close", by=end.actor, states=PASSIVE)


def _connect_again(world: World, by: Actor, sport: int) -> Moment:
    """A new connection, which ends in a reset and leaves no TIME_WAIT."""
    with moment() as connected:
        client, server = world.pair(by, sport, reuse=bool(sport))
    client.reset()
    world.closes(client, first="none", how="reset_sent", via="close", by=client.actor)
    reset_received(world, server)
    return connected


# Births


@scenario("4", "6")
def fin_wait2_turns(world: World) -> None:
    """Born as FIN_WAIT2; a minute begins when the peer closes."""
    client, server = world.pair()
    birth = _closed_into_fin_wait2(world, client)
    time.sleep(1.5)
    with moment() as turn:
        passive_close(world, server)
        world.wait_mini(client, "TIME_WAIT")
    world.ends(client, "expired", lifetime=EXPIRY, fin_wait2=turn - birth)


@scenario()
def fin_wait2_in_close(world: World) -> None:
    """After shutdown() it is close() itself that makes the mini-socket."""
    client, server = world.pair()
    client.shutdown()
    client.wait("FIN_WAIT2")
    with moment() as birth:
        client.close()
        world.wait_mini(client, "FIN_WAIT2")
    world.closes(
        client,
        first="local",
        how="fin",
        via="shutdown",
        by=client.actor,
        states=ACTIVE,
        time_wait="FIN_WAIT2",
    )
    with moment() as turn:
        passive_close(world, server)
        world.wait_mini(client, "TIME_WAIT")
    world.ends(client, "expired", lifetime=EXPIRY, fin_wait2=turn - birth)


@hasty_scenario("4", "6", tcp_fin_timeout="2")
def fin_wait2_expires(world: World) -> None:
    client, server = world.pair()
    with moment() as all_of_it:
        client.close()
        world.wait_gone(client)
    world.closes(
        client,
        first="local",
        how="fin",
        via="close",
        by=client.actor,
        states=ACTIVE,
        time_wait="FIN_WAIT2",
    )
    world.ends(client, "expired", lifetime=None, fin_wait2=(2 * SECOND - LAG, all_of_it.longest()))
    _fin_meets_nobody(world, server)


@hasty_scenario(tcp_fin_timeout="64")
def fin_timeout_beyond_a_minute(world: World) -> None:
    """Four seconds as a full socket, then four more as a mini-socket."""
    client, server = world.pair()
    with moment() as all_of_it:
        client.close()
        world.wait_gone(client)
    four = (4 * SECOND - LAG, all_of_it.longest() - 4 * SECOND + LAG)
    world.closes(
        client,
        first="local",
        how="fin",
        via="close",
        by=client.actor,
        states=ACTIVE,
        time_wait="FIN_WAIT2",
        dwell={"FIN_WAIT2": four},
    )
    world.ends(client, "expired", lifetime=None, fin_wait2=four)
    _fin_meets_nobody(world, server)


def _overflow(world: World) -> None:
    client, server = world.pair()
    client.close()
    passive_close(world, server)
    world.wait_gone(client)
    world.closes(client, first="local", how="fin", via="close", by=client.actor, states=ACTIVE, overflow=True)


@scenario("4", "6", tcp_max_tw_buckets="0", **FULL_FIN_WAIT2)
def overflow_none_allowed(world: World) -> None:
    _overflow(world)
    world.counted(TCPTimeWaitOverflow=1)


@scenario(tcp_max_tw_buckets="2", **FULL_FIN_WAIT2)
def overflow_at_the_limit(world: World) -> None:
    for _ in range(2):
        client, server = world.pair()
        close_first(world, client, server)
        expires(world, client)
    _overflow(world)
    _overflow(world)
    world.counted(TCPTimeWaitOverflow=2)


@scenario(tcp_max_tw_buckets="0")
def overflow_of_a_fin_wait2(world: World) -> None:
    """There is no mini-socket to wait for the peer's FIN either."""
    client, server = world.pair()
    client.close()
    server.wait("CLOSE_WAIT")
    world.wait_gone(client)
    world.closes(
        client,
        first="local",
        how="fin",
        via="close",
        by=client.actor,
        states=ACTIVE,
        overflow=True,
    )
    _fin_meets_nobody(world, server)
    world.counted(TCPTimeWaitOverflow=1)


# Ends


@scenario("4", "6", tcp_tw_reuse="1", **_ONE_AUTOMATIC_PORT, **FULL_FIN_WAIT2)
def reused_automatic_port(world: World) -> None:
    world.listen(world.server, _SERVER_PORT)
    client, server = world.pair()
    birth = _closed_into_time_wait(world, client, server)
    time.sleep(2.2)  # a TIME_WAIT can be reused a second after its birth, by the clock of time stamps
    other = world.actor("other")
    connected = _connect_again(world, other, 0)
    world.ends(client, "reused", by=other, lifetime=connected - birth)
    if world.family != "6" or KERNEL >= (6, 1):
        world.counted(TWRecycled=1)


@scenario("4", "6", tcp_tw_reuse="0", **FULL_FIN_WAIT2)
def reused_bound_port(world: World) -> None:
    client, server = world.pair(reuse=True)
    birth = _closed_into_time_wait(world, client, server)
    other = world.actor("other")
    connected = _connect_again(world, other, client.address[1])
    world.ends(client, "reused", by=other, lifetime=connected - birth)
    if world.family != "6" or KERNEL >= (6, 1):
        world.counted(TWRecycled=1)


@scenario("4", "6", **FULL_FIN_WAIT2)
def replaced(world: World) -> None:
    """The server waits; the client comes again from the same port."""
    client, server = world.pair(reuse=True)
    birth = _closed_into_time_wait(world, server, client)
    world.wait_gone(client)
    connected = _connect_again(world, world.actor("other"), client.address[1])
    world.ends(server, "replaced", lifetime=connected - birth)
    world.counted(TWRecycled=0)


@scenario("4", "6")
def reset_in_fin_wait2(world: World) -> None:
    """The peer, its descriptor still open, answers our FIN with a reset of its own."""
    client, server = world.pair()
    birth = _closed_into_fin_wait2(world, client)
    with moment() as end:
        server.reset()
        world.wait_gone(client)
    world.ends(client, "reset", lifetime=None, fin_wait2=end - birth)
    world.closes(server, first="remote", how="reset_sent", via="close", by=server.actor, states="CLOSE_WAIT")


@scenario("4", "6", **FULL_FIN_WAIT2)
def reset_in_time_wait(world: World) -> None:
    client, server = world.pair()
    expected = client.next_expected() + 1  # and the FIN
    birth = _closed_into_time_wait(world, client, server)
    with moment() as end:
        world.forge(client, RST, expected)
        world.wait_gone(client)
    world.ends(client, "reset", lifetime=end - birth)


@scenario(tcp_rfc1337="1", **FULL_FIN_WAIT2)
def reset_ignored(world: World) -> None:
    client, server = world.pair()
    expected = client.next_expected() + 1
    close_first(world, client, server)
    world.forge(client, RST, expected)
    world.wait_mini(client, "TIME_WAIT")
    expires(world, client)


@scenario("4", "6")
def reset_sent(world: World) -> None:
    """The peer sends data to a mini-socket in FIN_WAIT2: nobody will read it."""
    client, server = world.pair()
    birth = _closed_into_fin_wait2(world, client)
    with moment() as end:
        server.send()
        world.wait_gone(client)
    world.ends(client, "reset_sent", lifetime=None, fin_wait2=end - birth)
    reset_received(world, server, "remote", "CLOSE_WAIT")
    world.has_reset()


@scenario("4", "6", **FULL_FIN_WAIT2)
def killed(world: World) -> None:
    client, server = world.pair()
    birth = _closed_into_time_wait(world, client, server)
    with moment() as end:
        ss = world.kill(client, "time-wait")
    if KERNEL < (6, 1):  # tcp_abort() refuses mini-sockets
        world.wait_mini(client, "TIME_WAIT")
        expires(world, client)
        return
    world.wait_gone(client)
    world.ends(client, "killed", by=ss, lifetime=end - birth)


@scenario()
def killed_fin_wait2(world: World) -> None:
    client, server = world.pair()
    birth = _closed_into_fin_wait2(world, client)
    with moment() as end:
        ss = world.kill(client, "fin-wait-2")
    if KERNEL < (6, 1):
        with moment() as turn:
            passive_close(world, server)
            world.wait_mini(client, "TIME_WAIT")
        world.ends(client, "expired", lifetime=EXPIRY, fin_wait2=turn - birth)
        return
    world.wait_gone(client)
    world.ends(client, "killed", by=ss, lifetime=None, fin_wait2=end - birth)
    _fin_meets_nobody(world, server)


@scenario("4", "6", **FULL_FIN_WAIT2)
def namespace_exit(world: World) -> None:
    """In one more namespace, which nothing keeps when its process has ended."""
    reader, writer = os.pipe()
    inside = os.fork()
    if not inside:
        status = 1
        try:
            bound_to_parent("life/inner")
            inner = World(world.family, FULL_FIN_WAIT2)
            client, server = inner.pair()
            close_first(inner, client, server)
            inner.ends(client, "netns_exit", lifetime=(0, 60 * SECOND))
            inner.wait_settled()
            inner.leave()
            os.write(writer, json.dumps(inner.lines).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = file.read()
    if os.waitpid(inside, 0)[1]:
        raise RuntimeError("the scenario in the inner namespace failed")
    world.lines += json.loads(told)


@scenario("4", "6", **FULL_FIN_WAIT2)
def rearmed(world: World) -> None:
    """Bare acknowledgements within the window start the minute anew, three times."""
    client, server = world.pair()
    expected = client.next_expected() + 1
    birth = _closed_into_time_wait(world, client, server)
    time.sleep(3)
    world.forge(client, ACK, expected)
    world.forge(client, ACK, expected)
    time.sleep(3)
    with moment() as last:
        world.forge(client, ACK, expected)
    waited = last - birth
    world.ends(
        client,
        "expired",
        lifetime=(waited[0] + EXPIRY[0], waited[1] + EXPIRY[1]),
        rearmed=3,
        less={"timer": {"rearmed": [1, 2]}},  # two within one bucket of the timer wheel show as one
    )
    row = world.at(client)
    since = time.monotonic() - last.earliest / SECOND
    if row is None or row.remaining + since < 59.9:
        raise RuntimeError(f"not re-armed: {row}")


# EADDRNOTAVAIL


def _no_address(world: World, by: Actor, port: int, sport: int, cause: str) -> None:
    error = world.try_connect(by, port, sport, reuse=bool(sport))
    if error != "EADDRNOTAVAIL":
        raise RuntimeError(f"connect: {error}")
    end = world.end_of(by, sport, port)
    world.fails(end, "EADDRNOTAVAIL", cause)


@scenario("4", "6", "mapped", **_ONE_AUTOMATIC_PORT)
def exhausted(world: World) -> None:
    """The one automatic port there is has a connection to that destination."""
    port = world.listen(world.server, _SERVER_PORT)
    client, server = world.pair()
    _no_address(world, world.actor("other"), port, 0, "exhausted")
    client.reset()
    world.closes(client, first="none", how="reset_sent", via="close", by=client.actor)
    reset_received(world, server)


@scenario(tcp_tw_reuse="0", **_ONE_AUTOMATIC_PORT, **FULL_FIN_WAIT2)
def exhausted_by_time_wait(world: World) -> None:
    port = world.listen(world.server, _SERVER_PORT)
    client, server = world.pair()
    close_first(world, client, server)
    for _ in range(2):
        _no_address(world, world.client, port, 0, "exhausted")
    expires(world, client)


@scenario("4", "6", "mapped")
def conflict(world: World) -> None:
    """The port that connect() is bound to has a connection to that destination."""
    port = world.listen(world.server)
    client, server = world.pair(reuse=True)
    _no_address(world, world.actor("other"), port, client.address[1], "conflict")
    client.reset()
    world.closes(client, first="none", how="reset_sent", via="close", by=client.actor)
    reset_received(world, server)
