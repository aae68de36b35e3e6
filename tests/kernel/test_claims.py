"""Every claim about TIME_WAIT, put to the test on the running kernel (tests/scenarios/claims)."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest

from tests.kernel.support import NOT_SHOWN, ROOT, Line
from tracer.claims import CLAIMS, Claim

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def session() -> Line:
    """All experiments; a minute and some seconds, and again if the kernel did not show all of it."""
    found = _experiments()
    if found["lost"] and found["lost"].keys() <= NOT_SHOWN:
        warnings.warn(f"done again: {found['lost']}", stacklevel=1)
        found = _experiments()
    return found


def _experiments() -> Line:
    done = subprocess.run(
        [sys.executable, "-m", "tests.scenarios.claims", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.stdout, done.stderr
    found: Line = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.number}")
def test_verdict(claim: Claim, session: Line) -> None:
    (result,) = (one for one in session["results"] if one["number"] == claim.number)
    assert not result["failed"], result["failed"]
    assert [one for one in result["seen"] if not one["as_expected"]] == []
    assert result["verdict"] == claim.verdict.value


def test_the_trace_is_whole(session: Line) -> None:
    assert session["lost"] == {}
    assert session["residues"] == {str(claim.number): 0 for claim in CLAIMS}
