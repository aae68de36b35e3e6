"""The options that commands share, and what is wrong with them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import NoReturn

from tracer import __version__
from tracer.duration import seconds
from tracer.errors import UsageError
from tracer.expression import EVERYTHING, Expression, FilterError, parse
from tracer.filters import Filters


class Parser(argparse.ArgumentParser):
    """One command's options; what is wrong with them is an error like any other."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(message, f"see `{self.prog} --help`")

    def actions(self) -> tuple[argparse.Action, ...]:
        """All its options and arguments, in the order of the help."""
        return tuple(self._actions)


def command_parser(command: str, description: str, examples: str) -> Parser:
    """The parser of a command, without its own options."""
    parser = Parser(
        prog=f"twtrace {command}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"twtrace {__version__}")
    return parser


def filters_of(options: argparse.Namespace, resolve: Callable[[str], int]) -> Filters:
    """What add_filters() brought; `resolve` knows the inode number of a namespace."""
    return Filters(
        pids=frozenset(options.pid),
        comms=frozenset(options.comm),
        uids=frozenset(options.uid),
        cgroups=tuple(options.cgroup),
        netns=resolve(options.netns) if options.netns else None,
        local_ports=frozenset(options.local),
        remote_ports=frozenset(options.remote),
        family=options.family,
        expression=options.filter,
    )


def inode_in_trace(netns: str) -> int:
    """Of a namespace that was there when a trace was taken; raises UsageError for a name or a path."""
    if not netns.isdigit():
        raise UsageError(
            f"{netns}: names and paths of namespaces are this host's, of this moment",
            "give the inode number that the trace has: `twtrace report --by netns FILE`",
        )
    return int(netns)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Which connections are wanted: the same for every command."""
    wanted = parser.add_argument_group(
        "filters", "values of one option are alternatives, different options all apply"
    )
    wanted.add_argument("-p", "--pid", type=number, action="append", default=[], metavar="PID")
    wanted.add_argument(
        "-C", "--comm", type=_comm, action="append", default=[], metavar="COMM", help="process name, as ps -C"
    )
    wanted.add_argument("-u", "--uid", type=number, action="append", default=[], metavar="UID")
    wanted.add_argument("--cgroup", action="append", default=[], metavar="PATH", help="and those below it")
    wanted.add_argument("-N", "--netns", metavar="NAME|PATH|INODE", help="network namespace")
    wanted.add_argument(
        "-L", "--local", type=_ports, action="extend", default=[], metavar="PORT[,PORT]", help="local port"
    )
    wanted.add_argument(
        "-D", "--remote", type=_ports, action="extend", default=[], metavar="PORT[,PORT]", help="remote port"
    )
    family = wanted.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4, mapped addresses too")
    family.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6")
    wanted.add_argument(
        "--filter",
        type=_expression,
        default=EVERYTHING,
        metavar="EXPR",
        help="'proc:nginx !dport:443 tw/s>10'; all keys: man twtrace",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options of a command that traces, filters too."""
    from tracer.kernel.flags import SITES  # noqa: PLC0415
    from tracer.kernel.hooks import AUTO, SOURCES  # noqa: PLC0415

    add_filters(parser)
    common = parser.add_argument_group("common")
    common.add_argument(
        "-d", "--duration", type=seconds, metavar="TIME", help="30s, 5m; default: until Ctrl-C"
    )
    common.add_argument(
        "-i", "--interval", type=seconds, metavar="TIME", help="between two views (screen 500ms, table 2s)"
    )
    common.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="NO_COLOR is honoured"
    )
    common.add_argument(
        "--hooks",
        choices=(AUTO, *SOURCES),
        default=AUTO,
        help="source of TIME_WAIT facts; auto: the best that works",
    )
    common.add_argument(
        "--sites",
        choices=SITES,
        default=SITES[0],
        help="of how many the place in the program that closes or opens: off, some by chance, all",
    )
    common.add_argument(
        "--ring",
        type=_ring_mib,
        default=32,
        metavar="MIB",
        help="room for bursts in the kernel, a power of two (32)",
    )
    common.add_argument("--strict", action="store_true", help="exit 5 if anything was lost")
    volume = common.add_mutually_exclusive_group()
    volume.add_argument("-q", "--quiet", action="store_true", help="no summary")
    volume.add_argument("-v", "--verbose", action="store_true", help="the kernel's account of the programs")


def _expression(text: str) -> Expression:
    try:
        return parse(text)
    except FilterError as error:
        raise UsageError(f"{error.cause}, at character {error.at + 1}", error.hint) from error


_MAX_COMM = 15  # TASK_COMM_LEN less its end


def _comm(text: str) -> str:
    if not 0 < len(os.fsencode(text)) <= _MAX_COMM:
        raise argparse.ArgumentTypeError(f"{text!r}: the kernel keeps the first {_MAX_COMM} bytes of a name")
    return text


def number(text: str) -> int:
    """A whole number that is not negative."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def _ring_mib(text: str) -> int:
    mib = number(text)
    if mib & (mib - 1) or not 0 < mib <= _MAX_RING_MIB:
        raise argparse.ArgumentTypeError(f"{text!r}: give 1, 2, 4 … {_MAX_RING_MIB}")
    return mib


_MAX_RING_MIB = 512


_MAX_PORT = 65535


def _ports(text: str) -> tuple[int, ...]:
    ports = tuple(number(part) for part in text.split(","))
    if not all(0 < port <= _MAX_PORT for port in ports):
        raise argparse.ArgumentTypeError(f"{text!r}: ports are 1 to {_MAX_PORT}")
    return ports
