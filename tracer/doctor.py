"""What `twtrace doctor` prints."""

from __future__ import annotations

import sys
from dataclasses import asdict

import orjson

from tracer.errors import ExitCode
from tracer.kernel.capabilities import Report, Status, examine
from tracer.text import fit, printable

_MARKS = {Status.WORKS: "✔", Status.REFUSED: "✘", Status.MISSING: "–"}


def run(*, as_json: bool) -> ExitCode:
    """Examine and print; the status says whether twtrace can run here."""
    found = examine()
    if as_json:
        sys.stdout.write(_json(found).decode() + "\n")
    else:
        sys.stdout.write(render(found))
    sys.stdout.flush()
    return _status(found)


def as_dict() -> dict[str, object]:
    """Examine; what `--json` prints."""
    found: dict[str, object] = orjson.loads(_json(examine()))
    return found


def _json(found: Report) -> bytes:
    return orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2)


def _status(found: Report) -> ExitCode:
    if found.hooks:
        return ExitCode.OK
    permitted = next(check for check in found.checks if check.name == "privileges")
    return ExitCode.KERNEL_LACKS if permitted.status is Status.WORKS else ExitCode.NOT_PERMITTED


def render(found: Report) -> str:
    """The report for people."""
    lines = [f"Linux {printable(found.kernel)}"]
    if found.hooks:
        lines.append(f"twtrace works here; TIME_WAIT facts come from: {found.hooks} ({found.why})")
    else:
        lines.append(f"twtrace does not work here: {found.why}")
    lines.append("")
    for check in found.checks:
        need = "needed" if check.needed else "optional"
        status = fit(check.status.value, 8)
        lines.append(f"{_MARKS[check.status]} {fit(check.name, 36)} {status} {need:9}{check.detail}")
        if check.hint:
            lines.append(f"    hint: {check.hint}")
    lines += ["", "settings of this network namespace (read only):"]
    lines += [f"  net.ipv4.{name:<26} {value}" for name, value in found.sysctl.items()]
    return "\n".join(lines) + "\n"
