"""Who is measured: twtrace in its forms, and what people would run instead."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.kernel.support import Namespace

PROBE = "bch-probe"
"""The name of a process that is looked for in outputs; no tool shortens it."""


class Stdout(Enum):
    """Where stdout goes while its cost is measured."""

    FILE = "a file"
    NULL = "/dev/null"
    SCREEN = "a terminal of 120 × 36"


class Look(Enum):
    """Where its first event is looked for."""

    TRACE = 1
    STDOUT = 2
    TERMINAL = 3
    """stdout as well, on a terminal: elsewhere it waits in a buffer."""
    NOWHERE = 4


@dataclass(frozen=True, slots=True)
class Site:
    """What a command may need to know."""

    trace: Path
    """A file of its own."""
    places: tuple[Namespace, ...]
    """The namespaces with load in them."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One that is measured."""

    key: str
    title: str
    command: Callable[[Site], list[str]]
    package: str | None
    """Debian's name of it; None: this project."""
    stdout: Stdout
    look: Look
    lost: re.Pattern[bytes] | None
    """How it says that it lost records; None: it does not see single ones."""

    @property
    def is_ours(self) -> bool:
        return self.package is None

    @property
    def in_kernel(self) -> bool:
        """Is it an eBPF tracer? Else it polls."""
        return self.lost is not None


def _twtrace(key: str, title: str, stdout: Stdout, look: Look, *options: str) -> Contender:
    def command(site: Site) -> list[str]:
        named = (option.replace("FILE", str(site.trace)) for option in options)
        return [sys.executable, "-m", "tracer", *named]

    return Contender(key, title, command, None, stdout, look, re.compile(rb"; lost (\d+)"))


def _tool(package: str, title: str, *command: str) -> Contender:
    """One that needs /sys/kernel/tracing: mounted for it alone where it is not."""
    mounted = 'mount -t tracefs tracefs /sys/kernel/tracing; exec "$@"'
    there = Path("/sys/kernel/tracing/events").exists()
    whole = [*command] if there else ["unshare", "--mount", "sh", "-c", mounted, "sh", *command]
    lost = re.compile(rb"^lost (\d+) events", re.IGNORECASE | re.MULTILINE)
    return Contender(command[0], title, lambda _: whole, package, Stdout.FILE, Look.TERMINAL, lost)


def _poll(site: Site) -> list[str]:
    polls = "; ".join(f"nsenter --net=/run/netns/{place.name} ss -tan" for place in site.places)
    return ["sh", "-c", f"while :; do {polls}; sleep 1; done"]


CONTENDERS = (
    _twtrace("record", "`twtrace record -o FILE`", Stdout.FILE, Look.TRACE, "record", "-v", "-o", "FILE"),
    _twtrace("null", "`twtrace record -o /dev/null`", Stdout.NULL, Look.NOWHERE, "record", "-o", "/dev/null"),
    _twtrace("table", "`twtrace -i 1s`, the table", Stdout.FILE, Look.STDOUT, "-i", "1s"),
    _twtrace("screen", "`twtrace`, the screen", Stdout.SCREEN, Look.TERMINAL),
    _tool("libbpf-tools", "`tcpstates` (libbpf-tools)", "tcpstates"),
    _tool("libbpf-tools", "`tcplife` (libbpf-tools)", "tcplife"),
    _tool("bpftrace", "`bpftrace tests/bench/states.bt`", "bpftrace", "tests/bench/states.bt"),
    _tool("bpftrace", "`tcplife.bt` (bpftrace)", "tcplife.bt"),
    _tool("bpfcc-tools", "`tcpstates-bpfcc` (BCC)", "tcpstates-bpfcc"),
    _tool("bpfcc-tools", "`tcplife-bpfcc` (BCC)", "tcplife-bpfcc"),
    Contender("ss", "`ss -tan` each second", _poll, "iproute2", Stdout.NULL, Look.STDOUT, None),
)

WITH_SITES = tuple(
    _twtrace(
        f"sites-{some}",
        f"`twtrace record --sites {some}`",
        Stdout.FILE,
        Look.TRACE,
        *("record", "--sites", some, "-o", "FILE"),
    )
    for some in ("off", "some", "all")
)
"""The same with and without looking at who closes where."""
