"""Ports that run out, ports that are used again, and those of a server."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.scenarios.claims.lab import (
    ELSEWHERE,
    Lab,
    Seen,
    agree,
    contradicts,
    experiment,
    is_a_minute,
    lifetimes,
    seconds,
    shows,
    supports,
)
from tests.scenarios.world import LAG, SECOND, Line
from tracer.text import duration

LOOPBACK = "127.0.0.1"


def fill(lab: Lab, address: str = LOOPBACK, **more: Any) -> tuple[int, int]:
    """Visits to a new destination until no port is left; its port, and how many there were."""
    port = lab.serve("second", address)
    made = 0
    while (outcome := lab.visit(port, address=address, **more))["made"]:
        made += 1
    agree("the visit too many", outcome, Counter(EADDRNOTAVAIL=1))
    lab.wait_lines("time_wait", made, dport=port)
    (failed,) = lab.wait_lines("connect_failed", 1, dport=port)
    agree("why connect() failed", (failed["error"], failed["cause"]), ("EADDRNOTAVAIL", "exhausted"))
    return port, made


@experiment(5)
def reuse(lab: Lab) -> Iterator[Seen]:
    """All ports wait for one destination; is there one for the next connection?

    79e9fed46038 "net-tcp: extend tcp_tw_reuse sysctl to enable loopback only optimization" (v4.19).
    """
    ports = 4  # connect() leaves out the last of an odd number
    lab.add_address()
    lab.ports(ports)
    lab.set("tcp_tw_reuse", 1)
    passive = lab.serve("first", ELSEWHERE)
    for sport in range(30_000, 30_000 + ports):  # one port twice would replace a TIME_WAIT
        lab.visit(passive, first=False, address=ELSEWHERE, sport=sport)
    waiting = lab.wait_time_waits(ports, owner=lab.server)

    def again(mode: int, address: str, timestamps: int = 1, within: float = 2.5) -> Line | None:
        """The end of the TIME_WAIT that was reused, if one was."""
        lab.set("tcp_timestamps", timestamps)
        lab.set("tcp_tw_reuse", 0)
        port, made = fill(lab, address)
        agree("ports", made, ports)
        lab.set("tcp_tw_reuse", mode)
        reused = lab.visit_until_made(port, within, address=address)
        lab.set("tcp_timestamps", 1)
        if not reused:
            agree("ended early", len(lab.told("time_wait_end", dport=port)), 0)
            return None
        (end,) = lab.wait_lines("time_wait_end", 1, dport=port)
        agree("why it ended", (end["reason"], end["by"]["pid"]), ("reused", lab.client.pid))
        return end

    def told(end: Line | None) -> str:
        return f"reused after {seconds([end['lifetime_us']])}" if end else "EADDRNOTAVAIL"

    end = again(1, ELSEWHERE, within=10)
    yield supports("client, tcp_tw_reuse=1", told(end), end is not None and end["lifetime_us"] < 20 * SECOND)
    end = again(1, ELSEWHERE, timestamps=0)
    yield contradicts("the same without timestamps", told(end), end is None)
    end = again(0, LOOPBACK)
    yield shows("client, tcp_tw_reuse=0, over loopback", told(end), end is None)
    end = again(2, LOOPBACK, within=10)
    yield shows("client, tcp_tw_reuse=2 (the default), over loopback", told(end), end is not None)
    end = again(2, ELSEWHERE)
    yield shows("client, tcp_tw_reuse=2, another address", told(end), end is None)
    # ca6a6f93867a "tcp: Add sysctl to configure TIME-WAIT reuse delay" (v6.14)
    if lab.has("tcp_tw_reuse_delay"):
        delay = 3000
        lab.set("tcp_tw_reuse_delay", delay)
        end = again(1, ELSEWHERE, within=10)
        late = end is not None and 1000 * delay - LAG <= end["lifetime_us"] < 20 * SECOND
        yield shows(
            "client, tcp_tw_reuse=1, tcp_tw_reuse_delay=3000 ms (there since Linux 6.14)", told(end), late
        )
    else:
        yield shows("tcp_tw_reuse_delay", "not on this kernel (there since Linux 6.14)")
    lab.set("tcp_tw_reuse", 1)
    lab.wait_all_gone()
    ends = lab.told("time_wait_end", sport=passive)
    agree("the server's", {line["conn"] for line in ends}, {line["conn"] for line in waiting})
    times = lifetimes(ends)
    why = Counter(line["reason"] for line in ends)
    yield contradicts(
        "server closes first, tcp_tw_reuse=1",
        f"{why['reused']} of {ports} reused, lifetime {seconds(times)}",
        why == Counter(expired=ports) and is_a_minute(times),
    )


@experiment(6)
def exhausted(lab: Lab) -> Iterator[Seen]:
    """With the settings of a new namespace, but for the range."""
    lowest, highest = (int(text) for text in _range().split())
    default = highest - lowest + 1
    ports = 32
    lab.add_address()
    lab.ports(ports)
    port, made = fill(lab, ELSEWHERE)
    full_at = time.monotonic()
    yield supports(
        f"client, {ports} automatic ports, one destination",
        f"{made} connections, then EADDRNOTAVAIL",
        made == ports,
    )
    other = lab.serve("second", ELSEWHERE)
    more = lab.visit(other, ports, address=ELSEWHERE)["made"]
    yield shows("another destination port meanwhile", f"{more} connections more", more == ports)
    born = lab.wait_lines("time_wait", 2 * ports)
    agree("failed", lab.visit(port, address=ELSEWHERE), Counter(EADDRNOTAVAIL=1))
    agree("still full after", time.monotonic() - full_at < 50, True)
    times = lifetimes(lab.wait_all_gone())
    agree("all of them", len(times), len(born))
    agree("each a minute", is_a_minute(times), True)
    again = lab.visit(port, ports, address=ELSEWHERE)["made"]
    yield supports("when they are gone", f"{again} connections again", again == ports)
    yield shows(
        "so a client that closes first can make",
        f"{ports} / 60 s = {ports / 60:.2f} a second; of the default {lowest}–{highest} {default:,} / 60 s = "
        f"{default // 60}",
    )


def _range() -> str:
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        return file.read()


@experiment(7)
def busy_server(lab: Lab) -> Iterator[Seen]:
    count = 200
    port = lab.serve("first")
    made = lab.visit(port, count, first=False)["made"]
    born = lab.wait_lines("time_wait", count, owner=lab.server)
    local = {line["sport"] for line in born}
    yield contradicts(
        "server closes first, as fast as it can",
        f"{made} of {count} accepted, {lab.remaining()} TIME_WAIT, all on {len(local)} port",
        made == count and local == {port},
    )
    for timestamps in (1, 0):
        lab.set("tcp_timestamps", timestamps)
        port = lab.serve("first")
        again = 10
        sport = 30_000 + timestamps
        made = lab.visit(port, again, first=False, sport=sport, reuse=1)["made"]
        lab.wait_lines("time_wait", again, sport=port)
        ends = lab.wait_lines("time_wait_end", again - 1, sport=port)
        why = Counter(line["reason"] for line in ends)
        yield contradicts(
            f"the same client port again and again{'' if timestamps else ', without timestamps'}",
            f"{made} of {again} accepted, {why['replaced']} TIME_WAIT replaced, the last after "
            f"{duration(lifetimes(ends)[-1])}",
            made == again and why == Counter(replaced=again - 1),
        )
    port = lab.serve("first")
    made = 0
    for sequence in (2_000_000_000, 1_000_000_000):
        made += lab.visit(port, first=False, sport=30_002, reuse=1, sequence=sequence)["made"]
    (end,) = lab.wait_lines("time_wait_end", 1, sport=port)
    yield contradicts(
        "the same with an older sequence number, without timestamps",
        f"{made} of 2 accepted, TIME_WAIT reset by the client after {duration(end['lifetime_us'])}",
        made == 2 and end["reason"] == "reset",
    )


@experiment(13, tcp_tw_reuse="0")
def peer_first(lab: Lab) -> Iterator[Seen]:
    ports = 16
    lab.ports(ports)
    port = lab.serve("first")
    made = lab.visit(port, 4 * ports, first=False)["made"]
    born = lab.wait_lines("time_wait", 4 * ports)
    agree("whose", {line["owner"]["pid"] for line in born}, {lab.server.pid})
    yield supports(
        f"client with {ports} automatic ports lets the server close first",
        f"{made} of {4 * ports} connections, every TIME_WAIT the server's",
        made == 4 * ports,
    )
    port = lab.serve("second")
    outcome = lab.visit(port, 4 * ports)
    born = lab.wait_lines("time_wait", outcome["made"], dport=port)
    agree("whose", {line["owner"]["pid"] for line in born}, {lab.client.pid})
    agree(
        "failed",
        len(lab.wait_lines("connect_failed", 3 * ports, cause="exhausted")),
        outcome["EADDRNOTAVAIL"],
    )
    yield contradicts(
        "server lets such a client close first",
        f"{outcome['made']} of {4 * ports} connections, then EADDRNOTAVAIL, every TIME_WAIT the client's",
        outcome["made"] == ports,
    )


@experiment(18, tcp_tw_reuse="0")
def capacity(lab: Lab) -> Iterator[Seen]:
    ports = 16
    lab.ports(ports)
    port, one = fill(lab)
    yield shows(f"{ports} automatic ports", f"{one} connections", one == ports)
    more = lab.visit(port, ports, source="127.0.0.2")["made"]
    agree(
        "from the second address", len(lab.wait_lines("time_wait", more, dport=port, saddr="127.0.0.2")), more
    )
    yield supports("a second source address", f"{one + more}", more == ports)
    _, more = fill(lab)
    yield supports("a second destination port", f"{one + more}", more == ports)
    lab.ports(2 * ports)
    more = lab.visit(port, 2 * ports)["made"]
    lab.wait_lines("time_wait", one + more, dport=port, saddr=LOOPBACK)
    yield supports(f"{2 * ports} automatic ports", f"{one + more}", one + more == 2 * ports)
    _, all_new = fill(lab, source="127.0.0.3")
    yield shows("and for a new destination from a new address", f"{all_new}", all_new == 2 * ports)
