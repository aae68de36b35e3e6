"""Packages of any Debian suite, through this machine's own apt: its mirror, its proxy, its keys."""

from __future__ import annotations

import re
from pathlib import Path

from vagrant.programs import MatrixError, run

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_UPDATE_SECONDS = 300
_DOWNLOAD_SECONDS = 600
_HINT = "see whether `apt-get update` works on this machine"


def source(suite: str) -> str:
    """The line for sources.list under which this machine reaches `suite`."""
    archive = "Debian-Security" if suite.endswith("-security") else "Debian"
    # Without it apt asks the keys that the machine trusts for everything.
    signed = f" signed-by={_KEYRING}" if _KEYRING.exists() else ""
    return f"deb [arch=amd64{signed}] {_archive(archive)} {suite} main"


def settings() -> str:
    """How this machine's apt reaches its mirrors (proxy and the like), as a configuration file."""
    dump = run(["apt-config", "dump"], _HINT, seconds=30)
    return "".join(
        line + "\n"
        for line in dump.splitlines()
        if line.startswith("Acquire::") and "IndexTargets" not in line and not line.endswith(' "";')
    )


def _archive(label: str) -> str:
    """Address of an archive of Debian's, from the package lists this machine has."""
    text = run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
        _HINT,
        seconds=30,
    )
    for line in text.splitlines():
        origin, _, rest = line.partition("|")
        found, _, address = rest.partition("|")
        if origin == "Debian" and found == label:
            return address.rstrip("/")
    raise MatrixError(
        f"apt on this machine knows no archive of {label}, from which the kernels come",
        "apt-get update; on a system other than Debian, add one of its mirrors to apt's sources",
    )


class Suite:
    """One suite's package lists, in a directory of their own; the machine's apt is left alone."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._directory = directory
        self._options = [
            *("-o", f"Dir::State={directory / 'state'}"),
            *("-o", "Dir::State::status=/dev/null"),
            *("-o", f"Dir::Cache={directory / 'cache'}"),
            *("-o", f"Dir::Etc::SourceList={directory / 'sources.list'}"),
            *("-o", f"Dir::Etc::SourceParts={directory / 'nothing'}"),
            *("-o", "Dir::Etc::Preferences=/dev/null"),
            *("-o", f"Dir::Etc::PreferencesParts={directory / 'nothing'}"),
            *("-o", "APT::Architecture=amd64"),
            *("-o", "APT::Architectures=amd64"),
            *("-o", "APT::Sandbox::User=root"),
            *("-o", "Acquire::Languages=none"),
            *("-o", "APT::Update::Post-Invoke-Success="),
        ]

    def update(self) -> None:
        """Fetch the lists."""
        for name in ("state/lists/partial", "cache/archives/partial", "nothing"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        (self._directory / "sources.list").write_text(source(self.name) + "\n")
        run(["apt-get", *self._options, "-q", "update"], _HINT, seconds=_UPDATE_SECONDS)

    def newest(self, pattern: str) -> str:
        """Of the packages whose whole name matches, that with the highest numbers; MatrixError: none does."""
        found = run(
            ["apt-cache", *self._options, "search", "--names-only", f"^{pattern}$"], _HINT, seconds=60
        )
        matching = [line.partition(" ")[0] for line in found.splitlines()]
        if not matching:
            raise MatrixError(
                f"{self.name} has no package that matches {pattern}",
                "Debian may have moved it to another suite: see vagrant/machines.json",
            )
        return max(matching, key=_numbers)

    def kernel(self, package: str) -> list[str]:
        """The packages with the files of the kernel that `package` stands for."""
        parts = re.findall(r"\blinux-(?:base|binary|modules)-[^\s,]+", self._field(package, "Depends"))
        return [package, *(part for part in dict.fromkeys(parts) if self._has(part))]

    def fetch(self, packages: list[str], target: Path) -> list[Path]:
        """Download packages into an empty directory; apt checks the signatures."""
        run(
            ["apt-get", *self._options, "-q", "download", *packages],
            _HINT,
            seconds=_DOWNLOAD_SECONDS,
            cwd=target,
        )
        return sorted(target.glob("*.deb"))

    def _has(self, package: str) -> bool:
        """A package of that name may be but provided by another."""
        policy = run(["apt-cache", *self._options, "policy", package], _HINT, seconds=60)
        candidate = re.search(r"Candidate: (\S+)", policy)
        return candidate is not None and candidate[1] != "(none)"

    def _field(self, package: str, name: str) -> str:
        """Empty if there is no such package, or no such field."""
        text = run(["apt-cache", *self._options, "dumpavail"], _HINT, seconds=60)
        paragraph = re.search(rf"^Package: {re.escape(package)}\n(?:.+\n)*", text, re.MULTILINE)
        field = re.search(rf"^{name}: (.*)", paragraph[0], re.MULTILINE) if paragraph else None
        return field[1] if field else ""


def _numbers(name: str) -> list[int]:
    """What orders names of kernels: 6.12.9+deb13 is before 6.12.10+deb13."""
    return [int(number) for number in re.findall(r"[0-9]+", name)]
