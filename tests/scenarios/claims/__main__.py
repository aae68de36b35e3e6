"""See the package."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.scenarios.claims.report import document, table
from tests.scenarios.claims.run import EXPERIMENTS, Session, run
from tracer.claims import claim

DOCS = Path(__file__).parents[3] / "docs" / "claims.md"


def main() -> int:
    """0 if every verdict is as `tracer.claims` has it, and all was seen that should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios.claims", description="Test the claims.")
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="which claims; all by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--write-docs", action="store_true", help="write docs/claims.md too")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="what --json printed on another kernel, for the document; repeatable",
    )
    arguments = parser.parse_args()
    everyone = sorted(EXPERIMENTS)
    if unknown := set(arguments.numbers) - set(everyone):
        parser.error(f"no such claim: {', '.join(map(str, sorted(unknown)))}; there are 1 to {everyone[-1]}")
    if arguments.write_docs and arguments.numbers:
        parser.error("--write-docs needs every claim: leave out the numbers")
    if os.geteuid():
        parser.error("not permitted: run it as root")
    with tempfile.TemporaryDirectory(prefix="twtrace-claims-") as folder:
        session = run(arguments.numbers or everyone, Path(folder))
    others = [Session.from_json(path.read_text(encoding="utf-8")) for path in arguments.also]
    if arguments.json:
        results = [asdict(one) | {"verdict": one.verdict} for one in session.results]
        sys.stdout.write(json.dumps(asdict(session) | {"results": results}) + "\n")
    else:
        sys.stdout.write(table(session) + "\n")
    right = all(map(_is_right, (session, *others)))
    if arguments.write_docs:
        if not right:
            sys.stderr.write("docs/claims.md is left as it was: not all is as expected\n")
        else:
            DOCS.write_text(document(session, others), encoding="utf-8")
    return 0 if right else 1


def _is_right(session: Session) -> bool:
    return not session.lost and all(
        one.verdict is claim(one.number).verdict and all(fact.as_expected for fact in one.seen)
        for one in session.results
    )


if __name__ == "__main__":
    sys.exit(main())
