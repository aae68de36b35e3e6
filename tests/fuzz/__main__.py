"""Spoils golden traces and reads them: `make fuzz T=600`.

What fails a check is made small and kept in tests/fuzz/found/, where tests/unit/test_fuzz.py reads it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random

from tests.fuzz.checks import check, check_packed
from tests.fuzz.mutations import Lines, mutated, packed

GOLDEN = Path(__file__).parents[1] / "golden"
FOUND = Path(__file__).parent / "found"
MAX_FOUND = 20
PACKED_EVERY = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    say(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        return fuzz(options.seed, options.seconds, Path(folder) / "trace")


def fuzz(seed: int, seconds: float, scratch: Path) -> int:
    golden = [path.read_bytes() for path in sorted(GOLDEN.iterdir())]
    deadline = time.monotonic() + seconds
    seen: set[str] = set()
    number = 0
    while time.monotonic() < deadline and len(seen) < MAX_FOUND:
        number += 1
        random = Random(f"{seed}:{number}")  # noqa: S311 - a load, no secret
        original = random.choice(golden)
        lines = mutated(random, original.splitlines(keepends=True))
        why = failure(lambda: check(b"".join(lines), original))  # noqa: B023 - called at once
        if why is not None and why not in seen:
            seen.add(why)
            say(f"seed {seed} number {number}: {why}")
            keep(b"".join(smaller(lines, original, why)), why)
        if number % PACKED_EVERY:
            continue
        data = packed(random, lines)
        why = failure(lambda: check_packed(data, scratch))  # noqa: B023
        if why is not None and why not in seen:
            seen.add(why)
            say(f"seed {seed} number {number}, packed: {why}")
            keep(data, why)
    say(f"{number} traces, {len(seen)} failures; seed {seed}")
    return 1 if seen else 0


def failure(checking: Callable[[], None]) -> str | None:
    """What fails, and where; None: nothing."""
    try:
        checking()
    except Exception as error:  # noqa: BLE001 - any but ours is what is looked for
        at = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {str(error)[:200]}"
    return None


def smaller(lines: Lines, original: bytes, why: str) -> Lines:
    """Without lines that it does not take."""
    step = max(1, len(lines) // 2)
    while True:
        at = 0
        while at < len(lines):
            less = lines[:at] + lines[at + step :]
            if failure(lambda: check(b"".join(less), original)) == why:  # noqa: B023
                lines = less
            else:
                at += step
        if step == 1:
            return lines
        step //= 2


def keep(trace: bytes, why: str) -> None:
    FOUND.mkdir(exist_ok=True)
    path = FOUND / f"{sha256(trace).hexdigest()[:12]}.ndjson"
    path.write_bytes(trace)
    say(f"  kept as {path.name}, {len(trace)} bytes: {why}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
