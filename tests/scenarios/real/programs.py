"""Where the programs are, and how they are told what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from threading import Lock

HERE = Path(__file__).parent

PACKAGES = {
    "ab": "apache2-utils",
    "go": "golang-go",
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "redis-server": "redis-server",
    "setpriv": "util-linux",
}
"""Debian's package of each program."""

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
_BUILD_SECONDS = 300
"""Debian 12 has the standard library compiled; elsewhere that takes most of a minute, once."""


class MissingProgramError(Exception):
    """A program that a scenario is made of cannot be had."""


def program(name: str) -> str:
    """The path of an installed program."""
    if not (path := shutil.which(name, path=_PATH)):
        raise MissingProgramError(
            f"no {name}: `make test` (scripts/setup test) installs package {PACKAGES[name]}"
        )
    return path


_building = Lock()


def go_web() -> Path:
    """The web programs of go/main.go, built once."""
    with _building:
        return _build_go_web()


@cache
def _build_go_web() -> Path:
    """Without network."""
    folder = HERE.parents[2] / ".go_cache"
    folder.mkdir(exist_ok=True)
    environment = os.environ | {
        "CGO_ENABLED": "1",  # as Debian's compiled standard library
        "GO111MODULE": "on",
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        built = Path(fresh, "web")
        done = subprocess.run(
            [program("go"), "build", "-buildvcs=false", "-o", str(built), "."],
            check=False, cwd=HERE / "go", env=environment, capture_output=True, text=True,
            timeout=_BUILD_SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise MissingProgramError(f"go build failed:\n{done.stderr}")
        return built.replace(folder / "web")


def called(name: str, path: Path, folder: Path) -> str:
    """A path by which that program is started under the name, which becomes its comm."""
    link = folder / name
    if not link.is_symlink():
        link.symlink_to(path)
    return str(link)


def nginx(folder: Path, servers: str) -> list[str]:
    """nginx in the foreground; `servers` is of the http block."""
    folder.mkdir()
    temporary = "".join(
        f"    {name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off;\nworker_processes 1;\npid {folder}/pid;\nevents {{ worker_connections 256; }}\n"
        f"http {{\n    access_log off;\n{temporary}{servers}}}\n"
    )
    return [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)]


def haproxy(folder: Path, proxies: str) -> list[str]:
    """haproxy in the foreground; `proxies` are the sections behind `defaults`."""
    folder.mkdir()
    config = folder / "haproxy.cfg"
    config.write_text(
        "global\n    nbthread 1\n    maxconn 256\n"
        "defaults\n    mode http\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n"
        + proxies
    )
    return [program("haproxy"), "-db", "-f", str(config)]


def redis(port: int) -> list[str]:
    """redis-server that keeps nothing."""
    options = {"port": str(port), "bind": "127.0.0.1", "save": "", "appendonly": "no", "daemonize": "no"}
    return [
        program("redis-server"),
        *(word for name, value in options.items() for word in (f"--{name}", value)),
    ]


def python(name: str, *argv: str) -> list[str]:
    """One of the programs of people.py, under that name."""
    return [sys.executable, "-I", str(HERE / "people.py"), name, *argv]


def ab(url: str, requests: int, together: int, *options: str) -> list[str]:
    """ApacheBench, which speaks HTTP/1.0 and lets the server close."""
    return [program("ab"), "-q", "-n", str(requests), "-c", str(together), *options, url]
