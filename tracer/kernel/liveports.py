"""Automatic ports that full sockets hold, by the kernel's own socket dump."""

from __future__ import annotations

from collections import Counter

from tracer.kernel.sock_diag import dump
from tracer.model import STATES
from tracer.settings import Values, port_range

_MOST = 64
_LISTENING = frozenset({"LISTEN"})
_HELD = frozenset(STATES) - _LISTENING - {"", "TIME_WAIT", "CLOSE", "NEW_SYN_RECV", "SYN_RECV"}


Destination = tuple[int, str, str, int]
"""Family, source address, destination address, destination port."""


def live_ports(settings: Values) -> list[tuple[Destination, int]]:
    """The destinations for which full sockets of this thread's namespace hold the most ports, and how many.

    A socket counts if its port is in ip_local_port_range and nobody listens on it:
    what was accepted has its listener's port.
    """
    bounds = port_range(settings)
    if bounds is None:
        return []
    listening = {entry.sport for entry in dump(_LISTENING)}
    held = Counter(
        (entry.family, entry.saddr, entry.daddr, entry.dport)
        for entry in dump(_HELD)
        if not entry.is_time_wait and bounds[0] <= entry.sport <= bounds[1] and entry.sport not in listening
    )
    return held.most_common(_MOST)
