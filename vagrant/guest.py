"""One command in one guest: the project goes in on a disk, output and results come out."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from vagrant import console, qemu, results
from vagrant.images import Cache
from vagrant.machines import Machine, Root
from vagrant.programs import run

PROJECT = Path(__file__).parents[1]

_BOOTS = 4


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done in a guest, as root in the project's directory."""

    command: Sequence[str]
    limits: qemu.Limits
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a job."""

    machine: Machine
    package: str
    """Name and version of the kernel's Debian package."""
    accelerator: str
    results: results.Results
    end: qemu.End
    retries: tuple[str, ...]
    """The oopses of earlier boots, in which nothing of the job had begun."""
    warnings: tuple[str, ...]
    """Of the guest's kernel."""
    console: str
    output: str


class Guests:
    """Boots guests from one cache of images."""

    def __init__(self, root: Root, cache: Cache) -> None:
        self._root = root
        self._cache = cache
        self._accelerator = qemu.Accelerator()

    def run(self, machine: Machine, job: Job, on_output: Callable[[bytes], None]) -> Done:
        """Boot `machine` and do `job` there, building what is missing first."""
        kernel = self._cache.kernel(machine, self._root)
        root = self._cache.root(self._root)
        accelerator = self._accelerator.name(kernel)
        retries: list[str] = []
        while True:
            with TemporaryDirectory(prefix="twtrace-guest-") as name:
                directory = Path(name)
                disks = qemu.Disks(
                    kernel=kernel,
                    root=root,
                    project=directory / "project.tar",
                    console=directory / "console",
                    output=directory / "output",
                    results=directory / "results",
                    programs=directory / "programs",
                )
                pack(disks.project, job, kernel.programs)
                argv = qemu.command(disks, machine.memory, accelerator)
                end = qemu.boot(argv, disks, job.limits, on_output)
                told = results.parse(disks.results.read_text(errors="replace"))
                output = disks.output.read_text(errors="replace")
                if end.oops and not told.started and not output and len(retries) + 1 < _BOOTS:
                    retries.append(end.trouble)
                    continue
                if told.status is not None:
                    keep(disks.programs, kernel.programs)
                said = disks.console.read_text(errors="replace")
                return Done(
                    machine=machine,
                    package=kernel.package,
                    accelerator=accelerator,
                    results=told,
                    end=end,
                    retries=tuple(retries),
                    warnings=tuple(console.warnings(said)),
                    console=said,
                    output=output,
                )


def pack(path: Path, job: Job, programs: Path) -> None:
    """Write the disk with the project as it is now, changes not committed too, and the job for guest.sh.

    With it go the `programs` that earlier guests compiled.
    """
    listed = run(
        [
            *("git", "-c", f"safe.directory={PROJECT}", "-C", PROJECT),
            *("ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        ],
        "the project has to be a checkout of git",
        seconds=60,
    )
    with tarfile.open(path, "w") as tar:
        for name in sorted(set(filter(None, listed.split("\0")))):
            if (PROJECT / name).exists():
                tar.add(PROJECT / name, arcname=name)
        for program in programs.glob("*"):
            tar.add(program, arcname=f".guest/programs/{program.name}")
        _add(tar, ".guest/command", job.command)
        _add(tar, ".guest/environment", [f"{name}={value}" for name, value in job.environment.items()])


def _add(tar: tarfile.TarFile, name: str, words: Sequence[str]) -> None:
    data = "".join(f"{word}\0" for word in words).encode()
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def keep(path: Path, programs: Path) -> None:
    """Make the folder `programs` what a guest's tar has; that guest has let go of the oldest."""
    programs.mkdir(exist_ok=True)
    kept = set()
    with tarfile.open(path) as tar:
        for member in tar:
            if (data := tar.extractfile(member)) is not None:
                name = Path(member.name).name
                kept.add(name)
                aside = programs.with_name(f"{name}.new")
                aside.write_bytes(data.read())
                os.utime(aside, (member.mtime, member.mtime))
                aside.replace(programs / name)
    for old in programs.iterdir():
        if old.name not in kept:
            old.unlink(missing_ok=True)
