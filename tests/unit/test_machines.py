"""The kernel matrix in vagrant/, as far as it needs no guest."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from vagrant import guest, machines, qemu, report
from vagrant.console import death, warnings
from vagrant.images import Cache, Kernel
from vagrant.initramfs import loading_order
from vagrant.machines import Machine
from vagrant.matrix import problem
from vagrant.programs import MatrixError, run
from vagrant.results import Outcome, Results, Verdict, parse

FOLDER = Path(machines.__file__).parent
HOOKS = ("fentry", "kprobe", "timer")
LIFE = "tests/kernel/test_life.py::test_scenario"

DEFINITION = machines.load()


def outcome(test: str, verdict: Verdict = Verdict.PASSED, reason: str = "") -> Outcome:
    return Outcome(test, verdict, reason, 1.0)


# machines.json


def test_the_required_kernels_are_there() -> None:
    names = [machine.name for machine in DEFINITION.machines]
    assert len(names) == len(set(names))
    assert {"5.10", "6.1", "6.12", "7.2"} <= set(names)
    assert {"6.18", "6.19"} & set(names)
    assert set(DEFINITION.hooks) == set(HOOKS)


@pytest.mark.parametrize("machine", DEFINITION.machines, ids=lambda machine: machine.name)
def test_a_machine_is_well_formed(machine: Machine) -> None:
    package = machine.package.replace("[0-9]+", "99").replace("(\\.99)?", "").replace("\\", "")
    assert re.fullmatch(machine.package, package)
    assert package.startswith(f"linux-image-{machine.name}.")
    assert package.endswith("-cloud-amd64")
    assert not re.fullmatch(machine.package, package + "-unsigned")
    assert re.fullmatch(r"[a-z]+(-security|-backports)?", machine.suite)
    assert machine.memory >= 1024
    assert re.fullmatch(r"[\w-]+/[\w.-]+", machine.box)


def test_what_is_run_is_there() -> None:
    for test in DEFINITION.tests:
        assert (guest.PROJECT / test.partition("::")[0]).exists()


def test_no_mirror_and_no_path_of_a_machine_is_written_down() -> None:
    for path in FOLDER.iterdir():
        if path.is_file():
            text = path.read_text()
            assert not re.search(r"https?://|/home/(?!vagrant)|/root/", text), path


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("root"),
        lambda data: data["machines"][0].pop("suite"),
        lambda data: data["machines"][0].update(colour="red"),
        lambda data: data["machines"][0].update(package="("),
    ],
)
def test_a_definition_that_cannot_be_used_is_refused(
    damage: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    data = json.loads(machines.PATH.read_text())
    damage(data)
    path = tmp_path / "machines.json"
    path.write_text(json.dumps(data))
    with pytest.raises(MatrixError, match=re.escape(str(path))):
        machines.load(path)


def test_an_unknown_kernel_is_refused_with_those_there_are() -> None:
    with pytest.raises(MatrixError) as error:
        DEFINITION.machine("2.4")
    assert "6.12" in error.value.hint


def test_another_definition_has_another_digest() -> None:
    machine = DEFINITION.machine("6.12")
    digests = {
        machines.digest(machine),
        machines.digest(replace(machine, package="other")),
        machines.digest(replace(machine, memory=machine.memory + 1)),
        machines.digest(DEFINITION.root),
        machines.digest(replace(DEFINITION.root, packages=())),
        machines.digest(machine, "more"),
        machines.digest(machine, "mo", "re"),
    }
    assert len(digests) == 7
    assert machines.digest(machine) == machines.digest(Machine(**asdict(machine)))


# Vagrant


def test_the_vagrantfile_names_no_kernel_itself() -> None:
    text = (FOLDER / "Vagrantfile").read_text()
    assert 'matrix["machines"].each' in text
    assert 'config.vm.define machine["name"]' in text
    for machine in DEFINITION.machines:
        assert machine.name not in text
        assert machine.box not in text


def test_vagrant_accepts_the_vagrantfile(tmp_path: Path) -> None:
    if not shutil.which("vagrant"):
        pytest.skip("Vagrant is not installed")
    for name in ("Vagrantfile", "machines.json", "provision.sh"):
        shutil.copy(FOLDER / name, tmp_path)
    home = {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    run(["vagrant", "validate", "--ignore-provider"], "", seconds=60, cwd=tmp_path, variables=home)
    states = run(["vagrant", "status", "--machine-readable"], "", seconds=60, cwd=tmp_path, variables=home)
    named = {line.split(",")[1] for line in states.splitlines() if ",state," in line}
    assert named == {machine.name for machine in DEFINITION.machines}


# the console


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "[   12.345678] Oops: Oops: 0000 [#1] SMP NOPTI",
            "Oops: Oops: 0000 [#1] SMP NOPTI",
        ),
        (
            "[    1.5] BUG: unable to handle page fault for address: ffffa0",
            "BUG: unable to handle page fault for address: ffffa0",
        ),
        (
            "[    1.5][    T1] BUG: kernel NULL pointer dereference, address: 0000000000000008",
            "BUG: kernel NULL pointer dereference, address: 0000000000000008",
        ),
        ("[    3.0] kernel BUG at mm/slub.c:448!", "kernel BUG at mm/slub.c:448!"),
        (
            "[    0.9] Kernel panic - not syncing: Attempted to kill init!",
            "Kernel panic - not syncing: Attempted to kill init!",
        ),
        (
            "[    2.0] general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
            "general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
        ),
    ],
)
def test_an_oops_is_seen(line: str, said: str) -> None:
    assert death(f"[    0.1] Linux version 6.12\n{line}\n[   13.0] Call Trace:\n") == said


def test_a_console_without_an_oops() -> None:
    text = (
        "[    0.7] mtrr: your CPUs had inconsistent fixed MTRR settings\n"
        "[   90.0] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [python3:77]\n"
        "[   91.0] sysrq: Resetting\n"
    )
    assert death(text) is None
    assert warnings(text) == []


def test_a_warning_of_the_kernel_is_told() -> None:
    said = "WARNING: CPU: 1 PID: 9 at net/core/sock.c:1 f+0x1/0x2"
    text = f"[    5.0] ------------[ cut here ]------------\n[    5.1] {said}\n"
    assert warnings(text) == [said]
    assert death(text) is None


# what guests tell


def test_results_are_read_and_half_a_line_is_left_out() -> None:
    results = parse(
        '{"kernel": "6.12.1-cloud"}\n'
        '{"started": "a"}\n'
        '{"test": "a", "verdict": "skipped", "reason": "why", "seconds": 2}\n'
        '{"started": "b"}\n'
        '{"test": "b", "ver'
    )
    assert results == Results(
        "6.12.1-cloud", ["a", "b"], [Outcome("a", Verdict.SKIPPED, "why", 2.0)], status=None
    )
    assert results.unfinished == ["b"]


def test_the_plugin_tells_each_outcome(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_less(record_property): record_property('says_less', ['close.how', 'close.via'])\n"
        "def test_bad(): assert 1 == 2, 'one is not two'\n"
        "def test_not(): pytest.skip('too old')\n"
        "@pytest.mark.xfail(reason='known', strict=True)\n"
        "def test_expected(): assert False\n"
        "@pytest.fixture\n"
        "def broken(): raise RuntimeError('no such thing')\n"
        "def test_broken(broken): pass\n"
    )
    told = tmp_path / "told"
    plugins = ("-p", "vagrant.pytest_results", "-p", "no:cacheprovider")
    with pytest.raises(MatrixError, match="status 1"):
        run(
            [sys.executable, "-m", "pytest", "-q", *plugins, tmp_path],
            "",
            seconds=60,
            cwd=guest.PROJECT,
            variables={"TWTRACE_RESULTS": str(told)},
        )
    results = parse(told.read_text())
    assert [name.rpartition("::")[2] for name in results.started] == [
        "test_good", "test_less", "test_bad", "test_not", "test_expected", "test_broken",
    ]  # fmt: skip
    assert [(one.verdict, one.reason) for one in results.outcomes] == [
        (Verdict.PASSED, ""),
        (Verdict.UNKNOWN, "left open: close.how, close.via"),
        (Verdict.FAILED, "AssertionError: one is not two"),
        (Verdict.SKIPPED, "too old"),
        (Verdict.SKIPPED, "known"),
        (Verdict.FAILED, "RuntimeError: no such thing"),
    ]
    assert results.unfinished == []


# the matrix


@pytest.mark.parametrize(
    ("test", "row", "hook"),
    [
        (f"{LIFE}[fentry-exit]", "exit", "fentry"),
        (f"{LIFE}[timer-new-syn-replaces]", "new-syn-replaces", "timer"),
        (f"{LIFE}[exit-kprobe]", "exit", "kprobe"),
        ("f.py::test_attach_fifty_times[kprobe]", "attach fifty times", "kprobe"),
        ("f.py::test_other[timer-few]", "other: few", "timer"),
        ("f.py::test_plain", "plain", ""),
        ("f.py::Group::test_plain[3-4]", "plain: 3-4", ""),
    ],
)
def test_the_place_of_a_test(test: str, row: str, hook: str) -> None:
    found, source = report.place(test, HOOKS)
    assert (found.label, source) == (row, hook)


def columns() -> list[report.Column]:
    names = [f"{LIFE}[{hook}-{scenario}]" for scenario in ("exit", "new_syn") for hook in HOOKS]
    old = [outcome(name) for name in names]
    old[1] = outcome(names[1], Verdict.SKIPPED, "5.10 refuses ss -K | really")
    old[5] = outcome(names[5], Verdict.UNKNOWN, "left open: reason")
    new = [outcome(name) for name in names]
    new[0] = outcome(names[0], Verdict.FAILED, "AssertionError: how is fin")
    new[5] = old[5]
    return [
        report.Column(
            "5.10",
            "linux-image-5.10.0-46-cloud-amd64 5.10.262-1",
            Results("5.10.0-46-cloud-amd64", names, [*old, outcome("f.py::test_plain")], 0),
            "",
            ("boot repeated after an early oops: Oops: 0000",),
        ),
        report.Column(
            "7.2",
            "linux-image-7.2.12-cloud-amd64 7.2.12-1",
            Results("7.2.12-cloud-amd64", [*names, f"{LIFE}[kprobe-last]"], new, None),
            "Oops: 0000",
        ),
    ]


def test_the_matrix_as_text() -> None:
    assert report.text(report.Matrix(columns(), HOOKS)) == (
        "         5.10   7.2\n"
        "         f k t  f k t\n"
        "exit     ✔ – ✔  ✘ ✔ ✔\n"
        "new_syn  ✔ ✔ ?  ✔ ✔ ?\n"
        "plain    ✔      · · ·\n"
        "last     · · ·  · ✘ ·\n"
        "\n"
        "f fentry, k kprobe, t timer\n"
        "✔ as expected   ? right, and something left unknown   – skipped   ✘ failed   · not run\n"
        "\n"
        "– exit, kprobe on 5.10: 5.10 refuses ss -K | really\n"
        "? new_syn, timer: left open: reason\n"
        "✘ exit, fentry on 7.2: AssertionError: how is fin\n"
        "✘ last, kprobe on 7.2: Oops: 0000\n"
        "\n"
        "5.10: 5.10.0-46-cloud-amd64 (linux-image-5.10.0-46-cloud-amd64 5.10.262-1)\n"
        "    5 passed, 1 unknown, 1 skipped\n"
        "    boot repeated after an early oops: Oops: 0000\n"
        "\n"
        "7.2: 7.2.12-cloud-amd64 (linux-image-7.2.12-cloud-amd64 7.2.12-1)\n"
        "    4 passed, 1 unknown, 2 failed\n"
        "    ✘ Oops: 0000\n"
    )


def test_the_matrix_as_markdown() -> None:
    lines = report.markdown(report.Matrix(columns(), HOOKS)).splitlines()
    assert "| 5.10 | 5.10.0-46-cloud-amd64 | 5.10.262-1 | 5 passed, 1 unknown, 1 skipped |" in lines
    assert "| | 5.10 | 7.2 |" in lines
    assert "| exit | ✔ – ✔ | ✘ ✔ ✔ |" in lines
    assert "| new\\_syn | ✔ ✔ ? | ✔ ✔ ? |" in lines
    assert "| – | exit | kprobe on 5.10 | 5.10 refuses ss -K \\| really |" in lines


def test_a_matrix_without_any_result() -> None:
    column = report.Column("6.1", "", Results(), "apt-get failed")
    assert column.failed
    assert "did not boot" in report.text(report.Matrix([column], HOOKS))
    assert "apt-get failed" in report.markdown(report.Matrix([column], HOOKS))


def done(results: Results, end: qemu.End, output: str = "") -> guest.Done:
    machine = DEFINITION.machine("6.12")
    return guest.Done(machine, "package 1", "tcg", results, end, (), (), console="", output=output)


@pytest.mark.parametrize(
    ("results", "trouble", "expected"),
    [
        (Results("6.12", ["a"], [outcome("a")], 0), "", ""),
        (Results("6.12", ["a"], [outcome("a", Verdict.FAILED)], 1), "", ""),
        (Results("6.12", ["a"], [outcome("a")], 1), "", "pytest ended with status 1:\n      said"),
        (Results("6.12", [], [], 5), "", "pytest ended with status 5:\n      said"),
        (Results("6.12", [], [], 0), "", "no test ran"),
        (Results("6.12", ["a"], [], None), "not done after 9 s", "not done after 9 s"),
        (Results("6.12", ["a"], [], None), "", "the guest powered off in the midst of its tests"),
        (Results(), "", "the guest powered off early"),
    ],
)
def test_why_the_tests_of_a_guest_did_not_run_to_their_end(
    results: Results, trouble: str, expected: str
) -> None:
    assert problem(done(results, qemu.End(1.0, trouble, oops=False), "said\n")) == expected


# guests


def kernel(folder: Path) -> Kernel:
    files = (folder / name for name in ("vmlinuz", "initramfs", "modules.ext4", "programs"))
    return Kernel("package 1", *files)


class FakeBoots:
    """In place of qemu: boots that end as told."""

    def __init__(self, ends: Iterator[tuple[str, str]]) -> None:
        self._ends = ends
        self.count = 0

    def __call__(self, _argv: list[str], disks: qemu.Disks, _limits: object, _show: object) -> qemu.End:
        self.count += 1
        oops, told = next(self._ends)
        for path in (disks.console, disks.output):
            path.write_text("")
        disks.results.write_text(told)
        return qemu.End(1.0, oops, oops=bool(oops))


KERNEL_SPOKE = '{"kernel": "6.12.1"}\n'
TEST_SPOKE = KERNEL_SPOKE + '{"started": "a"}\n'


@pytest.mark.parametrize(
    ("ends", "boots", "retries"),
    [
        ([("", KERNEL_SPOKE)], 1, 0),
        ([("Oops: 1", ""), ("Oops: 2", KERNEL_SPOKE), ("", TEST_SPOKE)], 3, 2),
        ([("Oops: 1", TEST_SPOKE)], 1, 0),
        ([("Oops: 1", "")] * 9, 4, 3),
    ],
    ids=["none", "early", "late", "always"],
)
def test_only_an_oops_before_all_tests_is_tried_again(
    ends: list[tuple[str, str]], boots: int, retries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeBoots(iter(ends))
    monkeypatch.setattr(qemu, "boot", fake)
    monkeypatch.setattr(qemu.Accelerator, "name", lambda *_: "tcg")
    cache = Cache(tmp_path)
    monkeypatch.setattr(cache, "kernel", lambda *_: kernel(tmp_path), raising=False)
    monkeypatch.setattr(cache, "root", lambda *_: tmp_path / "root.ext4", raising=False)
    guests = guest.Guests(DEFINITION.root, cache)
    job = guest.Job(["true"], qemu.Limits(1, 1))
    ran = guests.run(DEFINITION.machine("6.12"), job, lambda _: None)
    assert (fake.count, len(ran.retries)) == (boots, retries)


def test_the_project_goes_in_as_it_is_now_with_the_command(tmp_path: Path) -> None:
    job = guest.Job(["sh", "-c", "echo 'a  b'"], qemu.Limits(1, 1), {"NAME": "a value"})
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs/abc").write_bytes(b"compiled")
    guest.pack(tmp_path / "disk", job, tmp_path / "programs")
    with tarfile.open(tmp_path / "disk") as tar:
        names = tar.getnames()
        words = {name: tar.extractfile(f".guest/{name}") for name in ("command", "environment")}
        texts = {name: file.read() for name, file in words.items() if file}
    assert texts == {"command": b"sh\0-c\0echo 'a  b'\0", "environment": b"NAME=a value\0"}
    given = {"vagrant/guest.sh", "pyproject.toml", "tests/unit/test_machines.py", ".guest/programs/abc"}
    assert given <= set(names)
    assert not [name for name in names if name.startswith((".git/", ".venv/"))]


def test_what_a_guest_compiled_is_kept_for_the_next(tmp_path: Path) -> None:
    def tarred(**files: bytes) -> Path:
        path = tmp_path / "tar"
        with tarfile.open(path, "w") as tar:
            tar.add(tmp_path, arcname=".", recursive=False)
            for name, data in files.items():
                info = tarfile.TarInfo(f"../{name}")
                info.size, info.mtime = len(data), 1000
                tar.addfile(info, io.BytesIO(data))
        return path

    programs = tmp_path / "image" / "programs"
    programs.parent.mkdir()
    guest.keep(tarred(a=b"1", b=b"2"), programs)
    guest.keep(tarred(b=b"22", c=b"3"), programs)
    kept = {path.name: path.read_bytes() for path in programs.iterdir()}
    assert kept == {"b": b"22", "c": b"3"}
    assert programs.stat().st_uid == os.geteuid()
    assert (programs / "c").stat().st_mtime == 1000
    assert not (programs.parent / "a").exists()


def test_an_image_half_built_is_not_taken_for_one(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(target: Path) -> None:
        (target / "file").write_text("half")
        raise MatrixError("broken", "none")

    def build(target: Path) -> None:
        (target / "file").write_text("whole")

    with pytest.raises(MatrixError):
        cache._made("root-1", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]
    made = cache._made("root-1", build)
    assert cache._made("root-1", fail) == made
    assert (made / "file").read_text() == "whole"


def test_modules_are_loaded_after_those_they_need() -> None:
    dependencies = (
        "kernel/a/virtio-pci.ko.xz: kernel/a/legacy.ko.xz kernel/a/virtio_ring.ko.xz kernel/a/virtio.ko.xz\n"
        "kernel/a/legacy.ko.xz:\n"
        "kernel/a/virtio_ring.ko.xz: kernel/a/virtio.ko.xz\n"
        "kernel/a/virtio.ko.xz:\n"
        "kernel/b/overlay.ko:\n"
    )
    assert loading_order(dependencies, ("virtio_pci", "built_in", "virtio_ring", "overlay")) == [
        "kernel/a/virtio.ko.xz",
        "kernel/a/virtio_ring.ko.xz",
        "kernel/a/legacy.ko.xz",
        "kernel/a/virtio-pci.ko.xz",
        "kernel/b/overlay.ko",
    ]


def test_a_program_that_fails_or_lasts_too_long_is_told_with_what_it_said() -> None:
    with pytest.raises(MatrixError, match="sh failed with status 3:\nbecause"):
        run(["sh", "-c", "echo because >&2; exit 3"], "", seconds=10)
    with pytest.raises(MatrixError, match="sleep took longer than 1 s"):
        run(["sleep", "60"], "", seconds=1)
    with pytest.raises(MatrixError, match="no-such-program is not installed"):
        run(["no-such-program"], "", seconds=10)


def test_nothing_a_program_started_is_left_running() -> None:
    with pytest.raises(MatrixError):
        run(["sh", "-c", "sleep 4711 & sleep 4711"], "", seconds=1)
    assert subprocess.run(["pgrep", "-f", "sleep 4711"], check=False, timeout=10).returncode == 1
