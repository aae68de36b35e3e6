"""Stacks of invented programs."""

from __future__ import annotations

from tests.unit.samples import T0, owner
from tracer.model import Frame, Owner, Site

LIBC = "/usr/lib/x86_64-linux-gnu/libc.so.6"
PROGRAM = "/usr/bin/orders"


def frame(
    function: str | None,
    file: str | None = None,
    line: int | None = None,
    *,
    module: str | None = PROGRAM,
    offset: int | None = 0x1000,
) -> Frame:
    return Frame(module, "abc", offset, function, file, line)


def libc(function: str | None, offset: int = 0x10F) -> Frame:
    return frame(function, module=LIBC, offset=offset)


START = (libc("__libc_start_call_main"), libc("__libc_start_main_impl"), frame("_start"))


def site(
    number: int, *frames: Frame, whose: Owner | None = None, what: str = "close", whole: bool = True
) -> Site:
    return Site(T0, number, what, whose or owner(1), frames, whole)


def closing(number: int, function: str = "finish_request", line: int = 88) -> Site:
    """`main` calls `serve` calls `function`, which calls close()."""
    frames = (
        libc("__GI___close"),
        frame(function, "src/server.c", line),
        frame("serve", "src/server.c", 40),
        frame("main", "src/main.c", 9),
        *START,
    )
    return site(number, *frames)
