"""The settings that bear on closing: what each does, what it does not, and its value. Never written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tracer.lifetime import REUSE_DELAY_US

Values = Mapping[str, int | str]
"""Name under net.ipv4 → value, of one namespace."""

DEFAULT_PORT_RANGE = (32_768, 60_999)


@dataclass(frozen=True, slots=True)
class Setting:
    """One sysctl under net.ipv4."""

    name: str
    default: str
    """As a person reads it, the same from Linux 5.10 to 7.2; it may depend on memory."""
    does: str
    does_not: str

    def differs(self, value: str) -> bool:
        """Whether it is certainly not the default, which may be a range."""
        known = self.default.split(" (")[0]
        return value != known if known.replace(" ", "").isdigit() or not known else False


SETTINGS = (
    Setting(
        "ip_local_port_range",
        "32768 60999",
        "the source ports connect() picks from: 28,232 for each source address and destination by default",
        "give more ports to a server that accepts: all its connections share the listening port",
    ),
    Setting(
        "ip_local_reserved_ports",
        "",
        "ports of that range that connect() leaves alone",
        "free ports",
    ),
    Setting(
        "tcp_tw_reuse",
        "2",
        "lets connect() take over a port in TIME_WAIT: 1 always, 2 on loopback only, 0 never; needs"
        " tcp_timestamps on both ends",
        "help the side that accepts connections, nor make TIME_WAIT shorter",
    ),
    Setting(
        "tcp_tw_reuse_delay",
        "1000",
        "milliseconds a TIME_WAIT must be old before it is reused; from Linux 6.14 on",
        "matter while tcp_tw_reuse is off",
    ),
    Setting(
        "tcp_timestamps",
        "1",
        "without it tcp_tw_reuse has no effect",
        "change how long TIME_WAIT lasts",
    ),
    Setting(
        "tcp_max_tw_buckets",
        "4096 to 262144, by memory",
        "beyond so many in a namespace TIME_WAIT is skipped, with its protection; the kernel counts it as"
        " TCPTimeWaitOverflow",
        "make TIME_WAIT shorter",
    ),
    Setting(
        "tcp_fin_timeout",
        "60",
        "seconds that a closed socket whose peer has not closed stays in FIN_WAIT2",
        "make TIME_WAIT shorter, which is a constant 60 s",
    ),
    Setting(
        "tcp_max_orphans",
        "4096 to 262144, by memory",
        "closed sockets that still wait for the peer; beyond it they are reset",
        "count TIME_WAITs",
    ),
    Setting(
        "tcp_orphan_retries",
        "0 (means 8)",
        "how often a closed socket's data and FIN are sent again before it is given up",
        "touch TIME_WAIT",
    ),
    Setting(
        "tcp_rfc1337",
        "0",
        "1: a reset does not end a TIME_WAIT",
        "change anything else",
    ),
    Setting(
        "tcp_retries2",
        "15",
        "how often data is sent again on an open connection before it is given up (15: some 15 minutes)",
        "end a CLOSE_WAIT: the application has to",
    ),
    Setting(
        "tcp_keepalive_time",
        "7200",
        "seconds idle before a probe, on sockets with SO_KEEPALIVE: finds peers that are gone",
        "close anything whose peer still answers; it is no HTTP keep-alive",
    ),
)

NAMES = tuple(setting.name for setting in SETTINGS)
"""What is read of each namespace; some are not in every kernel, tcp_max_orphans not in every namespace."""


def port_range(values: Values) -> tuple[int, int] | None:
    """The first and the last automatic port; None when not known."""
    words = str(values.get("ip_local_port_range", "")).split()
    if len(words) != 2 or not all(word.isdigit() for word in words):  # noqa: PLR2004
        return None
    return int(words[0]), int(words[1])


def automatic_ports(values: Values) -> int | None:
    """How many ports connect() may pick for one destination."""
    bounds = port_range(values)
    if bounds is None:
        return None
    low, high = bounds
    reserved: set[int] = set()
    for part in filter(None, str(values.get("ip_local_reserved_ports", "")).split(",")):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            reserved |= set(range(max(low, int(first)), min(high, int(last or first)) + 1))
    return high - low + 1 - len(reserved)


def reuse_allowed(values: Values, *, loopback: bool) -> bool:
    """Whether connect() may take over a port in TIME_WAIT; the peer has to send timestamps, too.

    tcp_twsk_unique(), net/ipv4/tcp_ipv4.c.
    """
    reuse = values.get("tcp_tw_reuse", 0)
    return bool(values.get("tcp_timestamps", 1)) and (reuse == 1 or (reuse == 2 and loopback))  # noqa: PLR2004


def reuse_delay_us(values: Values) -> int:
    """How old a TIME_WAIT must be for that."""
    delay = values.get("tcp_tw_reuse_delay")
    return delay * 1000 if isinstance(delay, int) else REUSE_DELAY_US


def is_loopback(address: str) -> bool:
    """127.0.0.0/8 or ::1, as tcp_twsk_unique() has it."""
    return address.startswith("127.") or address == "::1"
