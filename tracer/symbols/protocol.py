"""What the Symbolizer and its worker say to each other. The worker may be taken over: believe no reply.

A message is its length, 4 bytes, then msgpack. Descriptors go along with the length, to the worker alone.
"""

from __future__ import annotations

import socket
import time
from typing import Annotated

import msgspec

from tracer.symbols.facts import LONGEST_NAME, LONGEST_PATH, MOST_CALLS, MOST_FRAMES, DebugLink, Frame

LONGEST_MESSAGE = 1 << 22
"""128 frames with the longest names and paths, four bytes a character, are below."""
_LENGTH = 4

_Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Address = Annotated[int, msgspec.Meta(ge=0)]
"""Of 64 bits, which msgspec cannot bound."""
_Reason = Annotated[str, msgspec.Meta(max_length=400)]


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Read the file whose descriptor comes along; it is called by its number from then on."""

    file: _Number
    is_map: bool = False
    """A perf map: the offsets in it are addresses of the process."""


class Attach(msgspec.Struct, frozen=True, tag="attach"):
    """The descriptor that comes along may be of that file's debug file."""

    file: _Number


class Look(msgspec.Struct, frozen=True, tag="look"):
    """What is at this offset of the file?"""

    file: _Number
    offset: _Number
    patience_s: float
    """After that, say what is known without DWARF."""


class Mapped(msgspec.Struct, frozen=True, array_like=True):
    """Code that is mapped in a process: an executable line of /proc/PID/maps."""

    start: _Address
    end: _Address
    offset: _Address
    file: _Number
    """0: of none that can be read."""


class Walk(msgspec.Struct, frozen=True, tag="walk"):
    """Which calls led there?"""

    registers: dict[int, _Address]
    """By DWARF's numbers."""
    stack: bytes
    """From the stack pointer upwards."""
    mapped: list[Mapped]
    patience_s: float

    @property
    def file(self) -> int:
        """None is to blame if it cannot be done."""
        return 0


Request = Load | Attach | Look | Walk


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker has given up its privileges."""


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The answer to Load."""

    build_id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{8,128}\Z")] | None
    link_name: Annotated[str, msgspec.Meta(max_length=LONGEST_PATH)] | None
    link_crc: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    has_lines: bool

    @property
    def debuglink(self) -> DebugLink | None:
        """The link, if the file has one."""
        return None if self.link_name is None else DebugLink(self.link_name, self.link_crc)


class Attached(msgspec.Struct, frozen=True, tag="attached"):
    """The answer to Attach: whether the debug file was made for that file."""

    fits: bool


class FrameWords(msgspec.Struct, frozen=True, array_like=True):
    """A Frame on its way."""

    function: Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)] | None
    file: Annotated[str, msgspec.Meta(max_length=LONGEST_PATH)] | None
    line: Annotated[int, msgspec.Meta(gt=0, lt=1 << 32)] | None
    inlined: bool

    def frame(self) -> Frame:
        """The same for all others."""
        return Frame(self.function, self.file, self.line, self.inlined)


class Found(msgspec.Struct, frozen=True, tag="found"):
    """The answer to Look."""

    frames: Annotated[list[FrameWords], msgspec.Meta(max_length=MOST_FRAMES)]
    fault: _Reason | None
    """What of the file could not be read, and why."""


class Walked(msgspec.Struct, frozen=True, tag="walked"):
    """The answer to Walk."""

    calls: Annotated[list[tuple[_Address, bool]], msgspec.Meta(max_length=MOST_CALLS)]
    """Addresses in the process, innermost first; whether it is a return address."""
    whole: bool


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """The worker does not have that file, or has let it go, to have room for others."""

    file: _Number = 0


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The file, or the worker's start, was more than it can do."""

    reason: _Reason


Reply = Ready | Loaded | Attached | Found | Walked | Unknown | Failed

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def pack(message: Request | Reply) -> bytes:
    """The bytes of a message."""
    body = _encoder.encode(message)
    return len(body).to_bytes(_LENGTH, "big") + body


def unpack_reply(channel: socket.socket, until: float) -> Reply:
    """The next reply, by then (time.monotonic). Raises OSError, EOFError, msgspec.DecodeError."""
    return _replies.decode(_body(channel, _exactly(channel, _LENGTH, until), until))


def unpack_request(channel: socket.socket) -> tuple[Request, list[int]]:
    """The next request, and the descriptors that came along."""
    # Sent in one piece, of which the first byte brings the descriptors.
    head, descriptors, _, _ = socket.recv_fds(channel, _LENGTH, 1)
    if not head:
        raise EOFError
    head += _exactly(channel, _LENGTH - len(head))
    return _requests.decode(_body(channel, head)), descriptors


def _body(channel: socket.socket, head: bytes, until: float | None = None) -> bytes:
    length = int.from_bytes(head, "big")
    if length > LONGEST_MESSAGE:
        raise msgspec.DecodeError(f"a message of {length} bytes")
    return _exactly(channel, length, until)


def _exactly(channel: socket.socket, size: int, until: float | None = None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if until is not None:
            wait_until(channel, until)
        piece = channel.recv(min(size - len(data), 1 << 16))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def wait_until(channel: socket.socket, until: float) -> None:
    """Let the next operation take no longer."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    channel.settimeout(left)
