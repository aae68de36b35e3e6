"""Fix, Doctor and Help."""

from __future__ import annotations

from typing import Protocol

from tracer.expression import KEYS as FILTER_KEYS
from tracer.model import Start
from tracer.tui import doctorview, fixes, keys
from tracer.tui.cells import WARNING, Severity, TextLine
from tracer.tui.scene import Scene
from tracer.tui.screens.page import Page
from tracer.tui.wrapping import paragraph


class Examining(Protocol):
    """Whoever asks the doctor."""

    @property
    def examined(self) -> dict[str, object] | str | None:
        """The doctor's answer once it is there, or what kept it from answering."""

    @property
    def recorded_on(self) -> Start | None:
        """What a replay's trace was taken on; None: live."""


def fix_page(row: str | None) -> Page:
    """What to change, for that row first."""

    def content(scene: Scene, columns: int) -> tuple[TextLine, ...]:
        return fixes.render(scene.findings, scene.snapshot, columns, row)

    return Page("fix", "FIX  what to change, the worst first; twtrace changes nothing", content)


def doctor_page(examining: Examining) -> Page:
    """What this kernel and user allow."""

    def content(scene: Scene, columns: int) -> tuple[TextLine, ...]:
        found = examining.examined
        if not isinstance(found, str):
            return doctorview.render(found, scene.snapshot, columns, examining.recorded_on)
        failed = f"{WARNING} the doctor failed: {found}; esc D: ask again"
        return (
            *paragraph("", failed, columns, Severity.WARN),
            (),
            *doctorview.render(None, scene.snapshot, columns),
        )

    return Page("doctor", "DOCTOR  what this kernel and user allow", content)


def help_page(screen: str, *, replay: bool) -> Page:
    """The keys of a screen, and the filter's grammar."""
    return Page(
        "help",
        f"HELP  keys of the {screen} screen",
        lambda _scene, columns: keys.help_lines(screen, replay, FILTER_KEYS, columns),
    )
