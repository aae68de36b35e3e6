"""The sentence that is true of a process of the demo, from the lines of the trace alone."""

from __future__ import annotations

import re
from collections import Counter
from statistics import median_low
from typing import Any

from tracer.report.model import ERROR

Json = dict[str, Any]

_DONE = {
    "local": "closes first in {}",
    "remote": "lets its peer close first in {}",
    "reset_sent": "resets {}",
    "reset_received": "is reset by its peer in {}",
}
_BY = {"close": "by close()", "exit": "by ending without close()"}
_ENDED = {"expired": "expired", "reused": "reused by connect()", "replaced": "replaced by a new SYN"}
_UNITS_US = {"µs": 1, "ms": 1_000, "s": 1_000_000}


def assert_true_of_each(sentences: list[str], lines: list[Json]) -> None:
    """There is one for each process that a line names, and it says what that process's lines say."""
    end = lines[-1]["ts_us"]
    by_comm: dict[str, list[Json]] = {}
    for line in lines:
        if "owner" in line:
            by_comm.setdefault(line["owner"]["comm"], []).append(line)
    found = {re.split(r"\[| ×", sentence)[0]: sentence for sentence in sentences}
    assert found.keys() == by_comm.keys()
    assert len(found) == len(sentences)
    for comm, its_lines in by_comm.items():
        wanted, median_us = _expected(comm, its_lines, end)
        match = re.fullmatch(re.escape(wanted).replace("MEDIAN", "(.+?)"), found[comm])
        assert match, f"{found[comm]!r} is not {wanted!r}"
        if match.groups():
            _assert_about(match[1], median_us)


def _expected(comm: str, lines: list[Json], end_us: int) -> tuple[str, int]:
    closed = [line for line in lines if line["type"] == "close"]
    pids = {line["owner"]["pid"] for line in lines}
    label = f"{comm}[{pids.pop()}]" if len(pids) == 1 else f"{comm} ×{len(pids)}"
    clauses = _of_closes(closed) if closed else []
    born = [line for line in lines if line["type"] == "time_wait"]
    gone = [line for line in lines if line["type"] == "time_wait_end"]
    clauses += [_of_time_waits(born, gone)] if born else ["no TIME_WAIT"] if closed else []
    over = {line["conn"] for line in closed}
    holding = [line for line in lines if line["type"] == "held" and line["conn"] not in over]
    if holding:
        longest = (end_us - min(line["ts_us"] for line in holding)) / 1e6
        (port,) = {line["sport"] for line in holding}
        clauses.append(
            f"has not closed {len(holding):,} connections it accepted on port {port}, though the peer has"
            f" (CLOSE_WAIT, the longest for {int(longest * 10) / 10} s)"
        )
    return f"{label} {'; '.join(clauses)}.", median_low(line["age_us"] for line in closed) if closed else 0


def _of_closes(closed: list[Json]) -> list[str]:
    outcomes = Counter(line["first"] if line["first"] in _DONE else line["how"] for line in closed)
    ((outcome, number),) = outcomes.items()  # in the demo each does one thing
    text = _DONE[outcome].format(f"100% of {number:,} connections")
    if outcome == "local":
        (via,) = {line["via"] for line in closed}
        text += f", {_BY[via]}"
    return [text, "its connections last MEDIAN at the median"]


def _of_time_waits(born: list[Json], gone: list[Json]) -> str:
    orphans = sum(line["substate"] == "FIN_WAIT2" for line in born)
    text = f"{len(born):,} TIME_WAITs"
    if orphans == len(born):
        text = f"{orphans:,} mini-sockets, born in FIN_WAIT2 since the peer had yet to close"
    elif orphans:
        text += f", {orphans:,} of them born in FIN_WAIT2"
    reasons = Counter(line["reason"] for line in gone)
    parts = []
    for reason, number in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        there = sum(line["reason"] == reason and line["lifetime_us"] is None for line in gone)
        parts += [f"{number - there:,} {_ENDED[reason]}"] * (number > there)
        parts += [f"{there:,} {_ENDED[reason]} in FIN_WAIT2"] * (there > 0)
    parts += [f"{len(born) - len(gone):,} still there"] * (len(born) > len(gone))
    return f"{text}: {', '.join(parts)}"


def _assert_about(told: str, exact_us: int) -> None:
    """As near as a report promises, and rounded down to the figures shown."""
    figure, unit = told.split(" ")
    shown_us = float(figure) * _UNITS_US[unit]
    step_us = _UNITS_US[unit] / (10 if "." in figure else 1)
    assert shown_us * (1 - ERROR) <= exact_us <= (shown_us + step_us) * (1 + ERROR)
