"""Every screen at three sizes, from the example trace, as it was when somebody last looked at it.

`TWTRACE_WRITE_PICTURES=1 make test ARGS="-k pictures"` draws them anew; then look at them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui.samples import FakeReplay, until
from tracer.model import Snapshot
from tracer.replay import Playhead, ReplayRun
from tracer.tui.app import TwtraceApp

FOLDER = Path(__file__).with_name("pictures")
EXAMPLE = Path(__file__).parents[2] / "examples" / "demo.ndjson"
SIZES = ((80, 24), (120, 36), (200, 50))
DETAIL = ("enter",)
SCREENS = {
    "overview": (),
    "overview-closes": ("5",),
    "overview-paths-zoomed": ("2", "z"),
    "overview-wide": ("w",),
    "detail": DETAIL,
    "detail-typical": (*DETAIL, "4"),
    "detail-sockets": (*DETAIL, "3"),
    "peer": (*DETAIL, "2", "enter"),
    "socket": (*DETAIL, "3", "enter"),
    "fix": ("f",),
    "doctor": ("D",),
    "help": ("question_mark",),
    "filter": ("slash",),
}
"""By the keys that lead there."""


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="module")
def example() -> tuple[Snapshot, Playhead]:
    run = ReplayRun(str(EXAMPLE))
    shot = run.at_end()
    return shot, Playhead(
        shot.ts_us - shot.elapsed_us, shot.ts_us, shot.ts_us, 1.0, playing=False, whole=True
    )


def drawn(example: tuple[Snapshot, Playhead], keys: tuple[str, ...], size: tuple[int, int]) -> str:
    async def run() -> str:
        engine = FakeReplay(example[0])
        engine.head = example[1]
        app = TwtraceApp(engine)
        async with app.run_test(size=size) as pilot:
            await until(lambda: app.scene is not None)
            for key in keys:
                await pilot.press(key)
            for _ in range(3):  # layout, then what depends on it
                await pilot.pause()
            engine.stop()
            return app.export_screenshot(title="twtrace")

    return asyncio.run(run())


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("screen", SCREENS)
def test_pictures(
    screen: str, size: tuple[int, int], example: tuple[Snapshot, Playhead], tmp_path: Path
) -> None:
    kept = FOLDER / f"{screen}-{size[0]}x{size[1]}.svg"
    picture = drawn(example, SCREENS[screen], size)
    if os.environ.get("TWTRACE_WRITE_PICTURES"):
        FOLDER.mkdir(exist_ok=True)
        kept.write_text(picture)
    if picture != kept.read_text():
        (tmp_path / kept.name).write_text(picture)
        pytest.fail(f"it looks otherwise: compare {tmp_path / kept.name} with {kept}")


def test_no_picture_is_left_over() -> None:
    names = {f"{screen}-{size[0]}x{size[1]}.svg" for screen in SCREENS for size in SIZES}
    assert {path.name for path in FOLDER.iterdir()} == names
