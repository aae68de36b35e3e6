"""Durations counted in bounded memory, to within ERROR of what they are."""

from __future__ import annotations

from collections import Counter

from tracer.report.model import Bin, Quantiles

_BITS = 5
_EXACT = 1 << (_BITS + 1)
"""Below, each value has a bucket; above, a bucket is as wide as a 32nd of where it begins."""


class Durations:
    """How often which: in some 32 buckets for each doubling."""

    __slots__ = ("_buckets", "_max")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._max = 0

    def add(self, value: int) -> None:
        """Count a duration; one below 0 is one of 0."""
        if value >= _EXACT:
            shift = value.bit_length() - _BITS - 1
            bucket = (value >> shift) + (shift << _BITS)
        else:
            bucket = max(value, 0)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._max = max(self._max, value)

    def add_all(self, values: list[int]) -> None:
        """Count many: a third of the time that each by itself would take."""
        if not values:
            return
        found = Counter(
            [
                (value >> (shift := value.bit_length() - _BITS - 1)) + (shift << _BITS)
                if value >= _EXACT
                else max(value, 0)
                for value in values
            ]
        )
        for bucket, count in found.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self._max = max(self._max, *values)

    def merge(self, other: Durations) -> None:
        """Add another's counts."""
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self._max = max(self._max, other._max)

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self._buckets.values())

    def quantiles(self) -> Quantiles:
        """The k-th of n, where k is a share of n rounded up: what is in the middle of its bucket."""
        count = self.count
        wanted = [-(-count * share // 100) for share in (50, 90, 99)]
        found: list[int] = []
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            low, high = _bounds(bucket)
            while len(found) < len(wanted) and seen >= wanted[len(found)]:
                found.append(min((low + high - 1) // 2, self._max))
        p50, p90, p99 = found or (0, 0, 0)
        return Quantiles(count, p50, p90, p99, self._max)

    def buckets(self) -> list[tuple[int, int, int]]:
        """(from, up to and not including, so many), in order."""
        return [(*_bounds(bucket), count) for bucket, count in sorted(self._buckets.items())]


def _bounds(bucket: int) -> tuple[int, int]:
    if bucket < _EXACT:
        return bucket, bucket + 1
    shift = (bucket >> _BITS) - 1
    low = ((bucket & 31) + 32) << shift
    return low, low + (1 << shift)


def by_doubling(time_wait: Durations, other: Durations) -> tuple[Bin, ...]:
    """Both in bins from a power of two to the next, from the first to the last that holds anything."""
    counts: dict[int, list[int]] = {}
    for which, durations in enumerate((time_wait, other)):
        for low, _, count in durations.buckets():
            counts.setdefault(low.bit_length(), [0, 0])[which] += count
    if not counts:
        return ()
    return tuple(
        Bin((1 << power) >> 1, 1 << power, *counts.get(power, (0, 0)))
        for power in range(min(counts), max(counts) + 1)
    )
