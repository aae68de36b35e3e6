"""What this kernel and user allow, found by trying it: each hook is really attached."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tracer.errors import NotPermittedError, TwtraceError
from tracer.kernel import sock_diag
from tracer.kernel.btf import KernelTypes
from tracer.kernel.kallsyms import find_functions
from tracer.kernel.loader import TRACEPOINTS, import_bcc, require_privilege
from tracer.kernel.probe import (
    PROG_KPROBE,
    PROG_RAW_TRACEPOINT,
    PROG_TRACING,
    TRACE_FENTRY,
    TRACE_ITER,
    Probe,
    ProbeRefusedError,
    create_ring_buffer,
)
from tracer.kernel.sysctl import read_settings

_PROBED_FUNCTION = "tcp_close"


class Status(str, Enum):
    """The outcome of a check."""

    WORKS = "works"
    REFUSED = "refused"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing tried."""

    name: str
    status: Status
    detail: str
    """What was seen: a figure, or the reason it does not work."""
    needed: bool
    """Whether twtrace cannot run without it."""
    hint: str = ""
    """What the user can do about it."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that doctor says."""

    kernel: str
    hooks: str | None
    """The source of TIME_WAIT facts that would be used; None: twtrace cannot run here."""
    why: str
    checks: tuple[Check, ...]
    sysctl: dict[str, int | str]


def examine() -> Report:
    """Try everything. Attaches for an instant, changes nothing."""
    checks = tuple(_try(*check) for check in _CHECKS)
    by_name = {check.name: check.status for check in checks}
    broken = [check.name for check in checks if check.needed and check.status is not Status.WORKS]
    if broken:
        hooks, why = None, f"not to be had here: {', '.join(broken)}"
    else:
        hooks = "timer"
        why = (
            f"the source of this version; fentry {by_name['fentry'].value}, kprobe {by_name['kprobe'].value}"
        )
    return Report(os.uname().release, hooks, why, checks, read_settings())


def _try(name: str, check: Callable[[], str], needed: bool) -> Check:
    try:
        return Check(name, Status.WORKS, check(), needed)
    except ProbeRefusedError as refusal:
        missing = refusal.errno in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
        status = Status.MISSING if missing else Status.REFUSED
        return Check(name, status, str(refusal), needed)
    except NotPermittedError as error:
        return Check(name, Status.REFUSED, error.cause, needed, error.hint)
    except TwtraceError as error:
        return Check(name, Status.MISSING, error.cause, needed, error.hint)


def _privileges() -> str:
    require_privilege()
    return "root" if os.geteuid() == 0 else "CAP_BPF and CAP_PERFMON"


def _bcc() -> str:
    return f"version {import_bcc().__version__}"


def _btf() -> str:
    with KernelTypes() as types:
        offset = types.offset("inet_timewait_sock", "tw_timer")
    return f"inet_timewait_sock.tw_timer at byte {offset}"


def _kallsyms() -> str:
    if "tw_timer_handler" not in find_functions(("tw_timer_handler",)):
        raise ProbeRefusedError(errno.ENOENT, "no tw_timer_handler in /proc/kallsyms")
    return "tw_timer_handler found"


def _raw_tracepoint(name: str) -> Callable[[], str]:
    def check() -> str:
        require_privilege()
        with Probe(PROG_RAW_TRACEPOINT) as probe:
            probe.attach_raw_tracepoint(name)
        return "attached"

    return check


def _fentry() -> str:
    require_privilege()
    with KernelTypes() as types:
        function = types.function(_PROBED_FUNCTION)
    if function is None:
        raise ProbeRefusedError(errno.ENOENT, f"no {_PROBED_FUNCTION} in BTF")
    with Probe(PROG_TRACING, attach_type=TRACE_FENTRY, attach_btf_id=function) as probe:
        probe.attach_raw_tracepoint(None)
    return f"attached to {_PROBED_FUNCTION}"


def _kprobe() -> str:
    require_privilege()
    if not Path("/sys/bus/event_source/devices/kprobe").exists():
        raise ProbeRefusedError(errno.ENOENT, "this kernel has no kprobes (CONFIG_KPROBE_EVENTS)")
    with Probe(PROG_KPROBE) as probe:
        probe.attach_kprobe(_PROBED_FUNCTION)
    return f"attached to {_PROBED_FUNCTION}"


def _iterator() -> str:
    require_privilege()
    with KernelTypes() as types:
        iterator = types.function("bpf_iter_task_file")
    if iterator is None:
        raise ProbeRefusedError(errno.ENOENT, "no iter/task_file: open files are read from /proc")
    with Probe(PROG_TRACING, attach_type=TRACE_ITER, attach_btf_id=iterator) as probe:
        probe.attach_iterator()
    return "attached"


def _ring_buffer() -> str:
    require_privilege()
    create_ring_buffer()
    return "created"


def _sock_diag() -> str:
    found = sock_diag.dump(frozenset({"TIME_WAIT"}))
    return f"{len(found)} TIME_WAIT in this namespace"


_CHECKS: tuple[tuple[str, Callable[[], str], bool], ...] = (
    ("privileges", _privileges, True),
    ("BCC", _bcc, True),
    ("BTF", _btf, True),
    ("kallsyms", _kallsyms, True),
    ("ring buffer", _ring_buffer, True),
    *((f"raw tracepoint {name}", _raw_tracepoint(name), needed) for name, needed in TRACEPOINTS.items()),
    ("iterator", _iterator, False),
    ("sock_diag", _sock_diag, True),
    ("fentry", _fentry, False),
    ("kprobe", _kprobe, False),
)
