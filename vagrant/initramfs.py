"""The initramfs of a kernel: busybox, init.sh, and the modules it needs before it can reach the others."""

from __future__ import annotations

import gzip
import lzma
import stat
from pathlib import Path

INIT = Path(__file__).with_name("init.sh")

_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_rng", "overlay", "ext4")
_APPLETS = ("grep", "insmod", "mkdir", "mount", "poweroff", "sh", "switch_root", "tar")

_CONSOLE = (5, 1)  # the device the kernel gives to init as its standard output


def write(path: Path, busybox: bytes, modules: Path) -> None:
    """Write the initramfs for the kernel whose directory of modules this is."""
    archive = Archive()
    for name in ("bin", "proc", "sys", "modules"):
        archive.directory(name)
    archive.file("bin/busybox", busybox, 0o755)
    for applet in _APPLETS:
        archive.symlink(f"bin/{applet}", "busybox")
    archive.file("init", INIT.read_bytes(), 0o755)
    order = []
    for name in loading_order((modules / "modules.dep").read_text(), _MODULES):
        data = (modules / name).read_bytes()
        file = f"modules/{_module(name)}.ko"
        archive.file(file, lzma.decompress(data) if name.endswith(".xz") else data)
        order.append(f"/{file}\n")
    archive.file("modules/order", "".join(order).encode())
    archive.write(path)


def loading_order(dependencies: str, wanted: tuple[str, ...]) -> list[str]:
    """Files of the modules and of those they need, the first to be loaded first; built-in ones have none.

    `dependencies` is the text of modules.dep.
    """
    needs = {}
    for line in dependencies.splitlines():
        file, _, rest = line.partition(":")
        needs[file] = rest.split()
    files = {_module(file): file for file in needs}
    order: list[str] = []
    for name in wanted:
        if name in files:
            # depmod lists what a module needs with the first to be loaded last.
            chain = [*reversed(needs[files[name]]), files[name]]
            order += [file for file in chain if file not in order]
    return order


def _module(file: str) -> str:
    return Path(file).name.partition(".")[0].replace("-", "_")


class Archive:
    """Files in the kernel's cpio format, for which neither root nor another program is needed."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0
        self.directory("dev")
        self._add("dev/console", stat.S_IFCHR | 0o600, b"", _CONSOLE)

    def directory(self, name: str) -> None:
        """Add a directory; its parent has to be there."""
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file."""
        self._add(name, stat.S_IFREG | mode, data)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def write(self, path: Path) -> None:
        """Write the archive, compressed."""
        self._add("TRAILER!!!", 0, b"")
        with gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) as file:
            file.writelines(self._parts)

    def _add(self, name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._count += 1
        encoded = name.encode() + b"\0"
        fields = (
            *(self._count, mode, 0, 0, 1, 0, len(data)),  # inode, mode, uid, gid, links, time, size
            *(0, 0, *device, len(encoded), 0),  # device of the file, device it is, length of name, checksum
        )
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._parts += [_padded(header + encoded), _padded(data)]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
