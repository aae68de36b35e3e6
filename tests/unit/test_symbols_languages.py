"""C++, Go and Rust programs: names as people write them, lines, functions inlined."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.symbols import build, frame, visits
from tracer.symbols.demangle import demangled
from tracer.symbols.elf import ElfFile
from tracer.symbols.facts import LONGEST_NAME, Frame

CPP = r"""
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

namespace net {
namespace {
__attribute__((noinline)) void tell(const char *place)
{
	std::printf("at %s %p\n", place, __builtin_return_address(0));
}

inline __attribute__((always_inline)) void hang_up(const char *place)
{
	tell(place); // inner
}
}

template <typename Key, int Size> class Pool {
public:
	explicit Pool(Key key) : key(key)
	{
		hang_up("constructor"); // constructor
	}

	~Pool()
	{
		hang_up("destructor"); // destructor
	}

	__attribute__((noinline)) bool operator<(const Pool &other) const
	{
		hang_up("operator"); // operator
		return key < other.key;
	}

	Key key;
};
}

__attribute__((noinline)) static bool compare(long key)
{
	net::Pool<std::string, 3> one("x"), two("y"); // made
	return one < two;
}

int main()
{
	bool less = compare(1);
	std::fflush(stdout);
	std::cout << std::ifstream("/proc/self/maps").rdbuf();
	return !less;
}
"""

GO = r"""
package main

import (
	"fmt"
	"os"
	"runtime"
)

func tell(place string) {
	pcs := make([]uintptr, 1)
	runtime.Callers(2, pcs)
	fmt.Printf("at %s %#x\n", place, pcs[0])
}

func inner(place string) {
	tell(place) // inner
}

type Pool[K comparable] struct{ key K }

//go:noinline
func (p *Pool[K]) Drop(key K) bool {
	inner("method") // method
	return p.key == key
}

var run func()

func main() {
	inner("main") // main
	p := Pool[int]{3}
	run = func() {
		tell("closure") // closure
		p.Drop(4)
	}
	run()
	maps, _ := os.ReadFile("/proc/self/maps")
	os.Stdout.Write(maps)
}
"""

RUST = r"""
mod net {
    pub trait Closes {
        fn hang_up(&self, fd: i32) -> i32;
    }
    pub struct Pool<T> {
        pub key: T,
    }
    impl<T: Into<i64> + Copy> Closes for Pool<T> {
        #[inline(never)]
        fn hang_up(&self, fd: i32) -> i32 { // begin
            inner(fd) + self.key.into() as i32 // outer
        }
    }
    #[inline(always)]
    fn inner(fd: i32) -> i32 {
        super::tell(fd) // inner
    }
}

#[inline(never)]
fn tell(fd: i32) -> i32 {
    println!("fd {}", fd);
    fd + 1
}

