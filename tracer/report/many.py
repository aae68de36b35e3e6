"""Several files: parts of one recording, hosts side by side, or before and after."""

from __future__ import annotations

from tracer.report.model import Reports
from tracer.report.reading import Part, Reading, Wanted


def read_all(parts: list[Part], wanted: Wanted) -> Reports:
    """Read them to their ends. Raises TwtraceError."""
    readings = [Reading([part], wanted) for part in parts]
    for reading in readings:
        while reading.read_some():
            pass
    return Reports(tuple(reading.report() for reading in readings))
