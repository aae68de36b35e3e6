"""Which source of TIME_WAIT facts is taken, and what is said of those that are not."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from tracer.errors import KernelLacksError
from tracer.kernel import hooks, loader
from tracer.kernel.flags import LoadOptions
from tracer.kernel.hooks import SOURCES, Choice, Kind, Source, transitions
from tracer.kernel.probe import ProbeRefusedError

ROOT = Path(__file__).parents[2]


def refusing(text: str) -> Callable[[str], None]:
    def refuse(_function: str) -> None:
        raise ProbeRefusedError(errno.EPERM, text)

    return refuse


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_up(*, fentry: str | None = None, kprobe: str | None = None) -> None:
        for name, text in (("try_fentry", fentry), ("try_kprobe", kprobe)):
            monkeypatch.setattr(hooks, name, refusing(text) if text else lambda _function: None)

    return set_up


def test_the_best_first(refuse: Callable[..., None]) -> None:
    refuse()
    found = list(hooks.candidates(hooks.AUTO))
    assert [choice.source.name for choice in found] == ["fentry", "kprobe", "timer"]
    assert found[0].why == "the best there is"


def test_what_was_refused_is_the_reason_for_the_next(refuse: Callable[..., None]) -> None:
    refuse(fentry="load refused: no", kprobe="attach refused: no")
    (choice,) = hooks.candidates(hooks.AUTO)
    assert choice == Choice(hooks.SOURCES["timer"], "fentry: load refused: no; kprobe: attach refused: no")


def test_one_asked_for_is_not_replaced_by_another(refuse: Callable[..., None]) -> None:
    refuse(fentry="load refused: no")
    with pytest.raises(KernelLacksError, match="fentry: load refused: no") as caught:
        list(hooks.candidates("fentry"))
    assert "--hooks auto" in caught.value.hint
    assert [choice.why for choice in hooks.candidates("kprobe")] == ["asked for"]


def test_a_source_that_fails_only_when_loaded_is_left_for_the_next(
    refuse: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(fentry="load refused: no")
    tried: list[Choice] = []

    def load_all(_options: LoadOptions, choice: Choice, _on_loading: object) -> Choice:
        tried.append(choice)
        if choice.source.name == "kprobe":
            raise KernelLacksError("cannot attach to kprobe inet_twsk_kill: no", "")
        return choice

    monkeypatch.setattr(loader, "LoadedPrograms", load_all)
    monkeypatch.setattr(loader, "require_privilege", lambda: None)
    loaded: object = loader.load(LoadOptions())
    assert [choice.source.name for choice in tried] == ["kprobe", "timer"]
    assert isinstance(loaded, Choice)
    assert loaded.why == "fentry: load refused: no; kprobe: cannot attach to kprobe inet_twsk_kill: no"


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_program_is_attached_to_one_place(source: Source) -> None:
    """It is loaded for that place: another would not have it."""
    names = [attachment.program for attachment in (*source.attachments, *transitions())]
    assert len(set(names)) == len(names)


def test_every_program_is_in_the_source() -> None:
    text = (ROOT / "bpf/twtrace.c").read_text()
    for source in hooks.SOURCES.values():
        for attachment in (*source.attachments, *hooks.transitions()):
            stub = {
                Kind.RAW_TRACEPOINT: f"int {attachment.program}(",
                Kind.FENTRY: f"ENTRY({attachment.target})",
                Kind.KPROBE: f"ENTRY({attachment.target})",
                Kind.FEXIT: f"RETURN({attachment.target})",
            }[attachment.kind]
            assert stub in text, attachment