fn main() {
    use net::Closes;
    println!("at hang_up {:p}", net::Pool::<i32>::hang_up as *const ());
    let n = net::Pool { key: 5i32 }.hang_up(std::env::args().count() as i32);
    print!("{}", std::fs::read_to_string("/proc/self/maps").unwrap());
    std::process::exit(n - 7);
}
"""


def opened(path: Path | str) -> ElfFile:
    return ElfFile(io.BytesIO(Path(path).read_bytes()))


def told(program: Path) -> dict[str, tuple[Frame, ...]]:
    elf = opened(program)
    found = {place: elf.frames(visit.offset) for place, visit in visits(program).items()}
    assert elf.faults == {}
    return found


STRING = "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >"
POOL = f"net::Pool<{STRING}, 3>"


@pytest.mark.parametrize("flags", ["", "-gdwarf-4", "-static"])
def test_cpp(tmp_path: Path, flags: str) -> None:
    program = build(tmp_path, "prog", CPP, "g++", "-g", "-O2", *flags.split(), "prog.cc")
    source = tmp_path / "prog.cc"
    # Of what has no name outside its file, compilers tell the bare name.
    inner = frame(CPP, source, "hang_up", "inner", inlined=True)
    found = told(program)
    assert found["operator"] == (
        inner,
        frame(CPP, source, f"{POOL}::operator<({POOL} const&) const", "operator"),
    )
    constructor = frame(CPP, source, f"{POOL}::Pool({STRING})", "constructor")
    assert found["constructor"] == (inner, constructor)
    destructor = frame(CPP, source, f"{POOL}::~Pool()", "destructor", inlined=True)
    assert found["destructor"][:2] == (inner, destructor)
    assert [one.function for one in found["destructor"][2:]] == ["compare"]


def test_cpp_without_debug_information(tmp_path: Path) -> None:
    program = build(tmp_path, "prog", CPP, "g++", "-O2", "prog.cc")
    assert told(program) == {
        "operator": (Frame(f"{POOL}::operator<({POOL} const&) const"),),
        "constructor": (Frame(f"{POOL}::Pool({STRING})"),),
        "destructor": (Frame("compare(long)"),),
    }


@pytest.mark.skipif(shutil.which("go") is None, reason="no go, the compiler")
@pytest.mark.parametrize(
    "flags", ["", "-ldflags=-s -w", "-buildmode=pie", "-buildmode=pie|-ldflags=-s -w", "-gcflags=-N -l"]
)
def test_go(tmp_path: Path, flags: str, go_cache: dict[str, str]) -> None:
    (tmp_path / "prog.go").write_text(GO)
    command = ["go", "build", *filter(None, flags.split("|")), "-o", "prog", "prog.go"]
    subprocess.run(command, cwd=tmp_path, check=True, env={**os.environ, **go_cache})
    source = tmp_path / "prog.go"
    optimised = "-gcflags" not in flags
    inner = frame(GO, source, "main.inner", "inner", inlined=optimised)
    assert told(tmp_path / "prog") == {
        "main": (inner, frame(GO, source, "main.main", "main"))[: 1 + optimised],
        "closure": (frame(GO, source, "main.main.func1", "closure"),),
        "method": (inner, frame(GO, source, "main.(*Pool[...]).Drop", "method"))[: 1 + optimised],
    }


@pytest.mark.skipif(shutil.which("go") is None, reason="no go, the compiler")
def test_go_linked_by_the_c_linker(tmp_path: Path, go_cache: dict[str, str]) -> None:
    with_c = GO.replace("import (", '// static int twice(int x) { return 2 * x; }\nimport "C"\n\nimport (', 1)
    with_c = with_c.replace("p.Drop(4)", "p.Drop(int(C.twice(2)))")
    (tmp_path / "prog.go").write_text(with_c)
    command = ["go", "build", "-buildmode=pie", "-ldflags=-s -w", "-o", "prog", "prog.go"]
    subprocess.run(command, cwd=tmp_path, check=True, env={**os.environ, **go_cache, "CGO_ENABLED": "1"})
    source = tmp_path / "prog.go"
    inner = frame(with_c, source, "main.inner", "inner", inlined=True)
    assert told(tmp_path / "prog") == {
        "main": (inner, frame(with_c, source, "main.main", "main")),
        "closure": (frame(with_c, source, "main.main.func1", "closure"),),
        "method": (inner, frame(with_c, source, "main.(*Pool[...]).Drop", "method")),
    }


@pytest.fixture(scope="module")
def go_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("go")
    return {"GOCACHE": str(folder), "GOPATH": str(folder), "GO111MODULE": "off", "GOFLAGS": ""}


def rustc() -> str | None:
    return shutil.which("rustc", path=f"{os.environ['PATH']}:/root/.cargo/bin")


@pytest.mark.skipif(rustc() is None, reason="no rustc, the compiler")
@pytest.mark.parametrize("mangling", ["legacy", "v0"])
def test_rust(tmp_path: Path, mangling: str) -> None:
    compiler = rustc()
    assert compiler is not None
    flags = ["-g", "-O", "-C", "codegen-units=1"]
    if mangling == "v0":
        flags += ["-C", "symbol-mangling-version=v0"]
    program = build(tmp_path, "prog", RUST, compiler, *flags, "prog.rs")
    begin = visits(program)["hang_up"].offset + 1  # its own address, not one it returns to
    elf = opened(program)
    source = tmp_path / "prog.rs"
    name = {
        "legacy": "<prog::net::Pool<T> as prog::net::Closes>::hang_up",
        "v0": "<prog::net::Pool<i32> as prog::net::Closes>::hang_up",
    }[mangling]
    assert elf.frames(begin) == (frame(RUST, source, name, "begin"),)
    # Somewhere behind comes what is inlined.
    found = {elf.frames(offset) for offset in range(begin, begin + 64)}
    inner = frame(RUST, source, "prog::net::inner", "inner", inlined=True)
    assert (inner, frame(RUST, source, name, "outer")) in found


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("main", "main"),
        ("_ZN3net4PoolIlLi3EE4dropEl", "net::Pool<long, 3>::drop(long)"),
        ("_ZN3net4PoolIlLi3EE4dropEl.part.0.cold", "net::Pool<long, 3>::drop(long)"),
        ("serve.constprop.0.isra.0", "serve"),
        ("_ZN4prog3net5inner17h0123456789abcdefE", "prog::net::inner"),
        ("_ZN4core3ptr85drop_in_place$LT$std..rt..lang_start$u20$$GT$17h0123456789abcdefE", None),
        ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
        (
            "_RNCINvNtCsjrHSEGnQ3l9_3std2rt10lang_startuE0Cs6xxl1lAjzDf_1a",
            "std::rt::lang_start::<()>::{closure#0}",
        ),
        ("_Z", "_Z"),
        ("_ZN", "_ZN"),
        ("_R", "_R"),
        ("_ZN99999999999999999999x17h0123456789abcdefE", "_ZN99999999999999999999x17h0123456789abcdefE"),
        ("main.main", "main.main"),
    ],
)
def test_demangled(mangled: str, name: str | None) -> None:
    assert demangled(mangled) == (name or mangled)


def test_a_name_is_bounded() -> None:
    assert demangled("x" * 5000) == "x" * (LONGEST_NAME - 1) + "…"
    # Each S_ doubles what comes before.
    bomb = "_Z1f" + "St4pairI" + "1aS_E" + "".join(f"St4pairIS{n}_S{n}_E" for n in "0123456789ABCDEFGHIJ")
    assert len(demangled(bomb)) <= LONGEST_NAME
