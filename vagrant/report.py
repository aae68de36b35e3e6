"""The matrix of kernel, hook source and scenario, as text for a terminal and as docs/support-matrix.md."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vagrant.results import Outcome, Results, Verdict

_MARKS = {Verdict.PASSED: "✔", Verdict.UNKNOWN: "?", Verdict.SKIPPED: "–", Verdict.FAILED: "✘"}
_NOT_RUN = "·"
_LEGEND = "✔ as expected   ? right, and something left unknown   – skipped   ✘ failed   · not run"
_GAP = "  "

# Worst first: of several tests in one cell it is this that counts.
_WORST = (Verdict.FAILED, Verdict.SKIPPED, Verdict.UNKNOWN, Verdict.PASSED)


@dataclass(frozen=True, slots=True)
class Column:
    """What one kernel has to say."""

    name: str
    """In machines.json."""
    package: str
    """Name and version of the Debian package; empty: it could not be had."""
    results: Results
    problem: str
    """Why its tests could not be run to their end; empty: they were."""
    remarks: tuple[str, ...] = ()
    """What else is to be told: boots repeated, warnings of the kernel."""

    @property
    def failed(self) -> bool:
        """Whether it is to be looked at."""
        return bool(self.problem) or any(one.verdict is Verdict.FAILED for one in self.outcomes)

    @property
    def outcomes(self) -> list[Outcome]:
        """Those of all tests that began; one that did not end has failed."""
        cut = (Outcome(test, Verdict.FAILED, self.problem, 0.0) for test in self.results.unfinished)
        return [*self.results.outcomes, *cut]


@dataclass(frozen=True, slots=True)
class Row:
    """A test, whatever the hook source."""

    function: str
    scenario: str

    @property
    def label(self) -> str:
        """Its name in the matrix."""
        plain = self.function.removeprefix("test_").replace("_", " ")
        if not self.scenario:
            return plain
        return self.scenario if plain == "scenario" else f"{plain}: {self.scenario}"


def place(test: str, hooks: Sequence[str]) -> tuple[Row, str]:
    """Row and hook source ("": none) of a node id such as `file.py::test_scenario[fentry-exit]`."""
    function, _, rest = test.rpartition("::")[2].partition("[")
    words = rest.removesuffix("]").split("-")
    for position in (0, -1):
        if words[position] in hooks:
            hook = words.pop(position)
            return Row(function, "-".join(words)), hook
    return Row(function, "-".join(words)), ""


class Matrix:
    """The outcomes of all kernels, each in its cell."""

    def __init__(self, columns: Sequence[Column], hooks: Sequence[str]) -> None:
        self.columns = columns
        self.hooks = hooks
        self._cells: dict[tuple[Row, str, str], list[Outcome]] = {}
        for column in columns:
            for outcome in column.outcomes:
                row, hook = place(outcome.test, hooks)
                self._cells.setdefault((row, column.name, hook), []).append(outcome)
        self.rows = list(dict.fromkeys(row for row, _, _ in self._cells))

    def mark(self, row: Row, kernel: str, hook: str) -> str:
        """One character for the cell."""
        verdicts = {outcome.verdict for outcome in self._cells.get((row, kernel, hook), ())}
        return next((_MARKS[verdict] for verdict in _WORST if verdict in verdicts), _NOT_RUN)

    def marks(self, row: Row, kernel: str) -> str:
        """The cells of one kernel, in the order of the hook sources; one cell for a test that has none."""
        if (row, kernel, "") in self._cells:
            return self.mark(row, kernel, "")
        return " ".join(self.mark(row, kernel, hook) for hook in self.hooks)

    def notes(self) -> Iterator[tuple[str, str, str, str]]:
        """Mark, row, where, and reason of all that did not plainly pass; equal ones are one."""
        groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        for (row, kernel, hook), outcomes in self._cells.items():
            for outcome in outcomes:
                if outcome.verdict is not Verdict.PASSED:
                    key = (_MARKS[outcome.verdict], row.label, outcome.reason)
                    groups.setdefault(key, []).append((kernel, hook))
        for (mark, label, reason), cells in groups.items():
            yield mark, label, self._where(cells), reason

    def _where(self, cells: list[tuple[str, str]]) -> str:
        every = [column.name for column in self.columns]
        sources: dict[str, list[str]] = {}
        for hook in dict.fromkeys(hook for _, hook in cells):
            kernels = [kernel for kernel in every if (kernel, hook) in cells]
            sources.setdefault("" if kernels == every else f"on {', '.join(kernels)}", []).append(hook)
        parts = [f"{', '.join(filter(None, hooks))} {kernels}".strip() for kernels, hooks in sources.items()]
        return "; ".join(parts) or "everywhere"


def counts(results: Sequence[Outcome]) -> str:
    """How many of each verdict: `41 passed, 2 skipped`."""
    numbers = Counter(outcome.verdict for outcome in results)
    return ", ".join(f"{numbers[each]} {each.value}" for each in Verdict if numbers[each]) or "no tests"


def text(matrix: Matrix) -> str:
    """For a terminal."""
    width = max((len(row.label) for row in matrix.rows), default=0)
    cell = max(2 * len(matrix.hooks) - 1, *(len(column.name) for column in matrix.columns))
    lines = [
        _joined("", width, (column.name.ljust(cell) for column in matrix.columns)),
        _joined("", width, (" ".join(hook[0] for hook in matrix.hooks).ljust(cell) for _ in matrix.columns)),
    ]
    lines += [
        _joined(row.label, width, (matrix.marks(row, column.name).ljust(cell) for column in matrix.columns))
        for row in matrix.rows
    ]
    lines += ["", ", ".join(f"{hook[0]} {hook}" for hook in matrix.hooks), _LEGEND, ""]
    lines += [f"{mark} {label}, {where}: {reason}" for mark, label, where, reason in matrix.notes()]
    for column in matrix.columns:
        lines += [
            "",
            f"{column.name}: {column.results.kernel or 'did not boot'} ({column.package or 'no package'})",
        ]
        lines.append(f"    {counts(column.outcomes)}")
        lines += [f"    {remark}" for remark in column.remarks]
        if column.problem:
            lines.append(f"    ✘ {column.problem}")
    return "\n".join(lines) + "\n"


def _joined(label: str, width: int, cells: Iterator[str]) -> str:
    return _GAP.join((label.ljust(width), *cells)).rstrip()


def markdown(matrix: Matrix) -> str:
    """docs/support-matrix.md."""
    names = [column.name for column in matrix.columns]
    lines = [
        "# Kernels",
        "",
        "<!-- Made by `make test-kernels ARGS=--write-docs`; do not edit. -->",
        "",
        "What the tests of the kernel side say on real kernels: Debian's, on x86-64, in virtual machines",
        "with two CPUs ([vagrant/](../vagrant/README.md)).",
        "",
        "| kernel | booted | package | tests |",
        "|---|---|---|---|",
    ]
    for column in matrix.columns:
        booted = column.results.kernel or "did not boot"
        package = column.package.rpartition(" ")[2]
        tests = _escaped("; ".join(filter(None, (counts(column.outcomes), column.problem))))
        lines.append(f"| {column.name} | {booted} | {package} | {tests} |")
    lines += [
        "",
        f"Three marks a cell: {', '.join(matrix.hooks)}. {_sentence(_LEGEND)}",
        "One mark: a test that has nothing to do with the source.",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{':-:|' * len(names)}",
    ]
    for row in matrix.rows:
        marks = " | ".join(matrix.marks(row, name) for name in names)
        lines.append(f"| {_escaped(row.label)} | {marks} |")
    if notes := list(matrix.notes()):
        lines += ["", "| | | where | why |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(_escaped(part) for part in note)} |" for note in notes]
    return "\n".join(lines) + "\n"


def _sentence(legend: str) -> str:
    return ", ".join(re.split(r" {3}", legend)) + "."


def _escaped(cell: str) -> str:
    return re.sub(r"([|<>*_`\\])", r"\\\1", cell)
