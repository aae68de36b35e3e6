"""Real programs with a fault and with its remedy: what the trace has of each, and what the report says.

`tests/scenarios/real/` has them. A program that is not there fails its scenarios.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import pytest

from tests.kernel.support import NOT_SHOWN, of
from tests.scenarios.real.catalogue import SCENARIOS
from tests.scenarios.real.run import FINE, Played, playing

pytestmark = pytest.mark.kernel

_SECONDS = 300
"""Until the last has been played; usual is less than a minute for all."""

All = Mapping[tuple[str, str], "Future[Played]"]
each_scenario = pytest.mark.parametrize("name", SCENARIOS)
each_part = pytest.mark.parametrize("part", ["before", "after"])


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[All]:
    """All that these tests need are played at once."""
    tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
    names = {test.callspec.params["name"] for test in tests if test.module is request.module}
    chosen = [scenario for name, scenario in SCENARIOS.items() if name in names]
    with playing(chosen, tmp_path_factory.mktemp("real")) as futures:
        yield futures


@each_part
@each_scenario
def test_trace(name: str, part: str, played: All) -> None:
    """What the process in question did, by its own lines."""
    facts, verdict = SCENARIOS[name].parts()[part].facts, SCENARIOS[name].verdict
    came = played[name, part].result(_SECONDS)
    assert came.lines[-1]["lost"].keys() <= NOT_SHOWN  # the counts hold even so
    assert len(came.of(verdict, "time_wait")) in facts.time_waits
    assert len(came.of(verdict, "close", how="reset_sent")) in facts.resets
    assert len(came.of(verdict, "connect_failed")) in facts.refused
    assert len(came.of(verdict, "held")) in facts.held
    assert {line["owner"]["pid"] for line in of(came.lines, "close")} <= came.everyone()


@each_scenario
def test_report_names_the_fault(name: str, played: All) -> None:
    verdict = SCENARIOS[name].verdict
    came = played[name, "before"].result(_SECONDS)
    findings = {finding["id"]: finding for finding in came.findings_on(verdict)}
    assert verdict.finding in findings
    found = findings[verdict.finding]
    assert found["severity"] != FINE
    assert found["who"]["comm"] == verdict.comm
    assert set(found["who"]["pids"])
    assert set(found["who"]["pids"]) <= came.pids[verdict.role]
    assert verdict.why in found["why"].lower()
    assert any(verdict.remedy in remedy["do"].lower() for remedy in found["remedies"])
    named = {pid for finding in came.findings() for pid in finding["who"]["pids"]}
    assert named <= came.everyone()


@each_scenario
def test_report_is_content_after_the_remedy(name: str, played: All) -> None:
    verdict = SCENARIOS[name].verdict
    left = played[name, "after"].result(_SECONDS).findings_on(verdict)
    assert [one for one in left if one["severity"] != FINE and one["id"] not in verdict.may_stay] == []
