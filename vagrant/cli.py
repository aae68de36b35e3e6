"""The command line: `python -m vagrant`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from vagrant import box, kernels, machines, matrix, report
from vagrant.guest import PROJECT, Guests, Job
from vagrant.images import Cache
from vagrant.programs import MatrixError, StoppedError, say, stopping
from vagrant.qemu import Accelerator, Limits

_BOOT_SECONDS = 120
_INTERRUPTED = 130
_JOBS = 5
_DOCS = PROJECT / "docs/support-matrix.md"
_PYTEST = (
    *("python3", "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"),
    *("-p", "vagrant.pytest_results"),
)


def main(argv: list[str] | None = None) -> int:
    """Run a command of the matrix; returns the exit status."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.action(arguments)
    except MatrixError as error:
        say(f"error: {error.cause}")
        say(f"hint: {error.hint}")
        return 1
    except StoppedError:
        say("stopped by a signal")
        return _INTERRUPTED
    return status


def _stop(_number: int, _frame: FrameType | None) -> None:
    stopping.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vagrant", description=__doc__)
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    run = actions.add_parser("run", help="run a command in one guest")
    run.add_argument("--kernel", required=True, metavar="NAME", help="a name in machines.json")
    run.add_argument("--seconds", type=float, default=900, help="what a guest may take (%(default)s)")
    run.add_argument("--console", action="store_true", help="show what the guest's kernel said")
    run.add_argument("command", nargs="+", metavar="COMMAND", help="and its arguments, after --")
    run.set_defaults(action=_run)

    test = actions.add_parser("test", help="run the tests in a guest of each kernel, and print the matrix")
    test.add_argument("--kernel", action="append", metavar="NAME", help="only this one; may be repeated")
    test.add_argument("--jobs", type=int, default=_JOBS, help="guests at a time (%(default)s)")
    test.add_argument("--seconds", type=float, default=1200, help="what a guest may take (%(default)s)")
    test.add_argument("--write-docs", action="store_true", help=f"write {_DOCS.relative_to(PROJECT)} too")
    test.add_argument("pytest", nargs="*", metavar="OPTION", help="of pytest, after --")
    test.set_defaults(action=_test)

    kernel = actions.add_parser("kernel", help="install a kernel on this machine: what provision.sh calls")
    kernel.add_argument("name", metavar="NAME", help="in machines.json")
    kernel.set_defaults(action=_kernel)
    build = actions.add_parser("build", help="make the images that are missing")
    build.set_defaults(action=_build)
    make = actions.add_parser("box", help="make a Vagrant box for libvirt, where none can be downloaded")
    make.add_argument("target", type=Path, metavar="FILE")
    make.set_defaults(action=_box)
    clean = actions.add_parser("clean", help="remove all images; the next are of the newest packages")
    clean.set_defaults(action=_clean)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    definition = machines.load()
    machine = definition.machine(arguments.kernel)
    job = Job(arguments.command, Limits(_BOOT_SECONDS, arguments.seconds))
    done = Guests(definition.root, Cache()).run(machine, job, _show)
    if arguments.console or done.results.status is None:
        sys.stderr.write(done.console)
    kernel = done.results.kernel or machine.name
    say(f"Linux {kernel}, {done.accelerator}, {done.end.seconds:.1f} s, {len(done.retries)} boots repeated")
    if done.results.status is None:
        say(f"error: the command did not end: {done.end.trouble or 'the guest powered off'}")
        return 1
    return done.results.status


def _test(arguments: argparse.Namespace) -> int:
    if arguments.write_docs and (arguments.kernel or arguments.pytest):
        raise MatrixError(
            "--write-docs needs every kernel and every test", "leave out --kernel and pytest's options"
        )
    definition = machines.load()
    chosen = [definition.machine(name) for name in arguments.kernel or ()] or definition.machines
    job = Job(
        command=[*_PYTEST, *definition.tests, *arguments.pytest],
        limits=Limits(_BOOT_SECONDS, arguments.seconds),
        environment=definition.environment | {"TWTRACE_REQUIRE_HOOKS": ",".join(definition.hooks)},
    )
    cache = Cache()
    columns = matrix.run(
        Guests(definition.root, cache), chosen, job, arguments.jobs, cache.directory / "logs"
    )
    table = report.Matrix(columns, definition.hooks)
    sys.stdout.write("\n" + report.text(table))
    if arguments.write_docs:
        _DOCS.write_text(report.markdown(table))
    return int(any(column.failed for column in columns))


def _kernel(arguments: argparse.Namespace) -> int:
    machine = machines.load().machine(arguments.name)
    sys.stdout.write(kernels.install(machine.suite, machine.package) + "\n")
    return 0


def _build(_arguments: argparse.Namespace) -> int:
    definition = machines.load()
    cache = Cache()
    cache.root(definition.root)
    for machine in definition.machines:
        say(f"{machine.name}: {cache.kernel(machine, definition.root).package}")
    return 0


def _box(arguments: argparse.Namespace) -> int:
    definition = machines.load()
    kernel = Cache().kernel(definition.machines[0], definition.root)
    box.build(definition.root, arguments.target.absolute(), kvm=Accelerator().name(kernel) == "kvm")
    return 0


def _clean(_arguments: argparse.Namespace) -> int:
    Cache().remove()
    return 0


def _show(output: bytes) -> None:
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()
