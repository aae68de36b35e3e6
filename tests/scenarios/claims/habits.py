"""What programs do: HTTP, socket options, and how people look at it."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.scenarios.actors import Actor
from tests.scenarios.claims.lab import Lab, Seen, agree, contradicts, experiment, shows, supports
from tests.scenarios.world import Line

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class _Http:
    """How the two speak."""

    server: str = "HTTP/1.1"
    keep_alive: int = 1
    client: str = "HTTP/1.1"
    asks_to_close: bool = False


def _fetched(lab: Lab, count: int, how: _Http, owner: Actor) -> int:
    """Requests to a new server; how many TIME_WAITs they left, all of them that process's."""
    port = int(lab.server.do("serve_http", how.server, how.keep_alive))
    headers = {"Connection": "close"} if how.asks_to_close else {}
    outcome = Counter(lab.client.do("fetch", port, count, how.client, headers))
    agree("answers", outcome["answers"], count)
    side = "sport" if owner is lab.server else "dport"
    born = lab.wait_lines("time_wait", outcome["connections"], owner=owner, **{side: port})
    lab.wait_lines("close", outcome["connections"], owner=lab.server, sport=port)
    return len(born)


@experiment(10)
def http(lab: Lab) -> Iterator[Seen]:
    count = 20
    kept = _fetched(lab, count, _Http(), lab.client)
    yield contradicts(
        f"{count} requests, HTTP/1.1 as it is by default",
        f"{kept} connection; TIME_WAITs of the server: {len(lab.told('time_wait', owner=lab.server))}",
        kept == 1 and not lab.told("time_wait", owner=lab.server),
    )
    for what, how in (
        ("HTTP/1.0", _Http(server="HTTP/1.0", client="HTTP/1.0")),
        ("HTTP/1.1, client asks “Connection: close”", _Http(asks_to_close=True)),
        ("HTTP/1.1, keep-alive off at the server", _Http(keep_alive=0)),
    ):
        waits = _fetched(lab, count, how, lab.server)
        yield supports(f"{count} requests, {what}", f"{waits} TIME_WAITs of the server", waits == count)


@experiment(14)
def keep_alive(lab: Lab) -> Iterator[Seen]:
    count = 50
    before = _fetched(lab, count, _Http(asks_to_close=True), lab.server)
    after = _fetched(lab, count, _Http(), lab.client)
    agree("in the kernel", lab.remaining(), before + after)
    yield shows(f"{count} requests, a connection each", f"{before} TIME_WAITs", before == count)
    yield supports(f"{count} requests over one connection", f"{after} TIME_WAIT", after == 1)


@experiment(11)
def linger(lab: Lab) -> Iterator[Seen]:
    count = 20
    for _ in range(count):
        client, server = lab.pair()
        client.reset()
        server.wait("CLOSE")
        server.close()
    closes = lab.wait_lines("close", count, owner=lab.client)
    agree("how", {line["how"] for line in closes}, {"reset_sent"})
    lab.wait_lines("close", count, how="reset_received")
    waits = lab.time_waits()
    agree("TIME_WAITs", len(lab.told("time_wait")), waits)
    agree("resets sent", lab.counter("OutRsts"), count)
    yield supports(f"{count} closes with SO_LINGER 0", f"{waits} TIME_WAITs, {count} resets", waits == 0)
    poured: dict[bool, tuple[int, int, str]] = {}
    for resets in (True, False):
        client, server = lab.pair()
        sent = int(client.actor.do("pour", client.name, 16 << 20))
        if resets:
            client.reset()
            server.wait("CLOSE")
        else:
            client.close()
        got, error = server.actor.do("drain", server.name)
        server.close()
        poured[resets] = (sent, int(got), str(error))
    sent, got, error = poured[True]
    yield shows(
        "written, then closed with SO_LINGER 0, the peer reads later",
        f"{sent - got:,} of {sent:,} bytes lost, then {error}",
        got < sent and error == "ECONNRESET",
    )
    sent, got, error = poured[False]
    lab.wait_lines("time_wait", 1, owner=lab.client)
    yield shows("the same with an ordinary close()", f"{sent - got} of {sent:,} bytes lost, 1 TIME_WAIT",
                got == sent and not error)  # fmt: skip


