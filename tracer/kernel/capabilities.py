"""What this kernel and user allow, found by trying it: each hook is really attached."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tracer.errors import NotPermittedError, TwtraceError
from tracer.kernel import hooks, sock_diag
from tracer.kernel.bpf import AttachType, ProgramType
from tracer.kernel.btf import KernelTypes
from tracer.kernel.compiler import import_bcc
from tracer.kernel.kallsyms import find_functions
from tracer.kernel.loader import require_privilege
from tracer.kernel.probe import Probe, ProbeRefusedError, create_ring_buffer
from tracer.kernel.sysctl import read_settings


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
    works = {check.name for check in checks if check.status is Status.WORKS}
    broken = [check.name for check in checks if check.needed and check.name not in works]
    sources = {name: _needs(source) <= works for name, source in hooks.SOURCES.items()}
    if broken or not any(sources.values()):
        source, why = None, f"not to be had here: {', '.join(broken) or 'any source of TIME_WAIT facts'}"
    else:
        choice = next(iter(hooks.candidates(hooks.AUTO)))
        source, why = choice.source.name, choice.why
    return Report(os.uname().release, source, why, checks, read_settings())


def _needs(source: hooks.Source) -> set[str]:
    """The names of the checks a source rests on."""
    needed = [attachment for attachment in source.attachments if attachment.needed]
    tracepoints = {_check_of(a.target) for a in needed if a.kind is hooks.Kind.RAW_TRACEPOINT}
    return tracepoints or {source.name}


def _check_of(tracepoint: str) -> str:
    return f"raw tracepoint {tracepoint}"


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
        with KernelTypes() as types:
            tracepoint = types.tracepoint(name)
        if tracepoint is None:
            raise ProbeRefusedError(errno.ENOENT, "not in BTF")
        with Probe(
            ProgramType.TRACING, attach_type=AttachType.RAW_TRACEPOINT, attach_btf_id=tracepoint
        ) as probe:
            probe.attach_tracing()
        return "attached"

    return check


def _functions(try_it: Callable[[str], None]) -> Callable[[], str]:
    def check() -> str:
        require_privilege()
        try_it(hooks.PROBED_FUNCTION)
        return f"attached to {hooks.PROBED_FUNCTION}"

    return check


def _iterator() -> str:
    require_privilege()
    with KernelTypes() as types:
        iterator = types.function("bpf_iter_task_file")
    if iterator is None:
        raise ProbeRefusedError(errno.ENOENT, "no iter/task_file: open files are read from /proc")
    with Probe(ProgramType.TRACING, attach_type=AttachType.ITERATOR, attach_btf_id=iterator) as probe:
        probe.attach_iterator()
    return "attached"


def _ring_buffer() -> str:
    require_privilege()
    create_ring_buffer()
    return "created"


def _sock_diag() -> str:
    found = sock_diag.dump_time_waits()
    return f"{len(found)} TIME_WAIT in this namespace"


_TRACEPOINTS = {attachment.target: attachment.needed for attachment in hooks.transitions()} | {
    attachment.target: False for attachment in hooks.SOURCES["timer"].attachments
}

_CHECKS: tuple[tuple[str, Callable[[], str], bool], ...] = (
    ("privileges", _privileges, True),
    ("BCC", _bcc, True),
    ("BTF", _btf, True),
    ("kallsyms", _kallsyms, True),
    ("ring buffer", _ring_buffer, True),
    *((_check_of(name), _raw_tracepoint(name), needed) for name, needed in _TRACEPOINTS.items()),
    ("iterator", _iterator, False),
    ("sock_diag", _sock_diag, True),
    ("fentry", _functions(hooks.try_fentry), False),
    ("kprobe", _functions(hooks.try_kprobe), False),
)
