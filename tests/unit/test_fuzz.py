"""What `make fuzz` has found stays found, and the fuzzer finds what is there."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz.__main__ import FOUND, GOLDEN, failure, smaller
from tests.fuzz.checks import check, check_packed
from tests.fuzz.mutations import mutated, packed
from tracer.model import Close

ORIGINAL = (GOLDEN / "5-crc32.ndjson").read_bytes()
LINES = ORIGINAL.splitlines(keepends=True)


@pytest.mark.parametrize("path", sorted(FOUND.iterdir()), ids=lambda path: path.stem)
def test_what_was_found(path: Path, tmp_path: Path) -> None:
    check(path.read_bytes())
    check_packed(path.read_bytes(), tmp_path / "trace")


def test_a_little_of_it(tmp_path: Path) -> None:
    for seed in range(300):
        random = Random(seed)  # noqa: S311 - no secret
        lines = mutated(random, LINES)
        check(b"".join(lines), ORIGINAL)
        if seed % 10 == 0:
            check_packed(packed(random, lines), tmp_path / "trace")


def test_it_finds_a_wrong_total_and_makes_it_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.audit.Audit.close", lambda *_: None)
    at = next(number for number, line in enumerate(LINES) if b'"type":"close"' in line)
    lines = [*LINES[:at], *LINES[at + 1 :]]
    why = failure(lambda: check(b"".join(lines), ORIGINAL))
    assert why is not None
    assert "totals are others, and nothing is told" in why
    assert len(smaller(lines, ORIGINAL, why)) == 1


def test_it_finds_a_control_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.report.layout.printable", str)
    trace = ORIGINAL.replace(b'"host":"', b'"host":"\\u001b[31m')
    why = failure(lambda: check(trace))
    assert why is not None
    assert "control character '\\x1b' in the text" in why


def test_it_finds_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError(Close)

    monkeypatch.setattr("tracer.aggregate.Aggregator.add", fail)
    why = failure(lambda: check(ORIGINAL))
    assert why is not None
    assert why.startswith("KeyError at test_fuzz.py:")
