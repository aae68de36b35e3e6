"""A Vagrant box for libvirt made here, for machines that cannot download one: Debian on a bootable disk.

Neither a loop device nor a mount is needed: the file system is written at its place in the disk, and GRUB's
first stages before it, where they look for each other by themselves.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

from vagrant import rootfs
from vagrant.machines import Root
from vagrant.programs import MatrixError, run

_PACKAGES = (
    *("dbus", "grub-pc", "ifupdown", "initramfs-tools", "isc-dhcp-client", "linux-image-cloud-amd64"),
    *("openssh-server", "python3-pip", "rsync", "sudo", "systemd-sysv", "udev"),
)
_DISK_MIB = 6144
_START = 2048  # sector of the partition; what is before it has room for GRUB
_SECTOR = 512
_HINT = "see above; is the disk full?"

_FILES = {
    "etc/fstab": "LABEL=root / ext4 errors=remount-ro 0 1\n",
    "etc/hostname": "twtrace\n",
    "etc/hosts": "127.0.0.1 localhost twtrace\n::1 localhost\n",
    "etc/network/interfaces": "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n",
    "etc/sudoers.d/vagrant": "vagrant ALL=(ALL) NOPASSWD: ALL\n",
    "etc/default/grub": (
        "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_TERMINAL=console\n"
        'GRUB_CMDLINE_LINUX="root=LABEL=root net.ifnames=0 console=ttyS0"\n'
        "GRUB_DISABLE_LINUX_UUID=true\nGRUB_DISABLE_OS_PROBER=true\n"
    ),
    # Under emulation the default takes minutes.
    "etc/initramfs-tools/conf.d/twtrace": "MODULES=dep\nCOMPRESS=gzip\n",
    # Until update-grub has run in the machine.
    "boot/grub/grub.cfg": (
        "linux /vmlinuz root=LABEL=root net.ifnames=0 console=ttyS0\ninitrd /initrd.img\nboot\n"
    ),
}

# Whoever has no KVM needs emulation, and a box of one's own comes with no key but Vagrant's.
_VAGRANTFILE = """\
Vagrant.configure("2") do |config|
  config.ssh.insert_key = false
  config.vm.provider "libvirt" do |libvirt|
    unless %(kvm)s
      libvirt.driver = "qemu"
      libvirt.cpu_mode = "maximum"
    end
  end
end
"""


def build(root: Root, target: Path, *, kvm: bool) -> None:
    """Write the box to `target`, with the Python packages that tests need in it."""
    key = _vagrants_key()
    with TemporaryDirectory(prefix="building-box-", dir=target.parent) as name:
        scratch = Path(name)
        files = scratch / "files"
        rootfs.debootstrap(root.suite, [*root.packages, *_PACKAGES], files, scratch)
        rootfs.install_requirements(root, rootfs.requirements(root), files)
        _configure(files, key)
        core = _grub(files)
        disk = scratch / "disk"
        _write_disk(disk, files, core)
        shutil.rmtree(files)
        run(["qemu-img", "convert", "-O", "qcow2", disk, scratch / "box.img"], _HINT, seconds=300)
        metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": -(-_DISK_MIB // 1024)}
        (scratch / "metadata.json").write_text(json.dumps(metadata))
        (scratch / "Vagrantfile").write_text(_VAGRANTFILE % {"kvm": str(kvm).lower()})
        members = ("metadata.json", "Vagrantfile", "box.img")
        run(["tar", "-c", "--gzip", "-C", scratch, "-f", scratch / "box", *members], _HINT, seconds=600)
        (scratch / "box").rename(target)


def _vagrants_key() -> str:
    """The public key with which Vagrant enters a new machine."""
    listed = run(["dpkg", "-L", "vagrant"], "apt-get install vagrant vagrant-libvirt", seconds=30)
    for line in listed.splitlines():
        if line.endswith("keys/vagrant.pub"):
            return Path(line).read_text()
    raise MatrixError("Vagrant's package has no vagrant.pub", "is it Debian's?")


def _configure(files: Path, key: str) -> None:
    for name, text in _FILES.items():
        path = files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (files / "etc/machine-id").write_text("")
    run(["chroot", files, "useradd", "--create-home", "--shell", "/bin/bash", "vagrant"], _HINT, seconds=60)
    ssh = files / "home/vagrant/.ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "authorized_keys").write_text(key)
    run(["chroot", files, "chown", "-R", "vagrant:", "/home/vagrant"], _HINT, seconds=60)


def _grub(files: Path) -> bytes:
    """Put GRUB's modules where it looks for them; returns its first stages, sector by sector."""
    modules = files / "usr/lib/grub/i386-pc"
    shutil.copytree(modules, files / "boot/grub/i386-pc")
    run(
        [
            *("chroot", files, "grub-mkimage", "-O", "i386-pc", "-o", "/boot/grub/core.img"),
            *("-p", "(hd0,msdos1)/boot/grub", "biosdisk", "part_msdos", "ext2"),
        ],
        _HINT,
        seconds=60,
    )
    # boot.img looks for core.img in the next sector, unless told otherwise.
    return (modules / "boot.img").read_bytes()[:440].ljust(_SECTOR, b"\0") + (
        files / "boot/grub/core.img"
    ).read_bytes()


def _write_disk(disk: Path, files: Path, stages: bytes) -> None:
    if len(stages) > _START * _SECTOR:
        raise MatrixError(f"GRUB needs {len(stages)} bytes before the first partition", "see vagrant/box.py")
    offset = _START * _SECTOR
    size = _DISK_MIB * 2**20 - offset
    run(
        [
            *("mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", files, "-b", "4096"),
            # What GRUB 2.06 cannot read is left out.
            *("-O", "^metadata_csum_seed", "-E", f"offset={offset}"),
            disk,
            f"{size // 1024}k",
        ],
        _HINT,
        seconds=300,
    )
    os.truncate(disk, _DISK_MIB * 2**20)
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", _START, size // _SECTOR)
    with open(disk, "r+b") as file:
        file.write(stages)
        file.seek(446)
        file.write(entry.ljust(64, b"\0") + b"\x55\xaa")
