"""What a stack says to people: which of a program's own functions it is, and by what calls it came there."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tracer.model import Frame, Place, Site

_LONGEST = 200
"""Characters of a name."""
_DEEPEST = 16
"""Calls of a path."""
_CUT = "…"

_MODULES = (
    "libc.so", "libc-2.", "libc.musl-", "libpthread", "ld-linux", "ld-musl-", "libstdc++.so", "libc++.so",
    "libc++abi.so", "libgcc_s.so", "libjvm.so", "libjava.so", "libnio.so", "[vdso]",
)  # fmt: skip
"""How the names of files begin that are no program's own."""
_CALLS = frozenset(
    {
        *("close", "close_range", "shutdown", "dup2", "dup3", "exit", "_exit", "_Exit", "fclose"),
        *("accept", "accept4", "connect", "read", "readv", "recv", "recvfrom", "recvmsg", "write", "writev"),
        *("send", "sendto", "sendmsg", "sendfile", "syscall"),
    }
)
"""Of libc, which may be linked into the program."""
_NAMES = _CALLS | {"_start", "clone", "clone3", "__clone", "__clone3", "start_thread", "exit_group"}
_FUNCTIONS = (
    *("__libc_", "__GI_", "__close", "__shutdown", "__run_exit_handlers", "__syscall"),
    # C++ and Rust
    *("std::", "void std::", "__gnu_cxx::", "core::", "alloc::", "<std::", "<core::", "<alloc::"),
    # Go
    *("runtime.", "runtime/", "syscall.", "internal/", "net.", "crypto/tls."),
    # Java
    *("Ljava/", "Ljdk/", "Lsun/"),
)
"""How names of functions begin that are none either, whatever file they are in."""
_INTERPRETER = ("python3", "libpython3", "_socket.", "_ssl.", "libnode.so")
_INTERPRETED = (
    *("_Py", "Py", "py_", "pymain_", "sock_", "cfunction_", "method_", "slot_tp_", "vectorcall_"),
    *("context_run", "node::", "v8::", "uv_", "Builtin"),
)
"""Files and functions of an interpreter: plumbing as soon as the script's own calls are seen."""

_PYTHON = "py::"
_PYTHON_RUNS = "_PyEval_EvalFrame"
_HINT = "a Python function (run it with python -X perf to see which)"
_SCRIPTS = (".py", ".js", ".mjs", ".cjs", ".ts")
_STANDARD_LIBRARY = re.compile(r"^node:|^<frozen |/lib(?:64)?/python3[^/]*/(?!site-packages/|dist-packages/)")
_NAMED_FILE = re.compile(r":(?=[/<])")
"""What stands between a Python function and its file, if they are one name."""
_DECORATION = re.compile(r"^(?:__GI_|__libc_)?_*(.+?)(?:_nocancel|_time64|@.*)?$")


def place_of(site: Site) -> Place | None:
    """None of a site whose stack says nothing: the process was gone before its files were opened."""
    frames = [_python(frame) for frame in site.frames]
    if not any(frame.function or frame.module or frame.file for frame in frames):
        return None
    is_script = any(_is_script(frame) for frame in frames)
    own = [at for at, frame in enumerate(frames) if not is_plumbing(frame, is_script=is_script)]
    if own:
        named = frames[own[0]]
        calls = [*(_label(frames[at]) for at in reversed(own)), *_below(frames[: own[0]])]
    else:
        named = frames[-1]
        calls = [_label(frame) for frame in reversed(frames)]
    if not is_script and any((frame.function or "").startswith(_PYTHON_RUNS) for frame in frames):
        named = Frame(None, None, None, _HINT, None, None)
    path = _without_repeats(calls)
    if len(path) > _DEEPEST or not site.whole:
        path = [_CUT, *path[-_DEEPEST:]]
    file = named.file and _tail(named.file, _LONGEST)
    return Place(site.what, _label(named), file, named.line, tuple(path))


def is_plumbing(frame: Frame, *, is_script: bool) -> bool:
    """Whether a call is the runtime's and not the program's; `is_script`: are there a script's own?"""
    if _is_script(frame):
        return bool(frame.file and _STANDARD_LIBRARY.search(frame.file))
    function, module = frame.function, _base(frame.module)
    if module.startswith(_MODULES):
        return True
    if function is None:
        return not module
    if function in _NAMES or function.startswith(_FUNCTIONS):
        return True
    return is_script and (module.startswith(_INTERPRETER) or function.startswith(_INTERPRETED))


def spot(place: Place, longest: int = 40) -> str:
    """`src/server.c:88`; nothing if that is not known. Of a long path the end."""
    if place.file is None:
        return ""
    file = _tail(place.file, longest)
    return file if place.line is None else f"{file}:{place.line}"


def named(place: Place) -> str:
    """`finish_request  src/server.c:88`; may be hostile text."""
    return f"{place.function}  {spot(place)}".rstrip()


def called(place: Place, most: int = 6) -> str:
    """`main → serve → finish_request → close`, its last calls."""
    calls = place.path if len(place.path) <= most else (_CUT, *place.path[-most:])
    return " → ".join(calls)


NOT_RESOLVED = "not resolved"


def _is_script(frame: Frame) -> bool:
    """Whether an interpreter runs it, as the files say that are given with its calls."""
    if frame.function is not None and frame.function.startswith(_PYTHON):
        return True
    return frame.file is not None and (frame.file.endswith(_SCRIPTS) or frame.file.startswith(("<", "node:")))


def _python(frame: Frame) -> Frame:
    """With the file taken off the name `py::function:/the/file.py`."""
    if frame.function is None or not frame.function.startswith(_PYTHON):
        return frame
    name, *file = _NAMED_FILE.split(frame.function, maxsplit=1)
    return frame._replace(function=name, file=frame.file or next(iter(file), None))


def _below(plumbing: list[Frame]) -> list[str]:
    """What the program called: libc's name of it, or that of the runtime's outermost function."""
    if not plumbing:
        return []
    innermost = plumbing[0].function
    if innermost is not None:
        found = _DECORATION.match(innermost)
        if found and found[1] in _CALLS:
            return [found[1]]
    return [_label(plumbing[-1])]


def _label(frame: Frame) -> str:
    if frame.function is not None:
        return _head(frame.function.removeprefix(_PYTHON), _LONGEST)
    if frame.module is None:
        return _tail(_base(frame.file), _LONGEST) or "?"
    base = _head(_base(frame.module), _LONGEST)
    return base if frame.offset is None else f"{base}+{frame.offset:#x}"


def _without_repeats(calls: Iterable[str]) -> list[str]:
    """A function that calls itself is one place, however deep."""
    path: list[str] = []
    for call in calls:
        if not path or path[-1] != call:
            path.append(call)
    return path


def _base(module: str | None) -> str:
    return (module or "").rpartition("/")[2]


def _head(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + _CUT


def _tail(text: str, longest: int) -> str:
    """The end of a path, from a folder on if possible."""
    if len(text) <= longest:
        return text
    end = text[1 - longest :]
    _, slash, rest = end.partition("/")
    return f"{_CUT}/{rest}" if slash else _CUT + end
