"""The ways a connection ends: who was first, how, by which call."""

from __future__ import annotations

import socket
from typing import Any

from tests.scenarios.script import FULL_FIN_WAIT2, hasty_scenario, scenario
from tests.scenarios.world import EXPIRY, End, World, who

_TCP_KEEPIDLE, _TCP_KEEPINTVL, _TCP_KEEPCNT = 4, 5, 6
_TCP_SYNCNT, _TCP_LINGER2, _TCP_USER_TIMEOUT = 7, 8, 18
_TCP = socket.IPPROTO_TCP

ACTIVE = "FIN_WAIT1 FIN_WAIT2"
PASSIVE = "CLOSE_WAIT LAST_ACK"


def passive_close(world: World, end: End) -> None:
    """`end` sees its peer's FIN and closes."""
    end.wait("CLOSE_WAIT")
    end.close()
    world.closes(end, first="remote", how="fin", via="close", by=end.actor, states=PASSIVE)


def expires(world: World, end: End) -> None:
    world.ends(end, "expired", lifetime=EXPIRY)


def close_first(world: World, end: End, peer: End) -> None:
    """`end` closes, then `peer`; a TIME_WAIT is left to `end`."""
    end.close()
    passive_close(world, peer)
    world.wait_mini(end, "TIME_WAIT")
    world.closes(
        end, first="local", how="fin", via="close", by=end.actor, states=ACTIVE, time_wait="TIME_WAIT"
    )


def reset_received(world: World, end: End, first: str = "none", states: str = "", **more: Any) -> None:
    """`end`, still open, got a reset."""
    end.wait("CLOSE")
    end.close()
    world.closes(end, first=first, how="reset_received", via="unknown", by=None, states=states, **more)


def finish_deaf(world: World, end: End) -> None:
    """`end` never heard that its peer is gone; its FIN is answered with a reset."""
    end.hear()
    end.close()
    world.wait_gone(end)
    world.closes(
        end,
        first="local",
        how="reset_received",
        via="close",
        by=end.actor,
        states="FIN_WAIT1",
    )


@scenario("4", "6", "mapped", **FULL_FIN_WAIT2)
def close_by_client(world: World) -> None:
    client, server = world.pair()
    close_first(world, client, server)
    expires(world, client)
    world.counted(OutRsts=0, EstabResets=0)


@scenario("4", "6", **FULL_FIN_WAIT2)
def close_by_server(world: World) -> None:
    client, server = world.pair()
    close_first(world, server, client)
    expires(world, server)
    world.counted(OutRsts=0, EstabResets=0)


def _shut_down(world: World, how: int) -> None:
    client, server = world.pair()
    client.shutdown(how)
    client.wait("FIN_WAIT2")
    passive_close(world, server)
    world.wait_mini(client, "TIME_WAIT")
    client.wait("CLOSE")
    client.close()
    world.closes(
        client,
        first="local",
        how="fin",
        via="shutdown",
        by=client.actor,
        states=ACTIVE,
        time_wait="TIME_WAIT",
    )
    expires(world, client)


@scenario()
def shutdown_wr_then_close(world: World) -> None:
    _shut_down(world, socket.SHUT_WR)


@scenario()
def shutdown_rdwr_then_close(world: World) -> None:
    _shut_down(world, socket.SHUT_RDWR)


def _by_exit(world: World, client: End, server: End) -> None:
    passive_close(world, server)
    world.wait_mini(client, "TIME_WAIT")
    world.closes(
        client, first="local", how="fin", via="exit", by=client.actor, states=ACTIVE, time_wait="TIME_WAIT"
    )
    expires(world, client)


@scenario(**FULL_FIN_WAIT2)
def process_exit(world: World) -> None:
    client, server = world.pair(world.actor("exits"))
    client.actor.exit()
    _by_exit(world, client, server)


@scenario(**FULL_FIN_WAIT2)
def process_killed(world: World) -> None:
    client, server = world.pair(world.actor("victim"))
    client.actor.kill()
    _by_exit(world, client, server)


@scenario(**FULL_FIN_WAIT2)
def passive_exit(world: World) -> None:
    client, server = world.pair(world.actor("exits"))
    server.close()
    client.wait("CLOSE_WAIT")
    client.actor.exit()
    world.wait_mini(server, "TIME_WAIT")
    world.closes(client, first="remote", how="fin", via="exit", by=client.actor, states=PASSIVE)
    world.closes(
        server, first="local", how="fin", via="close", by=server.actor, states=ACTIVE, time_wait="TIME_WAIT"
    )
    expires(world, server)


