"""Draw the screen on the example trace, as of its end: picture.py FILE.svg."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from tracer.model import Snapshot
from tracer.replay import ReplayRun
from tracer.tui.app import TwtraceApp

EXAMPLE = Path(__file__).parents[1] / "examples" / "demo.ndjson"
SIZE = (120, 36)


async def draw() -> str:
    """The picture as SVG."""
    run = ReplayRun(str(EXAMPLE))
    app = TwtraceApp(run)
    try:
        async with app.run_test(size=SIZE) as pilot:
            end_us = run.playhead.ended_us
            run.seek(end_us)
            while not _is_of(app, end_us):
                await pilot.pause(0.1)
            picture = app.export_screenshot(title="twtrace replay examples/demo.ndjson")
            app.engine.stop()
    finally:
        app.engine.finish()
    return picture


def _is_of(app: TwtraceApp, moment_us: int | None) -> bool:
    shown: Snapshot | None = app.scene.snapshot if app.scene else None
    return shown is not None and shown.ts_us == moment_us


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    time.tzset()
    Path(sys.argv[1]).write_text(asyncio.run(draw()))
