"""docs/performance.md: written as a whole, or one section of it anew."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tests.bench.figures import table
from tests.bench.sections import Section

_HEAD = """\
# Performance

<!-- Made by `make bench`; do not edit. The sections are in tests/bench/sections.py. -->

What twtrace costs, beside what people would run instead. Runs are taken in turns in one session, each load in
a network namespace of its own; each run is held against the one with nothing attached in the same round.
Client, server and tracer share the cores. All but `ss` see the whole host: other traffic on it is in their
figures, and none should be there.

```
make bench                                    # all of it; writes this file
make bench ARGS="--only churn --rounds 3"     # one section; replaces it here
make bench ARGS=--quick                       # small runs, printed, not written: do they work here?
```
"""


def head(facts: Mapping[str, str], outputs: Mapping[str, str], refused: Mapping[str, str]) -> str:
    """What comes before the sections."""
    parts = [
        _HEAD,
        table(["measured with", ""], facts.items()).replace("---:", "---"),
        table(["contender", "stdout is"], outputs.items()).replace("---:", "---"),
    ]
    if refused:
        parts.append("Not measured, for it does not run on this machine:\n")
        parts.append("".join(f"- {title}: {_quoted(why)}\n" for title, why in refused.items()))
    return "\n".join(parts)


def _quoted(words: str) -> str:
    return f"“{words.replace('|', '/')}”"


def part(section: Section, figures: str, when: str) -> str:
    """A section, from its heading on."""
    return f"## {section.title}\n\n{section.reading}\n\n{figures}\n{when}\n"


def whole(head: str, parts: Sequence[str]) -> str:
    """The document."""
    return "\n".join((head, *parts))


def head_of(document: str) -> str:
    """All before the first section."""
    return document.partition("\n## ")[0]


def with_part(document: str, part: str) -> str:
    """With that section in the place of the one with its heading, else at the end."""
    heading = part.partition("\n")[0]
    found = re.search(rf"^{re.escape(heading)}\n.*?(?=^## |\Z)", document, re.MULTILINE | re.DOTALL)
    if found is None:
        return whole(document, [part])
    rest = document[found.end() :]
    return document[: found.start()] + part + ("\n" + rest if rest else "")
