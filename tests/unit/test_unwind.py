"""Stacks of real programs, stopped where they close a socket, are exactly right."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import groupby
from pathlib import Path
from socket import AF_UNIX, socket
from threading import Event, Thread
from typing import NamedTuple

import pytest

from tests.unit.stopped import Stopped, closing
from tracer.symbols.ending import End
from tracer.symbols.module import Module
from tracer.symbols.registers import Registers
from tracer.symbols.unwind import Frame, Located, Unwound, unwind

HERE = r"""
#define _GNU_SOURCE
#include <alloca.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#define PLAIN __attribute__((noinline, noclone, used))
#define STAY __asm__ volatile("" ::: "memory")

/* What libgcc's unwinder says of the same place goes to a file. */
static const char *log_path;
static void *seen[256];

PLAIN int closes(int more) {
	int pair[2], depth, log;
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	depth = backtrace(seen, 256);
	log = open(log_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (write(log, seen, depth * sizeof *seen) < 0)
		abort();
	more += close(pair[0]);
	STAY;
	return more;
}
"""

MIDDLE = """
PLAIN int middle(int more) { more = closes(more) + 1; STAY; return more; }
"""

MAIN = """
int main(int count, char **words) { log_path = words[1]; int code = middle(count); STAY; return code; }
"""


class Seen(NamedTuple):
    """A program at its close()."""

    unwound: Unwound
    names: list[str]
    addresses: list[int]
    by_libgcc: list[int]
    """From closes() outwards: the first lies elsewhere in closes()."""


@cache
def symbols(path: str) -> tuple[list[int], list[tuple[int, str]]]:
    """Where functions begin; their ends and names."""
    found: dict[int, tuple[int, str]] = {}
    for table in ([], ["-D"]):
        listed = subprocess.run(
            ["nm", "-S", *table, path], capture_output=True, text=True, check=False
        ).stdout
        for line in listed.splitlines():
            match line.split():
                case [start, size, kind, name] if kind in "tTwWi":
                    bare = name.split("@")[0]
                    begin = int(start, 16)
                    old = found.get(begin, (0, bare))[1]
                    found[begin] = (
                        begin + int(size, 16),
                        min(bare, old, key=lambda one: (one[0] == "_", one)),
                    )
    starts = sorted(found)
    return starts, [found[start] for start in starts]


def name(path: str, address: int) -> str:
    starts, rest = symbols(path)
    index = bisect_right(starts, address) - 1
    return rest[index][1] if index >= 0 and address < rest[index][0] else "?"


def names(stopped: Stopped, unwound: Unwound) -> list[str]:
    """Functions; those of the C library all go by its name, since it has many without a symbol."""
    found = []
    for frame in unwound.frames:
        path = stopped.found(frame)[1]
        base = os.path.basename(path)
        system = not path or base.startswith(("libc.so", "ld-linux", "["))
        found.append(base if system else name(path, frame.address - frame.returns))
    return [one for one, _ in groupby(found)]


def build(folder: Path, source: str, *flags: str, compiler: str = "gcc") -> str:
    path = folder / ("program.c" if compiler == "gcc" else "program.cc")
    path.write_text(HERE + source)
    subprocess.run([compiler, "-w", "-o", folder / "program", path, *flags], check=True)
    return str(folder / "program")


def seen(folder: Path, program: str, most: int = 64, stack: int = 16384) -> Seen:
    log = folder / "log"
    stops = closing([program, str(log)], stack=stack)
    stopped = next(stops)
    unwound = unwind(stopped.registers, stopped.stack, stopped.modules, most)
    found = names(stopped, unwound)
    addresses = [stopped.found(frame)[0] for frame in unwound.frames]
    stops.close()
    logged = log.read_bytes()
    by_libgcc = [int.from_bytes(logged[at : at + 8], "little") for at in range(0, len(logged), 8)]
    return Seen(unwound, found, addresses, by_libgcc)


def check(one: Seen, expected: list[str]) -> None:
    """A full stack: these functions, and address by address what libgcc says."""
    assert one.names == expected
    assert one.unwound.end is End.OUTERMOST
    outwards = one.by_libgcc[1:]
    assert one.addresses[-len(outwards) :] == outwards
    # What is left over is close() itself and closes(), called from where libgcc was asked.
    inner = one.unwound.frames[: -len(outwards)]
    assert not inner[0].returns
    assert all(frame.returns for frame in inner[1:])


C_ABOVE = ["libc.so.6", "closes"]
C_BELOW = ["libc.so.6", "_start"]


@pytest.mark.parametrize(
    "flags",
    [
        ("-O2", "-fomit-frame-pointer"),
        ("-O2", "-fno-omit-frame-pointer"),
        ("-O0",),
        ("-Os", "-fomit-frame-pointer"),
        ("-O2", "-no-pie"),
        ("-O2", "-Wl,-z,lazy", "-fplt"),
        ("-O2", "-Wl,-z,now", "-fno-plt"),
    ],
    ids=" ".join,
)
def test_however_it_is_compiled(flags: tuple[str, ...], tmp_path: Path) -> None:
    program = build(tmp_path, MIDDLE + MAIN, *flags)
    check(seen(tmp_path, program), [*C_ABOVE, "middle", "main", *C_BELOW])


@pytest.mark.parametrize("flags", [("-static",), ("-static-pie",)], ids=" ".join)
def test_static(flags: tuple[str, ...], tmp_path: Path) -> None:
    program = build(tmp_path, MIDDLE + MAIN, "-O2", *flags)
    one = seen(tmp_path, program)
    expected = ["closes", "middle", "main", "__libc_start_call_main", "__libc_start_main", "_start"]
    assert one.names[0] == "close"
    check(one, [*one.names[: -len(expected)], *expected])


def test_a_shared_library(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    library = (
        "PLAIN int twice(int more, int (*what)(int)) { more = what(more) + what(more); STAY; return more; }"
    )
    library = build(tmp_path / "library", library, "-O2", "-shared", "-fPIC")
    source = """
int twice(int, int (*)(int));
PLAIN int middle(int more) { more = twice(more, closes) + 1; STAY; return more; }
"""
    program = build(tmp_path, source + MAIN, "-O2", library)
    check(seen(tmp_path, program), [*C_ABOVE, "twice", "middle", "main", *C_BELOW])


DEEP = """
PLAIN int deep(int left) { int code = left ? deep(left - 1) : closes(left); STAY; return code + 1; }
PLAIN int middle(int more) { more = deep(99) + 1; STAY; return more; }
"""


def test_more_frames_than_wanted(tmp_path: Path) -> None:
    program = build(tmp_path, DEEP + MAIN, "-O2", "-fno-optimize-sibling-calls")
    full = seen(tmp_path, program, most=200)
    check(full, [*C_ABOVE, "deep", "middle", "main", *C_BELOW])
    assert max(Counter(full.unwound.frames).values()) == 99
    cut = seen(tmp_path, program, most=64)
    assert cut.unwound == (full.unwound.frames[:64], End.MOST)


def test_a_stack_that_is_longer_than_the_piece(tmp_path: Path) -> None:
    program = build(tmp_path, DEEP + MAIN, "-O2", "-fno-optimize-sibling-calls")
    one = seen(tmp_path, program, stack=1024)
    assert one.unwound.end is End.CUT
    assert one.names == [*C_ABOVE, "deep"]
    assert one.addresses[-10:] == one.by_libgcc[len(one.addresses) - 11 : len(one.addresses) - 1]


FRAMES = """
PLAIN int middle(int more) {
	char sized[more * 100 + 17], *more_yet = alloca(more * 33);
	_Alignas(128) volatile char aligned[200];
	memset(sized, 1, sizeof sized);
	memset(more_yet, 2, more * 33);
	aligned[more] = sized[3] + more_yet[4];
	more = closes(more) + aligned[more];
	STAY;
	return more;
}
"""


@pytest.mark.parametrize("pointer", ["", "no-"])
def test_frames_of_no_fixed_size(pointer: str, tmp_path: Path) -> None:
    program = build(tmp_path, FRAMES + MAIN, "-O2", f"-f{pointer}omit-frame-pointer")
    check(seen(tmp_path, program), [*C_ABOVE, "middle", "main", *C_BELOW])


SIGNAL = """
PLAIN void handler(int number) { closes(number); STAY; }
PLAIN int middle(int more) { more += SEND; STAY; return more; }
int main(int count, char **words) {
	static char stack[65536];
	stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
	struct sigaction action = {.sa_handler = handler, .sa_flags = FLAGS};
	log_path = words[1];
	sigaltstack(&other, 0);
	sigaction(SIGUSR1, &action, 0);
	sigaction(SIGSEGV, &action, 0);
	int code = middle(count);
	STAY;
	return code;
}
"""


def test_a_signal_in_a_system_call(tmp_path: Path) -> None:
    program = build(tmp_path, SIGNAL, "-O2", "-DFLAGS=0", "-DSEND=raise(SIGUSR1)")
    one = seen(tmp_path, program)
    check(one, [*C_ABOVE, "handler", "libc.so.6", "middle", "main", *C_BELOW])


def test_a_signal_at_any_instruction(tmp_path: Path) -> None:
    program = build(tmp_path, SIGNAL, "-O2", "-DFLAGS=0", "-DSEND=*(volatile int *)0")
    one = seen(tmp_path, program)
    check(one, [*C_ABOVE, "handler", "libc.so.6", "middle", "main", *C_BELOW])
    handler = one.names.index("handler")
    trampoline = next(at for at, frame in enumerate(one.unwound.frames) if not frame.returns and at > handler)
    # Neither the trampoline nor what was interrupted has made a call.
    assert [frame.returns for frame in one.unwound.frames[trampoline : trampoline + 3]] == [
        False,
        False,
        True,
    ]


def test_a_signal_on_a_stack_of_its_own(tmp_path: Path) -> None:
    program = build(tmp_path, SIGNAL, "-O2", "-DFLAGS=SA_ONSTACK", "-DSEND=raise(SIGUSR1)")
    one = seen(tmp_path, program)
    assert one.names == [*C_ABOVE, "handler", "libc.so.6"]
    assert one.unwound.end is End.CUT


THREAD = """
PLAIN int middle(int more) { more = closes(more) + 1; STAY; return more; }
PLAIN void *begins(void *more) { int code = middle((long)more); STAY; return (void *)(long)code; }
int main(int count, char **words) {
	pthread_t thread;
	log_path = words[1];
	pthread_create(&thread, 0, begins, &count);
	return pthread_join(thread, 0);
}
"""


def test_a_thread(tmp_path: Path) -> None:
    program = build(tmp_path, THREAD, "-O2", "-pthread")
    check(seen(tmp_path, program), [*C_ABOVE, "middle", "begins", "libc.so.6"])


def test_functions_without_cfi_that_keep_a_frame_pointer(tmp_path: Path) -> None:
    flags = ("-O2", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables")
    program = build(tmp_path, MIDDLE + MAIN, *flags)
    one = seen(tmp_path, program)
    assert one.names == [*C_ABOVE, "middle", "main", *C_BELOW]
    assert one.unwound.end is End.OUTERMOST


def test_functions_with_neither_are_not_gone_over(tmp_path: Path) -> None:
    flags = ("-O2", "-fomit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables")
    program = build(tmp_path, MIDDLE + MAIN, *flags)
    one = seen(tmp_path, program)
    assert one.names == C_ABOVE
    assert one.unwound.end is End.NO_INFO


WITHOUT_CFI = """
int raw(int file);
__asm__("raw: " PUSHES " mov $3, %eax; syscall; " POPS " ret; .size raw, . - raw");
PLAIN int middle(int more) {
	int pair[2];
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	more += raw(pair[0]);
	STAY;
	return more;
}
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 code")
@pytest.mark.parametrize(
    ("pushes", "pops", "expected", "end"),
    [
        ("", "", ["raw", "middle", "main", *C_BELOW], End.OUTERMOST),
        ("push %rbx;", "pop %rbx;", ["raw"], End.NO_INFO),
    ],
)
def test_the_caller_of_a_function_without_cfi(
    pushes: str, pops: str, expected: list[str], end: End, tmp_path: Path
) -> None:
    """The frame pointer is that of middle() and leads to main(): middle() is found otherwise, or no one."""
    flags = ("-O2", "-fno-omit-frame-pointer", f'-DPUSHES="{pushes}"', f'-DPOPS="{pops}"')
    stops = closing([build(tmp_path, WITHOUT_CFI + MAIN, *flags), ""])
    stopped = next(stops)
    stops.close()
    unwound = unwind(stopped.registers, stopped.stack, stopped.modules)
    assert (names(stopped, unwound), unwound.end) == (expected, end)


UNWINDING = """
struct Closer { PLAIN ~Closer() { closes(1); STAY; } };
PLAIN void throws() { Closer closer; throw 1; }
PLAIN int middle(int more) { try { throws(); } catch (int) { more++; } STAY; return more; }
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
def test_a_destructor_while_an_exception_flies(tmp_path: Path) -> None:
    program = build(tmp_path, UNWINDING + MAIN, "-O2", compiler="g++")
    functions = ["_Z6closesi", "_ZN6CloserD1Ev", "_Z6throwsv", "_Z6middlei", "main"]
    check(seen(tmp_path, program), ["libc.so.6", *functions, *C_BELOW])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="aarch64's PLT needs no expression")
def test_entries_of_the_plt(tmp_path: Path) -> None:
    """Linkers describe them by an expression: the second instruction of three pushes."""
    source = "int main(int count, char **words) { return middle(count); }"
    program = build(
        tmp_path, MIDDLE + source, "-O2", "-fplt", "-fcf-protection=none", "-Wl,-z,lazy", "-no-pie"
    )
    sections = subprocess.run(["readelf", "-SW", program], capture_output=True, text=True, check=True).stdout
    found = re.search(r" \.plt +PROGBITS +([0-9a-f]+)", sections)
    assert found
    plt = int(found[1], 16)
    module = Module(open(program, "rb"))  # noqa: SIM115 - a module reads later
    entry, caller = plt + 16, 0x1234
    # jmp *(%rip) of 6 bytes, push of 5, jmp of 5: the stack has one word more behind the push.
    for at, words in ((0, [caller]), (6, [caller]), (11, [7, caller])):
        registers = Registers.x86_64(rip=entry + at, rsp=0x7000, rbp=1, rbx=2, r12=3, r13=4, r14=5, r15=6)
        stack = b"".join(word.to_bytes(8, "little") for word in words)
        unwound = unwind(registers, stack, lambda address: Located(module if address >= plt else None, 0))
        assert unwound == ((Frame(module, entry + at, False), Frame(None, caller, True)), End.NO_MODULE)


GO = """
package main

import (
	"net"
	"path/filepath"
	"os"
)

//go:noinline
func closes(one net.Conn) { one.Close(); seen++ }

//go:noinline
func middle(one net.Conn) { closes(one); seen++ }

var seen int

func main() {
	path := filepath.Join(os.Args[1], "socket")
	listener, _ := net.Listen("unix", path)
	done := make(chan int)
	one, _ := net.Dial("unix", path)
	go func() { middle(one); done <- 1 }()
	<-done
	other, _ := listener.Accept()
	middle(other)
}
"""
GO_CLOSES = [
    "syscall.Close",
    "internal/poll.(*FD).destroy",
    "internal/poll.(*FD).decref",
    "internal/poll.(*FD).Close",
    "net.(*netFD).Close",
    "net.(*conn).Close",
    "main.closes",
    "main.middle",
]


@pytest.mark.skipif(not shutil.which("go"), reason="no go (Debian's golang-go)")
def test_goroutines(tmp_path: Path) -> None:
    """Go has no CFI, but frame pointers, save in the function that makes the system call."""
    (tmp_path / "program.go").write_text(GO)
    program, stripped = str(tmp_path / "program"), str(tmp_path / "stripped")
    cache = Path(__file__).parents[2] / ".go_cache" / "cache"
    environment = os.environ | {"CGO_ENABLED": "1", "GOCACHE": str(cache), "GOFLAGS": "-mod=mod"}
    for options in (["-o", program], ["-ldflags=-s -w", "-o", stripped]):
        subprocess.run(["go", "build", *options, "program.go"], cwd=tmp_path, env=environment, check=True)
    found = []
    for path in (program, stripped):
        (tmp_path / "socket").unlink(missing_ok=True)
        stops = closing([path, str(tmp_path)])
        for _ in range(2):
            stopped = next(stops)
            unwound = unwind(stopped.registers, stopped.stack, stopped.modules)
            assert unwound.end is End.OUTERMOST
            functions = [name(program, frame.address - frame.returns) for frame in unwound.frames]
            found.append([one.removesuffix(".abi0") for one in functions])
        stops.close()
    in_goroutine, in_main = found[:2]
    at = in_main.index("syscall.Close")
    assert all("yscall" in one for one in in_main[:at])
    assert in_goroutine == [*in_main[:at], *GO_CLOSES, "main.main.func1", "runtime.goexit"]
    assert in_main[at:] == [*GO_CLOSES, "main.main", "runtime.main", "runtime.goexit"]
    assert found[2:] == found[:2]


MADE_AT_RUN_TIME = """
#include <sys/mman.h>
int main(int count, char **words) {
	/* push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret */
	static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
	int (*made)(int (*)(int)) = mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(made, code, sizeof code);
	log_path = words[1];
	int result = made(middle);
	STAY;
	return result;
}
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 code")
def test_code_made_at_run_time(tmp_path: Path) -> None:
    one = seen(tmp_path, build(tmp_path, MIDDLE + MADE_AT_RUN_TIME, "-O2"))
    assert one.names == [*C_ABOVE, "middle", "", "main", *C_BELOW]
    assert one.unwound.end is End.OUTERMOST


def test_where_there_is_no_code() -> None:
    registers = Registers.x86_64(rip=16, rsp=8, rbp=8, rbx=0, r12=0, r13=0, r14=0, r15=0)
    assert unwind(registers, b"", lambda _: None) == ((Frame(None, 16, False),), End.NO_MODULE)


def test_an_interpreter() -> None:
    script = "import socket\nfor one in socket.socketpair(): one.close()"
    stops = closing(["/usr/bin/python3", "-I", "-c", script])
    for _ in range(2):
        whole(next(stops))
    stops.close()


def whole(stopped: Stopped) -> None:
    """All to where the kernel or the C library starts a thread, and each return address behind a call."""
    unwound = unwind(stopped.registers, stopped.stack, stopped.modules)
    assert unwound.end is End.OUTERMOST
    inner, *outer = unwound.frames
    assert not inner.returns
    assert all(frame.module and frame.module.call_before(frame.address) for frame in outer)
    module = unwound.frames[-1].module
    assert module
    assert module.starts_at(unwound.frames[-1].address)


def nginx(folder: Path, path: str) -> list[str]:
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; events {{}} error_log /dev/null;"
        f"http {{ access_log off; server {{ listen unix:{path}; return 204; }} }}"
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def haproxy(folder: Path, path: str) -> list[str]:
    (folder / "haproxy.cfg").write_text(
        "global\n nbthread 1\n"
        "defaults\n mode http\n timeout client 9s\n timeout connect 9s\n timeout server 9s\n"
        f"frontend all\n bind unix@{path}\n http-request return status 200\n"
    )
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


def redis(folder: Path, path: str) -> list[str]:
    return ["redis-server", "--port", "0", "--save", "", "--dir", str(folder), "--unixsocket", path]


def asks(path: str, done: Event) -> None:
    """A client that comes again and again; for its `Host:` Redis closes as well."""
    while not done.wait(0.01):
        with socket(AF_UNIX) as client, suppress(OSError):
            client.settimeout(5)
            client.connect(path)
            client.sendall(b"GET / HTTP/1.0\r\nHost: any\r\n\r\n")
            while client.recv(4096):
                pass


@pytest.mark.parametrize("server", [nginx, haproxy, redis], ids=lambda server: server.__name__)
def test_programs_of_debian(server: Callable[[Path, str], list[str]], tmp_path: Path) -> None:
    """As they are installed: without symbols and frame pointers."""
    path = str(tmp_path / "socket")
    command = server(tmp_path, path)
    found = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        pytest.skip(f"no {command[0]}")
    done = Event()
    client = Thread(target=asks, args=(path, done))
    client.start()
    stops = closing([found, *command[1:]])
    try:
        for _ in range(12):
            whole(next(stops))
    finally:
        done.set()
        stops.close()
        client.join()
