"""Reading DWARF's numbers from bytes, never beyond their end."""

from __future__ import annotations

from tracer.symbols.ending import UnwindError

_LEB_BYTES, _LEB_MORE = 10, 0x80  # bytes of 64 bits; another one follows

# DW_EH_PE_*: Linux Standard Base, section 10.5.1.
OMITTED = 0xFF
_FORMAT, _RELATIVE, _INDIRECT = 0x0F, 0x70, 0x80
_SIZES = {0x00: 8, 0x02: 2, 0x03: 4, 0x04: 8, 0x0A: -2, 0x0B: -4, 0x0C: -8}  # negative: signed
_PCREL, _DATAREL = 0x10, 0x30

ADDRESS = (1 << 64) - 1


class Cursor:
    """A place in `data`, whose first byte lies at `address` (in the ELF file's own addresses)."""

    __slots__ = ("address", "at", "data")

    def __init__(self, data: bytes, address: int = 0) -> None:
        self.data = data
        self.address = address
        self.at = 0

    @property
    def more(self) -> bool:
        """Is there anything left?"""
        return self.at < len(self.data)

    def byte(self) -> int:
        """One byte."""
        at = self.at
        if at >= len(self.data):
            raise UnwindError
        self.at = at + 1
        return self.data[at]

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self.at + size
        if end > len(self.data):
            raise UnwindError
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def fixed(self, size: int) -> int:
        """A number of `size` bytes; negative: a signed one."""
        return int.from_bytes(self.take(abs(size)), "little", signed=size < 0)

    def uleb(self) -> int:
        """DWARF 5 section 7.6."""
        value = 0
        for shift in range(0, 7 * _LEB_BYTES, 7):
            byte = self.byte()
            value |= (byte & ~_LEB_MORE) << shift
            if byte < _LEB_MORE:
                return value
        raise UnwindError

    def sleb(self) -> int:
        """DWARF 5 section 7.6."""
        start = self.at
        value = self.uleb()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> (bits - 1) else value

    def block(self) -> bytes:
        """Bytes after their number."""
        return self.take(self.uleb())

    def pointer(self, encoding: int, data: int | None = None) -> int:
        """An encoded pointer; `data` is what DW_EH_PE_datarel counts from."""
        here = self.address + self.at
        size = _SIZES.get(encoding & _FORMAT)
        if size is None or encoding & _INDIRECT:
            raise UnwindError
        value = self.fixed(size)
        relative = encoding & _RELATIVE
        if relative == _PCREL:
            value += here
        elif relative == _DATAREL and data is not None:
            value += data
        elif relative:
            raise UnwindError
        return value & ADDRESS

    def skip_pointer(self, encoding: int) -> None:
        """Go over one that nobody asks for: it may be indirect."""
        size = _SIZES.get(encoding & _FORMAT)
        if size is None:
            raise UnwindError
        self.take(abs(size))
