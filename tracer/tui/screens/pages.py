"""Fix, Doctor and Help."""

from __future__ import annotations

from typing import Protocol

from tracer.expression import KEYS as FILTER_KEYS
from tracer.tui import doctorview, fixes, keys
from tracer.tui.cells import TextLine
from tracer.tui.scene import Scene
from tracer.tui.screens.page import Page


class Examining(Protocol):
    """Whoever asks the doctor."""

    @property
    def examined(self) -> dict[str, object] | None:
        """The doctor's answer, once it is there."""


def fix_page(row: str | None) -> Page:
    """What to change, for that row first."""

    def content(scene: Scene, columns: int) -> tuple[TextLine, ...]:
        return fixes.render(scene.findings, scene.snapshot, columns, row)

    return Page("fix", "FIX  what to change, the worst first; twtrace changes nothing", content)


def doctor_page(examining: Examining) -> Page:
    """What this kernel and user allow."""

    def content(scene: Scene, columns: int) -> tuple[TextLine, ...]:
        return doctorview.render(examining.examined, scene.snapshot, columns)

    return Page("doctor", "DOCTOR  what this kernel and user allow", content)


def help_page(screen: str, *, replay: bool) -> Page:
    """The keys of a screen, and the filter's grammar."""
    return Page(
        "help",
        f"HELP  keys of the {screen} screen",
        lambda _scene, columns: keys.help_lines(screen, replay, FILTER_KEYS, columns),
    )
