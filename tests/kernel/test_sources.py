"""Every source's programs on the running kernel, also those it would not attach."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from tracer.errors import KernelLacksError
from tracer.kernel import bpf
from tracer.kernel.btf import KernelTypes
from tracer.kernel.compiled import renumbered
from tracer.kernel.compiler import compile_programs
from tracer.kernel.flags import LoadOptions, compile_flags
from tracer.kernel.hooks import SOURCES, Attachment, Kind, kernel_release, transitions
from tracer.kernel.loader import LoadedPrograms, load

pytestmark = pytest.mark.kernel

_LOADABLE = {
    Kind.RAW_TRACEPOINT: (bpf.ProgramType.TRACING, bpf.AttachType.RAW_TRACEPOINT),
    Kind.KPROBE: (bpf.ProgramType.KPROBE, bpf.AttachType.NONE),
}
"""fentry needs its function at loading, and may be refused there."""
VERIFIED_INSTRUCTIONS = 216  # where it is in struct bpf_prog_info
MOST_VERIFIED = 80_000


@pytest.mark.parametrize("name", SOURCES)
def test_compiles_and_passes_the_verifier(name: str) -> None:
    source = SOURCES[name]
    with KernelTypes() as types:
        compiled = compile_programs(compile_flags(LoadOptions(), source, types))
        targets = {a.target: types.tracepoint(a.target) or 0 for a in source.attachments}
    maps = [bpf.create_map(name, kind) for name, kind in compiled.maps.items()]
    loaded = []
    try:
        for attachment in source.attachments:
            code = renumbered(compiled.programs[attachment.program], dict(enumerate(maps)))
            if attachment.kind in _LOADABLE:
                kind, attach = _LOADABLE[attachment.kind]
                target = targets[attachment.target]
                loaded.append(bpf.load_program(attachment.program, kind, code, attach, target))
    finally:
        for descriptor in (*maps, *loaded):
            os.close(descriptor)


def test_a_refused_iterator_is_told_as_other_programs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_program: int, _map_fd: int | None = None) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(bpf, "attach_iterator", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(KernelLacksError, match="refuses the iterator bpf_iter__bpf_map_elem"):
        load(LoadOptions())
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_followed_before_all_programs_are_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    attach = LoadedPrograms.attach

    def note(programs: LoadedPrograms, attachment: Attachment) -> None:
        seen.append(bpf.look_up(programs.map_fd("attaching"), bytes(4), 4)[0])
        attach(programs, attachment)

    monkeypatch.setattr(LoadedPrograms, "attach", note)
    programs = load(LoadOptions())
    try:
        assert len(seen) >= len(transitions())
        assert set(seen) == {1}
        assert bpf.look_up(programs.map_fd("attaching"), bytes(4), 4) == bytes(4)
    finally:
        programs.close()


def test_transitions_are_the_first_to_be_detached(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they were attached: each sees to what those before it no longer do."""
    programs = load(LoadOptions())
    try:
        links = dict(programs._links)
        detached: list[int] = []
        close = os.close

        def note(descriptor: int) -> None:
            detached.append(descriptor)
            close(descriptor)

        with monkeypatch.context() as patched:
            patched.setattr(os, "close", note)
            programs.detach()
        names = {fd: name for name, fd in links.items()}
        order = [names[fd] for fd in detached]
        expected = [one.program for one in transitions() if one.program in links]
        assert order[: len(expected)] == expected
        assert sorted(order) == sorted(links)
        assert not programs._links
    finally:
        programs.close()


@pytest.mark.skipif(
    kernel_release() < (5, 16),
    # aba64c7da983 "bpf: Add verified_insns to bpf_prog_info and fdinfo"
    reason="this kernel does not tell how many instructions were verified (before Linux 5.16)",
)
def test_the_verifier_is_soon_done() -> None:
    """Up to half of the time before the first event is its: an instruction once for each way there."""
    programs = load(LoadOptions())
    try:
        verified = {
            name: struct.unpack_from("=I", bpf._info(fd), VERIFIED_INSTRUCTIONS)[0]
            for name, fd in programs._programs.items()
        }
        assert min(verified.values()) > 0
        assert {name: count for name, count in verified.items() if count > MOST_VERIFIED} == {}
    finally:
        programs.close()
