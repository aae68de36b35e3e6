"""All kernels of the matrix at once: the project's tests in a guest of each."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vagrant.guest import Done, Guests, Job
from vagrant.machines import Machine
from vagrant.programs import MatrixError, StoppedError, say, stopping
from vagrant.report import Column, counts
from vagrant.results import Results, Verdict

_TESTS_FAILED = 1  # pytest's status
_LINES = 15


def run(guests: Guests, machines: Sequence[Machine], job: Job, at_once: int, logs: Path) -> list[Column]:
    """The columns of the matrix, in the order of `machines`; what each guest printed goes to `logs`."""
    logs.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(_column, guests, machine, job, logs) for machine in machines]
        try:
            return [future.result() for future in futures]
        except BaseException:
            stopping.set()
            pool.shutdown(cancel_futures=True)
            raise


def _column(guests: Guests, machine: Machine, job: Job, logs: Path) -> Column:
    if stopping.is_set():
        raise StoppedError
    try:
        done = guests.run(machine, job, _ignore)
    except MatrixError as error:
        say(f"{machine.name}: {error.cause}")
        return Column(machine.name, "", Results(), f"{error.cause} ({error.hint})")
    log = logs / f"{machine.name}.log"
    log.write_text(f"{done.output}\n----- console -----\n{done.console}")
    column = Column(machine.name, done.package, done.results, problem(done), tuple(_remarks(done)))
    seconds = f"{done.end.seconds:.0f} s ({done.accelerator})"
    say(f"{machine.name}: {counts(column.outcomes)} in {seconds}; see {log}")
    return column


def _ignore(_output: bytes) -> None:
    pass


def problem(done: Done) -> str:
    """Why a guest's tests did not run to their end; empty: they did."""
    told = done.results
    if done.end.trouble:
        return done.end.trouble
    if told.status is None:
        return (
            "the guest powered off in the midst of its tests"
            if told.kernel
            else "the guest powered off early"
        )
    failures = any(outcome.verdict is Verdict.FAILED for outcome in told.outcomes)
    if told.status and not (told.status == _TESTS_FAILED and failures):
        said = "\n      ".join(done.output.strip().splitlines()[-_LINES:])
        return f"pytest ended with status {told.status}:\n      {said}"
    if not told.outcomes:
        return "no test ran"
    return ""


def _remarks(done: Done) -> list[str]:
    remarks = [f"boot repeated after an early oops: {oops}" for oops in done.retries]
    remarks += [f"the kernel warned: {warning}" for warning in done.warnings]
    return remarks
