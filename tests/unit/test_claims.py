"""The texts about claims, and the document made of them."""

from __future__ import annotations

import ast
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from tests.scenarios.claims.lab import EXPERIMENTS, Seen, contradicts, shows, supports
from tests.scenarios.claims.run import Result
from tracer import claims
from tracer.claims import CLAIMS, Claim, Truth, claim

ROOT = Path(__file__).parents[2]

each_claim = pytest.mark.parametrize("one", CLAIMS, ids=lambda one: f"{one.number}")


def test_numbers() -> None:
    assert [one.number for one in CLAIMS] == list(range(1, 20))
    assert sorted(EXPERIMENTS) == [one.number for one in CLAIMS]


@each_claim
def test_a_claim_is_whole(one: Claim) -> None:
    assert isinstance(one.verdict, Truth)
    assert one.claim
    assert not one.claim.endswith(".")
    sentences = re.split(r"(?<=\.) (?=[A-Zt])", one.why)
    assert 1 <= len(sentences) <= 2
    assert one.why.endswith(".")
    assert len(one.short) <= 120
    with pytest.raises(FrozenInstanceError):
        one.number = 0  # type: ignore[misc]
    assert not hasattr(one, "__dict__")


def test_lookup() -> None:
    assert claim(3) is claim("tcp_fin_timeout") is claim("net.ipv4.tcp_fin_timeout")
    assert claim("tcp_syncookies") is claim("ulimit -n") is claim(8)
    for one in CLAIMS:
        assert one.setting is None or claim(one.setting) is one
    for unknown in ("tcp_sack", 0, 20):
        with pytest.raises(KeyError):
            claim(unknown)


def test_short() -> None:
    assert claim("tcp_fin_timeout").short == "no help: tcp_fin_timeout bounds FIN_WAIT2 only"
    assert claim("tcp_tw_recycle").short == "no help: tcp_tw_recycle is gone since Linux 4.12"
    assert claim("ulimit -n").short.startswith("no help: a TIME_WAIT holds no file descriptor")
    assert claim("keep-alive").short.startswith("helps: a connection that is kept")
    assert claim(1).short == "The side that sends the first FIN keeps the TIME_WAIT"


def test_the_module_is_pure() -> None:
    tree = ast.parse(Path(claims.__file__).read_text())
    assert {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} == {
        "__future__",
        "dataclasses",
        "enum",
    }
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert not [text for text in texts if isinstance(text, str) and text.startswith("/")]


def documented() -> dict[int, list[str]]:
    """The rows of docs/claims.md by number."""
    rows = {}
    for line in (ROOT / "docs" / "claims.md").read_text().splitlines():
        if re.match(r"\| \d", line):
            number, *cells = re.split(r"(?<!\\)\|", line.strip("|"))
            rows[int(number)] = [cell.strip().replace("\\", "") for cell in cells]
    return rows


@each_claim
def test_the_document_says_so(one: Claim) -> None:
    said, verdict, seen, why = documented()[one.number]
    assert said == one.claim
    assert verdict == f"**{one.verdict.value}**"
    assert why.startswith(one.why)
    signs = {sign for sign in ("+", "–") if re.search(rf"(^|<br>)\{sign} ", seen)}
    wanted = {Truth.PROVED: {"+"}, Truth.REFUTED: {"–"}, Truth.DEPENDS: {"+", "–"}}
    assert signs == wanted[one.verdict]


def test_the_document_has_no_other_row() -> None:
    assert sorted(documented()) == [one.number for one in CLAIMS]


PRO, CONTRA, NEITHER = supports("", "", True), contradicts("", "", True), shows("", "")


@pytest.mark.parametrize(
    ("seen", "failed", "verdict"),
    [
        ([PRO, NEITHER], "", Truth.PROVED),
        ([CONTRA, NEITHER], "", Truth.REFUTED),
        ([PRO, CONTRA], "", Truth.DEPENDS),
        ([supports("", "", False)], "", Truth.REFUTED),
        ([contradicts("", "", False)], "", Truth.PROVED),
        ([NEITHER], "", None),
        ([PRO], "why", None),
    ],
)
def test_verdict_of_what_was_seen(seen: list[Seen], failed: str, verdict: Truth | None) -> None:
    assert Result(1, 0, seen, failed, 0).verdict is verdict