@experiment(12)
def reuse_address(lab: Lab) -> Iterator[Seen]:
    live = lab.serve("second")
    second = lab.actor("second")

    def bind(port: int, reuse: int) -> str:
        return str(second.do("bind", LOOPBACK, port, reuse, 1))

    error = bind(live, 1)
    yield contradicts("a second listener, both with SO_REUSEADDR", error, error == "EADDRINUSE")
    waits: dict[int, int] = {}
    for had in (1, 0):
        port = lab.serve("first", reuse=had)
        lab.visit(port, 1, first=False)
        lab.server.do("stop_serving", port)
        lab.wait_time_waits(1, sport=port)
        waits[had] = port
    with_or_without = ("without", "with")
    for had, reuse, wanted in ((1, 1, "ok"), (1, 0, "EADDRINUSE"), (0, 1, "EADDRINUSE")):
        found = bind(waits[had], reuse)
        agree("TIME_WAIT still there", len(lab.told("time_wait_end", sport=waits[had])), 0)
        yield shows(
            f"beside a TIME_WAIT: old socket {with_or_without[had]}, new one {with_or_without[reuse]}",
            "bind() succeeds" if found == "ok" else found,
            found == wanted,
        )
    client, server = lab.pair()
    _, sport, _, _ = server.address
    lab.server.do("close", "listener")
    taken = bind(sport, 1)
    client.send()
    arrived = server.receive()
    yield contradicts(
        "a second listener beside a connection whose listener is closed",
        f"bind() {'succeeds' if taken == 'ok' else taken}; what is sent to the old socket arrives there",
        taken == "ok" and arrived == 1,
    )


@experiment(19)
def counts_only(lab: Lab) -> Iterator[Seen]:
    count = 12
    first, second = lab.serve("second"), lab.serve("first")
    lab.visit(first, count)
    lab.visit(second, count // 2, first=False)
    total = count + count // 2
    born = lab.wait_time_waits(total)
    done = subprocess.run(
        ["ss", "-Htanp", "state", "time-wait"], check=True, capture_output=True, text=True, timeout=60
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    for what, mine, theirs in (
        ("by local port", lambda line: line["sport"], lambda row: int(row[2].rpartition(":")[2])),
        ("by remote address", lambda line: line["daddr"], lambda row: row[3].rpartition(":")[0]),
        ("by remote port", lambda line: line["dport"], lambda row: int(row[3].rpartition(":")[2])),
    ):
        agree(what, Counter(map(mine, born)), Counter(map(theirs, rows)))
    yield supports(
        "counted by state, local port, remote address and port",
        f"ss {len(rows)}, twtrace {len(born)}, the same in each group",
        len(rows) == len(born) == total,
    )
    named = done.stdout.count("users:")
    yield contradicts("with a process, by ss", f"{named} of {len(rows)}", named == 0)
    with open("/proc/net/tcp", encoding="ascii") as file:
        waiting = [columns for columns in map(str.split, file) if columns[3] == "06"]
    inodes = Counter(columns[9] for columns in waiting)
    yield contradicts(
        "with an inode in /proc/net/tcp, by which netstat finds a process",
        f"{len(waiting) - inodes['0']} of {len(waiting)}",
        inodes == Counter({"0": total}),
    )
    whose = Counter(_owner(line) for line in born)
    wanted = {(lab.client.pid, "certain"): count, (lab.server.pid, "certain"): count // 2}
    yield shows("with a process, by twtrace", f"{whose.total()} of {total}, all certain", whose == wanted)


def _owner(line: Line) -> tuple[int, str]:
    return line["owner"]["pid"], line["owner"]["grade"]
