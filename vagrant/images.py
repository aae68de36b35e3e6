"""What guests boot from: one root file system, and for each kernel its image, initramfs and modules.

All of it is cached, under a name that its definition gives: another definition makes another image. An image
is built aside and then renamed, so one that is there is whole.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vagrant import apt, initramfs, kernels, rootfs
from vagrant.machines import Machine, Root, digest
from vagrant.programs import run, say

_FOLDER = Path(__file__).parent
_RECIPE = b"".join(
    (_FOLDER / name).read_bytes()
    for name in ("images.py", "initramfs.py", "init.sh", "kernels.py", "rootfs.py")
)
"""Part of each definition: an image made by another recipe is another image."""

_DAYS_UNUSED = 14

_HINT = "is the disk full? `python -m vagrant clean` removes all images"


@dataclass(frozen=True, slots=True)
class Kernel:
    """Files of one kernel."""

    package: str
    """Name and version of the Debian package."""
    image: Path
    initramfs: Path
    modules: Path
    """File system of /lib/modules."""
    programs: Path
    """Folder of what guests of it compiled."""


class Cache:
    """The directory of images; each is built when it is first asked for."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or _default_directory()

    def root(self, root: Root) -> Path:
        """The shared root file system."""
        requirements = rootfs.requirements(root)
        name = f"root-{digest(root, _RECIPE, *requirements)}"
        return self._made(name, lambda target: _build_root(root, requirements, target)) / "root.ext4"

    def kernel(self, machine: Machine, root: Root) -> Kernel:
        """The files of `machine`'s kernel."""
        key = digest(machine.suite, machine.package, root.suite, _RECIPE)
        name = f"kernel-{machine.name}-{key}"
        made = self._made(name, lambda target: self._build_kernel(machine, root, target))
        return Kernel(
            package=(made / "package").read_text().strip(),
            image=made / "vmlinuz",
            initramfs=made / "initramfs",
            modules=made / "modules.ext4",
            programs=made / "programs",
        )

    def remove(self) -> None:
        """Delete every image."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _made(self, name: str, build: Callable[[Path], None]) -> Path:
        done = self.directory / name
        with self._lock(name):
            if not done.exists():
                began = time.monotonic()
                say(f"making {name}")
                self._remove_unused()
                aside = self.directory / f"building-{name}"
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir()
                try:
                    build(aside)
                    aside.rename(done)
                finally:
                    shutil.rmtree(aside, ignore_errors=True)
                say(f"made {name} in {time.monotonic() - began:.0f} s")
            os.utime(done)
        return done

    def _remove_unused(self) -> None:
        """Of other definitions, that is."""
        for kind in ("root-*", "kernel-*"):
            for path in self.directory.glob(kind):
                if time.time() - path.stat().st_mtime > _DAYS_UNUSED * 86400:
                    shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Nobody else is at `name`, in this process or another."""
        locks = self.directory / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with open(locks / name, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _build_kernel(self, machine: Machine, root: Root, target: Path) -> None:
        scratch = target / "scratch"
        with self._suite(root.suite) as suite:
            _, busybox = kernels.fetch(suite, "busybox-static", scratch / "busybox")
        with self._suite(machine.suite) as suite:
            kernel = kernels.unpack(suite, machine.package, scratch / "kernel")
        _index_modules(kernel.modules / kernel.version, scratch)
        program = kernels.only(list(busybox.glob("**/bin/busybox")), "busybox")
        initramfs.write(target / "initramfs", program.read_bytes(), kernel.modules / kernel.version)
        _make_file_system(kernel.modules, target / "modules.ext4", spare_mib=8)
        kernel.image.rename(target / "vmlinuz")
        (target / "package").write_text(f"{kernel.package}\n")
        shutil.rmtree(scratch)

    @contextmanager
    def _suite(self, name: str) -> Iterator[apt.Suite]:
        with self._lock(f"apt-{name}"):
            yield apt.Suite(name, self.directory / "apt" / name)


def _default_directory() -> Path:
    if named := os.environ.get("TWTRACE_KERNELS"):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(cache, "twtrace", "kernels")


def _build_root(root: Root, requirements: list[str], target: Path) -> None:
    files = target / "files"
    rootfs.debootstrap(root.suite, root.packages, files, target)
    rootfs.install_requirements(root, requirements, files)
    _make_file_system(files, target / "root.ext4", spare_mib=16)
    shutil.rmtree(files)


def _make_file_system(files: Path, image: Path, spare_mib: int) -> None:
    """Write `files` as ext4, to be mounted read-only."""
    listing = [path.lstat().st_size for path in files.rglob("*")]
    blocks = sum(-(-size // 4096) + 1 for size in listing)
    run(
        [
            *("mke2fs", "-q", "-F", "-t", "ext4", "-d", files, "-b", "4096", "-m", "0"),
            *("-O", "^has_journal,^resize_inode", "-N", str(len(listing) + 256)),
            image,
            f"{blocks * 4096 * 21 // 20 // 2**20 + spare_mib}M",
        ],
        _HINT,
        seconds=300,
    )


def _index_modules(modules: Path, scratch: Path) -> None:
    """Write modules.dep and the like, which the packages leave to their installation."""
    base = scratch / "depmod"
    (base / "lib/modules").mkdir(parents=True)
    (base / "lib/modules" / modules.name).symlink_to(modules)
    run(["depmod", "-b", base, modules.name], _HINT, seconds=120)
