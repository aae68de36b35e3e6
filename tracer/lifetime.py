"""How long a TIME_WAIT lasts when nothing ends it early."""

from __future__ import annotations

from itertools import count

TIMEWAIT_US = 60_000_000
"""TCP_TIMEWAIT_LEN, include/net/tcp.h: a constant of the kernel's."""

REUSE_DELAY_US = 1_000_000
"""What tcp_twsk_unique() waits before a port is taken over: the next second of the timestamp
clock; from v6.14 on it is net.ipv4.tcp_tw_reuse_delay."""

_LEVEL_BITS = 6
_LEVEL_SHIFT = 3


def expected_lifetime_us(tick_us: int) -> int:
    """A minute as the timer wheel has it, on the average, for a tick of so many microseconds.

    A timer fires at the end of its bucket, which is wider the further away it is
    (calc_wheel_index(), kernel/time/timer.c): 2 s at 250 Hz, 4 s at 1000 Hz, 5 s at 100 Hz.
    """
    ticks = TIMEWAIT_US // tick_us
    level = next(n for n in count() if ticks < ((1 << _LEVEL_BITS) - 1) << (n * _LEVEL_SHIFT))
    bucket = tick_us << (level * _LEVEL_SHIFT)
    return TIMEWAIT_US + bucket // 2
