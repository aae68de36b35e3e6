"""Debian's packages of a kernel, unpacked: not installed, so that any system can take any kernel."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from vagrant.apt import Suite
from vagrant.programs import MatrixError, run

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A kernel's files."""

    package: str
    """Name and version of the Debian package."""
    version: str
    """As `uname -r` has it."""
    image: Path
    config: Path
    modules: Path
    """The directory that is to become /lib/modules."""


def unpack(suite: Suite, pattern: str, target: Path) -> Unpacked:
    """Fetch the newest kernel whose package matches, into an empty directory."""
    package, files = fetch(suite, pattern, target)
    version = only([path.name for path in files.glob("**/lib/modules/*")], f"modules in {package}")
    modules = target / "modules"
    modules.mkdir()
    only(list(files.glob(f"**/lib/modules/{version}")), "modules").rename(modules / version)
    # Since 7.0 they are with the modules.
    for name in ("vmlinuz", "config"):
        found = [*files.glob(f"boot/{name}-*"), *modules.glob(f"*/{name}")]
        only(found, f"{name} in {package}").rename(target / name)
    shutil.rmtree(files)
    return Unpacked(package, version, target / "vmlinuz", target / "config", modules)


def fetch(suite: Suite, pattern: str, target: Path) -> tuple[str, Path]:
    """Name and version of the newest package that matches, and the directory with its files."""
    debs, files = target / "debs", target / "files"
    debs.mkdir(parents=True)
    files.mkdir()
    suite.update()
    package = suite.newest(pattern)
    version = ""
    for deb in suite.fetch(suite.kernel(package), debs):
        run(["dpkg-deb", "--extract", deb, files], "is the disk full?", seconds=120)
        if deb.name.startswith(f"{package}_"):
            version = deb.name.split("_")[1].replace("%3a", ":")
    shutil.rmtree(debs)
    return f"{package} {version}", files


def only(found: Sequence[_Found], what: str) -> _Found:
    """The one thing found; MatrixError if there is none, or a choice."""
    if len(set(found)) != 1:
        raise MatrixError(f"{len(found)} {what}, not one", "dpkg-deb --contents tells what is in a package")
    return found[0]


def install(suite: str, pattern: str) -> str:
    """Make the newest kernel that matches bootable on this very machine; returns its version."""
    with TemporaryDirectory(prefix="twtrace-kernel-") as name:
        scratch = Path(name)
        kernel = unpack(Suite(suite, scratch / "apt"), pattern, scratch / "kernel")
        installed = Path("/lib/modules", kernel.version)
        shutil.rmtree(installed, ignore_errors=True)
        shutil.copytree(kernel.modules / kernel.version, installed, symlinks=True)
        shutil.copy(kernel.image, f"/boot/vmlinuz-{kernel.version}")
        shutil.copy(kernel.config, f"/boot/config-{kernel.version}")
    run(["depmod", kernel.version], "see above", seconds=300)
    run(["update-initramfs", "-c", "-k", kernel.version], "is /boot full?", seconds=900)
    return kernel.version
