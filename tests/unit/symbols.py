"""Programs for the tests of symbols: built by real compilers, and asked where they have been."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tracer.symbols.facts import Frame
from tracer.symbols.mappings import Mappings

C_SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>

static __attribute__((noinline)) void tell(const char *place)
{
	printf("at %s %p\n", place, __builtin_return_address(0));
}

static inline __attribute__((always_inline)) int innermost(int x)
{
	tell("innermost"); /* innermost */
	return x + 1;
}

static inline __attribute__((always_inline)) int middle(int x)
{
	int y = innermost(x + 1); /* middle */
	tell("middle"); /* after */
	return y * 3;
}

__attribute__((noinline)) int outer(int x)
{
	return middle(x) + 7; /* outer */
}

static __attribute__((noinline)) int hidden(int x)
{
	tell("hidden"); /* hidden */
	return x + 1;
}

int show(void)
{
	int sum = outer(1) + hidden(2);
	char line[4096];
	FILE *maps = fopen("/proc/self/maps", "r");

	while (fgets(line, sizeof(line), maps))
		fputs(line, stdout);
	return sum;
}

#ifndef LIBRARY
int main(int argc, char **argv)
{
	int sum = show();

	(void)argv;
	puts("end");
	fflush(stdout);
	return argc > 1 ? getchar() : sum == 0;
}
#endif
"""


@dataclass(frozen=True)
class Visit:
    """Where a program was: the file mapped there, and the offset in it of the call it returns to."""

    path: str
    offset: int


def build(folder: Path, name: str, source: str, *command: str) -> Path:
    """The program that `command` makes of `source`, whose last word is the source's file name."""
    (folder / command[-1]).write_text(source)
    subprocess.run([*command, "-o", name], cwd=folder, check=True, capture_output=True)
    return folder / name


def visits(*command: str | Path, **options: str) -> dict[str, Visit]:
    """Run a program that writes `at NAME ADDRESS` lines, then its memory map."""
    done = subprocess.run(command, capture_output=True, check=False, env=options or None)
    assert done.returncode == 0, done.stderr
    mappings = Mappings(done.stdout)
    found = {}
    for name, address in addresses(done.stdout).items():
        place = mappings.place(address)
        assert place is not None
        found[name] = Visit(place[0].path, place[1])
    return found


def addresses(output: bytes) -> dict[str, int]:
    """Of the calls that were told of, by name: the byte before where they return to."""
    told = re.findall(r"^at (\S+) 0x([0-9a-f]+)$", output.decode(), re.MULTILINE)
    return {name: int(address, 16) - 1 for name, address in told}


@contextmanager
def running(program: Path) -> Iterator[tuple[int, dict[str, int]]]:
    """(pid, addresses of the calls) of the C program, which lives on meanwhile."""
    with subprocess.Popen(
        [program, "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, executable=program
    ) as process:
        assert process.stdout is not None
        output = b"".join(iter(process.stdout.readline, b"end\n"))
        try:
            yield process.pid, addresses(output)
        finally:
            process.kill()


def line_of(source: str, mark: str) -> int:
    """The line of `source` that ends in a comment with that mark."""
    (number,) = (
        number
        for number, line in enumerate(source.splitlines(), 1)
        if line.endswith((f"/* {mark} */", f"// {mark}"))
    )
    return number


def frame(source: str, path: Path, function: str, mark: str, *, inlined: bool = False) -> Frame:
    return Frame(function, str(path), line_of(source, mark), inlined)
