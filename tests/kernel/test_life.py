"""Every birth, end and closing way of a TCP connection, from each source of facts.

`tests/scenarios/` makes them happen and says what a trace must have of each.
With fentry and kprobes all of it is exact; where the timer source may say less, the
expected line has it (`less`).
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import brim
from tests.kernel.expect import FACTS, disagreements, place
from tests.kernel.support import (
    NOT_SHOWN,
    ROOT,
    SKIPPED_KPROBES,
    TWTRACE,
    Line,
    Recording,
    attached,
    eventually,
    namespace,
    of,
    owners,
    whole_lines,
)
from tests.scenarios.life import SCENARIOS
from tests.scenarios.world import KERNEL
from tracer.kernel.btf import KernelTypes
from tracer.kernel.flags import LoadOptions
from tracer.kernel.hooks import Kind, transitions
from tracer.kernel.loader import LoadedPrograms, load
from tracer.model import Grade

pytestmark = pytest.mark.kernel

SOURCES = ("fentry", "kprobe", "timer")
REQUIRED = tuple(os.environ.get("TWTRACE_REQUIRE_HOOKS", "").replace(",", " ").split())
"""Sources that must work here; without it, doctor is asked."""

PATIENCE_S = 600
"""In an emulated guest beside others all of it takes minutes."""
EXACT = (23, 17, 13)
"""Closed first by the server, by the client, reset."""
THOUSAND = 1000

each_source = pytest.mark.parametrize("source", SOURCES, indirect=True, scope="module")


@cache
def doctors_checks() -> dict[str, Line]:
    done = subprocess.run(
        [*TWTRACE, "doctor", "--json"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def refusal(source: str) -> str | None:
    """Why this kernel does not have that source; None: it has."""
    if source == "timer" or source in REQUIRED:
        return None
    check = doctors_checks()[source]
    return None if check["status"] == "works" else f"{source} {check['status']}: {check['detail']}"


@pytest.fixture(scope="module")
def source(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if why := refusal(name):
        pytest.skip(why)
    return name


class Player:
    """A program that plays, tells in lines of JSON, and stays until its input ends."""

    def __init__(self, folder: Path, module: str, *argv: str) -> None:
        self.path, self._log = folder / f"{module}.told", folder / f"{module}.log"
        with self.path.open("w") as told, self._log.open("w") as log:
            self.program = subprocess.Popen(
                [sys.executable, "-m", f"tests.scenarios.{module}", *argv],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=told, stderr=log, text=True,
            )  # fmt: skip

    def told(self) -> list[Line]:
        return whole_lines(self.path)

    def wait_for(self, what: str, seconds: float) -> None:
        """Until a line has that key."""
        deadline = time.monotonic() + seconds
        while not any(what in line for line in self.told()):
            assert self.program.poll() is None, f"it ended: {self._log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"no {what} within {seconds} s"
            time.sleep(0.5)

    def end(self) -> None:
        """Its input's end is the end of its namespaces."""
        if self.program.poll() is None:
            self.program.communicate("", timeout=60)


class Life:
    """All that is played, once, recorded from all sources at once."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.sources = [name for name in SOURCES if not refusal(name)]
        starting = {name: Recording(folder / f"{name}.ndjson", "--hooks", name) for name in self.sources}
        self._recordings = stack.enter_context(attached(starting))
        self.exact = stack.enter_context(namespace())
        self.pids: dict[str, int] = self.exact.run("mixed", "4", *map(str, EXACT))
        self._scenarios = Player(folder, "life")
        stack.callback(self._scenarios.end)
        self._scenarios.wait_for("played", PATIENCE_S)
        self.thousand_us = time.time_ns() // 1000
        self._thousand = Player(folder, "thousand", str(THOUSAND))
        stack.callback(self._thousand.end)
        self._thousand.wait_for("netns", PATIENCE_S)
        self.scenarios = {line["scenario"]: line for line in self._scenarios.told() if "scenario" in line}
        (self.thousand,) = self._thousand.told()
        for name, played in self.scenarios.items():
            for failure in played["failures"]:
                warnings.warn(f"{name} played again: {failure}", stacklevel=1)

    @cached_property
    def lines(self) -> dict[str, list[Line]]:
        """By source, of all namespaces; stops the recordings when the scenarios' last mini-socket is gone."""
        self._scenarios.wait_for("gone", 200)
        return {name: running.stop() for name, running in self._recordings.items()}

    def residue(self, source: str) -> int:
        """TIME_WAITs of the scenarios of which its ledger does not know what became."""
        ledger = self.lines[source][-1]["totals"]["ledger"]
        ours = {str(played["netns"]) for played in self.scenarios.values()}
        return sum(abs(ledger[netns]["residue"]) for netns in ours & ledger.keys())


