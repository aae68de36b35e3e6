"""The three sources of TIME_WAIT facts, and which of them this kernel allows.

fentry on the timewait functions where BTF trampolines may be used, kprobes on
the same, or the timer tracepoints. bpf/hooks/ is the other half.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tracer.errors import KernelLacksError
from tracer.kernel.bpf import AttachType, ProgramType
from tracer.kernel.btf import KernelTypes
from tracer.kernel.probe import Probe, ProbeRefusedError

AUTO = "auto"
BEST = "fentry"
LAST_RESORT = "timer"
_TRANSITION = "inet_sock_set_state"


class Kind(Enum):
    """What a program is attached to."""

    RAW_TRACEPOINT = "raw tracepoint"
    FENTRY = "fentry"
    FEXIT = "fexit"
    KPROBE = "kprobe"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One program and its place."""

    kind: Kind
    target: str
    """A raw tracepoint's or a function's name."""
    program: str
    """The function in bpf/twtrace.c."""
    needed: bool = True
    """Whether the source does not go without."""
    told_otherwise: bool = False
    """Whether a run that the kernel drops loses no fact."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the facts about mini-sockets come from."""

    name: str
    """`fentry`, `kprobe` or `timer`."""
    attachments: tuple[Attachment, ...]
    facts: dict[str, str]
    """Which hook each kind of fact comes from, for the `start` line."""


def _raw(target: str, program: str, *, needed: bool = True, told_otherwise: bool = False) -> Attachment:
    return Attachment(Kind.RAW_TRACEPOINT, target, program, needed, told_otherwise)


def kernel_release() -> tuple[int, int]:
    """Major and minor version of the running kernel."""
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


TASK_PROGRAMS = ("transition_task", "transition_task_2", "transition_task_3")[
    : 3 if kernel_release() >= (7, 0) else 1
]
"""On what a task does to a socket of its own: see on_transition() in bpf/closing.h.

Copies of one where a tracepoint's programs may be preempted: a46023d5616e "tracing: Guard
__DECLARE_TRACE() use of __DO_TRACE_CALL() with SRCU-fast" (v7.0).
"""


def transitions() -> tuple[Attachment, ...]:
    """The programs of every source.

    Attached after the mini-sockets' own, so that a TIME_WAIT born while we attach has
    no full socket, rather than a full socket no TIME_WAIT. A transition is for whichever of its
    programs is free, in this order, in which they are detached as well; of an owner's uses one is enough.
    """
    return (
        _raw(_TRANSITION, "transition_packet", told_otherwise=True),
        *(_raw(_TRANSITION, program, told_otherwise=True) for program in TASK_PROGRAMS),
        _raw("tcp_rcv_space_adjust", "tcp_read", told_otherwise=True),
        # since Linux 6.3
        _raw("sock_send_length", "socket_sent", needed=False, told_otherwise=True),
        _raw("sock_recv_length", "socket_received", needed=False, told_otherwise=True),
    )


_EXPIRY = "tw_timer_handler"
_ENTRIES = (_EXPIRY, "inet_twsk_kill", "__inet_twsk_schedule")
"""Causes before ends."""
ACCEPT = "inet_csk_accept"
_WISH = "tcp_time_wait"
"""These two with fentry alone: a kprobe hides all others from whatever interrupts it."""
SYSTEM_CALL = "sys_exit"
"""In place of the former, with kprobes alone: every system call pays for it."""

_TOLD_OTHERWISE = frozenset({_EXPIRY, ACCEPT, _WISH})
"""By the kernel stack, or by the next use: why_killed() in bpf/hooks/functions.h, without_time_wait()
and name_user() in bpf/closing.h."""

_BIRTH = "the kernel's table of connections, at FIN_WAIT2 or CLOSING to CLOSE"
_FACTS = {
    "transitions": "raw tracepoint inet_sock_set_state",
    "owner": "process context of transitions, tcp_rcv_space_adjust, sock_send_length, sock_recv_length",
    "connect_failed": "SYN_SENT to CLOSE inside connect(), no SYN sent",
}


def _entries(kind: Kind, prefix: str, functions: Iterable[str]) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(kind, function, f"{prefix}{function}", told_otherwise=function in _TOLD_OTHERWISE)
        for function in functions
    )