@scenario("4", "6")
def linger_reset(world: World) -> None:
    client, server = world.pair()
    client.reset()
    world.closes(client, first="none", how="reset_sent", via="close", by=client.actor)
    reset_received(world, server)
    world.counted(TCPAbortOnData=1, TCPAbortOnClose=0)
    world.has_reset()


@scenario()
def unread_data_reset(world: World) -> None:
    client, server = world.pair()
    server.send()
    client.actor.do("readable", client.name)
    client.close()
    world.closes(client, first="none", how="reset_sent", via="close", by=client.actor)
    reset_received(world, server)
    world.counted(TCPAbortOnClose=1, TCPAbortOnData=0)
    world.has_reset()


@scenario("4", "6")
def connect_unspec(world: World) -> None:
    client, server = world.pair()
    client.actor.do("disconnect", client.name)
    client.wait("CLOSE")
    client.close()
    world.closes(client, first="none", how="reset_sent", via="abort", by=client.actor)
    reset_received(world, server)
    world.counted(TCPAbortOnClose=0, TCPAbortOnData=0)
    world.has_reset()


@scenario("4", "6")
def killed_established(world: World) -> None:
    client, server = world.pair()
    ss = world.kill(client, "established")
    client.wait("CLOSE")
    client.close()
    world.closes(client, first="none", how="reset_sent", via="abort", by=ss, owner=who(client.actor))
    reset_received(world, server)


@scenario()
def killed_close_wait(world: World) -> None:
    client, server = world.pair()
    client.shutdown()
    server.wait("CLOSE_WAIT")
    client.wait("FIN_WAIT2")
    ss = world.kill(server, "close-wait")
    server.wait("CLOSE")
    server.close()
    world.closes(
        server,
        first="remote",
        how="reset_sent",
        via="abort",
        by=ss,
        owner=who(server.actor),
        states="CLOSE_WAIT",
    )
    client.wait("CLOSE")
    client.close()
    world.closes(
        client,
        first="local",
        how="reset_received",
        via="shutdown",
        by=client.actor,
        states=ACTIVE,
    )


@scenario()
def keepalive_death(world: World) -> None:
    client, server = world.pair()
    client.deafen()
    for option in (_TCP_KEEPIDLE, _TCP_KEEPINTVL, _TCP_KEEPCNT):
        client.option(_TCP, option, 1)
    client.option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.wait("CLOSE")
    client.close()
    world.closes(client, first="none", how="timeout", via="unknown", by=None)
    reset_received(world, server)  # keepalive's last word is a reset
    world.counted(TCPAbortOnTimeout=1)


@hasty_scenario(tcp_retries2="1")
def retransmission_death(world: World) -> None:
    client, server = world.pair()
    server.deafen()
    client.send()
    client.wait("CLOSE")
    client.close()
    world.closes(client, first="none", how="timeout", via="unknown", by=None)
    world.counted(TCPAbortOnTimeout=1, OutRsts=0)
    finish_deaf(world, server)


@hasty_scenario()
def user_timeout(world: World) -> None:
    client, server = world.pair()
    client.option(_TCP, _TCP_USER_TIMEOUT, 500)
    server.deafen()
    client.send()
    client.wait("CLOSE")
    client.close()
    world.closes(client, first="none", how="timeout", via="unknown", by=None)
    world.counted(TCPAbortOnTimeout=1, OutRsts=0)
    finish_deaf(world, server)


@hasty_scenario(tcp_orphan_retries="1")
def orphan_fin_unanswered(world: World) -> None:
    client, server = world.pair()
    server.deafen()
    client.close()
    world.wait_gone(client)
    world.closes(client, first="local", how="timeout", via="close", by=client.actor, states="FIN_WAIT1")
    world.counted(TCPAbortOnTimeout=1, OutRsts=0)
    finish_deaf(world, server)


