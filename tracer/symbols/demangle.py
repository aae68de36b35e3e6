"""C++ and Rust names as people write them."""

from __future__ import annotations

import ctypes as ct
import re
from collections.abc import Callable
from functools import lru_cache

from rust_demangler.rust import RustDemangler

from tracer.symbols.facts import LONGEST_NAME, cut

_LONGEST_MANGLED = 4096
_PARTS = re.compile(r"(\.(cold|constprop|isra|llvm|lto_priv|part)(\.[0-9]+)?)+$")
"""What compilers add to the name of a function when they copy, split or move it."""
_RUST = re.compile(r"_R|_ZN.*17h[0-9a-f]{16}E")
_RUST_HASH = re.compile(r"::h[0-9a-f]{16}\b")
_RUST_CLOSURE = re.compile(r":(#\d+})")
"""rust-demangler 1.0 writes `{closure:#0}` where rustc and binutils write `{closure#0}`."""


def _load() -> tuple[Callable[..., int | None], Callable[[int], None]] | None:
    # libstdc++ is on every machine with BCC, whose compiler is C++. Its demangler is the one of the compiler.
    try:
        runtime, libc = ct.CDLL("libstdc++.so.6"), ct.CDLL(None)
        demangle = runtime["__cxa_demangle"]
        demangle.restype = ct.c_void_p
    except (OSError, AttributeError):
        return None
    libc.free.argtypes = [ct.c_void_p]
    return demangle, libc.free


_libraries = _load()


@lru_cache(maxsize=4096)
def demangled(name: str) -> str:
    """`name` as in the source; itself if it is not mangled or nobody can read it. Bounded in length."""
    if len(name) <= _LONGEST_MANGLED:
        name = _PARTS.sub("", name)
        if _RUST.match(name):
            name = _rust(name)
        elif name.startswith("_Z"):
            name = _cpp(name)
    return cut(name, LONGEST_NAME)


def _rust(name: str) -> str:
    try:
        found = RustDemangler().demangle(name)
    except Exception:  # noqa: BLE001 - it raises anything on names that are none
        return name
    return _RUST_CLOSURE.sub(r"\1", _RUST_HASH.sub("", found))


def _cpp(name: str) -> str:
    if _libraries is None:
        return name
    demangle, free = _libraries
    status = ct.c_int()
    found = demangle(name.encode(), None, None, ct.byref(status))
    if not found:
        return name
    try:
        return ct.string_at(found).decode(errors="backslashreplace")
    finally:
        free(found)
