"""What to change, and what that would do: the remedies that findings name."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.claims import claim
from tracer.model import Flow, Pool
from tracer.series import SECOND
from tracer.settings import DEFAULT_PORT_RANGE


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something to change; advice is text, nothing is ever done to the host."""

    do: str
    effect: str
    """Expected, in numbers where there are any."""
    kind: str
    """`application`, `protocol` or `setting`."""


NO_HELP = tuple(claim(name).short.removeprefix("no help: ") for name in ("tcp_fin_timeout", "tcp_tw_recycle"))

_BY_PROGRAM = {
    ("nginx", "client"): "nginx: `keepalive 32;` in the upstream, `proxy_http_version 1.1;` and"
    ' `proxy_set_header Connection "";`',
    ("nginx", "server"): "nginx: `keepalive_timeout` and `keepalive_requests` above 0",
    (
        "haproxy",
        "client",
    ): "haproxy: `http-reuse safe`, and neither `option httpclose` nor `http-server-close`",
    ("haproxy", "server"): "haproxy: `option http-keep-alive`",
    ("redis-server", "server"): "in the clients: a connection pool",
}
_WIDEST = (1024, 65_535)


def keep_connections(flow: Flow) -> Remedy:
    """Keep-alive or a pool: the cure. Where a known program is set up for it, how."""
    if flow.role == "client":
        do = "keep connections open and reuse them (HTTP keep-alive, a connection pool)"
    else:
        do = "let clients keep their connections (HTTP keep-alive on, no `Connection: close`)"
    ways = [_BY_PROGRAM.get((flow.who.comm or "", flow.role))]
    if flow.role == "server" and flow.peer is not None:
        ways.append(_BY_PROGRAM.get((flow.peer.comm or "", "client")))
    left = min(flow.closes - flow.reconnects, flow.time_waits)
    effect = f"spares {flow.reconnects:,} of {flow.closes:,} connections"
    if flow.time_waits:
        effect += f": TIME_WAITs from {flow.time_waits:,} to about {left:,}"
    return Remedy("; ".join([do, *filter(None, ways)]), effect, "application")


def let_peer_close(flow: Flow) -> Remedy:
    """Whoever closes first has the TIME_WAIT."""
    if flow.role == "client":
        return Remedy(
            "let the server close first",
            f"moves {flow.time_waits:,} TIME_WAITs to the server, where they hold no source port",
            "protocol",
        )
    return Remedy(
        "let the client close first",
        f"moves {flow.time_waits:,} TIME_WAITs to the client, where each holds a source port",
        "protocol",
    )


def reuse_ports(pool: Pool) -> Remedy:
    """tcp_tw_reuse, for outgoing connections."""
    size = pool.size or 0
    ceiling = size * SECOND / max(pool.reuse_after_us, 1)
    return Remedy(
        "sysctl net.ipv4.tcp_tw_reuse=1, with tcp_timestamps on at both ends",
        f"a port is free again after {pool.reuse_after_us / SECOND:g} s instead of"
        f" {pool.lifetime_us / SECOND:.0f}: {ceiling:,.0f} connections/s instead of"
        f" {size * SECOND / pool.lifetime_us:,.0f}",
        "setting",
    )


def more_ports(pool: Pool) -> Remedy:
    """Only buys time, but in proportion."""
    low, high = (
        _WIDEST if (pool.size or 0) >= DEFAULT_PORT_RANGE[1] - DEFAULT_PORT_RANGE[0] else DEFAULT_PORT_RANGE
    )
    wider = high - low + 1
    size = pool.size or wider
    if wider <= size:
        return Remedy(
            "more source addresses, or more destination ports", "each adds as many ports again", "setting"
        )
    return Remedy(
        f'sysctl net.ipv4.ip_local_port_range="{low} {high}"',
        f"{wider:,} ports instead of {size:,}: {wider / size:.1f} times as many connections/s",
        "setting",
    )
