"""libbpf, which comes with BCC: the kernel's types, and maps read in batches."""

from __future__ import annotations

import ctypes as ct
from functools import lru_cache

from tracer.errors import KernelLacksError

_NAMES = ("libbpf.so.1", "libbpf.so.0")

_POINTER, _TEXT, _U32, _INT = ct.c_void_p, ct.c_char_p, ct.c_uint32, ct.c_int

_SIGNATURES = {
    "btf__load_vmlinux_btf": (_POINTER, ()),
    "btf__find_by_name_kind": (_INT, (_POINTER, _TEXT, _U32)),
    "btf__type_by_id": (_POINTER, (_POINTER, _U32)),
    "btf__name_by_offset": (_TEXT, (_POINTER, _U32)),
    "btf__free": (None, (_POINTER,)),
    "bpf_map_lookup_batch": (_INT, (_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER)),
}


@lru_cache(maxsize=1)
def load_libbpf() -> ct.CDLL:
    """The library, with the signatures of what we call."""
    for name in _NAMES:
        try:
            lib = ct.CDLL(name, use_errno=True)
        except OSError:
            continue
        for function, (result, arguments) in _SIGNATURES.items():
            if hasattr(lib, function):
                getattr(lib, function).restype = result
                getattr(lib, function).argtypes = arguments
        return lib
    raise KernelLacksError(
        "libbpf is not installed: it comes with BCC and reads the kernel's struct layouts",
        "install python3-bpfcc and libbpf1 (their names on Debian)",
    )
