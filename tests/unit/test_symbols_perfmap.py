"""Maps that runtimes write of what they compiled."""

from __future__ import annotations

import io
import random

import pytest

from tracer.symbols.facts import Frame
from tracer.symbols.perfmap import PerfMap

TEXT = rb"""7f1000000000 20 py::main:/srv/app.py
7f1000000020 10 py::Pool.<locals>.<lambda>:/srv/a: b.py
7f1000000030 10 py::<module>:<frozen importlib._bootstrap>
7f1000000100 80 JS:*handle /srv/app/server.js:12:34
7f1000000180 80 LazyCompile:~ node:internal/net:7:1
0x7f1000000200 0x40 Ljava/lang/String;::hashCode
7f1000000240 8 new
not a line
7f1000000240 40 newer name
7f1000000280
7f1000000300 40 Builtin:ArgumentsAdaptor
"""


@pytest.mark.parametrize(
    ("address", "frame"),
    [
        (0x7F1000000000, Frame("main", "/srv/app.py")),
        (0x7F100000001F, Frame("main", "/srv/app.py")),
        (0x7F1000000020, Frame("Pool.<locals>.<lambda>", "/srv/a: b.py")),
        (0x7F1000000030, Frame("<module>", "<frozen importlib._bootstrap>")),
        (0x7F1000000040, None),
        (0x7F1000000100, Frame("handle", "/srv/app/server.js", 12)),
        (0x7F1000000180, Frame(None, "node:internal/net", 7)),
        (0x7F1000000210, Frame("Ljava/lang/String;::hashCode")),
        (0x7F1000000241, Frame("newer name")),
        (0x7F1000000300, Frame("Builtin:ArgumentsAdaptor")),
        (0, None),
        (1 << 64, None),
    ],
)
def test_what_was_compiled_at_an_address(address: int, frame: Frame | None) -> None:
    assert PerfMap(io.BytesIO(TEXT)).find(address) == frame


def test_a_long_map_is_read_from_its_end() -> None:
    text = b"".join(b"%x 10 f%d\n" % (16 * number, number) for number in range(1_200_000))
    assert len(text) > 1 << 24
    found = PerfMap(io.BytesIO(text))
    assert found.find(16 * 1_199_999 + 3) == Frame("f1199999")
    assert found.find(3) is None


def test_any_bytes_are_a_map() -> None:
    chance = random.Random(8)  # noqa: S311 - the same each time
    for _ in range(200):
        data = bytearray(TEXT)
        for _ in range(40):
            data[chance.randrange(len(data))] = chance.randrange(256)
        found = PerfMap(io.BytesIO(bytes(data)))
        for address in range(0x7F1000000000, 0x7F1000000400, 16):
            found.find(address)
    assert PerfMap(io.BytesIO(b"")).find(0) is None
    assert PerfMap(io.BytesIO(b"0 10 " + b"x" * 5000)).find(0) == Frame("x" * 1023 + "…")
