"""Debian systems in a directory, as this machine's apt and pip can make them."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from vagrant import apt
from vagrant.machines import Root
from vagrant.programs import MatrixError, run

_DEBOOTSTRAP_SECONDS = 900
_PIP_SECONDS = 600


def requirements(root: Root) -> list[str]:
    """The Python packages of the root, in the versions that pyproject.toml asks for."""
    try:
        known = importlib.metadata.requires("twtrace") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise MatrixError(
            f"twtrace is not installed for {sys.executable}",
            "`scripts/setup kernels` makes .venv, and .venv/bin/python is to be used",
        ) from error
    plain = {re.split(r"[^\w.-]", entry, maxsplit=1)[0]: entry.partition(";")[0].strip() for entry in known}
    try:
        return [plain[name] for name in root.requirements]
    except KeyError as error:
        raise MatrixError(
            f"machines.json requires the Python package {error}, of which pyproject.toml says nothing",
            "name it there, under dependencies or dev",
        ) from error


def debootstrap(suite: str, packages: Sequence[str], files: Path, scratch: Path) -> None:
    """Make the directory `files` a Debian system with these packages; `scratch` is for what is passing."""
    settings = scratch / "apt.conf"
    settings.write_text(apt.settings())
    run(
        [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--architectures=amd64"),
            f"--include={','.join(packages)}",
            f"--aptopt={settings}",
            '--aptopt=Apt::Install-Recommends "false"',
            "--dpkgopt=force-unsafe-io",
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")),
            suite,
            files,
            apt.source(suite),
        ],
        "see whether `apt-get update` works on this machine, and whether its disk is full",
        seconds=_DEBOOTSTRAP_SECONDS,
        variables={"TMPDIR": str(scratch)},
    )
    settings.unlink()


def install_requirements(root: Root, wanted: Sequence[str], files: Path) -> None:
    """Install Python packages in that system, for its own Python."""
    run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-warn-conflicts", "--no-compile", "--root-user-action=ignore"),
            *("--only-binary=:all:", "--implementation=cp", f"--python-version={root.python}"),
            *(f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 28)),
            f"--target={files / 'usr/local/lib' / f'python{root.python}' / 'dist-packages'}",
            *wanted,
        ],
        "behind a proxy or with a mirror, tell pip (pip config) where to look",
        seconds=_PIP_SECONDS,
    )
    # Here, not in every guest.
    run(
        ["chroot", files, "python3", "-m", "compileall", "-q", "-j", "0", "/usr/local/lib"],
        "see above; the system made may be of another architecture",
        seconds=300,
    )
