"""A scenario's expected lines held against those of a trace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tests.kernel.support import Line

FACTS = frozenset({"close", "time_wait", "time_wait_end", "connect_failed"})
"""Line types that a scenario foretells; `held` depends on how long its steps take."""

_PEOPLE = frozenset({"owner", "opener", "closer", "by"})
_OURS = frozenset({"conn", "less", "dwell"})
"""Fields of an expected line that are no fields of a trace's."""

Place = tuple[int, str, int, str, int]


def place(line: Line) -> Place:
    return line["netns"], line["saddr"], line["sport"], line["daddr"], line["dport"]


def disagreements(expected: list[Line], found: list[Line], source: str) -> tuple[list[str], set[str]]:
    """What is wrong in `found`; and the fields that the source was allowed to tell otherwise and did."""
    wrong: list[str] = []
    allowed: set[str] = set()
    theirs = _connections(line for line in found if line["type"] in FACTS)
    unclaimed = dict(theirs)
    for name, lines in _connections(expected).items():
        candidates = [conn for conn, others in unclaimed.items() if place(others[0]) == place(lines[0])]
        if not candidates:
            wrong.append(f"{name} at {place(lines[0])}: no line of it, expected {_kinds(lines)}")
            continue
        judged = {conn: _compare(lines, unclaimed[conn], source) for conn in candidates}
        best = min(candidates, key=lambda conn: len(judged[conn][0]))
        wrong += (f"{name}: {what}" for what in judged[best][0])
        allowed |= judged[best][1]
        del unclaimed[best]
    wrong += (f"not expected at {place(lines[0])}: {_kinds(lines)}" for lines in unclaimed.values())
    return wrong, allowed


def _connections(lines: Iterable[Line]) -> dict[Any, list[Line]]:
    """Lines by connection, each in its order."""
    grouped: dict[Any, list[Line]] = defaultdict(list)
    for line in lines:
        grouped[line["netns"], line["conn"]].append(line)
    return grouped


def _kinds(lines: list[Line]) -> list[str]:
    return [line["type"] for line in lines]


def _compare(expected: list[Line], found: list[Line], source: str) -> tuple[list[str], set[str]]:
    wrong, allowed = [], set()
    if _kinds(expected) != _kinds(found):
        wrong.append(f"lines {_kinds(found)}, expected {_kinds(expected)}")
    told = {line["type"]: line for line in found}
    for want in expected:
        kind = want["type"]
        line = told.get(kind)
        if line is None:
            continue
        for field in want.keys() - _OURS | {"overflow"} & told[kind].keys():
            value = _value(line, field)
            if _matches(value, want.get(field), field):
                continue
            others = want["less"].get(source, {}).get(field, ())
            if any(_matches(value, other, field) for other in others):
                allowed.add(f"{kind}.{field}")
                continue
            wrong.append(f"{kind}.{field} is {value}, expected {want.get(field)}")
        wrong += _misfits(want, line)
    return wrong, allowed


def _value(line: Line, field: str) -> Any:
    value = line.get(field)
    if field in _PEOPLE and value is not None:
        return {name: value[name] for name in ("pid", "comm", "grade")}
    return sorted(line["states"]) if field == "states" else value


def _matches(value: Any, want: Any, field: str) -> bool:
    if field.endswith("_us") and want is not None:
        return value is not None and want[0] <= value <= want[1]
    return bool(value == want)


def _misfits(want: Line, line: Line) -> list[str]:
    """Times that cannot be."""
    if line["type"] != "close":
        return []
    wrong = [
        f"{line['states'].get(state)} us in {state}, expected {shortest} to {longest}"
        for state, (shortest, longest) in want.get("dwell", {}).items()
        if not shortest <= line["states"].get(state, -1) <= longest
    ]
    if line["age_us"] is None or line["age_us"] < sum(line["states"].values()) - 10:
        wrong.append(f"age {line['age_us']} us, less than its states {line['states']}")
    return wrong
