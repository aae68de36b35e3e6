"""`python -m tests.scenarios.real [NAME...]`: plays them, as root; tells what the report says of each."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.scenarios.real.catalogue import SCENARIOS
from tests.scenarios.real.run import playing
from tests.scenarios.real.table import Row, row, write_docs


def main() -> int:
    """Exit status 1: one could not be played."""
    arguments = argparse.ArgumentParser(prog="python -m tests.scenarios.real")
    arguments.add_argument("name", nargs="*", help=f"of {', '.join(SCENARIOS)}; all of them if none is given")
    arguments.add_argument("--write-docs", action="store_true", help="write docs/scenarios.md")
    given = arguments.parse_args()
    if unknown := set(given.name) - SCENARIOS.keys():
        arguments.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if given.write_docs and given.name:
        arguments.error("--write-docs is of all scenarios")
    if os.geteuid():
        arguments.error("network namespaces and eBPF need root")
    chosen = [SCENARIOS[name] for name in given.name or SCENARIOS]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="twtrace-") as folder, playing(chosen, Path(folder)) as played:
        for scenario in chosen:
            try:
                rows.append(row(scenario, played))
            except Exception as error:  # the others go on  # noqa: BLE001
                sys.stdout.write(f"{scenario.name}: {type(error).__name__}: {error}\n\n")
            else:
                sys.stdout.write(f"{rows[-1].text()}\n\n")
            sys.stdout.flush()
    failed = len(rows) < len(chosen)
    if given.write_docs and not failed:
        write_docs(rows, os.uname().release)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
