"""One boot of one guest in qemu, watched until it ends."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from vagrant.console import death
from vagrant.images import Kernel
from vagrant.programs import MatrixError, StoppedError, started, stopping

_PROGRAM = "qemu-system-x86_64"
_CPUS = 2
_LOOK_SECONDS = 0.1
_DYING_SECONDS = 5
_PROBE_SECONDS = 20
_PROBE_MIB = 512

# An oops ends the guest, and qemu with it. Messages from warnings up, so that an oops shows whole. The
# kernel's addresses, which are compiled into our programs, are the same in each boot.
_COMMAND_LINE = "console=ttyS0 loglevel=5 oops=panic panic=-1 net.ifnames=0 nokaslr"


@dataclass(frozen=True, slots=True)
class Disks:
    """What a guest boots from and talks through."""

    kernel: Kernel
    root: Path
    project: Path
    """A tar."""
    console: Path
    """Written by qemu: what the guest's kernel says."""
    output: Path
    """Written by qemu: what the command in the guest prints."""
    results: Path
    """Written by qemu: JSON lines of guest.sh and of the tests."""
    programs: Path
    """Written by qemu: a tar of the programs that were compiled there."""


class Accelerator:
    """`kvm` where a guest boots with it, else `tcg`: found out once, with the first kernel there is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._name: str | None = None

    def name(self, kernel: Kernel) -> str:
        """What `-accel` is given."""
        with self._lock:
            if self._name is None:
                self._name = "kvm" if _boots_with_kvm(kernel) else "tcg"
            return self._name


def _boots_with_kvm(kernel: Kernel) -> bool:
    """Whether it really does: /dev/kvm may be there, and every guest hang."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with TemporaryDirectory(prefix="twtrace-kvm-") as directory:
        console = Path(directory, "console")
        argv = [
            *_machine("kvm", _PROBE_MIB),
            *("-kernel", str(kernel.image), "-initrd", str(kernel.initramfs)),
            *("-append", f"{_COMMAND_LINE} twtrace.probe"),
            *("-chardev", f"file,id=console,path={console}", "-serial", "chardev:console"),
        ]
        with started(argv, subprocess.DEVNULL, subprocess.DEVNULL) as process:
            _wait(process, _PROBE_SECONDS)
        return console.exists() and "twtrace: booted" in console.read_text(errors="replace")


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    """For its end, for at most so long."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if stopping.wait(_LOOK_SECONDS):
            raise StoppedError


def _machine(accelerator: str, memory: int) -> list[str]:
    # One thread for all of a guest's CPUs: with one each, qemu 7.2 oopses when a guest patches its code
    # (tracepoints, trampolines) that another CPU runs. The guests are as many as keep the cores busy.
    return [
        *(_PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35", "-accel", "tcg,thread=single" if accelerator == "tcg" else accelerator),
        *("-cpu", "max", "-smp", str(_CPUS), "-m", str(memory)),
    ]


def command(disks: Disks, memory: int, accelerator: str) -> list[str]:
    """The command line of qemu; `memory` is in MiB."""
    words = [
        *_machine(accelerator, memory),
        *("-kernel", str(disks.kernel.image), "-initrd", str(disks.kernel.initramfs)),
        *("-append", _COMMAND_LINE),
        *("-chardev", f"file,id=console,path={disks.console}", "-serial", "chardev:console"),
        *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
    ]
    for number, path in enumerate((disks.root, disks.kernel.modules, disks.project)):
        words += ["-drive", f"file={path},format=raw,if=none,readonly=on,id=disk{number}"]
        words += ["-device", f"virtio-blk-pci,drive=disk{number}"]
    ports = {"output": disks.output, "results": disks.results, "programs": disks.programs}
    for name, path in ports.items():
        words += ["-chardev", f"file,id={name},path={path}"]
        words += ["-device", f"virtserialport,chardev={name},name={name}"]
    return words


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a guest may take, in seconds."""

    boot: float
    """Until guest.sh speaks."""
    whole: float


@dataclass(frozen=True, slots=True)
class End:
    """How a boot ended."""

    seconds: float
    trouble: str
    """What ended it before its time: an oops, a time limit; empty: the guest powered off."""
    oops: bool


def boot(argv: list[str], disks: Disks, limits: Limits, on_output: Callable[[bytes], None]) -> End:
    """Run a guest to its end; its command's output goes to `on_output` as it comes."""
    for path in (disks.console, disks.output, disks.results, disks.programs):
        path.write_bytes(b"")
    messages = disks.console.with_suffix(".qemu")
    began = time.monotonic()
    with (
        open(messages, "wb") as file,
        open(disks.output, "rb") as output,
        started(argv, file.fileno(), file.fileno()) as process,
    ):
        trouble = None
        running = True
        while running and trouble is None:
            if stopping.wait(_LOOK_SECONDS):
                raise StoppedError
            running = process.poll() is None
            if running and death(disks.console.read_text(errors="replace")):
                _wait(process, _DYING_SECONDS)
                running = False
            if text := output.read():
                on_output(text)
            trouble = _late(disks, limits, time.monotonic() - began) if running else None
    seconds = time.monotonic() - began
    # The panic that follows an oops ends qemu, so the console is whole by now.
    if oops := death(disks.console.read_text(errors="replace")):
        return End(seconds, oops, oops=True)
    if process.returncode > 0:
        said = messages.read_text(errors="replace").strip()
        raise MatrixError(
            f"{_PROGRAM} failed with status {process.returncode}: {said}",
            "`scripts/setup kernels` installs it",
        )
    return End(seconds, trouble or "", oops=False)


def _late(disks: Disks, limits: Limits, seconds: float) -> str | None:
    if seconds > limits.whole:
        return f"not done after {limits.whole:.0f} s"
    if seconds > limits.boot and not disks.results.stat().st_size:
        return f"not up after {limits.boot:.0f} s"
    return None
