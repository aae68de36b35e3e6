"""A plugin for pytest in the guest: tells the host what comes of each test, as JSON lines.

TWTRACE_RESULTS names the file, a virtio-serial port. A test that passes and has recorded the property
`says_less`, the facts that its source leaves open, counts as unknown.
"""

from __future__ import annotations

import json
import os

import pytest

_LENGTH = 400
_LESS = "says_less"


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test begins."""
    _tell(started=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test has ended, or a fixture of it failed or skipped it."""
    if report.when != "call" and report.passed:
        return
    verdict, reason = _verdict(report)
    _tell(test=report.nodeid, verdict=verdict, reason=reason[:_LENGTH], seconds=round(report.duration, 2))


def _verdict(report: pytest.TestReport) -> tuple[str, str]:
    if hasattr(report, "wasxfail"):
        return ("failed", "passes unexpectedly") if report.passed else ("skipped", report.wasxfail)
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        return "failed", _line(crash.message if crash else str(report.longrepr))
    if report.skipped:
        return "skipped", _line(str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else "")
    less = dict(report.user_properties).get(_LESS)
    return (
        ("unknown", f"left open: {', '.join(map(str, less))}") if isinstance(less, list) else ("passed", "")
    )


def _line(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    return first.removeprefix("Skipped: ").strip()


def _tell(**fact: object) -> None:
    if path := os.environ.get("TWTRACE_RESULTS"):
        with open(path, "ab", buffering=0) as file:
            file.write(json.dumps(fact).encode() + b"\n")
