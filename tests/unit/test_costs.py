"""What a record costs in user space, counted and not timed: calls, and objects that stay."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import pytest

from tests.bench import pipeline
from tracer.kernel.decode import EVENT_RECORD

READINGS = list(pipeline.records(4))
RECORDS = sum(map(len, READINGS)) // (8 + EVENT_RECORD.size)


def calls(work: Callable[[Sequence[bytes]], object]) -> float:
    """Calls of functions, Python's own ones too, for each record."""
    number = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work(READINGS)
    finally:
        sys.setprofile(before)
    return number / RECORDS


@pytest.mark.parametrize(
    ("work", "most"),
    [
        # Each is put with its like; closes meet their other end, ends what they belong to.
        (pipeline.to_rows, 4.3),
        # One by one: an event is made and counted, and its line.
        (pipeline.to_lines, 44.0),
    ],
)
def test_calls_for_a_record(work: Callable[[Sequence[bytes]], object], most: float) -> None:
    assert calls(work) < most


def test_a_time_wait_of_a_crowd_is_no_object() -> None:
    """The collector has nothing to look at for each: a number says what all of them share, and the port."""
    aggregator = pipeline.to_rows(READINGS)
    gc.collect()
    waiting = len(aggregator._crowd_waits)
    assert waiting == pipeline.CONNECTIONS_PER_S * pipeline.LIFE_S
    before = len(gc.get_objects())
    del aggregator
    gc.collect()
    assert before - len(gc.get_objects()) < 0.2 * waiting
