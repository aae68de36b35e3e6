"""Struct layouts of the running kernel, from its own BTF, through libbpf.

Only layout is asked for: where a member lies, how many
arguments a tracepoint passes.
"""

from __future__ import annotations

import ctypes as ct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from tracer.errors import KernelLacksError
from tracer.kernel.libbpf import load_libbpf

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

_KIND_POINTER, _KIND_STRUCT, _KIND_UNION, _KIND_TYPEDEF, _KIND_FUNC = 2, 4, 5, 8, 12
_MODIFIERS = frozenset({_KIND_TYPEDEF, 9, 10, 11, 18})  # typedef volatile const restrict type_tag


class _Type(ct.Structure):
    """`struct btf_type`, include/uapi/linux/btf.h."""

    _fields_ = (("name_off", ct.c_uint32), ("info", ct.c_uint32), ("size_or_type", ct.c_uint32))

    @property
    def kind(self) -> int:
        return int(self.info) >> 24 & 0x1F

    @property
    def vlen(self) -> int:
        return int(self.info) & 0xFFFF


class _Member(ct.Structure):
    """`struct btf_member`: with kind_flag the low 24 bits of `offset` are the bit offset."""

    _fields_ = (("name_off", ct.c_uint32), ("type", ct.c_uint32), ("offset", ct.c_uint32))


class _Found(NamedTuple):
    name: str
    type_id: int
    byte_offset: int


class KernelTypes:
    """The kernel's types. A context manager: the 5 MB of BTF are freed on exit."""

    def __init__(self) -> None:
        self._lib = load_libbpf()
        self._btf: int | None = self._lib.btf__load_vmlinux_btf()
        if not self._btf:
            raise KernelLacksError(
                "this kernel gives no type information (/sys/kernel/btf/vmlinux cannot be read)",
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as Debian's and Ubuntu's are",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lib.btf__free(self._btf)
        self._btf = None

    def offset(self, struct: str, member: str) -> int | None:
        """Byte offset of `member` in `struct` (a struct, or a typedef of one).

        Members of anonymous structs and unions inside count as the outer one's.
        None if the kernel has no such struct or member.
        """
        found = self._member(struct, member)
        return None if found is None else found.byte_offset

    def is_pointer(self, struct: str, member: str) -> bool:
        """Whether `member` is a pointer; false if there is no such member."""
        found = self._member(struct, member)
        return found is not None and self._type(self._skip_modifiers(found.type_id)).kind == _KIND_POINTER

    def tracepoint(self, name: str) -> int | None:
        """The BTF id of a raw tracepoint, for its programs; None if there is no such tracepoint."""
        return self._find(f"btf_trace_{name}", _KIND_TYPEDEF)

    def function(self, name: str) -> int | None:
        """The BTF id of a function; None if the kernel has none of that name."""
        return self._find(name, _KIND_FUNC)

    def function_arguments(self, name: str) -> int | None:
        """How many arguments a function takes; None if the kernel has none of that name."""
        type_id = self.function(name)
        if type_id is None:
            return None
        return self._type(self._type(type_id).size_or_type).vlen

    def _member(self, struct: str, member: str) -> _Found | None:
        type_id = self._find(struct, _KIND_STRUCT) or self._find(struct, _KIND_TYPEDEF)
        return None if type_id is None else self._member_of(type_id, member)

    def _member_of(self, type_id: int, member: str) -> _Found | None:
        for found in self._members(self._skip_modifiers(type_id)):
            if found.name == member:
                return found
            if not found.name:
                inner = self._member_of(found.type_id, member)
                if inner is not None:
                    return inner._replace(byte_offset=found.byte_offset + inner.byte_offset)
        return None

    def _members(self, type_id: int) -> Iterator[_Found]:
        head = self._type(type_id)
        if head.kind not in (_KIND_STRUCT, _KIND_UNION):
            return
        members = (_Member * head.vlen).from_address(ct.addressof(head) + ct.sizeof(_Type))
        bits = 0xFFFFFF if head.info >> 31 else 0xFFFFFFFF
        for member in members:
            yield _Found(self._name(member.name_off), member.type, (member.offset & bits) // 8)

    def _find(self, name: str, kind: int) -> int | None:
        type_id: int = self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind)
        return type_id if type_id > 0 else None

    def _skip_modifiers(self, type_id: int) -> int:
        while (head := self._type(type_id)).kind in _MODIFIERS:
            type_id = head.size_or_type
        return type_id

    def _type(self, type_id: int) -> _Type:
        return _Type.from_address(self._lib.btf__type_by_id(self._btf, type_id))

    def _name(self, offset: int) -> str:
        name: bytes = self._lib.btf__name_by_offset(self._btf, offset)
        return name.decode()
