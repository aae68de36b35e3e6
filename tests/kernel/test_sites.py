"""Which line of code closes: two places, 30 and 70 of 100 closes, in programs of several languages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.support import Line, Namespace, of, recording

pytestmark = pytest.mark.kernel

SOURCES = Path(__file__).parents[1] / "scenarios/sites"
COUNT = 100
SHARE = 10
GIVEN_UP = 3 * COUNT // SHARE
CFLAGS = ("-O2", "-g", "-fomit-frame-pointer")


def compiled(folder: Path, *command: str, source: str = "two.c") -> list[str]:
    """A program in a folder of its own, made of a copy of the source."""
    shutil.copy(SOURCES / source, folder)
    subprocess.run([*command, "-o", "two", source], cwd=folder, check=True, capture_output=True)
    return [str(folder / "two")]


def c(*flags: str) -> Callable[[Path], list[str]]:
    return lambda folder: compiled(folder, "gcc", *CFLAGS, *flags)


def stripped(folder: Path) -> list[str]:
    """Its debug information is in a file beside it (.gnu_debuglink)."""
    (program,) = compiled(folder, "gcc", *CFLAGS)
    for command in (
        ("objcopy", "--only-keep-debug", "two", "two.debug"),
        ("strip", "two"),
        ("objcopy", "--add-gnu-debuglink=two.debug", "two"),
    ):
        subprocess.run(command, cwd=folder, check=True)
    return [program]


def cpp(folder: Path) -> list[str]:
    return compiled(folder, "g++", *CFLAGS, source="two.cc")


def go(*flags: str) -> Callable[[Path], list[str]]:
    def build(folder: Path) -> list[str]:
        if shutil.which("go") is None:
            pytest.skip("no Go here")
        return compiled(folder, "go", "build", *flags, source="two.go")

    return build


def rust(folder: Path) -> list[str]:
    found = shutil.which("rustc") or shutil.which("rustc", path=str(Path.home() / ".cargo/bin"))
    if found is None:
        pytest.skip("no Rust here")
    try:
        return compiled(folder, found, "-O", "-g", source="two.rs")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"rustc does not work here: {error.stderr.decode()[-200:]}")


def with_perf(_folder: Path) -> list[str]:
    """A Python whose functions are in its perf map."""
    pythons = [sys.executable, *sorted(map(str, Path.home().glob(".pyenv/versions/3.1[23].*/bin/python3")))]
    for python in (*pythons, "/usr/bin/python3.12", "/usr/bin/python3.13"):
        test = "import sys; sys.exit(not ((3, 12) <= sys.version_info < (3, 14) and sys._xoptions['perf']))"
        if (
            Path(python).exists()
            and not subprocess.run(
                [python, "-X", "perf", "-c", test], check=False, capture_output=True
            ).returncode
        ):
            return [python, "-X", "perf", str(SOURCES / "two.py")]
    pytest.skip("no Python 3.12 or 3.13 with -X perf here")


NAMES = ("finish", "give_up", "serve")
PROGRAMS: dict[str, tuple[Callable[[Path], list[str]], tuple[str, ...], str | None]] = {
    "c": (c(), NAMES, "two.c"),
    "c with frame pointers": (c("-fno-omit-frame-pointer"), NAMES, "two.c"),
    "c without PIE": (c("-no-pie"), NAMES, "two.c"),
    "c static": (c("-static"), NAMES, "two.c"),
    "c stripped, debug file": (stripped, NAMES, "two.c"),
    "c++": (cpp, ("shop::Till::finish", "shop::give_up", "shop::serve"), "two.cc"),
    "go": (go(), ("main.finish", "main.giveUp", "main.serve"), "two.go"),
    "go stripped": (go("-ldflags=-s -w"), ("main.finish", "main.giveUp", "main.serve"), "two.go"),
    "rust": (rust, ("two::finish", "two::give_up", "two::serve"), "two.rs"),
    "python": (with_perf, NAMES, None),
}


def marks(source: str) -> dict[str, int]:
    """Line numbers by what is marked there."""
    lines = (SOURCES / source).read_text().splitlines()
    found = (re.search(r"mark: (.+?)(?: \*/)?$", line) for line in lines)
    return {match[1]: number for number, match in enumerate(found, 1) if match}


def own(frames: list[Line], names: tuple[str, ...]) -> list[tuple[str, int | None]]:
    """Function and line of the program's own frames."""
    told = []
    for frame in frames:
        function = re.sub(r"<.*>|\(.*\)|::h[0-9a-f]{16}$|^void ", "", frame.get("function", ""))
        if function in names:
            told.append((function, frame.get("line")))
    return told


