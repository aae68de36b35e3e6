"""Every source's programs on the running kernel, also those it would not attach."""

from __future__ import annotations

import os

import pytest

from tracer.kernel.btf import KernelTypes
from tracer.kernel.flags import LoadOptions
from tracer.kernel.hooks import SOURCES, Kind
from tracer.kernel.loader import compile_programs

pytestmark = pytest.mark.kernel

_LOADABLE = {Kind.RAW_TRACEPOINT: 17, Kind.KPROBE: 2}
"""`enum bpf_prog_type`; fentry needs its function at loading, and may be refused there."""


@pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning")  # BCC's, with all of the text
@pytest.mark.parametrize("name", SOURCES)
def test_compiles_and_passes_the_verifier(name: str) -> None:
    source = SOURCES[name]
    with KernelTypes() as types:
        programs = compile_programs(LoadOptions(), source, types)
    for attachment in source.attachments:
        if attachment.kind in _LOADABLE:
            function = programs.load_func(attachment.program.encode(), _LOADABLE[attachment.kind])
            os.close(function.fd)
            del programs.funcs[attachment.program.encode()]
