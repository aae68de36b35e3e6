"""machines.json, the one source of what the matrix is."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vagrant.programs import MatrixError

PATH = Path(__file__).with_name("machines.json")


@dataclass(frozen=True, slots=True)
class Root:
    """The file system that all guests share."""

    suite: str
    """Debian's name of the release it is made of."""
    python: str
    """Version of Python in that release, for which packages from PyPI are fetched."""
    packages: tuple[str, ...]
    requirements: tuple[str, ...]
    """Names of the Python packages; their versions are pyproject.toml's."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One kernel of the matrix."""

    name: str
    suite: str
    """Debian's suite that has the kernel."""
    package: str
    """Regular expression for the whole name of its package; the newest match is taken."""
    memory: int
    """MiB."""
    box: str
    """Public Vagrant box, for users; the runner needs none."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """All of machines.json."""

    root: Root
    tests: tuple[str, ...]
    """What pytest is given in each guest."""
    environment: dict[str, str]
    """Variables of the tests."""
    hooks: tuple[str, ...]
    """Sources of TIME_WAIT facts, each of which must work in each guest."""
    machines: tuple[Machine, ...]

    def machine(self, name: str) -> Machine:
        """The one of that name; MatrixError if there is none."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        names = ", ".join(machine.name for machine in self.machines)
        raise MatrixError(f"no kernel {name!r} in {PATH.name}", f"there are: {names}")


def load(path: Path = PATH) -> Matrix:
    """The matrix `path` defines; MatrixError if it cannot be understood."""
    try:
        data = json.loads(path.read_text())
        matrix = Matrix(
            root=_root(data["root"]),
            tests=tuple(data["tests"]),
            environment=dict(data["environment"]),
            hooks=tuple(data["hooks"]),
            machines=tuple(Machine(**entry) for entry in data["machines"]),
        )
        for machine in matrix.machines:
            re.compile(machine.package)
    except (OSError, ValueError, KeyError, TypeError, re.error) as error:
        raise MatrixError(
            f"{path} cannot be used: {error!r}", "vagrant/README.md says what belongs into it"
        ) from error
    return matrix


def _root(data: dict[str, Any]) -> Root:
    return Root(
        suite=data["suite"],
        python=data["python"],
        packages=tuple(data["packages"]),
        requirements=tuple(data["requirements"]),
    )


def digest(*parts: Root | Machine | str | bytes) -> str:
    """A name for what is made from these definitions: another one for other definitions."""
    sum_ = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            data = part
        elif isinstance(part, str):
            data = part.encode()
        else:
            data = json.dumps(asdict(part), sort_keys=True).encode()
        sum_.update(b"%d:" % len(data) + data)
    return sum_.hexdigest()[:16]
