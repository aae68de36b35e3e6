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
    *(
        "account",
        "advice",
        "aggregate",
        "audit",
        "callsites",
        "claims",
        "cli",
        "duration",
        "errors",
        "filters",
        "flows",
        "habit",
    ),
    *(
        "lifetime",
        "lines",
        "model",
        "places",
        "portmodel",
        "ports",
        "reader",
        "record",
        "replay",
        "report.data",
        "report.page",
        "report.many",
        "report.text",
        "schema",
        "series",
        "sites",
    ),
    *("settings", "table", "text", "tracefile", "verdict", "whatif"),
}
"""Modules that need neither kernel nor terminal: report and replay run on them alone."""


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
    assert by_name == {"kernel/compiler.py"}


def test_only_tui_imports_textual() -> None:
    importers = importers_of("textual")
    assert importers
    assert {name for name in importers if not name.startswith("tui/")} == set()


def test_only_symbols_reads_elf_files_and_looks_at_nobody() -> None:
    assert {name for name in importers_of("elftools") if not name.startswith("symbols/")} == set()
    for path in (PACKAGE / "symbols").glob("*.py"):
        found = {name for name in imports(path) if name.startswith("tracer.")}
        others = {name for name in found if not name.startswith("tracer.symbols")}
        assert others <= {"tracer.capture", "tracer.model"}, path.name


def test_what_runs_as_root_does_not_load_what_reads_elf_files() -> None:
    statements = "import tracer.symbols.pool, tracer.symbols.processfiles, tracer.symbols.perfmap"
    assert not loaded_by(statements, "elftools", "rust_demangler", "tracer.symbols.elf")


def test_nothing_in_kernel_looks_back_at_its_users() -> None:
    allowed = {"capture", "crowd", "errors", "filters", "habit", "model", "series", "settings", "text"}
    for path in (PACKAGE / "kernel").glob("*.py"):
        for name in imports(path):
            if name.startswith("tracer.") and not name.startswith("tracer.kernel"):
                assert name.removeprefix("tracer.") in allowed, f"{path.name} imports {name}"


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_load_without_kernel_and_terminal(name: str) -> None:
    assert not loaded_by(f"import tracer.{name}", "bcc", "textual", "tracer.kernel", "tracer.tui")


@pytest.mark.parametrize("command", ["report", "replay"])
def test_what_reads_a_trace_loads_nothing_of_the_kernel(command: str) -> None:
    run = f"from tracer.cli import main\nassert main([{command!r}, 'examples/demo.ndjson']) == 0"
    assert not loaded_by(run, "bcc", "textual", "tracer.kernel", "tracer.live", "tracer.tui")


def test_nor_does_the_screen() -> None:
    assert not loaded_by("import tracer.tui.app", "bcc", "tracer.kernel", "tracer.live")


def loaded_by(statements: str, *names: str) -> str:
    """Which of the modules that begin so they load: in a process of its own, where no others have yet."""
    script = (
        f"import sys\n{statements}\nsys.stderr.write(repr([m for m in sys.modules if m.startswith({names})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return "" if done.stderr == "[]" else done.stderr


def test_no_kernel_header_in_bpf() -> None:
    for path in [*(ROOT / "bpf").glob("*.[ch]"), *(ROOT / "bpf/hooks").glob("*.h")]:
        for line in path.read_text().splitlines():
            if line.startswith("#include"):
                name = line.split()[1]
                folder = {'"': "bpf", "<": "bpf/include/include"}[name[0]]
                assert (ROOT / folder / name[1:-1]).is_file(), f"{path.name}: {line}"