@scenario()
def linger2_negative(world: World) -> None:
    client, server = world.pair()
    client.option(_TCP, _TCP_LINGER2, -1)
    client.close()
    world.wait_gone(client)
    world.closes(
        client,
        first="local",
        how="reset_sent",
        via="close",
        by=client.actor,
        states=ACTIVE,
    )
    reset_received(world, server, "remote", "CLOSE_WAIT")
    world.has_reset()


@scenario("4", "6", **FULL_FIN_WAIT2)
def data_after_close(world: World) -> None:
    client, server = world.pair()
    client.close()
    world.wait_full(client, "FIN_WAIT2")
    server.send()
    world.wait_gone(client)
    world.closes(
        client,
        first="local",
        how="reset_sent",
        via="close",
        by=client.actor,
        states=ACTIVE,
    )
    reset_received(world, server, "remote", "CLOSE_WAIT")
    world.counted(TCPAbortOnData=1)


@hasty_scenario()
def data_before_our_fin_is_acknowledged(world: World) -> None:
    client, server = world.pair()
    server.deafen()
    client.close()
    world.wait_full(client, "FIN_WAIT1")
    server.send()
    world.wait_gone(client)
    world.closes(
        client,
        first="local",
        how="reset_sent",
        via="close",
        by=client.actor,
        states="FIN_WAIT1",
    )
    world.counted(TCPAbortOnData=1)
    server.hear()
    reset_received(world, server)  # its data, sent again, meets nobody


@hasty_scenario("4", "6")
def simultaneous_close(world: World) -> None:
    """Both send a FIN that the other does not hear; then one of them hears first."""
    client, server = world.pair()
    for end in (client, server):
        end.deafen()
    for end in (client, server):
        end.shutdown()
    client.hear()
    client.wait("CLOSING")
    server.hear()
    for end in (client, server):
        world.wait_mini(end, "TIME_WAIT")
        end.wait("CLOSE")
        end.close()
    for end, first, states in ((client, "both", "FIN_WAIT1 CLOSING"), (server, "local", ACTIVE)):
        world.closes(
            end, first=first, how="fin", via="shutdown", by=end.actor, states=states, time_wait="TIME_WAIT"
        )
        world.ends(end, "expired", lifetime=EXPIRY, rearmed=None)  # a FIN may come once more


def _failed(world: World, end: End, **more: Any) -> None:
    world.closes(end, first="none", how="failed", via="unknown", by=None, **more)


_ONE_PORT = 40_000


@scenario("4", "6", "mapped", ip_local_port_range=f"{_ONE_PORT} {_ONE_PORT}")
def refused(world: World) -> None:
    error = world.try_connect(world.client, 5000)
    if error != "ECONNREFUSED":
        raise RuntimeError(f"connect: {error}")
    _failed(world, world.end_of(world.client, _ONE_PORT, 5000))
    world.counted(AttemptFails=1)


@hasty_scenario(
    ip_local_port_range=f"{_ONE_PORT} {_ONE_PORT}", tcp_syn_linear_timeouts="0", tcp_syn_retries="1"
)
def never_answered(world: World) -> None:
    port = world.listen(world.server, 5000)
    world.server.do("deafen", "listener")
    error = world.try_connect(world.client, port)
    if error != "ETIMEDOUT":
        raise RuntimeError(f"connect: {error}")
    _failed(world, world.end_of(world.client, _ONE_PORT, port))


@scenario("4", "6")
def accepted_never_used_reset(world: World) -> None:
    """Only accept() itself could name the owner of the server's end."""
    client, server = world.pair(greet=False)
    client.reset()
    world.closes(client, first="none", how="reset_sent", via="close", by=client.actor)
    maybe = [who(server.actor, "inferred"), who(None)]
    less = {"opener": maybe, "owner": maybe}
    reset_received(world, server, less={"timer": less})


@scenario(**FULL_FIN_WAIT2)
def accepted_never_used_closed(world: World) -> None:
    client, server = world.pair(greet=False)
    client.close()
    server.wait("CLOSE_WAIT")
    server.close()
    world.wait_mini(client, "TIME_WAIT")
    less = {"opener": [who(server.actor, "inferred"), who(None)]}
    world.closes(
        server,
        first="remote",
        how="fin",
        via="close",
        by=server.actor,
        states=PASSIVE,
        less={"timer": less},
    )
    world.closes(
        client, first="local", how="fin", via="close", by=client.actor, states=ACTIVE, time_wait="TIME_WAIT"
    )
    expires(world, client)
