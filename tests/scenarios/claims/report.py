"""The results, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from tests.scenarios.claims.lab import Seen
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


def document(session: Session, others: Sequence[Session] = ()) -> str:
    """docs/claims.md; of the sessions on other kernels only what is otherwise there."""
    kernels = ", ".join(f"{one.kernel} ({one.source} hooks)" for one in others)
    lines = [
        "# What people are told about TIME_WAIT",
        "",
        "<!-- Made by `python -m tests.scenarios.claims --write-docs`; do not edit. The texts are in",
        "     tracer/claims.py, the experiments in tests/scenarios/claims/. -->",
        "",
        "Advice from widely read articles, each put to the test in a network namespace of its own.",
        "What was seen is what `twtrace record` wrote, held against the kernel's counters and socket list.",
        f"This was Linux {session.kernel}, TIME_WAIT facts from the {session.source} hooks.",
        f"Done again on {kernels}: the rows say where that came out otherwise." if kernels else "",
        "",
        "**proved**: all that was seen speaks for the claim (+). **refuted**: all speaks against it (–).",
        "**depends**: there is both. Lines without a sign belong to the picture and decide nothing.",
        "`python -m tests.scenarios.claims` does it all again, on the kernel that is running.",
        "",
        "| # | claim | verdict | what was seen | why |",
        "|---|---|---|---|---|",
    ]
    lines += (_row(one, others) for one in session.results)
    return "\n".join(lines) + "\n"


def _row(one: Result, others: Sequence[Session]) -> str:
    about = claim(one.number)
    seen = [_fact(fact) for fact in one.seen]
    for session in others:
        (there,) = (other for other in session.results if other.number == one.number)
        if otherwise := _differences(one, there):
            seen.append(f"**{_cell(session.kernel)}**: " + "; ".join(otherwise))
    helps = {True: "<br>Helps.", False: "<br>No help.", None: ""}[about.helps]
    verdict = one.verdict.value if one.verdict else "failed"
    cells = (
        str(one.number),
        _cell(about.claim),
        f"**{verdict}**",
        "<br>".join(seen),
        _cell(about.why) + helps,
    )
    return f"| {' | '.join(cells)} |"


def _differences(one: Result, there: Result) -> list[str]:
    """Its verdict, and facts that were not looked for there, or spoke otherwise; figures always differ."""
    found = [] if there.verdict is one.verdict else [there.verdict.value if there.verdict else "failed"]
    mine = {(fact.what, fact.speaks) for fact in one.seen}
    theirs = {(fact.what, fact.speaks) for fact in there.seen}
    found += [_fact(fact) for fact in there.seen if (fact.what, fact.speaks) not in mine]
    found += [f"without “{_cell(fact.what)}”" for fact in one.seen if (fact.what, fact.speaks) not in theirs]
    return found


def _fact(fact: Seen) -> str:
    return f"{_MARKS[fact.speaks].strip()} {_cell(fact.what)}: {_cell(fact.figure)}".strip()


def _cell(text: str) -> str:
    return text.replace("_", "\\_").replace("|", "\\|")
