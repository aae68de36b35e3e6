"""Reads a BPF ring buffer in bulk, straight from its mapped memory.

Layout (kernel/bpf/ringbuf.c): one page with the consumer position, writable;
one with the producer position; the data, which the kernel offers twice in a row so that no
record wraps. We map it once: each page of a mapping counts as memory of ours. A record is
an 8-byte header, whose first word is the length with a busy and a discard bit, and the
data, padded to 8 bytes. Positions only grow.

Ours carry records of one size, so headers are checked and bodies unpacked in
two strides, with no call per record.
"""

from __future__ import annotations

import mmap

_HEADER = 8


class Ring:
    """The reading end of one ring buffer."""

    def __init__(self, map_fd: int, size: int, record_size: int) -> None:
        """Map the ring of `size` bytes (a power of two) behind `map_fd`."""
        page = mmap.PAGESIZE
        self.fd = map_fd
        self._size = size
        self._record_size = record_size
        self._stride = _HEADER + (record_size + 7) // 8 * 8
        self._consumer = mmap.mmap(map_fd, page, mmap.MAP_SHARED)
        self._producer = mmap.mmap(map_fd, page + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._data = memoryview(self._producer)[page:]
        # Single loads and stores: struct.pack_into() clears its target first, and
        # a kernel that reads 0 there takes the ring for full.
        self._consumed = memoryview(self._consumer).cast("Q")
        self._written = memoryview(self._producer)[:page].cast("Q")
        self.position = self._consumed[0]
        """Everything before it has been read."""

    def written(self) -> int:
        """The producer's position: what a later `read(upto)` may go to."""
        return self._written[0]

    def read(self, upto: int) -> bytes:
        """All whole records before position `upto`, headers included; they are consumed.

        Stops before a record still being written; the next call goes on there.
        """
        runs = []
        while run := self._run(upto):
            runs.append(run)
            self.position += len(run)
            self._consumed[0] = self.position
        return runs[0] if len(runs) == 1 else b"".join(runs)

    def _run(self, upto: int) -> bytes:
        """Whole records up to the end of the data, or the one that goes on at its beginning."""
        start, stride = self.position % self._size, self._stride
        count = min(upto - self.position, self._size - start) // stride
        # A header is the bare length once its record is whole: the busy and
        # discard bits are the top two, and we never discard.
        if count:
            headers = self._data[start : start + count * stride].cast("I")
            whole = headers[:: stride // 4].tolist()
            if whole != [self._record_size] * count:
                count = next(i for i, header in enumerate(whole) if header != self._record_size)
            return bytes(self._data[start : start + count * stride])
        if upto - self.position < stride or self._data[start : start + 4].cast("I")[0] != self._record_size:
            return b""
        end = bytes(self._data[start:])
        return end + bytes(self._data[: stride - len(end)])

    def close(self) -> None:
        """Unmap."""
        for view in (self._data, self._consumed, self._written):
            view.release()
        self._producer.close()
        self._consumer.close()
