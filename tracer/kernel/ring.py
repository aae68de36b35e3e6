"""Reads a BPF ring buffer in bulk, straight from its mapped memory.

Layout (kernel/bpf/ringbuf.c): one page with the consumer position, writable;
one with the producer position; the data, which the kernel offers twice in a row so that no
record wraps. Each page of a mapping counts as memory of ours from the moment it is mapped, read or
not: so of the data only a window is, the one that is being read. A record is
an 8-byte header, whose first word is the length with a busy and a discard bit, and the
data, padded to 8 bytes. Positions only grow.

Ours carry records of one size, so headers are checked and bodies unpacked in
two strides, with no call per record.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

_HEADER = 8

WINDOW = 1 << 20
"""Bytes; for 5,000 records that are worth reading together, a mapping is a call of 30 µs."""


class Ring:
    """The reading end of one ring buffer."""

    def __init__(self, map_fd: int, size: int, record_size: int, window: int = WINDOW) -> None:
        """Map the ring of `size` bytes (a power of two, as is `window`) behind `map_fd`."""
        page = mmap.PAGESIZE
        self.fd = map_fd
        self._size = size
        self._window = min(size, window)
        self._record_size = record_size
        self._stride = _HEADER + (record_size + 7) // 8 * 8
        self._consumer = mmap.mmap(map_fd, page, mmap.MAP_SHARED)
        self._producer = mmap.mmap(map_fd, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        # Single loads and stores: struct.pack_into() clears its target first, and
        # a kernel that reads 0 there takes the ring for full.
        self._consumed = memoryview(self._consumer).cast("Q")
        self._written = memoryview(self._producer).cast("Q")
        self.position = self._consumed[0]
        """Everything before it has been read."""
        self._mapped_at = 0
        self._mapped = self._map(0)

    def written(self) -> int:
        """The producer's position: what a later `read(upto)` may go to."""
        return self._written[0]

    def read(self, upto: int) -> Iterator[bytes]:
        """All whole records before position `upto`, headers included, a window at a time; they are consumed.

        Stops before a record still being written; the next call goes on there.
        """
        while piece := self._piece(upto):
            self.position += len(piece)
            self._consumed[0] = self.position
            yield piece

    def _piece(self, upto: int) -> bytes:
        """Whole records from here on that begin in the same window."""
        start, stride = self.position % self._size, self._stride
        at = start % self._window
        beginning = (self._window - at + stride - 1) // stride
        count = min((upto - self.position) // stride, beginning)
        if not count:
            return b""
        records = memoryview(self._at(start - at))[at : at + count * stride]
        # A header is the bare length once its record is whole: the busy and
        # discard bits are the top two, and we never discard.
        whole = records.cast("I")[:: stride // 4].tolist()
        if whole != [self._record_size] * count:
            count = next(i for i, header in enumerate(whole) if header != self._record_size)
        return bytes(records[: count * stride])

    def _at(self, place: int) -> mmap.mmap:
        """The window at that place in the data."""
        if place != self._mapped_at:
            self._mapped.close()
            self._mapped_at, self._mapped = place, self._map(place)
        return self._mapped

    def _map(self, place: int) -> mmap.mmap:
        page = mmap.PAGESIZE
        # Its last record may end beyond it.
        length = self._window + (self._stride + page - 1) // page * page
        return mmap.mmap(self.fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=2 * page + place)

    def close(self) -> None:
        """Unmap."""
        for view in (self._consumed, self._written):
            view.release()
        for mapping in (self._mapped, self._producer, self._consumer):
            mapping.close()
