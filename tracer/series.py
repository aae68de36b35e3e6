"""Counts over time and by size, in bounded memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right

HISTORY_SECONDS = 120
RATE_SECONDS = 10
SECOND = 1_000_000


class Series:
    """Counts in each of the last seconds; half a kilobyte once there are any, for there are ten thousands."""

    __slots__ = ("_counts", "_second")

    def __init__(self) -> None:
        self._counts = _NO_COUNTS  # until the first, which is long after
        self._second = _LONG_AGO

    def add(self, second: int, count: int = 1) -> None:
        """Count in `second`; one that fell out of the window is dropped."""
        if second != self._second:
            if second > self._second:
                self._advance(second)
            elif second <= self._second - HISTORY_SECONDS:
                return
        self._counts[second % HISTORY_SECONDS] += count

    def values(self, second: int) -> tuple[int, ...]:
        """The counts up to `second`, oldest first."""
        if second - self._second >= HISTORY_SECONDS:
            return _NONE
        if second > self._second:
            self._advance(second)
        at = second % HISTORY_SECONDS + 1
        return (*self._counts[at:], *self._counts[:at])

    def rate(self, now_us: int, since_us: int) -> float:
        """Per second, over the last ten or as many as there are since `since_us`."""
        second = now_us // SECOND
        if second - self._second >= RATE_SECONDS:
            return 0.0
        if second > self._second:
            self._advance(second)
        end = second % HISTORY_SECONDS + 1
        # A slice that begins before the ring's first place takes up its last ones.
        counts = self._counts
        total = sum(counts[end - RATE_SECONDS : end] if end >= RATE_SECONDS else counts[end - RATE_SECONDS :])
        if end < RATE_SECONDS:
            total += sum(counts[:end])
        # The present second is not over: the window is whole ones and its part so far.
        elapsed = max(now_us - since_us, SECOND)
        return total * SECOND / min((RATE_SECONDS - 1) * SECOND + now_us % SECOND, elapsed)

    def lately(self, now_us: int) -> int:
        """How many there were in the last two minutes."""
        return sum(self.values(now_us // SECOND))

    def merge(self, other: Series, second: int, times: int = 1) -> None:
        """Add another's counts, as of `second`, so many times."""
        if second - other._second >= HISTORY_SECONDS:
            return
        second = max(second, self._second, other._second)
        self._advance(second)
        other._advance(second)
        for at, theirs in enumerate(other._counts):
            if theirs:
                self._counts[at] += times * theirs

    def _advance(self, second: int) -> None:
        gap = second - self._second
        if gap >= HISTORY_SECONDS:
            self._counts = array("i", _NONE)
        else:
            for stale in range(self._second + 1, second + 1):
                self._counts[stale % HISTORY_SECONDS] = 0
        self._second = second


_NONE = (0,) * HISTORY_SECONDS
_NO_COUNTS = array("i", _NONE)
_LONG_AGO = -(1 << 62)


class Histogram:
    """Durations in buckets of at most a quarter of their size."""

    __slots__ = ("_buckets", "_quantiles")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._quantiles: dict[float, int | None] = {}
        """Those asked for since the last change."""

    def add(self, value: int, count: int = 1) -> None:
        """Count a duration."""
        bucket = _bucket(value)
        if self._quantiles:
            self._quantiles.clear()
        self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def add_counted(self, counts: dict[int, int]) -> None:
        """Add what `counted()` made."""
        self._quantiles.clear()
        buckets = self._buckets
        for bucket, count in counts.items():
            buckets[bucket] = buckets.get(bucket, 0) + count

    def merge(self, other: Histogram) -> None:
        """Add another's counts."""
        self.add_counted(other._buckets)

    def quantile(self, share: float) -> int | None:
        """The middle of the bucket in which that share of all is reached; None of nothing."""
        if share not in self._quantiles:
            self._quantiles[share] = self._quantile(share)
        return self._quantiles[share]

    def _quantile(self, share: float) -> int | None:
        wanted = share * sum(self._buckets.values())
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                low, high = _bounds(bucket)
                return (low + high) // 2
        return None


def counted(values: list[int]) -> dict[int, int]:
    """Durations in ascending order, by a Histogram's buckets: one look-up for each bucket."""
    counts: dict[int, int] = {}
    at = 0
    while at < len(values):
        bucket = _bucket(values[at])
        end = bisect_right(values, _bounds(bucket)[1], at)
        counts[bucket] = end - at
        at = end
    return counts


def _bucket(value: int) -> int:
    if value < 4:  # noqa: PLR2004 - below, each value has a bucket
        return max(value, 0)
    shift = value.bit_length() - 3
    return (shift + 1) * 4 + (value >> shift) - 4


def _bounds(bucket: int) -> tuple[int, int]:
    if bucket < 4:  # noqa: PLR2004
        return bucket, bucket
    shift = bucket // 4 - 1
    low = (bucket % 4 + 4) << shift
    return low, low + (1 << shift) - 1
