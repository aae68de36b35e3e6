"""What bpf/twtrace.c is compiled with: the running kernel's layout, the options, the hook source."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tracer.errors import KernelLacksError
from tracer.filters import Filters
from tracer.kernel import hooks
from tracer.kernel.btf import KernelTypes
from tracer.kernel.kallsyms import SymbolRange, find_functions

EVENT_STRIDE = 192
TW_BYTES = 160
"""What the kernel keeps for each TIME_WAIT that may be followed, from the start."""

_LAYOUT = {
    "ns_common": ("inum",),
    "net": ("ns", "ipv4"),
    "netns_ipv4": ("tcp_death_row",),
    "inet_timewait_death_row": ("hashinfo",),
    "inet_hashinfo": ("ehash", "ehash_mask"),
    "inet_ehash_bucket": ("chain",),
    "hlist_nulls_head": ("first",),
    "hlist_nulls_node": ("next",),
    "sock_common": (
        "skc_daddr",
        "skc_rcv_saddr",
        "skc_hash",
        "skc_dport",
        "skc_num",
        "skc_family",
        "skc_state",
        "skc_net",
        "skc_v6_daddr",
        "skc_v6_rcv_saddr",
        "skc_nulls_node",
    ),
    "socket": ("file", "sk"),
    "file": ("private_data",),
    "fdtable": ("max_fds", "fd"),
    "files_struct": ("fdt",),
    "socket_lock_t": ("owned",),
    "sock": ("sk_lock", "sk_err", "sk_shutdown", "sk_protocol", "sk_socket"),
    "inet_sock": ("inet_sport",),
    "tcp_sock": ("linger2", "packets_out", "tcp_clock_cache"),
    "timer_list": ("expires", "function", "flags"),
    "inet_timewait_sock": ("tw_substate", "tw_sport", "tw_timer"),
    "mm_struct": ("arg_start", "arg_end"),
    "task_struct": ("flags", "tgid", "group_leader", "start_boottime", "mm", "comm", "files"),
}
"""Every struct member that bpf/kernel.h reads."""

_SYS_EXIT_LAYOUT = {"task_struct": ("thread_info",), "thread_info": ("status",)}
"""And what bpf/hooks/accept.h needs of x86."""

_EITHER = {"file": ("f_ref", "f_count")}
"""Of these, the first that the kernel has."""

_HANDLER = "tw_timer_handler"
_STACK_SYMBOLS = (
    # bpf/closing.h
    "tcp_validate_incoming",
    "tcp_rcv_state_process",
    "tcp_time_wait",
    "tcp_fin",
    "tcp_done",
    "__pfx_tcp_time_wait",
    "__pfx_tcp_done",
    "tcp_keepalive_timer",
    "__tcp_close",
    # bpf/hooks/causes.h
    "mod_timer",
    "mod_timer_pending",
    "__mod_timer",
    "timers_dead_cpu",
    "run_timer_softirq",
    "__run_timers",
    "expire_timers",
    "timer_expire_remote",
    "tcp_timewait_state_process",
    "tcp_v4_rcv",
    "tcp_v6_rcv",
    "__inet_hash_connect",
    "__inet_check_established",
    "__inet6_check_established",
    "tcp_abort",
    "inet_twsk_purge",
)
"""Functions by which a stack is read."""


_LONGEST_CHAIN = 32
"""How far one in the kernel's table of connections is followed; few have more than a handful."""


SITES = ("off", "some", "all")
"""Of how many connections the stacks of those who close and open them are taken."""
SITE_RING_BYTES = {"some": 8 << 20, "all": 64 << 20}
_SITES_SINCE = (5, 15)
"""dd6e10fbd9fb "bpf: Add bpf_task_pt_regs() helper"."""
_COMPARE_AND_SWAP_SINCE = {"x86_64": (5, 12), "aarch64": (5, 18)}
"""5ffa25502b5a "bpf: Add instructions for atomic_[cmp]xchg", 1902472b4fa9 "bpf, arm64: Support more atomic
operations"."""
_SOCKS_PER_SLOT = 8
_SITES_OF_A_PROCESS, _SITES_OF_A_CPU = 20, 200
"""Stacks taken in a second, about, with `some`: of a process for each thing it does."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What is decided at compile time of the programs."""

    filters: Filters = Filters()
    hooks: str = hooks.AUTO
    """`auto`, or the one source of TIME_WAIT facts to use."""
    with_states: bool = False
    sites: str = "off"
    """One of SITES."""
    ring_mib: int = 32
    """Event ring, a power of two; 192 bytes a record."""
    max_socks: int = 131_072
    """Connections followed at a time."""
    max_tws: int = 262_144
    """TIME_WAITs followed at a time; fewer if a hundredth of the memory is not enough for them."""


