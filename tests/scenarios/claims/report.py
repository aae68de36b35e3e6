"""The results, as a table for people."""

from __future__ import annotations

from tests.scenarios.claims.run import Result, Session
from tracer.claims import claim

_MARKS = {True: "+", False: "–", None: " "}


def table(session: Session) -> str:
    """For a terminal."""
    source = f"Linux {session.kernel}, TIME_WAIT facts from {session.source} hooks, {session.seconds} s"
    lines = [f"{source}; lost: {session.lost or 'nothing'}; residues: {_residues(session)}"]
    for one in session.results:
        about = claim(one.number)
        verdict = one.verdict.value if one.verdict else "failed"
        right = "" if one.verdict is about.verdict else f"  ✘ expected {about.verdict.value}"
        lines.append(f"{one.number:>2} {verdict:8} {about.claim}{right}")
        lines += (
            f"     {_MARKS[seen.speaks]} {seen.what}: {seen.figure}"
            f"{'' if seen.as_expected else '  ✘ not as expected'}"
            for seen in one.seen
        )
        lines += (f"     {line}" for line in one.failed.splitlines())
    return "\n".join(lines)


def _residues(session: Session) -> str:
    return ", ".join(f"{number}: {left}" for number, left in session.residues.items() if left) or "0"


def document(session: Session) -> str:
    """docs/claims.md."""
    lines = [
        "# What people are told about TIME_WAIT",
        "",
        "<!-- Made by `python -m tests.scenarios.claims --write-docs`; do not edit. The texts are in",
        "     tracer/claims.py, the experiments in tests/scenarios/claims/. -->",
        "",
        "Advice from widely read articles, each put to the test in a network namespace of its own.",
        "What was seen is what `twtrace record` wrote, held against the kernel's counters and socket list.",
        f"This was Linux {session.kernel}, TIME_WAIT facts from the {session.source} hooks.",
        "",
        "**proved**: all that was seen speaks for the claim (+). **refuted**: all speaks against it (–).",
        "**depends**: there is both. Lines without a sign belong to the picture and decide nothing.",
        "`python -m tests.scenarios.claims` does it all again, on the kernel that is running.",
        "",
        "| # | claim | verdict | what was seen | why |",
        "|---|---|---|---|---|",
    ]
    lines += (_row(one) for one in session.results)
    return "\n".join(lines) + "\n"


def _row(one: Result) -> str:
    about = claim(one.number)
    seen = "<br>".join(
        f"{_MARKS[fact.speaks].strip()} {_cell(fact.what)}: {_cell(fact.figure)}".strip() for fact in one.seen
    )
    helps = {True: "<br>Helps.", False: "<br>No help.", None: ""}[about.helps]
    verdict = one.verdict.value if one.verdict else "failed"
    return f"| {one.number} | {_cell(about.claim)} | **{verdict}** | {seen} | {_cell(about.why)}{helps} |"


def _cell(text: str) -> str:
    return text.replace("_", "\\_").replace("|", "\\|")
