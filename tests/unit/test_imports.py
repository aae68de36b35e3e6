"""The one-way house: who may import what."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tracer"

PURE = {
    *("account", "advice", "aggregate", "claims", "duration", "errors", "filters", "flows", "habit"),
    *("lifetime", "model", "portmodel", "ports", "reader", "record", "report", "series", "settings"),
    *("table", "text", "verdict", "whatif"),
}
"""Modules that need neither kernel nor terminal: replay will run on them alone."""


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return found | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def modules() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 20
    return found


def importers_of(name: str) -> set[str]:
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if any(one == name or one.startswith(f"{name}.") for one in imports(path))
    }


def test_only_kernel_imports_bcc() -> None:
    assert importers_of("bcc") == set()
    # It is imported by name, when it is needed: an error then says how to get it.
    by_name = {path.relative_to(PACKAGE).as_posix() for path in modules() if '"bcc"' in path.read_text()}
    assert by_name == {"kernel/loader.py"}


def test_only_tui_imports_textual() -> None:
    assert importers_of("textual") == {"tui/app.py"}


def test_nothing_in_kernel_looks_back_at_its_users() -> None:
    allowed = {"errors", "filters", "habit", "model", "settings", "text"}
    for path in (PACKAGE / "kernel").glob("*.py"):
        for name in imports(path):
            if name.startswith("tracer.") and not name.startswith("tracer.kernel"):
                assert name.removeprefix("tracer.") in allowed, f"{path.name} imports {name}"


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_load_without_kernel_and_terminal(name: str) -> None:
    """In a process of its own, so that what others imported does not count."""
    script = (
        f"import sys, tracer.{name}\n"
        "others = ('bcc', 'textual', 'tracer.kernel', 'tracer.tui')\n"
        "bad = {module for module in sys.modules if module.startswith(others)}\n"
        "sys.exit(repr(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_kernel_header_in_bpf() -> None:
    for path in [*(ROOT / "bpf").glob("*.[ch]"), *(ROOT / "bpf/hooks").glob("*.h")]:
        for line in path.read_text().splitlines():
            if line.startswith("#include"):
                name = line.split()[1]
                folder = {'"': "bpf", "<": "bpf/include/include"}[name[0]]
                assert (ROOT / folder / name[1:-1]).is_file(), f"{path.name}: {line}"