def closes_by_place(lines: list[Line], names: tuple[str, ...]) -> Counter[tuple[tuple[str, int | None], ...]]:
    sites = {line["site"]: line for line in of(lines, "site")}
    closes = of(lines, "close", role="server")
    assert all(sites[line["site"]]["what"] == "close" for line in closes)
    assert all(sites[line["site"]]["whole"] for line in closes)
    return Counter(tuple(own(sites[line["site"]]["frames"], names)) for line in closes)


def traced(netns: Namespace, folder: Path, command: list[str], *options: str) -> list[Line]:
    with recording(folder / "trace", "-N", netns.name, *options) as running:
        subprocess.run(netns.command(*command), check=True, capture_output=True, timeout=60)
        running.wait_for_lines("close", 2 * COUNT)
        return running.stop()


@pytest.mark.parametrize("name", PROGRAMS)
def test_two_places(name: str, netns: Namespace, tmp_path: Path) -> None:
    make, names, source = PROGRAMS[name]
    lines = traced(netns, tmp_path, [*make(tmp_path), str(COUNT)], "--sites", "all")
    finish, give_up, serve = names
    at: dict[str, int | None] = {**marks(source)} if source else dict.fromkeys(marks("two.c"))
    told = closes_by_place(lines, names)
    if source is None:  # a perf map has the line of the function
        told = Counter({tuple((one, None) for one, _ in place): count for place, count in told.items()})
    assert told == {
        (
            (finish, at["finish"]),
            (give_up, at["give_up"]),
            (serve, at["serve gives up"]),
        ): GIVEN_UP,
        ((finish, at["finish"]), (serve, at["serve finishes"])): COUNT - GIVEN_UP,
    }


def test_some_are_enough_to_name_the_places(netns: Namespace, tmp_path: Path) -> None:
    lines = traced(netns, tmp_path, [*c()(tmp_path), str(COUNT)], "--sites", "some")
    looked_at = [line for line in of(lines, "close", role="server") if "site" in line]
    assert SHARE <= len(looked_at) < COUNT
    sites = {line["site"]: line for line in of(lines, "site")}
    places = {tuple(own(sites[line["site"]]["frames"], NAMES)) for line in looked_at}
    assert {len(place) for place in places} == {2, 3}


def test_off_looks_at_nothing(netns: Namespace, tmp_path: Path) -> None:
    lines = traced(netns, tmp_path, [*c()(tmp_path), str(COUNT)])
    assert of(lines, "site") == []
    assert not any("site" in line for line in of(lines, "close"))


def test_a_process_of_a_moment(netns: Namespace, tmp_path: Path) -> None:
    """It closes and is gone: its files were held from when it was met."""
    source = tmp_path / "moment.c"
    source.write_text(textwrap.dedent(MOMENT))
    subprocess.run(["gcc", *CFLAGS, "-o", str(tmp_path / "moment"), str(source)], check=True)
    with recording(tmp_path / "trace", "-N", netns.name, "--sites", "all") as running:
        subprocess.run(netns.command(str(tmp_path / "moment"), "20"), check=True, timeout=60)
        running.wait_for_lines("close", 40)
        lines = running.stop()
    sites = {line["site"]: line for line in of(lines, "site")}
    closes = [line for line in of(lines, "close", role="client") if line["owner"]["comm"] == "moment"]
    assert len(closes) == 20
    assert len({line["owner"]["pid"] for line in closes}) == 20
    assert Counter(own(sites[line["site"]]["frames"], ("leave",))[0][0] for line in closes) == {"leave": 20}
    assert all(sites[line["site"]]["whole"] for line in closes)


MOMENT = """
    #include <arpa/inet.h>
    #include <stdlib.h>
    #include <sys/socket.h>
    #include <sys/wait.h>
    #include <unistd.h>

    __attribute__((noinline)) void leave(int fd)
    {
        close(fd);
        __asm__ volatile("" ::: "memory");
    }

    int main(int argc, char **argv)
    {
        struct sockaddr_in address = { .sin_family = AF_INET };
        socklen_t length = sizeof(address);
        int listener = socket(AF_INET, SOCK_STREAM, 0);

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (bind(listener, (void *)&address, length) || listen(listener, 128) ||
            getsockname(listener, (void *)&address, &length))
            return 1;
        for (int i = 0; i < atoi(argv[1]); i++) {
            if (!fork()) {
                int fd = socket(AF_INET, SOCK_STREAM, 0);

                if (connect(fd, (void *)&address, length))
                    _exit(1);
                usleep(20000);
                leave(fd);
                _exit(0);
            }
            int fd = accept(listener, NULL, NULL);
            char byte;

            if (read(fd, &byte, 1))
                return 1;
            close(fd);
            wait(NULL);
        }
        return 0;
    }
"""
