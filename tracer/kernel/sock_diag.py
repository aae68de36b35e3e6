"""The kernel's own list of TCP sockets in the present namespace (sock_diag(7))."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from tracer.errors import TwtraceError
from tracer.model import STATES

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300

_MESSAGE = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2 with an empty id
_ENTRY = struct.Struct("=BBBB2s2s16s16sIIIIIIII")  # struct inet_diag_msg
_BUFFER = 1 << 18
_TIMER_TIME_WAIT = 3  # idiag_timer of inet_twsk_diag_fill(), sock_diag(7)


class DiagSocket(NamedTuple):
    """One socket of the dump."""

    state: str
    """As shown by the kernel: a FIN_WAIT2 mini-socket says `FIN_WAIT2`."""
    family: int
    saddr: str
    sport: int
    daddr: str
    dport: int
    expires_ms: int
    inode: int
    uid: int
    is_time_wait: bool
    """A mini-socket, of whichever substate."""


def dump_time_waits() -> list[DiagSocket]:
    """All mini-sockets in this thread's namespace.

    The kernel picks them by their substate (tcp_diag_dump_icsk(),
    net/ipv4/inet_diag.c), so FIN_WAIT2 has to be asked for, too: full sockets and
    mini-sockets alike.
    """
    return [entry for entry in dump(frozenset({"TIME_WAIT", "FIN_WAIT2"})) if entry.is_time_wait]


def dump(states: frozenset[str]) -> Iterator[DiagSocket]:
    """All TCP sockets in one of `states`, of both families, in this thread's namespace.

    One by one, for there may be very many; the namespace is that of whoever asks for the first.
    """
    mask = sum(1 << STATES.index(state) for state in states)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for family in (socket.AF_INET, socket.AF_INET6):
            yield from _dump_family(netlink, family, mask)


def _dump_family(netlink: socket.socket, family: int, mask: int) -> Iterator[DiagSocket]:
    # The dump walks the hash table bucket by bucket and is no snapshot: a socket
    # that comes or goes meanwhile may be in it or not.
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, mask)
    length = _MESSAGE.size + len(request)
    header = _MESSAGE.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, 0, 0)
    netlink.send(header + request)
    while True:
        data = netlink.recv(_BUFFER)
        at = 0
        while at < len(data):
            length, kind, _flags, _, _ = _MESSAGE.unpack_from(data, at)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", data, at + _MESSAGE.size)
                raise TwtraceError(
                    f"the kernel does not list its TCP sockets (sock_diag: error {-code})",
                    "load the module tcp_diag (modprobe tcp_diag)",
                )
            yield _entry(data, at + _MESSAGE.size)
            at += (length + 3) & ~3


def _entry(data: bytes, at: int) -> DiagSocket:
    (
        family,
        state,
        timer,
        _retrans,
        sport,
        dport,
        source,
        destination,
        _interface,
        _cookie_low,
        _cookie_high,
        expires,
        _rqueue,
        _wqueue,
        uid,
        inode,
    ) = _ENTRY.unpack_from(data, at)
    mapped = destination.startswith(b"\0" * 10 + b"\xff\xff")
    if family == socket.AF_INET:
        source, destination = source[:4], destination[:4]
    elif mapped:
        source, destination = source[12:], destination[12:]
    four = family == socket.AF_INET or mapped
    text = socket.AF_INET if four else socket.AF_INET6
    return DiagSocket(
        STATES[state],
        4 if four else 6,
        socket.inet_ntop(text, source),
        int.from_bytes(sport, "big"),
        socket.inet_ntop(text, destination),
        int.from_bytes(dport, "big"),
        expires,
        inode,
        uid,
        timer == _TIMER_TIME_WAIT,
    )