@pytest.fixture(scope="module", autouse=True)
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Played once for all tests; again, twice at most, if the traces say that not all was shown.

    They do so by what was lost, or by their ledgers: an expiry that was not shown is in the residue.
    """
    for left in (2, 1, 0):
        with ExitStack() as stack:
            played = Life(tmp_path_factory.mktemp("life"), stack)
            lost = {what for lines in played.lines.values() for what in lines[-1]["lost"]}
            excused = all(
                lines[-1]["lost"].keys() <= (NOT_SHOWN | SKIPPED_KPROBES if name == "kprobe" else NOT_SHOWN)
                for name, lines in played.lines.items()
            )
            unseen = {name: count for name in played.sources if (count := played.residue(name))}
            if not left or not (lost or unseen) or not excused:
                yield played
                return
        warnings.warn(f"played again: {', '.join(lost)} residue {unseen}", stacklevel=1)


def open_descriptors() -> dict[str, str]:
    """Of ours those that are no files, which libraries open once and keep; and what they are."""
    found = {}
    for entry in os.scandir("/proc/self/fd"):
        with suppress(OSError):  # the one by which we look
            target = os.readlink(entry.path)
            if not target.startswith("/"):
                found[entry.name] = target
    return found


def in_kernel(kind: str, number: int) -> bool:
    """Is there an eBPF object of that kind and number? `fdinfo` has the kind's name."""
    command = {"prog": 13, "map": 14, "link": 30}[kind]  # BPF_*_GET_FD_BY_ID, include/uapi/linux/bpf.h
    attributes = (ctypes.c_uint32 * 8)(number)
    call = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(
        call, command, attributes, ctypes.sizeof(attributes)
    )
    if descriptor >= 0:
        os.close(descriptor)
    return bool(descriptor >= 0)


def held_objects() -> set[tuple[str, int]]:
    """The eBPF objects behind our descriptors."""
    found = set()
    for path in Path("/proc/self/fdinfo").iterdir():
        with suppress(OSError):
            for line in path.read_text().splitlines():
                kind, separator, number = line.partition("_id:")
                if separator and kind in {"prog", "map", "link"}:
                    found.add((kind, int(number)))
    return found


def traced_functions() -> dict[str, set[str]]:
    """Functions with a hook; empty where there is no tracefs."""
    found = {}
    for name in ("kprobe_events", "enabled_functions"):
        for folder in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
            with suppress(OSError):
                lines = Path(folder, name).read_text().splitlines()
                # Behind the name, and in indented lines, are addresses of trampolines, which change.
                found[name] = {line.split()[0] for line in lines if line[:1].strip()}
    return found


def attach_again(programs: LoadedPrograms) -> None:
    """Detach and attach."""
    choice = programs.choice.source
    programs.detach()
    for attachment in (*choice.attachments, *transitions()):
        if attachment.program not in programs._programs:
            continue  # this kernel has no such function
        # f3a95075549e "bpf: Allow trampoline re-attach for tracing and lsm programs" (v5.13)
        if attachment.kind in {Kind.FENTRY, Kind.FEXIT} and KERNEL < (5, 13):
            with KernelTypes() as types:
                programs.load_program(attachment, types)
        programs.attach(attachment)


@each_source
def test_exact(source: str, life: Life) -> None:
    active, passive, resets = EXACT
    lines = [line for line in life.lines[source] if line.get("netns") == life.exact.inode]
    closes, births = of(lines, "close"), of(lines, "time_wait")
    assert Counter((line["owner"]["comm"], line["first"], line["how"]) for line in closes) == {
        ("the-server", "local", "fin"): active,
        ("the-client", "remote", "fin"): active,
        ("the-server", "remote", "fin"): passive,
        ("the-client", "local", "fin"): passive,
        ("the-server", "none", "reset_received"): resets,
        ("the-client", "none", "reset_sent"): resets,
    }
    assert Counter(line["owner"]["comm"] for line in births) == {"the-server": active, "the-client": passive}
    everyone = {(pid, f"the-{name}", "certain") for name, pid in life.pids.items()}
    assert owners(closes) == owners(births) == everyone
    assert [line["reason"] for line in of(lines, "time_wait_end")] == ["expired"] * (active + passive)
    balance = life.lines[source][-1]["totals"]["ledger"][str(life.exact.inode)]
    assert (balance["born"], balance["expected"], balance["residue"]) == (active + passive, 0, 0)


