"""What tracer/kernel makes of the kernel's memory and files; no kernel needed."""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tracer.errors import NotPermittedError, UsageError
from tracer.kernel import netns
from tracer.kernel.cgroups import container_of, unit_of
from tracer.kernel.compiler import assemble, source_folder
from tracer.kernel.kallsyms import SymbolRange, find_functions
from tracer.kernel.procfs import (
    NO_FACTS,
    Facts,
    cgroup_of,
    decode_cmdline,
    decode_comm,
    is_same_process,
    read_facts,
    start_ns_of,
)
from tracer.kernel.ring import Ring

RECORD = 16
STRIDE = RECORD + 8
SIZE = mmap.PAGESIZE
BUSY = 1 << 31


class FakeRing:
    """The memory of a BPF ring buffer, in a file: its data area is a page or more, mapped twice."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * mmap.PAGESIZE + 2 * size)
        self.memory = mmap.mmap(self.fd, 2 * mmap.PAGESIZE + 2 * size)
        self.position = 0

    def write(self, number: int, header: int = RECORD) -> None:
        data = struct.pack("=II8s8s", header, 0, struct.pack("Q", number), b"")
        for at in range(len(data)):
            place = (self.position + at) % self.size
            for copy in (0, self.size):
                self.memory[2 * mmap.PAGESIZE + place + copy] = data[at]
        self.position += STRIDE
        struct.pack_into("Q", self.memory, mmap.PAGESIZE, self.position)

    def finish(self, index: int) -> None:
        """Clear the busy bit of record `index`, counted from the beginning."""
        for copy in (0, self.size):
            place = index * STRIDE % self.size + copy
            struct.pack_into("I", self.memory, 2 * mmap.PAGESIZE + place, RECORD)

    def close(self) -> None:
        self.memory.close()
        os.close(self.fd)

    @property
    def consumed(self) -> int:
        return int(struct.unpack_from("Q", self.memory)[0])


@pytest.fixture(name="fake")
def fake_ring() -> Iterator[FakeRing]:
    with closing(FakeRing()) as made:
        yield made


def numbers(records: Iterator[bytes]) -> list[int]:
    return [number for piece in records for (number,) in struct.iter_unpack("=8xQ8x", piece)]


def test_ring_reads_all_whole_records_once(fake: FakeRing) -> None:
    ring = Ring(fake.fd, SIZE, RECORD)
    assert numbers(ring.read(ring.written())) == []
    for number in range(5):
        fake.write(number)
    assert numbers(ring.read(ring.written())) == [0, 1, 2, 3, 4]
    assert fake.consumed == 5 * STRIDE
    assert numbers(ring.read(ring.written())) == []
    ring.close()


def test_ring_wraps_without_tearing(fake: FakeRing) -> None:
    ring = Ring(fake.fd, SIZE, RECORD)
    expected, got = [], []
    for number in range(1000):  # 24,000 bytes through a ring of 4,096, which 24 does not divide
        fake.write(number)
        expected.append(number)
        if number % 37 == 0:
            got += numbers(ring.read(ring.written()))
    assert got + numbers(ring.read(ring.written())) == expected
    ring.close()


def test_ring_waits_for_a_record_that_is_still_written(fake: FakeRing) -> None:
    ring = Ring(fake.fd, SIZE, RECORD)
    fake.write(0)
    fake.write(1, RECORD | BUSY)
    fake.write(2)
    assert numbers(ring.read(ring.written())) == [0]
    assert numbers(ring.read(ring.written())) == []
    fake.finish(1)
    assert numbers(ring.read(ring.written())) == [1, 2]
    ring.close()


def test_ring_waits_for_the_record_that_wraps(fake: FakeRing) -> None:
    ring = Ring(fake.fd, SIZE, RECORD)
    last = SIZE // STRIDE
    for number in range(last):
        fake.write(number)
    assert numbers(ring.read(ring.written())) == list(range(last))
    fake.write(last, RECORD | BUSY)
    fake.write(last + 1)
    assert numbers(ring.read(ring.written())) == []
    fake.finish(last)
    assert numbers(ring.read(ring.written())) == [last, last + 1]
    ring.close()


def test_ring_maps_and_reads_a_window_at_a_time() -> None:
    with closing(FakeRing(4 * SIZE)) as fake, closing(Ring(fake.fd, 4 * SIZE, RECORD, window=SIZE)) as ring:
        in_ring = 4 * SIZE // STRIDE
        expected: list[int] = []
        got: list[int] = []
        for number in range(3 * in_ring):
            fake.write(number)
            expected.append(number)
            if len(expected) - len(got) == in_ring:
                for piece in ring.read(ring.written()):
                    assert len(piece) <= SIZE + STRIDE
                    got += numbers(iter([piece]))
                    assert fake.consumed == len(got) * STRIDE
                    assert mapped(fake) <= 2 * SIZE
        assert got == expected


def mapped(fake: FakeRing) -> int:
    """Bytes of the ring's data that are mapped besides the fake's own mapping."""
    file = os.stat(f"/proc/self/fd/{fake.fd}").st_ino
    found = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, inode = line.split()[:5]
        if int(inode) == file and int(offset, 16) >= 2 * mmap.PAGESIZE:
            first, last = (int(end, 16) for end in span.split("-"))
            found += last - first
    return found


def test_ring_does_not_read_past_the_position_given(fake: FakeRing) -> None:
    ring = Ring(fake.fd, SIZE, RECORD)
    fake.write(0)
    upto = ring.written()
    fake.write(1)
    assert numbers(ring.read(upto)) == [0]
    assert numbers(ring.read(ring.written())) == [1]
    ring.close()


def test_ring_positions_are_single_words(fake: FakeRing) -> None:
    """struct.pack_into() would clear the position first, and the kernel take the ring for full."""
    ring = Ring(fake.fd, SIZE, RECORD)
    assert (ring._consumed.format, ring._consumed.itemsize) == ("Q", 8)
    assert (ring._written.format, ring._written.itemsize) == ("Q", 8)
    ring.close()


SYMBOLS = """\
ffffffff81000000 T _stext
ffffffff81000080 d tw_timer_handler
ffffffff81000100 t tw_timer_handler
ffffffff81000100 t an_alias
ffffffff81000140 T next_one
ffffffff81000200 D tw_timer_data
ffffffffa0000000 t tw_timer_handler_of_a_module\t[module]
"""


def test_kallsyms(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text(SYMBOLS)
    assert find_functions(["tw_timer_handler", "tw_timer_data", "timer_handler", "none"], path) == {
        "tw_timer_handler": SymbolRange(0xFFFFFFFF81000100, 0xFFFFFFFF81000140)
    }


def test_kallsyms_that_hides_addresses(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000000 T _stext\n0000000000000000 t tw_timer_handler\n")
    with pytest.raises(NotPermittedError, match="no addresses") as raised:
        find_functions(["tw_timer_handler"], path)
    assert "kptr_restrict" in raised.value.hint


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("path", "unit", "container"),
    [
        (None, None, None),
        ("/", None, None),
        ("/system.slice/nginx.service", "nginx.service", None),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/a.service/b", "a.service", None),
        (f"/system.slice/docker-{HEX}.scope", f"docker-{HEX}.scope", HEX),
        (f"/docker/{HEX}", None, HEX),
        (
            f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{HEX}.scope",
            f"cri-containerd-{HEX}.scope",
            HEX,
        ),
        (f"/kubepods/besteffort/pod1/{HEX}", None, HEX),
        (f"/machine.slice/libpod-{HEX}.scope/container", f"libpod-{HEX}.scope", HEX),
        ("/lxc.payload.web/init.scope", "init.scope", "web"),
        (f"/not/{HEX[:32]}", None, None),
    ],
)
def test_what_a_cgroup_path_tells(path: str | None, unit: str | None, container: str | None) -> None:
    assert (unit_of(path), container_of(path)) == (unit, container)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/system.slice/a.service\n", "/system.slice/a.service"),
        ("9:name=systemd:/a.service\n4:memory:/much/longer/path\n0::/\n", "/a.service"),
        ("4:memory:/docker/x\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n", "/docker/x"),
        ("0::/a:b:c\n", "/a:b:c"),
        ("0::/\n", None),
        ("", None),
    ],
)
def test_cgroup_of_a_process(text: str, path: str | None) -> None:
    assert cgroup_of(text) == path


def test_of_a_process_only_what_was_not_told_is_read() -> None:
    own, start_ns = os.getpid(), start_ns_of(os.getpid())
    assert start_ns is not None
    all_of_it = read_facts(own, start_ns)
    assert all_of_it.uid == os.getuid()
    assert all_of_it.exe == os.readlink("/proc/self/exe")
    assert all_of_it.comm == Path("/proc/self/comm").read_text().rstrip("\n")
    assert all_of_it.cmdline == decode_cmdline(Path("/proc/self/cmdline").read_bytes())
    told = Facts("name", 1, None, "argv", "/a")
    opened: list[str] = []
    watching = [True]

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(note)
    assert read_facts(own, start_ns, told) == Facts("name", 1, all_of_it.exe, "argv", "/a")
    watching.clear()
    assert opened == [f"/proc/{own}/stat"]
    assert read_facts(own, start_ns + 10**9, told) is told
    assert read_facts(own, start_ns + 10**9) is NO_FACTS


def test_names_and_command_lines_of_any_bytes() -> None:
    assert decode_comm(b"nginx\0\0\0rest") == "nginx"
    assert decode_comm(b"\xff\xfe\x1b[0m\0") == "\\xff\\xfe\x1b[0m"
    assert decode_cmdline(b"/bin/sh\0-c\0exit 0\0\0") == "/bin/sh -c exit 0"
    assert decode_cmdline(b"") is None


def test_a_pid_that_came_back_is_another_process() -> None:
    start = start_ns_of(os.getpid())
    assert start is not None
    assert is_same_process(os.getpid(), start)
    assert not is_same_process(os.getpid(), start + 10_000_000)
    assert start_ns_of(2**22 + 1) is None


def test_namespaces_by_name_path_and_number(tmp_path: Path) -> None:
    assert netns.resolve("4026531840") == 4026531840
    assert netns.resolve("/proc/self/ns/net") == netns.own()
    assert netns.own() in netns.find_all()
    with pytest.raises(UsageError, match="no network namespace nowhere"):
        netns.resolve("nowhere")
    with pytest.raises(UsageError, match="no network namespace"):
        netns.resolve(str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="is no network namespace"):
        netns.resolve(str(tmp_path))
    with pytest.raises(netns.NamespaceGoneError):
        netns.run_inside(str(tmp_path / "missing"), list)


def test_the_translation_unit_has_each_header_once() -> None:
    text = assemble(source_folder())
    assert '#include "' not in text
    for guard in ("TWTRACE_EVENTS_H", "TWTRACE_KERNEL_H", "TWTRACE_TIMEWAIT_H"):
        assert text.count(f"#define {guard}") == 1
    # Errors are reported where they are: the line after an include keeps its number.
    lines = (source_folder() / "twtrace.c").read_text().splitlines()
    last_include = max(number for number, line in enumerate(lines, 1) if line.startswith("#include"))
    assert f'#line {last_include + 1} "twtrace.c"\n{lines[last_include]}' in text
