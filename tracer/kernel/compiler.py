"""BCC's compiler, in a process of its own: the compiler's libraries and memory end with it.

`compile_programs()` is for all others; this module as a program is that process. The flags come in on
standard input, what was compiled goes out on standard output, and what the compiler says on standard error.
"""

from __future__ import annotations

import ctypes as ct
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import orjson

from tracer.errors import KernelLacksError, TwtraceError, say
from tracer.kernel import bpf, programcache
from tracer.kernel.compiled import Compiled, renumbered

_PATIENCE_S = 600
"""An emulated guest needs a quarter of a minute, a loaded one several."""
_LAST_WORDS = 12

_LOCAL_INCLUDE = re.compile(r'^#include "([\w/.]+)"$', re.MULTILINE)


def source_folder() -> Path:
    """`bpf/`, in a checkout or inside an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "bpf", package.parent / "bpf"):
        if (candidate / "twtrace.c").is_file():
            return candidate
    raise TwtraceError(
        "the eBPF sources (bpf/twtrace.c) are not beside the package",
        "install twtrace again: the wheel brings them",
    )


def assemble(folder: Path, name: str = "twtrace.c", seen: set[str] | None = None) -> str:
    """`name` with its local headers in place, each once, under `#line` marks.

    BCC rewrites map calls in the main file alone, so the translation unit has
    to be one text.
    """
    seen = set() if seen is None else seen
    seen.add(name)
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate((folder / name).read_text(encoding="utf-8").splitlines(), 1):
        include = _LOCAL_INCLUDE.match(line)
        if include is None:
            lines.append(line)
        elif include[1] not in seen:
            lines += [assemble(folder, include[1], seen), f'#line {number + 1} "{name}"']
    return "\n".join(lines)


def compile_programs(flags: Sequence[str]) -> Compiled:
    """The programs for these flags: kept from the last time, or compiled now and kept.

    Raises KernelLacksError when there is no BCC, or it does not compile them.
    """
    folder = source_folder()
    # The tree that BCC wants beside the text is part of what is compiled.
    headers = sorted(path for path in (folder / "include").rglob("*") if path.is_file())
    parts = [assemble(folder), *map(str, flags), *(path.read_text(encoding="utf-8") for path in headers)]
    key = programcache.key(parts, bcc_version())
    kept = programcache.find(key)
    if kept is not None:
        return kept
    compiled = _compiled_elsewhere(flags)
    programcache.keep(key, compiled)
    return compiled


def bcc_version() -> str:
    """Of the bindings, without loading them or the compiler. Raises KernelLacksError when there are none."""
    spec = find_spec("bcc")
    if spec is None or not spec.origin:
        raise _no_bcc()
    version = Path(spec.origin).with_name("version.py")
    try:
        found = re.search(r"__version__\s*=\s*['\"]([^'\"]+)", version.read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else "unknown"


def import_bcc() -> ModuleType:
    """The bcc module, or an error that says how to get it."""
    try:
        return import_module("bcc")
    except ImportError as error:
        raise _no_bcc() from error


def _no_bcc() -> KernelLacksError:
    return KernelLacksError(
        "BCC's Python bindings cannot be imported",
        "install python3-bpfcc, and make the virtual environment from /usr/bin/python3 "
        "with --system-site-packages (`make` does both)",
    )


def _compiled_elsewhere(flags: Sequence[str]) -> Compiled:
    # Isolated: whoever runs us as root from a folder that others write to runs none of their modules.
    home = Path(__file__).resolve().parents[2]
    script = f"import sys; sys.path.insert(0, {str(home)!r}); from {__name__} import main; main()"
    try:
        done = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-I", "-c", script],
            input=orjson.dumps(list(flags)),
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelLacksError(
            f"the compiler of the eBPF programs did not run: {error}", "see whether memory is short"
        ) from error
    if done.returncode == 0:
        return Compiled.parse(done.stdout)
    for line in done.stderr.decode(errors="replace").strip().splitlines()[-_LAST_WORDS:]:
        say(line)
    raise KernelLacksError(
        "the eBPF programs do not compile for this kernel",
        "see the compiler's words above; please report them with `twtrace doctor --json`",
    )


def main() -> None:
    """The process that compiles."""
    sys.stdout.buffer.write(_compile(orjson.loads(sys.stdin.buffer.read())).dump())


def _compile(flags: list[str]) -> Compiled:
    folder = source_folder()
    os.environ["BCC_KERNEL_SOURCE"] = str(folder / "include")
    bcc = import_bcc()
    lib = bcc.lib
    module = _without_autoload(bcc)(text=assemble(folder), cflags=flags).module
    lib.bpf_table_name.restype = ct.c_char_p  # the bindings do not say so
    maps, numbers = {}, {}
    for number in range(lib.bpf_num_tables(module)):
        descriptor = lib.bpf_table_fd_id(module, number)
        maps[lib.bpf_table_name(module, number).decode()] = bpf.map_kind(descriptor)
        numbers[descriptor] = number
    programs = {}
    for number in range(lib.bpf_num_functions(module)):
        name = lib.bpf_function_name(module, number)
        start, size = lib.bpf_function_start(module, name), lib.bpf_function_size(module, name)
        programs[name.decode()] = renumbered(ct.string_at(start, size), numbers)
    return Compiled(maps, programs)


def _without_autoload(bcc: ModuleType) -> type:
    """bcc.BPF, but it does not attach programs by itself, one by one, for what they are called."""
    return type("BPF", (bcc.BPF,), {"_trace_autoload": lambda _self: None})
