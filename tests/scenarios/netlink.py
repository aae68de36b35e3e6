"""What is asked of the kernel by netlink: its dump of mini-sockets, and routes without haste."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from tests.scenarios.actors import STATES, plain

_NETLINK_ROUTE, _NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 0, 4, 20
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP, _REPLACE, _CREATE = 0x1, 0x4, 0x300, 0x100, 0x400
_HEAD = struct.Struct("=IHHII")

# linux/rtnetlink.h
_NEW_ROUTE, _DELETE_ROUTE = 24, 25
_TABLE_LOCAL, _PROTOCOL_KERNEL, _SCOPE_HOST, _TYPE_LOCAL = 255, 2, 254, 2
_DESTINATION, _DEVICE, _SOURCE, _METRICS = 1, 4, 7, 8
_METRIC_LOCK, _METRIC_RTO_MIN = 1, 13
_LOOPBACK_INDEX = 1

Address = tuple[str, int, str, int]


def mini_sockets(family: socket.AddressFamily) -> Iterator[Address]:
    """All in TIME_WAIT and FIN_WAIT2, as sock_diag(7) lists them for `ss`."""
    wanted = 1 << STATES.index("TIME_WAIT") | 1 << STATES.index("FIN_WAIT2")
    request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, wanted)
    width = 4 if family == socket.AF_INET else 16
    for entry in _ask(_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _DUMP, request):
        sport, dport, source, destination = struct.unpack_from("!HH16s16s", entry, 4)
        saddr, daddr = (plain(socket.inet_ntop(family, end[:width])) for end in (source, destination))
        yield saddr, sport, daddr, dport


def retransmit_after(milliseconds: int, family: socket.AddressFamily) -> None:
    """No segment over loopback is sent again before.

    A busy emulator may stand still for longer than the usual 200 ms, and what
    was sent twice meets other states than what was sent once.
    """
    address = socket.inet_pton(family, "127.0.0.1" if family == socket.AF_INET else "::1")
    route = struct.pack(
        "=BBBBBBBBI", family, len(address) * 8, 0, 0,
        _TABLE_LOCAL, _PROTOCOL_KERNEL, _SCOPE_HOST, _TYPE_LOCAL, 0,
    )  # fmt: skip
    route += _attribute(_DESTINATION, address) + _attribute(_DEVICE, struct.pack("=I", _LOOPBACK_INDEX))
    metrics = _attribute(_METRIC_LOCK, struct.pack("=I", 1 << _METRIC_RTO_MIN))
    metrics += _attribute(_METRIC_RTO_MIN, struct.pack("=I", milliseconds))
    if family == socket.AF_INET:
        route += _attribute(_SOURCE, address)
    else:  # the kernel's own has a priority that no other can be given
        list(_ask(_NETLINK_ROUTE, _DELETE_ROUTE, _ACK, route))
    list(_ask(_NETLINK_ROUTE, _NEW_ROUTE, _ACK | _REPLACE | _CREATE, route + _attribute(_METRICS, metrics)))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _ask(protocol: int, kind: int, flags: int, request: bytes) -> Iterator[bytes]:
    """The answers' bodies."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as netlink:
        netlink.send(_HEAD.pack(_HEAD.size + len(request), kind, _REQUEST | flags, 0, 0) + request)
        while True:
            data = netlink.recv(1 << 16)
            while data:
                length, answer, _, _, _ = _HEAD.unpack_from(data)
                body = data[_HEAD.size : length]
                if answer == _ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    if code:
                        raise OSError(-code, f"netlink {kind}: {os.strerror(-code)}")
                    return
                if answer == _DONE:
                    return
                yield body
                data = data[(length + 3) & ~3 :]