@each_source
def test_mixed_thousand(source: str, life: Life) -> None:
    """A thousand mini-sockets of every fate: the ledger balances, and so does each reason."""
    told = life.thousand
    ours = (told["netns"], told["inner"]["netns"])
    births, ends = (
        [
            line
            for line in of(life.lines[source], kind)
            # A namespace that is gone leaves its inode number to the next one.
            if line["netns"] in ours and line["ts_us"] > life.thousand_us
        ]
        for kind in ("time_wait", "time_wait_end")
    )
    assert len(births) == THOUSAND
    assert {line["owner"]["grade"] for line in births} == {"certain"}
    if KERNEL >= (6, 1):  # before, the kernel counts them when they expire
        assert (told["counted"], told["inner"]["counted"]) == tuple(
            len(of(births, "time_wait", netns=netns)) for netns in ours
        )
    reasons = Counter(line["reason"] for line in ends)
    reasons.pop("expired", None)  # as many as have had the time
    due: Counter[str] = Counter(told["ended"])
    assert {why: (reasons[why], due[why]) for why in reasons | due if reasons[why] != due[why]} == {}
    assert {line["by"]["pid"] for line in ends if line["reason"] == "killed"} <= {told["killer"]}
    ledger = life.lines[source][-1]["totals"]["ledger"]
    assert ledger[str(ours[0])]["kernel"] <= told["remaining"]
    for netns in ours:  # one that is gone leaves its inode number to the next
        if str(netns) in ledger:
            assert ledger[str(netns)]["residue"] == 0
    assert ledger[str(ours[0])]["born"] >= len(of(births, "time_wait", netns=ours[0]))


@pytest.mark.parametrize("name", SCENARIOS)
@each_source
def test_scenario(source: str, name: str, life: Life, record_property: Callable[[str, Any], None]) -> None:
    played = life.scenarios[name]
    assert "failed" not in played, played["failed"]
    # A namespace that is gone leaves its inode number to the next one, as when a scenario plays again.
    places = {place(line) for line in played["lines"]}
    found = [
        line
        for line in life.lines[source]
        if "conn" in line
        and (
            (line["netns"] == played["netns"] and line["ts_us"] >= played["began_us"])
            or place(line) in places
        )
    ]
    wrong, allowed = disagreements(played["lines"], found, source)
    if allowed:
        record_property("says_less", sorted(allowed))
    assert not wrong, "\n".join(wrong)
    assert _waiting(found, played) == sorted(tuple(address) for address in played["waiting"])


def _waiting(found: list[Line], played: Line) -> list[tuple[str, int, str, int]]:
    """The mini-sockets that were there by the trace when the kernel listed them at the scenario's end.

    By then the scenario does nothing more, and what waits has most of a minute left.
    """
    moment = played["listed_us"][1] + 1_000_000
    here = [line for line in found if line["netns"] == played["netns"]]
    gone = {line["conn"] for line in of(here, "time_wait_end") if line["ts_us"] < moment}
    return sorted(place(line)[1:] for line in of(here, "time_wait") if line["conn"] not in gone)


@each_source
def test_no_line_but_the_expected(source: str, life: Life) -> None:
    played = life.scenarios
    assert len(played) == len(SCENARIOS)
    expected = {place(line) for scenario in played.values() for line in scenario["lines"]}
    ours = {scenario["netns"] for scenario in played.values()}
    lines = [line for line in life.lines[source] if line.get("netns") in ours]
    assert not [line for line in lines if line["type"] in FACTS | {"held"} and place(line) not in expected]
    start, *_, end = life.lines[source]
    assert start["hooks"]["source"] == source
    assert end["lost"] == {}
    ledger = end["totals"]["ledger"]
    assert {netns: ledger[str(netns)]["residue"] for netns in ours if str(netns) in ledger} == {
        netns: 0 for netns in ours if of(lines, "close", netns=netns, time_wait=True)
    }


@each_source
def test_a_namespace_that_is_just_full(source: str) -> None:
    """None of its TIME_WAITs is lost, none an overflow, each has its owner."""
    with namespace() as where:
        seen = brim.watch(source, where)
    assert {birth.owner.grade for birth in seen.born} == {Grade.CERTAIN}
    assert Counter(birth.owner.process.comm for birth in seen.born if birth.owner.process) == {
        "the-server": brim.ACTIVE,
        "the-client": brim.PASSIVE,
    }
    assert [(close.how, close.time_wait, close.overflow) for close in seen.closes] == [
        ("fin", True, False)
    ] * len(seen.born)
    assert (seen.totals["time_wait_born"], seen.totals["time_wait_overflowed"]) == (len(seen.born), 0)
    assert seen.lost.keys() <= (SKIPPED_KPROBES if source == "kprobe" else set())
    assert (seen.balance.kernel, seen.balance.residue) == (len(seen.born), 0)


@pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning")  # BCC's, with all of the text
@each_source
def test_attach_detach_fifty_times(source: str) -> None:
    """Neither we nor the kernel keep anything of it; compiled once, which is what takes long.

    Last of a source's: the recordings have stopped by then. Calls pass by trampolines that are
    being changed, and a recording would be told of the expiries in question from the stack alone.
    """
    before, hooked = open_descriptors(), traced_functions()
    seen: set[tuple[str, int]] = set()
    programs = load(LoadOptions(hooks=source, ring_mib=1))
    for _ in range(49):
        seen |= held_objects()
        attach_again(programs)
    seen |= held_objects()
    programs.close()
    assert {kind for kind, _ in seen} >= {"prog", "map"}
    assert open_descriptors() == before
    eventually(lambda: not [one for one in seen if in_kernel(*one)])
    assert traced_functions() == hooked
