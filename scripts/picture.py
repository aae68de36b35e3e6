"""Draw docs/twtrace.svg: the screen as it is, on the demo's workload. Needs root."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tracer.demo import Demo
from tracer.filters import Filters
from tracer.live import LiveRun, Plan
from tracer.tui.app import TwtraceApp

SIZE = (112, 20)
SECONDS = 40


async def draw() -> str:
    """Run demo and screen for a while; the picture as SVG."""
    demo = Demo()
    demo.start()
    plan = Plan(Filters(), ("twtrace", "demo"), interval_s=0.5, ring_mib=32)
    app = TwtraceApp(LiveRun(plan, on_attached=demo.go))
    try:
        async with app.run_test(size=SIZE) as pilot:
            await pilot.pause(SECONDS)
            picture = app.export_screenshot(title="twtrace demo")
            app.engine.stop()
    finally:
        app.engine.finish()
        demo.stop()
    return picture


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(asyncio.run(draw()))
