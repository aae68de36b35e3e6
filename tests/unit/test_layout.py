"""bpf/events.h is the only definition of the records: what Python unpacks is held against it."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from tracer.kernel import decode, flags, loader, opensockets, processes, sites

ROOT = Path(__file__).parents[2]

EVENT = [
    "ts",
    "conn",
    "span_us",
    "dwell",
    "port",
    "alike",
]
TIMES = [
    "dwell.established",
    "dwell.close_wait",
    "dwell.fin_wait2",
    "dwell.syn_sent",
    "dwell.syn_recv",
    "dwell.fin_wait1",
    "dwell.last_ack",
    "dwell.closing",
    "dwell.seen",
    "rearmed",
]
"""What the record has as bytes from `dwell` on."""
ALIKE = [
    "type",
    "family",
    "old",
    "new",
    "flags",
    "role",
    "first",
    "how",
    "via",
    "reason",
    "failed",
    "bound",
    "netns",
    "seen",
    "service",
    "unfollowed",
    "saddr",
    "daddr",
    "opener.start",
    "opener.pid",
    "closer.start",
    "closer.pid",
    "by.start",
    "by.pid",
]
PROCESS = ["id.start", "id.pid", "cgroup", "uid", "cmdline_len", "comm", "cmdline"]
HELD = [
    "conn",
    "since",
    "opener.start",
    "opener.pid",
    "ep.saddr",
    "ep.daddr",
    "ep.sport",
    "ep.dport",
    "ep.netns",
    "family",
    "state",
    "flags",
    "role",
]
OPEN = [
    "owner.start",
    "owner.pid",
    "ep.saddr",
    "ep.daddr",
    "ep.sport",
    "ep.dport",
    "ep.netns",
    "family",
    "state",
    "comm",
]

SITE = ["ts", "conn", "process.start", "process.pid", "what", "length", "registers", "stack"]

RECORDS = {
    "event": (EVENT, decode.EVENT_RECORD),
    "alike": (ALIKE, decode.ALIKE_RECORD),
    "site_event": (SITE, sites.SITE_RECORD),
    "process_event": (PROCESS, processes.PROCESS_RECORD),
    "held_socket": (HELD, decode.HELD_RECORD),
    "open_socket": (OPEN, opensockets.OPEN_SOCKET_RECORD),
}

_TYPES = """
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
"""


def offsets_in_c(folder: Path, name: str, fields: list[str]) -> tuple[list[int], int]:
    prints = "".join(f'printf("%zu\\n", offsetof(struct {name}, {field}));' for field in fields)
    source = folder / "layout.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n{_TYPES}\n#include "events.h"\n'
        f'int main(void) {{ {prints} printf("%zu\\n", sizeof(struct {name})); return 0; }}\n'
    )
    program = folder / "layout"
    subprocess.run(["gcc", f"-I{ROOT / 'bpf'}", "-o", str(program), str(source)], check=True)
    numbers = [int(line) for line in subprocess.check_output([str(program)]).splitlines()]
    return numbers[:-1], numbers[-1]


def offsets_in_python(format_: str) -> list[int]:
    """The offset of each value of a struct format without alignment."""
    assert format_.startswith("=")
    offsets, at = [], 0
    for count, code in re.findall(r"(\d*)([A-Za-z])", format_):
        size = struct.calcsize(f"={count}{code}")
        if code != "x":
            offsets.append(at)
        at += size
    return offsets


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_lies_where_the_header_puts_it(name: str, tmp_path: Path) -> None:
    fields, record = RECORDS[name]
    offsets, size = offsets_in_c(tmp_path, name, fields)
    assert offsets_in_python(record.format) == offsets
    assert record.size == size


def test_times_lie_where_the_header_puts_them(tmp_path: Path) -> None:
    offsets, _ = offsets_in_c(tmp_path, "event", ["dwell", *TIMES, "port"])
    begin, *within, end = offsets
    assert offsets_in_python(decode.TIMES_RECORD.format) == [offset - begin for offset in within]
    assert decode.TIMES_RECORD.size == end - begin


def test_sizes_the_loader_relies_on() -> None:
    assert decode.EVENT_RECORD.size + 8 == flags.EVENT_STRIDE
    assert opensockets.OPEN_SOCKET_RECORD.size == loader.OPEN_SOCKET_SIZE


def enumeration(name: str) -> dict[str, int]:
    """An enum of events.h by member name."""
    text = (ROOT / "bpf/events.h").read_text()
    body = re.search(rf"enum {name} {{(.*?)}};", text, re.DOTALL)
    assert body
    others = {} if name == "lane" else enumeration("lane")
    value, found = 0, dict[str, int]()
    for item in re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL).split(","):
        member, _, given = (part.strip() for part in item.strip().partition("="))
        if member:
            value = eval(given, {}, others | found) if given else value  # noqa: S307 - our own header
            found[member] = value
            value += 1
    return found


@pytest.mark.parametrize(
    ("name", "prefix", "names"),
    [
        ("first", "FIRST_", decode.FIRSTS),
        ("how", "HOW_", decode.HOWS),
        ("via", "VIA_", decode.VIAS),
        ("reason", "REASON_", decode.REASONS),
        ("failed", "FAILED_", decode.CAUSES),
    ],
)
def test_names_of_numbers(name: str, prefix: str, names: tuple[str, ...]) -> None:
    members = enumeration(name)
    assert [member.removeprefix(prefix).lower() for member in members] == list(names)
    assert list(members.values()) == list(range(len(names)))


def test_counters() -> None:
    members = enumeration("counter")
    assert members.pop("COUNTERS") == members.pop("COUNT_CONNS") + enumeration("lane")["LANES"]
    assert {name.removeprefix("COUNT_"): value for name, value in members.items()} == {
        counter.name: counter.value for counter in loader.Counter
    }
