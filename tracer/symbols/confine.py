"""Gives up all that a process may do, but compute and use the descriptors it has.

For a process that reads files of strangers: whoever takes it over by one has nothing in hand.
Numbers are those of include/uapi/linux/{prctl,capability,seccomp,audit,filter}.h.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import platform
import resource
import struct

NOBODY = 65_534
_MEMORY = 1 << 30
_CPU_S = 3600
"""Of its whole life. The worker retires long before; this ends one that was taken over and then orphaned."""
_DESCRIPTORS = 64

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_READ, _PR_CAPBSET_DROP = 4, 22, 23, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP_MODE_FILTER = 2

_libc = ct.CDLL(None, use_errno=True)


def confine() -> None:
    """Drop privileges, set limits, refuse system calls: for good. Raises OSError if any of it is refused."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _drop_privileges()
    os.umask(0o077)
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (lowest, lowest))
    _prctl(_PR_SET_DUMPABLE, 0)
    _filter_system_calls()


def _drop_privileges() -> None:
    is_root = os.geteuid() == 0
    if is_root:
        number = 0
        while _libc.prctl(_PR_CAPBSET_READ, ct.c_ulong(number), 0, 0, 0) >= 0:  # the kernel knows it
            _prctl(_PR_CAPBSET_DROP, number)
            number += 1
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    if is_root:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, bytes(24)), "capset")


def _prctl(option: int, *values: int) -> None:
    padded = [ct.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _checked(_libc.prctl(option, *padded), f"prctl({option})")


def _checked(result: int, what: str) -> None:
    if result:
        code = ct.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


_ALLOWED: dict[str, tuple[int, str, str]] = {
    "x86_64": (
        0xC000003E,
        "0 3 5 8 11 12 13 14 15 17 25 28 38 44 45 46 47 60 131 202 228 231 318",
        "9 10",
    ),
    "aarch64": (
        0xC00000B7,
        "63 57 80 62 215 214 134 135 139 67 216 233 103 206 207 211 212 93 132 98 113 94 278",
        "222 226",
    ),
}
"""By machine: its AUDIT_ARCH_*; the system calls that only touch this process and its descriptors (read,
close, fstat, lseek, munmap, brk, rt_sigaction, rt_sigprocmask, rt_sigreturn, pread64, mremap, madvise,
setitimer, sendto, recvfrom, sendmsg, recvmsg, exit, sigaltstack, futex, clock_gettime, exit_group,
getrandom); mmap and mprotect, which must not make code."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
_NUMBER, _MACHINE, _THIRD_ARGUMENT = 0, 4, 32
"""Offsets in `struct seccomp_data`."""
_X32 = 0x40000000
_PROT_EXEC = 4


class _Program(ct.Structure):
    _fields_ = (("count", ct.c_ushort), ("orders", ct.c_char_p))


def _filter_system_calls() -> None:
    """Allow a few; the others fail with EPERM. Other machines do without: there all the rest still holds."""
    known = _ALLOWED.get(platform.machine())
    if known is None:
        return
    machine, harmless, memory = known
    orders = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for number in map(int, harmless.split()):
        orders += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number in map(int, memory.split()):
        orders += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _THIRD_ARGUMENT),
            (_ANY_BIT, 0, 1, _PROT_EXEC),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    orders.append((_RETURN, 0, 0, _REFUSE))
    program = _Program(len(orders), b"".join(struct.pack("=HBBI", *order) for order in orders))
    address = ct.addressof(program)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, address)
