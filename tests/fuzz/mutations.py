"""Ways to spoil a trace: bytes, lines, fields."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

import zstandard

_INTERESTING: tuple[object, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63, 2**64, 10**40, 0.5, 1e308, -0.0),
    *(
        "",
        "0",
        "x" * 20_000,
        "\x1b[31m",
        "\x00",
        "\u202e",
        "\u009b31m",
        "\ud800",
        "🙂",
        "<script>",
        "%s",
        "{}",
    ),
    *("127.0.0.1", "::1", "::ffff:1.2.3.4", "fe80::1%\x1b[2J", "0177.1", "255.255.255.255"),
    *("CLOSE", "TIME_WAIT", "local", "client", "unknown", "reused", "certain", "exhausted", "end", "start"),
    *([], {}, [[]], {"": {}}, [0] * 1000, {"pid": None, "comm": None, "grade": "unknown"}),
)
_TOKENS = (
    *(b"NaN", b"-Infinity", b"1e999", b"\xff\xfe", b"\xed\xa0\x80", b"[" * 5000, b'{"a":' * 5000),
    *(b"\r\n", b"\n", b"\x00"),
)
_TEXTS = ("comm", "cgroup", "unit", "container", "exe", "cmdline", "host", "kernel", "version", "what")
_HOSTILE = ("\x1b[31m", "\u202e", "\x9b2J", "\x00", "a" * 250, "<b>&amp;", "\u2028")

Lines = list[bytes]


def bytes_changed(random: Random, lines: Lines) -> Lines:
    data = bytearray(b"".join(lines))
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        at = random.randrange(len(data))
        kind = random.randrange(5)
        if kind == 0:
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at] = random.randrange(256)
        elif kind == 2:
            del data[at : at + random.choice((1, 2, 10, 1000))]
        elif kind == 3:
            data[at:at] = random.choice(_TOKENS)
        else:
            data[at : at + 1] = str(random.randrange(10)).encode()
        if not data:
            break
    return bytes(data).splitlines(keepends=True)


def cut(random: Random, lines: Lines) -> Lines:
    data = b"".join(lines)
    return data[: random.randrange(len(data))].splitlines(keepends=True)


def doubled(random: Random, lines: Lines) -> Lines:
    at = random.randrange(len(lines))
    to = random.randrange(len(lines) + 1)
    return [*lines[:to], lines[at], *lines[to:]]


def removed(random: Random, lines: Lines) -> Lines:
    at = random.randrange(len(lines))
    return [*lines[:at], *lines[at + random.choice((1, 1, 2, 10)) :]]


def moved(random: Random, lines: Lines) -> Lines:
    left = list(lines)
    line = left.pop(random.randrange(len(left)))
    left.insert(random.randrange(len(left) + 1), line)
    return left


def shuffled(random: Random, lines: Lines) -> Lines:
    middle = lines[1:-1]
    random.shuffle(middle)
    return [*lines[:1], *middle, *lines[-1:]]


def field_changed(random: Random, lines: Lines) -> Lines:
    """A field, at any depth, of one line gets another value or name, or goes."""

    def change(value: Any) -> None:
        places: list[tuple[Any, Any]] = []
        _places(value, places)
        if not places:
            return
        inside, key = random.choice(places)
        kind = random.randrange(8)
        if kind == 0:
            del inside[key]
        elif kind == 1 and isinstance(inside, dict):
            inside[random.choice(("", "type", "x" * 300, "\x1b", str(key).upper()))] = inside.pop(key)
        elif kind == 2:
            other, its_key = random.choice(places)
            inside[key] = deepcopy(other[its_key])
        elif kind == 3 and isinstance(inside[key], int):
            inside[key] += random.choice((-1, 1, 1000, -(10**6), 10**9, 10**15))
        else:
            inside[key] = random.choice(_INTERESTING)

    return _edited(random, lines, change)


def text_changed(random: Random, lines: Lines) -> Lines:
    """All texts of one kind become hostile, throughout: what is told of owners, host and kernel."""
    key = random.choice(_TEXTS)
    hostile = json.dumps(random.choice(_HOSTILE))
    start = f'"{key}":"'.encode()
    out = []
    for line in lines:
        head, found, rest = line.partition(start)
        while found:
            _, _, rest = rest.partition(b'"')
            head += start[:-1] + hostile.encode()
            more, found, rest = rest.partition(start)
            head += more
        out.append(head + rest)
    return out


def _edited(random: Random, lines: Lines, change: Callable[[Any], None]) -> Lines:
    at = random.choice((0, 0, 0, -1, -1, *range(min(len(lines), 30)))) % len(lines)
    try:
        value = json.loads(lines[at])
    except (ValueError, RecursionError):
        return lines
    change(value)
    try:
        line = json.dumps(value, separators=(",", ":"), ensure_ascii=random.random() < 0.5)
    except RecursionError:
        return lines
    return [*lines[:at], line.encode("utf-8", "surrogatepass") + b"\n", *lines[at + 1 :]]


def _places(value: Any, found: list[tuple[Any, Any]]) -> None:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in list(inside):
        found.append((value, key))
        _places(below, found)


MUTATIONS: tuple[Callable[[Random, Lines], Lines], ...] = (
    bytes_changed,
    bytes_changed,
    cut,
    doubled,
    removed,
    moved,
    shuffled,
    field_changed,
    field_changed,
    field_changed,
    field_changed,
    text_changed,
)


def mutated(random: Random, lines: Lines) -> Lines:
    """One to four of them in a row."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if lines:
            lines = random.choice(MUTATIONS)(random, lines)
    return lines


def packed(random: Random, lines: Lines) -> bytes:
    """Compressed, and then spoilt."""
    data = b"".join(lines)
    pack = random.choice((gzip.compress, zstandard.ZstdCompressor().compress))
    spoilt = bytearray(pack(data))
    for _ in range(random.randrange(4)):
        spoilt[random.randrange(len(spoilt))] = random.randrange(256)
    return bytes(spoilt[: random.choice((len(spoilt), random.randrange(len(spoilt))))])
