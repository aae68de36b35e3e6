"""What a guest's kernel says on its console."""

from __future__ import annotations

import re
from collections.abc import Iterator

_STAMP = re.compile(r"^(\[[ \d.]+\])?\s*(\[\s*[CT]\d+\])?\s*")
_DEADLY = re.compile(
    r"\bOops: |\bOops\[|\bBUG: (?!workqueue lockup|soft lockup)|kernel BUG at |Kernel panic"
    r"|general protection fault|Unable to handle kernel|double fault: |stack guard page was hit"
)
_WARNING = re.compile(r"\bWARNING: (CPU: \d+|.*\bat\b )")


def death(text: str) -> str | None:
    """The line in which the kernel tells of its oops or panic; None: it lives."""
    return next(_matching(text, _DEADLY), None)


def warnings(text: str) -> list[str]:
    """The lines in which the kernel warns of a state it ought not to be in, and goes on."""
    return list(_matching(text, _WARNING))


def _matching(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    for line in text.splitlines():
        if pattern.search(line):
            yield _STAMP.sub("", line).strip()
