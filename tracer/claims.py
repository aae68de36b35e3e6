"""What people are told about TIME_WAIT, and what is true of it: the one source of these texts.

Each verdict is measured by an experiment (tests/scenarios/claims); docs/claims.md has what was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Truth(str, Enum):
    """What the experiment says of a claim."""

    PROVED = "proved"
    REFUTED = "refuted"
    DEPENDS = "depends"
    """Right in some cases, wrong in others; `Claim.why` says in which."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that is said of TIME_WAIT."""

    number: int
    claim: str
    """As people say it, short."""
    verdict: Truth
    why: str
    """One or two sentences; the first can stand alone."""
    helps: bool | None = None
    """Whether doing it helps against too many TIME_WAITs; None: it depends, or it is nothing one can do."""
    setting: str | None = None
    """The sysctl (without `net.ipv4.`), option or limit it is about."""

    @property
    def short(self) -> str:
        """In half a line: `no help: tcp_fin_timeout bounds FIN_WAIT2 only`."""
        first = self.why.split(". ")[0].removesuffix(".")
        if self.helps is None:
            return first
        word, space, rest = first.partition(" ")
        if word.istitle():
            word = word.lower()
        return f"{'helps' if self.helps else 'no help'}: {word}{space}{rest}"


CLAIMS = (
    Claim(
        1,
        "TIME_WAIT belongs to whoever closes first, client or server",
        Truth.PROVED,
        "The side that sends the first FIN keeps the TIME_WAIT. It does not matter who connected.",
    ),
    Claim(
        2,
        "It lasts 60 seconds, 2 minutes or 4 minutes",
        Truth.DEPENDS,
        "It lasts 60 seconds, and up to 4 more as kernel timers go; no setting changes that. "
        "A segment that arrives for it can start the minute anew, so longer ones are real.",
    ),
    Claim(
        3,
        "A lower tcp_fin_timeout shortens TIME_WAIT",
        Truth.REFUTED,
        "tcp_fin_timeout bounds FIN_WAIT2 only. "
        "Once the peer has closed too, TIME_WAIT takes its 60 seconds whatever it says.",
        helps=False,
        setting="tcp_fin_timeout",
    ),
    Claim(
        4,
        "tcp_tw_recycle=1 makes TIME_WAIT short",
        Truth.REFUTED,
        "tcp_tw_recycle is gone since Linux 4.12. "
        "While it was there, it refused clients that share an address (NAT).",
        helps=False,
        setting="tcp_tw_recycle",
    ),
    Claim(
        5,
        "tcp_tw_reuse=1 helps",
        Truth.DEPENDS,
        "tcp_tw_reuse=1 lets an outgoing connection take over a TIME_WAIT about a second old, if both ends "
        "use timestamps. It does nothing for a server that closes first; the default of 2 is for loopback.",
        setting="tcp_tw_reuse",
    ),
    Claim(
        6,
        "TIME_WAIT exhausts the ports: connect() fails with “Cannot assign requested address”",
        Truth.PROVED,
        "A client that closes first has one connection in 60 seconds for each automatic port. By default "
        "that is 28,232 / 60 = 470 a second, for each source address, destination address and port.",
    ),
    Claim(
        7,
        "A busy server runs out of ports through TIME_WAIT, or cannot accept the same client again",
        Truth.REFUTED,
        "All connections of a server share its one listening port. "
        "A SYN from the same client port replaces the TIME_WAIT at once, if it is newer by timestamp or "
        "sequence number; if not, it is accepted when it is sent again.",
    ),
    Claim(
        8,
        "Raise ulimit -n, or set tcp_syncookies",
        Truth.REFUTED,
        "A TIME_WAIT holds no file descriptor and no place in a listener's queue. "
        "Neither setting gives a client more ports.",
        helps=False,
        setting="ulimit -n",
    ),
    Claim(
        9,
        "Each TIME_WAIT costs 1 KB; ten thousand cost 1 MB",
        Truth.REFUTED,
        "Each takes about 256 bytes (the kernel's tw_sock_TCP cache), so ten thousand take about 2.6 MB. "
        "At a client the records of its local ports come on top, up to as much again.",
    ),
    Claim(
        10,
        "HTTP closes by default, so servers collect TIME_WAIT",
        Truth.DEPENDS,
        "HTTP/1.1 keeps connections open unless one side asks otherwise. With HTTP/1.0, “Connection: close” "
        "or keep-alive off the server closes first and gets a TIME_WAIT for each request.",
    ),
    Claim(
        11,
        "SO_LINGER with time 0 avoids TIME_WAIT",
        Truth.PROVED,
        "SO_LINGER with time 0 makes close() send a reset, which leaves no TIME_WAIT. "
        "Data that was not yet sent is thrown away, and the peer gets ECONNRESET.",
        setting="SO_LINGER",
    ),
    Claim(
        12,
        "SO_REUSEADDR lets a second socket take over a live one",
        Truth.REFUTED,
        "SO_REUSEADDR lets bind() succeed beside a TIME_WAIT, if the old socket had it too. "
        "Beside a socket that listens bind() fails with EADDRINUSE all the same.",
        setting="SO_REUSEADDR",
    ),
    Claim(
        13,
        "Let the peer close first",
        Truth.DEPENDS,
        "It moves the TIME_WAIT to the peer. That is right for a client, since a server's listening port "
        "does not run out; a server that leaves it to its clients moves it to where ports do.",
    ),
    Claim(
        14,
        "Keep connections open: HTTP keep-alive, pools, nginx upstream keepalive",
        Truth.PROVED,
        "A connection that is kept leaves one TIME_WAIT at its end, however many requests it carried. "
        "This removes the cause.",
        helps=True,
        setting="keep-alive",
    ),
    Claim(
        15,
        "Lower tcp_max_tw_buckets to be rid of TIME_WAIT",
        Truth.DEPENDS,
        "tcp_max_tw_buckets caps their number by leaving TIME_WAIT out, it shortens none. A close beyond it "
        "(TCPTimeWaitOverflow) is not safe from old segments, and a peer that closes later can get a reset.",
        helps=False,
        setting="tcp_max_tw_buckets",
    ),
    Claim(
        16,
        "If the last ACK is lost, the peer sends its FIN again",
        Truth.PROVED,
        "TIME_WAIT answers a FIN that is sent again, and its 60 seconds begin anew. That is what it is for.",
    ),
    Claim(
        17,
        "Many CLOSE_WAIT are worse than many TIME_WAIT",
        Truth.PROVED,
        "CLOSE_WAIT stays until the process closes its socket, and holds a file descriptor. "
        "It is a defect of the program, and unless SO_KEEPALIVE is set no timeout ends it.",
    ),
    Claim(
        18,
        "More ports: a wider ip_local_port_range, more source addresses, more destination ports",
        Truth.PROVED,
        "A client can have as many connections as automatic ports × source addresses × destinations. "
        "Twice as many of any of them is twice the rate.",
        helps=True,
        setting="ip_local_port_range",
    ),
    Claim(
        19,
        "Look at them with netstat or ss: by state, local port, remote address",
        Truth.DEPENDS,
        "netstat and ss count TIME_WAITs rightly and cannot say whose they are. "
        "The kernel no longer knows; who caused one must have been noted before.",
    ),
)

_BY_NUMBER = {one.number: one for one in CLAIMS}
_BY_SETTING = {one.setting: one for one in CLAIMS if one.setting} | {
    "RLIMIT_NOFILE": _BY_NUMBER[8],
    "tcp_syncookies": _BY_NUMBER[8],
    "tcp_tw_reuse_delay": _BY_NUMBER[5],
}


def claim(key: int | str) -> Claim:
    """By number, or by the setting it is about (with `net.ipv4.` or without); KeyError if there is none."""
    if isinstance(key, int):
        return _BY_NUMBER[key]
    return _BY_SETTING[key.removeprefix("net.ipv4.")]
