"""What must hold of any trace: no other error than ours, no control characters, no wrong total as right."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable
from pathlib import Path

from tracer.errors import TwtraceError, UsageError
from tracer.model import Close, End, Event, Lost, Start, TimeWait, TimeWaitEnd
from tracer.reader import Reader
from tracer.replay import ReplayRun
from tracer.report.data import as_json
from tracer.report.many import read_all
from tracer.report.reading import Part, Wanted
from tracer.report.text import render_all
from tracer.table import render
from tracer.tracelines import DamagedError, lines_of, open_trace

Item = Start | Event | End

UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""But for the end of a line."""


class Failed(Exception):  # noqa: N818 - what the fuzzer looks for
    """A check that did not hold."""


def read(trace: bytes) -> tuple[list[Item], int]:
    """What a trace says, and how many doubts there are; an error is one."""
    reader = Reader()
    items: list[Item] = []
    try:
        items.extend(reader.read(lines_of([trace])))
    except TwtraceError:
        return items, reader.doubted + 1
    return items, reader.doubted


def totals(items: list[Item]) -> Counter[Hashable]:
    """What is counted of a trace."""
    found: Counter[Hashable] = Counter()
    for item in items:
        found[type(item).__name__] += 1
        if isinstance(item, Close):
            found["overflow"] += item.overflow
        elif isinstance(item, TimeWait):
            found["preexisting"] += item.preexisting
        elif isinstance(item, TimeWaitEnd):
            found[item.reason] += 1
        elif isinstance(item, Lost):
            found["lost", item.what] += item.count
    return +found


def check(trace: bytes, original: bytes | None = None) -> None:
    """Raises Failed, or what is wrong; `original` is what the trace was made of."""
    items, doubted = read(trace)
    if original is not None and not doubted:
        before, _ = read(original)
        if totals(items) != totals(before):
            raise Failed("totals are others, and nothing is told")
        # Without a checksum it is an older trace, to whoever took it off as well.
        if b'"crc32":' in original and b'"crc32":' in trace and items != before:
            raise Failed("the checksum does not tell of an edit")
    _check_report([trace])
    if original is not None and len(trace) % 4 == 0:
        _check_report([original, trace])


def check_packed(packed: bytes, path: Path) -> None:
    """The same for a compressed one, which may be damaged, and for its replay; `path` is written to."""
    path.write_bytes(packed)
    try:
        with open_trace(str(path)) as lines:
            unpacked = b"".join(lines)
    except (UsageError, DamagedError):
        pass
    else:
        check(unpacked)
    try:
        replayed = ReplayRun(str(path))
        _check_text(render(replayed.at_end()))
    except TwtraceError as error:
        _check_error(error)


def _check_report(traces: list[bytes]) -> None:
    try:
        reports = read_all([Part(lines_of([trace])) for trace in traces], Wanted())
        _check_text(render_all(reports, color=False))
        json.loads(as_json(reports))
    except TwtraceError as error:
        _check_error(error)


def _check_text(text: str) -> None:
    if found := UNSAFE.search(text):
        raise Failed(f"control character {found[0]!r} in the text")


def _check_error(error: TwtraceError) -> None:
    if not error.cause or not error.hint:
        raise Failed("an error without cause or hint")