_X86_64 = os.uname().machine == "x86_64"
"""bpf/hooks/accept.h knows no other system calls and registers."""
_STACK_TELLS = (
    "the kernel stack at FIN_WAIT2 to CLOSE, and none in the kernel's table of connections; "
    "`unknown` where the stack does not tell"
)


def _facts(hook: str, overflow: str, owner: str = "") -> dict[str, str]:
    return {
        **_FACTS,
        "owner": _FACTS["owner"] + owner,
        "time_wait": f"{_BIRTH}; {hook} inet_twsk_kill; its callers on the kernel stack",
        "rearmed": f"{hook} __inet_twsk_schedule: every one",
        "overflow": overflow,
    }


SOURCES = {
    source.name: source
    for source in (
        Source(
            "fentry",
            # BCC takes what to attach to from the program's name.
            (
                *_entries(Kind.FEXIT, "kretfunc__", (ACCEPT,)),
                *_entries(Kind.FENTRY, "kfunc__", (*_ENTRIES, _WISH)),
            ),
            _facts(
                "fentry/fexit",
                "fentry tcp_time_wait, and none in the kernel's table of connections",
                "; fexit inet_csk_accept",
            ),
        ),
        Source(
            "kprobe",
            (
                *((_raw(SYSTEM_CALL, "system_call", needed=False, told_otherwise=True),) if _X86_64 else ()),
                *_entries(Kind.KPROBE, "entry__", _ENTRIES),
            ),
            _facts("kprobe", _STACK_TELLS, "; raw tracepoint sys_exit of accept()" if _X86_64 else ""),
        ),
        Source(
            "timer",
            (
                _raw("timer_expire_entry", "timer_expired"),
                _raw("timer_cancel", "timer_cancelled"),
            ),
            {
                **_FACTS,
                "time_wait": f"{_BIRTH}; timer tracepoints (timer_cancel, timer_expire_entry)",
                "rearmed": "timer_cancel and timer.expires: at least so often",
                "overflow": _STACK_TELLS,
            },
        ),
    )
}
"""By name, the best first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A source, and why it is not a better one."""

    source: Source
    why: str
    """`asked for`, `the best there is`, or what the kernel said to those before it."""


def candidates(wanted: str) -> Iterable[Choice]:
    """The sources to try, best first: all that a quick look does not rule out.

    Raises KernelLacksError when `wanted` is one that this kernel refuses.
    """
    if wanted != AUTO:
        refusal = refused(wanted)
        if refusal:
            raise KernelLacksError(
                f"the hooks asked for do not work here: {wanted}: {refusal}",
                "use --hooks auto, which takes the best that works; `twtrace doctor` lists them",
            )
        yield Choice(SOURCES[wanted], "asked for")
        return
    reasons: list[str] = []
    for name, source in SOURCES.items():
        refusal = refused(name)
        if refusal:
            reasons.append(f"{name}: {refusal}")
        else:
            yield Choice(source, "; ".join(reasons) or "the best there is")


def refused(name: str) -> str | None:
    """Why this kernel does not let us use the source; None if a quick try succeeds.

    One harmless program is really attached to one of the source's functions.
    """
    try:
        if name == "fentry":
            try_fentry(PROBED_FUNCTION)
        elif name == "kprobe":
            try_kprobe(PROBED_FUNCTION)
    except ProbeRefusedError as refusal:
        return str(refusal)
    return None


PROBED_FUNCTION = "inet_twsk_kill"
"""By which fentry and kprobes are tried: the one that every end comes by."""


def try_fentry(function: str) -> None:
    """Attach to its entry for an instant. Raises ProbeRefusedError."""
    with KernelTypes() as types:
        found = types.function(function)
    if found is None:
        raise ProbeRefusedError(errno.ENOENT, f"no {function} in BTF")
    with Probe(ProgramType.TRACING, attach_type=AttachType.FENTRY, attach_btf_id=found) as probe:
        probe.attach_tracing()


def try_kprobe(function: str) -> None:
    """Attach to its entry for an instant. Raises ProbeRefusedError."""
    if not Path("/sys/bus/event_source/devices/kprobe").exists():
        raise ProbeRefusedError(errno.ENOENT, "this kernel has no kprobes (CONFIG_KPROBE_EVENTS)")
    with Probe(ProgramType.KPROBE) as probe:
        probe.attach_kprobe(function)
