"""Measure what twtrace costs, beside what people would run instead: `make bench`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

from tests.bench import document, machine
from tests.bench.contenders import CONTENDERS, Contender
from tests.bench.errors import BenchError
from tests.bench.loads import compile_all
from tests.bench.measure import Bench
from tests.bench.sections import SECTIONS, Section
from tests.kernel.support import ROOT

DOCS = ROOT / "docs" / "performance.md"
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """0 if all was measured."""
    options = _options()
    for number in _STOPPING:
        signal.signal(number, _stopped)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="twtrace-bench-") as folder:
            status = _measure(options, Path(folder))
    except KeyboardInterrupt:
        _say("interrupted; nothing is written")
        return 130
    _say(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return status


def _options() -> argparse.Namespace:
    keys = [section.key for section in SECTIONS]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=keys, default=[], help="this section alone; repeatable"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of churn (5); others take fewer")
    parser.add_argument("--quick", action="store_true", help="small runs in one round, printed, not written")
    parser.add_argument("--print", action="store_true", help=f"do not write {DOCS.relative_to(ROOT)}")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    if os.geteuid():
        parser.error("not permitted: run it as root")
    return options


def _stopped(_number: int, _frame: object) -> NoReturn:
    for number in _STOPPING:  # a second one must not disturb the cleaning up
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _measure(options: argparse.Namespace, folder: Path) -> int:
    compile_all(folder)
    rounds = 1 if options.quick else options.rounds
    everyone = Bench(folder, rounds, options.quick, CONTENDERS)
    refused = {one: why for one in CONTENDERS if (why := _tried(everyone, one))}
    bench = Bench(folder, rounds, options.quick, tuple(one for one in CONTENDERS if one not in refused))
    chosen = [section for section in SECTIONS if section.key in options.only or not options.only]
    head = document.head(
        machine.facts(CONTENDERS),
        {one.title: one.stdout.value for one in bench.contenders},
        {one.title: why for one, why in refused.items()},
    )
    parts = [part for section in chosen if (part := _part(bench, section))]
    sys.stdout.write(document.whole(head, parts))
    if len(parts) < len(chosen):
        return 1
    if not (options.quick or options.print):
        _write(head, parts, partly=bool(options.only))
    return 0


def _tried(bench: Bench, contender: Contender) -> str | None:
    why = bench.refusal(contender)
    _say(f"{contender.title}: {f'does not run here: {why}' if why else 'runs'}")
    return why


def _part(bench: Bench, section: Section) -> str | None:
    began = time.monotonic()
    try:
        figures = section.measure(bench)
    except BenchError as error:
        _say(f"{section.key} failed: {error}")
        return None
    today = datetime.now(timezone.utc).date().isoformat()
    size = "small runs" if bench.quick else f"`--rounds {bench.rounds}`"
    took = time.monotonic() - began
    return document.part(section, figures, f"{today}, commit {machine.commit()}, {size}, {took:.0f} s.")


def _write(head: str, parts: list[str], *, partly: bool) -> None:
    """A part alone is put in the place of the old one, if all else that is told is still so."""
    if not partly:
        DOCS.write_text(document.whole(head, parts), encoding="utf-8")
        return
    text = DOCS.read_text(encoding="utf-8") if DOCS.exists() else ""
    if document.head_of(text) != document.head_of(head):
        _say(
            f"{DOCS.relative_to(ROOT)} is of another machine or version, and left as it is: run all sections"
        )
        return
    for part in parts:
        text = document.with_part(text, part)
    DOCS.write_text(text, encoding="utf-8")


def _say(what: str) -> None:
    sys.stderr.write(f"bench: {what}\n")


if __name__ == "__main__":
    sys.exit(main())
