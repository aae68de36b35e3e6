"""A scenario's network namespace: its connections, what the kernel shows, what a trace must say."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.scenarios.actors import LOOPBACK, PATIENCE, STATES, Actor, plain
from tests.scenarios.netlink import Address, mini_sockets, retransmit_after

Line = dict[str, Any]
Range = tuple[int, int]

SECOND = 1_000_000
LAG = SECOND // 2
"""How much too early a kernel timer may fire by our clock: it is armed by jiffies, which stand still while
an emulated guest's CPU is not run, and are made up for later (seen: 0.22 s)."""
EXPIRY: Range = (60 * SECOND - LAG, 64 * SECOND)
"""A minute, rounded up by the timer wheel: by 4 s at most (HZ=1000)."""
SLACK = SECOND // 50
"""How far the kernel's ticks (up to 10 ms, twice) may be off our clock."""

KERNEL = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])

FIN, RST, ACK = 0x01, 0x04, 0x10

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IPV6_CHECKSUM = 7
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_NO_HASTE_MS = 10_000
_TIMEWAIT_TIMER = "03"  # the timer that /proc/net/tcp shows for every mini-socket


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for `condition`."""
    deadline = time.monotonic() + PATIENCE
    pause = 0.01
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


@dataclass
class Moment:
    """Something happened between these two, in microseconds."""

    earliest: int = 0
    latest: int = 0

    def __sub__(self, earlier: Moment) -> Range:
        """How long it took, at least and at most."""
        return (
            max(0, self.earliest - earlier.latest - SLACK),
            self.latest - earlier.earliest + SLACK,
        )

    def longest(self) -> int:
        """How long it took, at most."""
        return self.latest - self.earliest + SLACK


@contextmanager
def moment() -> Iterator[Moment]:
    """It happens in the body."""
    happened = Moment(earliest=time.monotonic_ns() // 1000)
    yield happened
    happened.latest = time.monotonic_ns() // 1000


@dataclass(frozen=True)
class Row:
    """A line of /proc/net/tcp."""

    state: str
    mini: bool
    remaining: float
    """Seconds until its timer."""


@dataclass(eq=False)
class End:
    """One end of a connection."""

    actor: Actor
    name: str
    role: str
    address: Address
    owner: Line | None = field(default=None)

    def close(self) -> None:
        self.actor.do("close", self.name)

    def reset(self) -> None:
        """Close with SO_LINGER 0."""
        self.actor.do("reset", self.name)

    def shutdown(self, how: int = socket.SHUT_WR) -> None:
        self.actor.do("shutdown", self.name, how)

    def send(self) -> None:
        self.actor.do("send", self.name)

    def receive(self) -> int:
        return int(self.actor.do("receive", self.name))

    def deafen(self) -> None:
        """From here on it drops what comes in."""
        self.actor.do("deafen", self.name)

    def hear(self) -> None:
        self.actor.do("hear", self.name)

    def option(self, level: int, option: int, value: int) -> None:
        self.actor.do("option", self.name, level, option, value)

    def wait(self, state: str) -> None:
        """Until it is in that state; its descriptor is open."""
        until(lambda: bool(self.actor.do("state", self.name) == state), f"{self.address} in {state}")

    def wait_acknowledged(self) -> None:
        until(lambda: self.actor.do("unacked", self.name) == 0, f"{self.address} has all acknowledged")

    def next_expected(self) -> int:
        """The sequence number it expects next."""
        return int(self.actor.do("sequence", self.name)[1])


class World:
    """This process's own new network namespace."""

    def __init__(self, family: str, settings: dict[str, str], haste: bool = False) -> None:
        """`haste`: retransmit after 200 ms, as usual."""
        self.family = family
        self.lines: list[Line] = []
        self._actors: list[Actor] = []
        self._connections = 0
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
        self.netns = os.stat("/proc/self/ns/net").st_ino
        _loopback_up()
        if not haste:
            retransmit_after(_NO_HASTE_MS, socket.AF_INET6 if family == "6" else socket.AF_INET)
        for name, value in ({"tcp_congestion_control": "reno"} | settings).items():
            _set(name, value)
        self.client = self.actor("client")
        self.server = self.actor("server")

    def actor(self, name: str) -> Actor:
        """A new process."""
        made = Actor(name)
        self._actors.append(made)
        return made

    def listen(self, server: Actor, port: int = 0) -> int:
        """The port that `server` listens on."""
        if server.listening is None:
            server.listening = int(server.do("listen", self.family, port))
        return server.listening

    def try_connect(self, client: Actor, port: int, sport: int = 0, reuse: bool = False) -> str | End:
        """The client's end, or the name of the error."""
        self._connections += 1
        options = [[socket.SOL_SOCKET, socket.SO_REUSEADDR, 1]] if reuse else []
        name = f"{client.name}/{self._connections}"
        made = client.do("connect", name, self.family, port, sport, options)
        return made if isinstance(made, str) else End(client, name, "client", tuple(made))

    def end_of(self, client: Actor, sport: int, port: int) -> End:
        """The client's end of a connection that did not come to be; sport 0: it had no port yet."""
        here = plain(LOOPBACK[self.family])
        return End(client, f"{client.name}/{self._connections}", "client", (here, sport, here, port))

    def pair(
        self,
        client: Actor | None = None,
        sport: int = 0,
        reuse: bool = False,
        greet: bool = True,
    ) -> tuple[End, End]:
        """A connection, the client's end first; both have read and written, and all is acknowledged."""
        ours = self.try_connect(client or self.client, self.listen(self.server), sport, reuse)
        if isinstance(ours, str):
            raise RuntimeError(f"connect: {ours}")
        name = f"{self.server.name}/{self._connections}"
        theirs = End(self.server, name, "server", tuple(self.server.do("accept", name)))
        if greet:
            ours.send()
            theirs.receive()
            theirs.send()
            ours.receive()
            for end in (ours, theirs):
                end.wait_acknowledged()
        return ours, theirs

    # What the kernel shows

    def rows(self) -> dict[Address, list[Row]]:
        """What /proc/net/tcp and tcp6 list, but for listeners."""
        found: dict[Address, list[Row]] = {}
        for table in ("tcp", "tcp6"):
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                for text in file.readlines()[1:]:
                    columns = text.split()
                    state, timer = STATES[int(columns[3], 16)], columns[5].split(":")
                    if state != "LISTEN":
                        row = Row(state, timer[0] == _TIMEWAIT_TIMER, int(timer[1], 16) / 100)
                        found.setdefault(_ends(columns[1], columns[2]), []).append(row)
        return found

    def at(self, end: End) -> Row | None:
        """What the kernel lists at the end's address."""
        rows = self.rows().get(end.address, [None])
        return rows[-1]

    def wait_mini(self, end: End, substate: str) -> None:
        """Until it is a mini-socket in that state."""

        def is_there() -> bool:
            row = self.at(end)
            return row is not None and row.mini and row.state == substate

        until(is_there, f"{end.address} a mini-socket in {substate}")

    def wait_full(self, end: End, state: str) -> None:
        """Until it is a full socket in that state; its descriptor may be closed."""

        def is_there() -> bool:
            row = self.at(end)
            return row is not None and not row.mini and row.state == state

        until(is_there, f"{end.address} a full socket in {state}")

    def wait_gone(self, end: End) -> None:
        """Until the kernel has nothing at its address."""
        until(lambda: self.at(end) is None, f"{end.address} gone")

    def wait_settled(self) -> None:
        """Until nothing but mini-sockets is left."""
        for actor in self._actors:
            if not actor.ended and (left := actor.do("left_open")):
                raise RuntimeError(f"{actor.name} leaves {left} open")
        until(
            lambda: all(row.mini for rows in self.rows().values() for row in rows), "only mini-sockets left"
        )

    @staticmethod
    def waiting() -> list[Address]:
        """The mini-sockets that the kernel's socket dump (sock_diag, as of `ss`) has."""
        return sorted(address for family in _FAMILIES for address in mini_sockets(family))

    @staticmethod
    def time_waits() -> int:
        """Number of mini-sockets, as the kernel counts them."""
        with open("/proc/net/sockstat", encoding="ascii") as file:
            words = next(line for line in file if line.startswith("TCP:")).split()
        return int(words[words.index("tw") + 1])

    @staticmethod
    def counter(name: str) -> int:
        """A counter of this namespace: TcpExt's, or Tcp's."""
        for path in ("/proc/net/netstat", "/proc/net/snmp"):
            with open(path, encoding="ascii") as file:
                rows = [line.split() for line in file if line.startswith(("TcpExt:", "Tcp:"))]
            counters = dict(zip(rows[0], rows[1], strict=True))
            if name in counters:
                return int(counters[name])
        raise KeyError(name)

    def counted(self, **expected: int) -> None:
        """What happened is what we mean to have made happen."""
        for name, value in expected.items():
            if (found := self.counter(name)) != value:
                raise RuntimeError(f"{name} is {found}, not {value}")

    def has_reset(self) -> None:
        """A reset has been sent; on a slow machine perhaps another for what was sent again."""
        if not self.counter("OutRsts"):
            raise RuntimeError("no reset has been sent")

    # What else can be done to a connection

    def kill(self, end: End, state: str) -> Line:
        """By an administrator with `ss -K`; returns who that was."""
        _, sport, _, dport = end.address
        return self.kill_all(state, f"( sport = :{sport} and dport = :{dport} )")

    @staticmethod
    def kill_all(state: str, which: str) -> Line:
        """Those that `ss` finds so."""
        with subprocess.Popen(["ss", "-Ktan", "state", state, which], stdout=subprocess.DEVNULL) as ss:
            pass
        return {"pid": ss.pid, "comm": "ss", "grade": "certain"}

    def forge(self, to: End, flags: int, sequence: int) -> None:
        """A segment without data, as if from the peer of `to`; returns when it has been processed."""
        saddr, sport, daddr, dport = to.address
        head = struct.pack("!HHIIBBHHH", dport, sport, sequence, 1, 5 << 4, flags, 1000, 0, 0)
        seen = self.counter("InSegs")
        v6 = self.family == "6"
        with socket.socket(
            socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP
        ) as raw:
            if v6:
                raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, 16)
            else:
                ends = socket.inet_aton(daddr) + socket.inet_aton(saddr)
                checksum = _checksum(ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(head)) + head)
                head = head[:16] + struct.pack("!H", checksum) + head[18:]
            raw.sendto(head, (saddr, 0))
        until(lambda: self.counter("InSegs") > seen, "the forged segment has come in")

    # What a trace must say

    def closes(  # a line has that many facts  # noqa: PLR0913
        self,
        end: End,
        *,
        first: str,
        how: str,
        via: str,
        by: Actor | Line | None,
        states: str = "",
        time_wait: str | None = None,
        **more: Any,
    ) -> None:
        """A close line; with `time_wait`, the birth of a mini-socket in that substate.

        `owner` and `opener` can be given; else the owner is the closer, or the
        opener if there is none. `less` has what a source may say instead, by
        source and field.
        """
        opener = more.pop("opener", who(end.actor))
        end.owner = more.pop("owner", who(by) if by else opener)
        opening = "SYN_SENT" if end.role == "client" else "SYN_RECV ESTABLISHED"
        if end.role == "client" and how != "failed":
            opening += " ESTABLISHED"
        self.says(
            end,
            "close",
            role=end.role,
            first=first,
            how=how,
            via=via,
            opener=opener,
            closer=who(by),
            time_wait=time_wait is not None,
            states=sorted(f"{opening} {states}".split()),
            **more,
        )
        if time_wait is not None:
            self.says(end, "time_wait", substate=time_wait)

    def ends(  # noqa: PLR0913
        self,
        end: End,
        reason: str,
        *,
        lifetime: Range | None,
        fin_wait2: Range | None = None,
        rearmed: int | None = 0,
        by: Actor | Line | None = None,
        less: Line | None = None,
    ) -> None:
        """The end of a mini-socket; `rearmed` None: it cannot be foretold."""
        self.says(
            end,
            "time_wait_end",
            reason=reason,
            lifetime_us=lifetime,
            fin_wait2_us=fin_wait2,
            by=who(by) if by else None,
            less=less,
            **({} if rearmed is None else {"rearmed": rearmed}),
        )

    def fails(self, end: End, error: str, cause: str) -> None:
        """connect() gave that error, and the socket was closed without ever having been connected."""
        end.owner = who(end.actor)
        self.says(end, "connect_failed", error=error, cause=cause)
        self.closes(end, first="none", how="failed", via="unknown", by=None)

    def says(self, end: End, kind: str, **facts: Any) -> None:
        """A line about that end."""
        saddr, sport, daddr, dport = end.address
        less = facts.pop("less", None) or {}
        self.lines.append(
            {
                "conn": end.name,
                "netns": self.netns,
                "saddr": saddr,
                "sport": sport,
                "daddr": daddr,
                "dport": dport,
                "family": 6 if self.family == "6" else 4,
                "type": kind,
                "owner": end.owner,
                **facts,
                "less": less,
            }
        )

    def leave(self) -> None:
        """End all processes; the namespace stays for as long as this one."""
        for actor in self._actors:
            if not actor.ended:
                actor.kill()


def who(by: Actor | Line | None, grade: str = "certain") -> Line:
    """A process as a trace tells of it."""
    if isinstance(by, Actor):
        return {"pid": by.pid, "comm": by.name, "grade": grade}
    return by or {"pid": None, "comm": None, "grade": "unknown"}


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        asked = fcntl.ioctl(some, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("H", asked, 16)
        fcntl.ioctl(some, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _set(name: str, value: str) -> None:
    path = f"/proc/sys/net/ipv4/{name}"
    if os.path.exists(path):
        with open(path, "w", encoding="ascii") as file:
            file.write(value)


def _ends(local: str, peer: str) -> Address:
    return *_hex_end(local), *_hex_end(peer)


def _hex_end(text: str) -> tuple[str, int]:
    address, _, port = text.partition(":")
    words = struct.pack(
        f"={len(address) // 8}I", *(int(address[at : at + 8], 16) for at in range(0, len(address), 8))
    )
    family = socket.AF_INET if len(words) == 4 else socket.AF_INET6
    return plain(socket.inet_ntop(family, words)), int(port, 16)


def _checksum(content: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(content) // 2}H", content))
    total = (total & 0xFFFF) + (total >> 16)
    total += total >> 16
    return ~total & 0xFFFF
