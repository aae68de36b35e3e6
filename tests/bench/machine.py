"""The machine and the versions that were measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.bench.contenders import Contender
from tests.kernel.support import ROOT
from tracer import __version__


def facts(contenders: Sequence[Contender]) -> dict[str, str]:
    """What figures depend on."""
    packages = sorted({one.package for one in contenders if one.package} | {"python3-bpfcc"})
    return {
        "processor": f"{_cpu()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "kernel": f"Linux {platform.release()}",
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "twtrace": __version__,
        "Python": platform.python_version(),
        **{
            package: _output("dpkg-query", "-W", "-f", "${Version}", package) or "not installed"
            for package in packages
        },
    }


def commit() -> str:
    """What is checked out."""
    return _output("git", "rev-parse", "--short", "HEAD") or "unknown"


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
