"""What a TIME_WAIT costs, and what bounds their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.scenarios.claims.lab import (
    Lab,
    Seen,
    agree,
    contradicts,
    experiment,
    is_a_minute,
    lifetimes,
    seconds,
    shows,
    supports,
)
from tests.scenarios.claims.ports import fill
from tests.scenarios.script import FULL_FIN_WAIT2
from tracer.kernel.btf import KernelTypes

_CACHE_LINE = 64
_STRUCT = 4  # BTF_KIND_STRUCT, include/uapi/linux/btf.h


@experiment(8, tcp_tw_reuse="0", tcp_syncookies="0")
def open_files(lab: Lab) -> Iterator[Seen]:
    ports = 48
    lab.ports(ports)
    spare = 8
    poor = lab.actor("poor")
    open_before = poor.do("open_files")
    poor.do("limit_files", spare)
    _, with_few = fill(lab, by=poor)
    descriptors = poor.do("open_files") - open_before
    yield contradicts(
        f"client that may open {spare} files more",
        f"{with_few} TIME_WAITs, {descriptors} descriptors",
        with_few == ports and descriptors == 0,
    )
    _, with_many = fill(lab, by=lab.actor("rich"))
    yield contradicts(
        f"connections until EADDRNOTAVAIL of {ports} ports: with that limit, without it",
        f"{with_few}, {with_many}",
        with_few == with_many == ports,
    )
    found = [with_many]
    for value in (1, 2):
        lab.set("tcp_syncookies", value)
        found.append(fill(lab)[1])
    agree("in the kernel", lab.remaining(), ports * 4)
    yield contradicts("with tcp_syncookies 0, 1, 2", ", ".join(map(str, found)), found == [ports] * 3)
    times = lifetimes(lab.wait_all_gone())
    yield contradicts("TIME_WAIT", seconds(times), is_a_minute(times))


@experiment(9)
def memory(lab: Lab) -> Iterator[Seen]:
    count = 1000
    port = lab.serve("second")
    lab.visit(port, count)
    lab.wait_time_waits(count)
    agree("in the kernel", lab.remaining(), count)
    struct = _struct_size("tcp_timewait_sock")
    size, source = _object_size("tw_sock_TCP"), "the kernel's slab tw_sock_TCP"
    if size is None:
        size, source = -(-struct // _CACHE_LINE) * _CACHE_LINE, "its BTF, in whole cache lines"
    agree("the object holds the struct", struct <= size < 2 * struct, True)
    yield contradicts("1 KB each", f"{size} bytes ({source}; the struct has {struct})", size < 1000)
    yield contradicts("ten thousand cost 1 MB", f"{size / 100:.1f} MB", size > 100)
    objects = _slab_objects("tw_sock_TCP")
    if objects is not None:
        yield shows(
            f"objects in that slab while {count:,} TIME_WAITs are here", f"{objects:,}", objects >= count
        )
    sizes = [_object_size(cache) for cache in ("tcp_bind_bucket", "tcp_bind2_bucket")]
    known = [one for one in sizes if one is not None]
    if known:
        yield shows(
            "besides, for each local port, its buckets (tcp_bind_bucket, on newer kernels tcp_bind2_bucket)",
            " + ".join(f"{one} bytes" for one in known),
            size + sum(known) < 1000,
        )


def _object_size(cache: str) -> int | None:
    """Bytes that an object takes in that cache of the kernel; None if it does not say."""
    with suppress(OSError, ValueError):
        return int(Path("/sys/kernel/slab", cache, "slab_size").read_text(encoding="ascii"))
    row = _slab_row(cache)
    return int(row[3]) if row else None


def _slab_objects(cache: str) -> int | None:
    row = _slab_row(cache)
    return int(row[2]) if row else None


def _slab_row(cache: str) -> list[str] | None:
    """Its line of /proc/slabinfo: name, active objects, all objects, bytes of one, ..."""
    with suppress(OSError):
        for line in Path("/proc/slabinfo").read_text(encoding="ascii").splitlines():
            if line.split()[0] == cache:
                return line.split()
    return None


def _struct_size(name: str) -> int:
    with KernelTypes() as types:
        found = types._find(name, _STRUCT)
        if found is None:
            raise RuntimeError(f"BTF has no struct {name}")
        return int(types._type(found).size_or_type)


@experiment(15, tcp_max_tw_buckets="8", **FULL_FIN_WAIT2)
def buckets(lab: Lab) -> Iterator[Seen]:
    limit, count = 8, 20
    port = lab.serve("second")
    agree("visits", lab.visit(port, count)["made"], count)
    closes = lab.wait_lines("close", count, owner=lab.client)
    over = Counter(line.get("overflow", False) for line in closes)
    skipped = lab.counter("TCPTimeWaitOverflow")
    agree("overflows, as the kernel counts them", over[True], skipped)
    stay = lab.remaining()
    yield supports(
        f"{count} closes with tcp_max_tw_buckets={limit}",
        f"{stay} TIME_WAITs, {skipped} overflows",
        (stay, skipped) == (limit, count - limit),
    )
    lab.set("tcp_fin_timeout", 60)
    client, server = lab.pair()
    client.close()
    server.wait("CLOSE_WAIT")
    lab.wait_gone(client)
    server.close()
    (last,) = lab.wait_lines(
        "close", 1, sport=server.address[1], daddr=server.address[2], dport=server.address[3]
    )
    yield contradicts(
        "a peer that closes later than a side without room",
        "its FIN is answered with a reset" if last["how"] == "reset_received" else last["how"],
        last["how"] == "reset_received",
    )
    times = lifetimes(lab.wait_all_gone())
    yield contradicts(f"those {stay} that remain", seconds(times), is_a_minute(times))