def compile_flags(options: LoadOptions, source: hooks.Source, types: KernelTypes) -> list[str]:
    """For BCC. Raises KernelLacksError when this kernel has not what the programs read."""
    flags = [*_layout_flags(types, _LAYOUT), *_either_flags(types), *_option_flags(options)]
    flags.append(f"-DHOOKS_{source.name.upper()}")
    if any(attachment.target == hooks.SYSTEM_CALL for attachment in source.attachments):
        flags += ["-DWITH_SYS_EXIT", *_layout_flags(types, _SYS_EXIT_LAYOUT)]
    flags.append(f"-DARGUMENTS_{hooks.ACCEPT}={types.function_arguments(hooks.ACCEPT) or 0}")
    if types.is_pointer("netns_ipv4", "tcp_death_row"):
        flags.append("-DDEATH_ROW_APART")
    # ca74823c6e16 "bpf: Add bpf_get_current_task_btf() helper" (v5.11)
    if types.function("bpf_get_current_task_btf") is not None:
        flags.append("-DHAVE_TYPED_TASK")
    symbols = find_functions((*_STACK_SYMBOLS, _HANDLER))
    if source.name == "timer" and _HANDLER not in symbols:
        raise KernelLacksError(
            f"/proc/kallsyms has no {_HANDLER}: TIME_WAIT timers cannot be told from others",
            "use a kernel with CONFIG_KALLSYMS=y",
        )
    for name in (*_STACK_SYMBOLS, _HANDLER):
        start, end = symbols.get(name, SymbolRange(0, 0))
        flags += [f"-DSTART_{name}={start:#x}ULL", f"-DEND_{name}={end:#x}ULL"]
    return flags


def _has_compare_and_swap() -> bool:
    since = _COMPARE_AND_SWAP_SINCE.get(os.uname().machine)
    return since is not None and hooks.kernel_release() >= since


def tick_us() -> int:
    """Length of a kernel tick in microseconds: the resolution of the coarse clock is 1/HZ."""
    return round(time.clock_getres(_CLOCK_MONOTONIC_COARSE) * 1_000_000)


_CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; the time module has no name for it


def _layout_flags(types: KernelTypes, layout: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for struct, members in layout.items():
        for member in members:
            offset = types.offset(struct, member)
            if offset is None:
                raise KernelLacksError(
                    f"struct {struct} of this kernel has no {member}",
                    "this kernel is newer or older than twtrace knows: please report it",
                )
            yield f"-DOFFSET_{struct}__{member}={offset}"


def _either_flags(types: KernelTypes) -> Iterator[str]:
    for struct, alternatives in _EITHER.items():
        for member in alternatives:
            offset = types.offset(struct, member)
            if offset is not None:
                yield f"-DOFFSET_{struct}__{member}={offset}"
                break


def _option_flags(options: LoadOptions) -> Iterator[str]:
    ring_bytes = options.ring_mib << 20
    yield f"-DEVENT_RING_PAGES={ring_bytes // 4096}"
    # Counted by each CPU for itself; together they wake us before a quarter is full.
    yield f"-DEVENTS_PER_WAKEUP={max(64, ring_bytes // EVENT_STRIDE // 4 // (os.cpu_count() or 1))}"
    yield "-DPROCESS_RING_PAGES=1024"
    slot_bits = max(1, (options.max_socks // _SOCKS_PER_SLOT).bit_length() - 1)
    yield f"-DSLOT_BITS={slot_bits}"
    if _has_compare_and_swap():
        yield "-DHAVE_CMPXCHG"
        yield f"-DMAX_SOCKS={options.max_socks - (1 << slot_bits)}"
    else:
        yield f"-DMAX_SOCKS={options.max_socks}"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield f"-DMAX_TWS={min(options.max_tws, memory // 100 // TW_BYTES)}"
    yield f"-DLONGEST_CHAIN={_LONGEST_CHAIN}"
    yield f"-DTASK_COPIES={len(hooks.TASK_PROGRAMS)}"
    yield f"-DKERNEL_HZ={round(1_000_000 / tick_us())}"
    if options.with_states:
        yield "-DWITH_STATES"
    if options.sites != SITES[0]:
        if hooks.kernel_release() < _SITES_SINCE:
            raise KernelLacksError(
                "this kernel does not tell the registers of a process (bpf_task_pt_regs), as --sites needs",
                "use Linux 5.15 or later, or leave --sites out",
            )
        yield "-DWITH_SITES"
        yield f"-DSITE_RING_PAGES={SITE_RING_BYTES[options.sites] // 4096}"
        yield f"-DSITES_OF_A_PROCESS={_SITES_OF_A_PROCESS}"
        yield f"-DSITES_OF_A_CPU={_SITES_OF_A_CPU}"
    if options.sites == "all":
        yield "-DSITES_ALL"
    filters = options.filters
    if filters.netns is not None:
        yield f"-DFILTER_NETNS={filters.netns}U"
    if filters.family is not None:
        yield f"-DFILTER_FAMILY={filters.family}"
    for name, ports in (("LOCAL", filters.local_ports), ("REMOTE", filters.remote_ports)):
        if ports:
            yield f"-DFILTER_{name}_PORTS(p)=" + "||".join(f"(p)=={port}" for port in sorted(ports))
