"""`record` and its files: full disks, slow readers, rotation under load, signals, kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.kernel.support import (
    NOT_SHOWN,
    ROOT,
    TWTRACE,
    Line,
    Namespace,
    check_totals,
    eventually,
    of,
)
from tracer import tracelines
from tracer.model import DROPPED
from tracer.reader import Reader
from tracer.tracelines import open_trace

pytestmark = pytest.mark.kernel

ENDINGS = ("ndjson", "ndjson.gz", "ndjson.zst")

NOT_SHOWN_AT_MOST = 2
"""As in test_command: connections whose last steps the kernel does not show."""

endings = pytest.mark.parametrize("ending", ENDINGS)


def unpacked(path: Path) -> bytes:
    """All that can be had of a file, cut off or not."""
    data = bytearray()
    with tracelines.unpacked(str(path)) as file, suppress(tracelines.DamagedError):
        for block in tracelines.blocks_of(file):
            data += block
    return bytes(data)


def whole_lines(path: Path) -> list[Line]:
    if not path.exists():
        return []
    data = unpacked(path)
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def checked(path: Path) -> list[Line]:
    """The lines of a finished file, which neither its totals nor its reader doubt."""
    reader = Reader()
    with open_trace(str(path)) as lines:
        list(reader.read(lines))
    assert reader.doubts == []
    found = whole_lines(path)
    check_totals(found)
    return found


@contextmanager
def recorded(*argv: str, first: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A running `record`; with `first`, the file whose first line is waited for."""
    with subprocess.Popen(
        [*TWTRACE, "record", *argv], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            if first:
                eventually(lambda: bool(whole_lines(first)) or running.poll() is not None, 600)
            yield running
        finally:
            if running.poll() is None:
                running.kill()


def said_by(running: subprocess.Popen[str], status: int) -> str:
    _, said = running.communicate(timeout=120)
    assert running.returncode == status, said
    assert "Traceback" not in said
    return said


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@endings
def test_a_full_disk(netns: Namespace, tmp_path: Path, churn: str, ending: str) -> None:
    """The command is ended, and what is on the disk can be read to its last whole line."""
    with small_disk(tmp_path / "disk", 256) as disk:
        path = disk / f"trace.{ending}"
        load = f"while {churn} 500; do :; done; sleep 60"
        with recorded("-o", str(path), "-N", netns.name, "--", *netns.command("sh", "-c", load)) as running:
            said = said_by(running, 1)
        assert f"cannot write {path}: No space left on device" in said
        assert "hint: free space" in said
        assert path.stat().st_size > 128_000
        content = unpacked(path)
        reader = Reader()
        with open_trace(str(path)) as lines:
            list(reader.read(lines))
    assert content.endswith(b"\n")
    lines_read = [json.loads(line) for line in content.splitlines()]
    assert lines_read[0]["type"] == "start"
    assert len(of(lines_read, "close")) > 100
    assert all("cut off" in doubt.text for doubt in reader.doubts)


def test_a_directory_that_goes_while_it_is_rotated(netns: Namespace, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    argv = ("-o", str(folder / "run.ndjson"), "--rotate-every", "1s", "-N", netns.name)
    with recorded(*argv, first=folder / "run.0001.ndjson") as running:
        shutil.rmtree(folder)
        said = said_by(running, 1)
    assert "No such file or directory" in said or "was deleted while it was written" in said
    assert "hint: " in said


@endings
def test_a_file_deleted_while_it_is_written(netns: Namespace, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"trace.{ending}"
    with recorded("-o", str(path), "-N", netns.name, first=path) as running:
        path.unlink()
        running.send_signal(signal.SIGINT)
        assert f"{path} was deleted while it was written" in said_by(running, 1)


COUNT = 20_000


@endings
def test_rotation_under_load_loses_nothing(netns: Namespace, tmp_path: Path, churn: str, ending: str) -> None:
    output = tmp_path / f"run.{ending}"
    size = "2MB" if ending == "ndjson" else "128KiB"
    settled = 'until [ -z "$(ss -Htan exclude listening exclude time-wait)" ]; do sleep 0.01; done'
    command = netns.command("sh", "-c", f"{churn} {COUNT} && {settled}")
    with recorded("-o", str(output), "--rotate-size", size, "-N", netns.name, "--", *command) as running:
        said = said_by(running, 0)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) >= 3
    assert [path.name for path in paths] == [
        f"run.{number:04}.{ending}" for number in range(1, len(paths) + 1)
    ]
    assert f"→ {paths[0]} … {paths[-1]}" in said
    files = [checked(path) for path in paths]
    assert [lines[0]["part"] for lines in files] == list(range(1, len(files) + 1))
    assert len({lines[0]["run"] for lines in files}) == 1
    lost: Counter[str] = Counter()
    births: list[int] = []
    residues: list[int] = []
    closes: list[tuple[int, str]] = []
    for lines in files:
        end = lines[-1]
        lost += Counter(end["lost"])
        births += [line["conn"] for line in of(lines, "time_wait") if not line.get("preexisting")]
        closes += [(line["conn"], line["role"]) for line in of(lines, "close")]
        balance = end["totals"]["ledger"][str(netns.inode)]
        residues.append(balance["residue"])
        assert balance["born"] + balance["preexisting"] - balance["ended"] == balance["expected"]
        assert balance["expected"] == end["totals"]["time_wait"]["remaining"]
    assert lost.keys() <= NOT_SHOWN
    unseen = 2 * COUNT - len(closes)
    assert lost.total() <= unseen <= NOT_SHOWN_AT_MOST
    assert all(abs(residue) <= unseen for residue in residues)
    assert COUNT - unseen <= len(births) == len(set(births))
    assert len(closes) == len({conn for conn, _ in closes})
    assert f"TIME_WAIT: {len(births)} born + 0 before" in said


@endings
def test_killed_while_it_writes(netns: Namespace, tmp_path: Path, churn: str, ending: str) -> None:
    path = tmp_path / f"trace.{ending}"
    with (
        recorded("-o", str(path), "-N", netns.name, first=path) as running,
        subprocess.Popen(netns.command(churn, str(COUNT)), stdout=subprocess.DEVNULL) as load,
    ):
        eventually(lambda: path.stat().st_size > (2_000_000 if ending == "ndjson" else 200_000))
        running.kill()
        running.communicate()
        load.kill()
    reader = Reader()
    with open_trace(str(path)) as lines:
        read = list(reader.read(lines))
    assert len(read) == len(whole_lines(path)) > 1000
    told = [doubt.text for doubt in reader.doubts]
    assert any("no `end` line" in text for text in told)
    assert all("cut off" in text for text in told)


def test_a_reader_too_slow_is_waited_for_by_nobody(netns: Namespace, tmp_path: Path, churn: str) -> None:
    """64 MiB of lines wait; what comes then is lost and said to be; the ring is read all the same."""
    count = 25_000
    with (tmp_path / "said").open("w+") as said:
        recording = subprocess.Popen(
            [*TWTRACE, "record", "-o", "-", "--states", "--strict", "-N", netns.name],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        with recording as running:
            assert running.stdout
            read = running.stdout.readline()
            subprocess.run(netns.command(churn, str(count)), check=True, stdout=subprocess.DEVNULL)
            running.send_signal(signal.SIGINT)
            read += running.stdout.read()
            status = running.wait(timeout=60)
        said.seek(0)
        told = said.read()
    assert status == 5, told
    lines = [json.loads(line) for line in read.splitlines()]
    check = Reader()
    list(check.read(read.splitlines(keepends=True)))
    assert check.doubts == []
    end = lines[-1]
    assert end["lost"].keys() - NOT_SHOWN == {DROPPED}
    dropped = end["lost"][DROPPED]
    assert f"lost {dropped} {DROPPED}" in told
    assert sum(line["count"] for line in of(lines, "lost", what=DROPPED)) == dropped > 1000
    # What is not there as a line is in the account.
    assert len(of(lines, "time_wait")) < count
    assert count - NOT_SHOWN_AT_MOST <= end["totals"]["time_wait"]["born"] <= count
    kinds = ("state", "close", "time_wait", "time_wait_end", "held")
    written = sum(len(of(lines, kind)) for kind in kinds)
    # 13 transitions (with the server's SYN_RECV), two closes and a birth each, and ends.
    assert (written + dropped) // count in (12, 13, 14, 15, 16, 17)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(netns: Namespace, tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "run.ndjson.zst"
    with recorded("-o", str(path), "-N", netns.name, first=path) as running:
        netns.run("mixed", "4", "2", "1", "0")
        running.send_signal(signal.SIGUSR2)
        eventually(lambda: len(of(whole_lines(path), "time_wait")) == 3, 5)
        running.send_signal(signal.SIGUSR1)
        assert running.stderr
        so_far = next(line for line in running.stderr if "so far" in line)
        assert "6 closes; TIME_WAIT: 3 born + 0 before" in so_far
        assert running.poll() is None
        running.send_signal(number)
        said = said_by(running, 0)
    assert "6 closes; TIME_WAIT: 3 born" in said
    checked(path)


def test_no_file_is_overwritten_and_no_link_followed(tmp_path: Path) -> None:
    there, link = tmp_path / "there", tmp_path / "link"
    there.write_text("precious")
    link.symlink_to(tmp_path / "elsewhere")
    for argv in ((there,), (link,), (link, "--force")):
        with recorded("-d", "100ms", "-o", *map(str, argv)) as running:
            assert "hint: " in said_by(running, 2)
    assert there.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()
    with recorded("-d", "100ms", "-o", str(there), "--force") as running:
        said_by(running, 0)
    checked(there)


@pytest.mark.parametrize("options", [[], ["--rotate-every", "1s"], ["--force"]])
def test_a_trace_is_its_owners_alone(tmp_path: Path, options: list[str]) -> None:
    if options == ["--force"]:
        (tmp_path / "trace").write_text("of root")
    done = subprocess.run(
        [*TWTRACE, "record", "-o", str(tmp_path / "trace"), "-d", "1200ms", *options],
        cwd=ROOT,
        env=os.environ | {"SUDO_UID": "12345", "SUDO_GID": "54321"},
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
    paths = list(tmp_path.iterdir())
    assert len(paths) == (2 if options[:1] == ["--rotate-every"] else 1)
    for path in paths:
        status = path.stat()
        assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o600, 12345, 54321)


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        ("-o - --rotate-every 1s", "cannot be written in parts"),
        ("-o /dev/null --rotate-size 1MB", "cannot be written in parts"),
        ("-o x --rotate-size 1X", "is no size"),
        ("-o x --rotate-size 1kB", "at least 64KiB"),
        ("-o x --rotate-every 10ms", "at least 1s"),
    ],
)
def test_rotation_that_cannot_be(argv: str, what: str) -> None:
    with recorded(*argv.split()) as running:
        said = said_by(running, 2)
    assert what in said
    assert "hint: " in said
