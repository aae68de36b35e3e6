"""CALL SITES of a report: what it says of them, and that nothing is said without any."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.unit.samples import birth, close, ends, held, owner
from tests.unit.stacks import START, closing, frame, libc, site
from tests.unit.test_report import lines_of
from tracer.model import Event, Owner
from tracer.report.data import as_json
from tracer.report.model import Report, Reports
from tracer.report.page import render as page
from tracer.report.reading import read
from tracer.report.text import render

ORDERS, LEAKY = owner(4711, "orders-api", "/orders"), owner(9, "leaky", "/leaky")
TITLE = "CALL SITES, where in its program a process closes"


def closes(count: int, number: int | None, whose: Owner = ORDERS, *, first: int = 0) -> list[Event]:
    made: list[Event] = []
    for conn in range(first, first + count):
        where = ends(conn, sport=1024 + conn)
        made.append(close(conn, whose, at=conn / 10, where=where)._replace(site=number))
        made.append(birth(conn, whose, at=conn / 10)._replace(ends=where))
    return made


def story() -> list[Event]:
    """Of 300 closes a hundred were looked at; 38 of 40 leaked sockets were accepted at one place."""
    told = [
        *(*closes(70, 1), closing(1), *closes(20, 2, first=70), closing(2, "give_up", 131)),
        *(*closes(7, 3, first=90), closing(3, "reap", 17), *closes(3, 99, first=97)),
        *closes(200, None, first=100),
    ]
    accepting = site(
        50,
        libc("accept4"),
        frame("handle_client", "src/leak.c", 31),
        frame("main"),
        *START,
        what="accept",
        whose=LEAKY,
    )
    leaked = [held(1_000 + at, LEAKY, at=40)._replace(role="server", site=50) for at in range(40)]
    return [*told, accepting, *leaked[:38], *(one._replace(site=51) for one in leaked[38:])]


def report_of(*events: Event) -> Report:
    return read(lines_of(*events))


def section(text: str, title: str) -> list[str]:
    return text.split(f"{title}\n")[1].split("\n\n", maxsplit=1)[0].splitlines()


def limits(text: str) -> str:
    return " ".join(" ".join(section(text, "LIMITS of what can be concluded")).split())


def test_text() -> None:
    text = render(report_of(*story()))
    assert section(text, TITLE) == [
        "  orders-api[4711]: 3 call sites make 97% of its TIME_WAITs (97 of 100 looked at, of 300)",
        "    70%  finish_request  src/server.c:88   main → serve → finish_request → close",
        "    20%  give_up  src/server.c:131   main → serve → give_up → close",
        "     7%  reap  src/server.c:17   main → serve → reap → close",
        "     3%  not resolved",
    ]
    assert section(text, "NEVER CLOSED, as of the end")[1:] == [
        "    38 of 40 accepted at handle_client  src/leak.c:31",
        "    2 of 40 opened at a call site that is not resolved",
    ]
    assert "    where:  38 of 40 were accepted at handle_client (src/leak.c:31)\n" in text
    assert (
        "    where:  70 of its 100 TIME_WAITs looked at come from finish_request (src/server.c:88)\n" in text
    )
    assert "call sites: 100 of 300 closes by a process were looked at; shares are of these" in limits(text)
    assert "call sites: 3 of 100 are not resolved" in limits(text)


def test_if_all_were_looked_at_nothing_limits() -> None:
    text = render(report_of(closing(1), *closes(30, 1), *closes(70, 2, first=30), closing(2, "give_up")))
    assert (
        section(text, TITLE)[0] == "  orders-api[4711]: 2 call sites make 100% of its TIME_WAITs (100 of 100)"
    )
    assert "call sites" not in limits(text)


def test_what_no_process_ended_could_not_be_looked_at() -> None:
    ended = [
        close(500, ORDERS, how="reset_received", first="none", via="unknown", time_wait=False),
        close(501, ORDERS, how="failed", first="none", time_wait=False),
    ]
    assert "call sites" not in limits(render(report_of(closing(1), *closes(3, 1), *ended)))


def test_nothing_without_sites() -> None:
    report = report_of(*closes(3, None), held(7, LEAKY))
    for text in (render(report), page(Reports((report,)))):
        assert "call site" not in text.lower()
        assert "where:" not in text
    # A site that nobody was at is none.
    assert "call site" not in render(report_of(closing(1), *closes(3, None))).lower()


def json_of(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(as_json(Reports((report,))))
    return found


def test_json() -> None:
    found = json_of(report_of(*story()))
    (orders,) = found["sites"]
    assert orders["who"]["label"] == "orders-api[4711]"
    assert (orders["closes"], orders["time_waits"]) == (300, 300)
    assert [(one["closes"], one["time_waits"]) for one in orders["places"]] == [
        (70, 70),
        (20, 20),
        (7, 7),
        (3, 3),
    ]
    assert orders["places"][0]["place"] == {
        "what": "close",
        "function": "finish_request",
        "file": "src/server.c",
        "line": 88,
        "path": ["main", "serve", "finish_request", "close"],
    }
    assert orders["places"][3]["place"] is None
    (leak,) = found["never_closed"]
    assert [(one["place"] and one["place"]["function"], one["sockets"]) for one in leak["opened"]] == [
        ("handle_client", 38),
        (None, 2),
    ]
    assert json_of(report_of(*closes(3, None)))["sites"] == []


def test_page() -> None:
    text = page(Reports((report_of(*story()),)))
    assert 'id="r1-sites">Call sites</h3>' in text
    assert "<bdi>finish_request</bdi>" in text
    assert "src/server.c:88" in text
    assert "3 call sites make 97% of its TIME_WAITs (97 of 100 looked at, of 300)" in text
    assert "38 of 40 accepted at handle_client" in text
    assert "38 of 40 were accepted at handle_client (src/leak.c:31)" in text


HOSTILE = "\x1b]0;pwn\x07</td><script>\u202eevil\n\u2066"


@pytest.mark.parametrize("draw", [render, lambda report: page(Reports((report,)))])
def test_hostile_names(draw: Any) -> None:
    frames = (
        libc(HOSTILE),
        frame(HOSTILE, f"/src/{HOSTILE}.c", 3),
        frame(f"outer{HOSTILE}", module=HOSTILE),
        frame(None, module=f"/{HOSTILE}"),
    )
    accepting = site(2, *frames, what="accept", whose=LEAKY)
    leaked = [held(900 + at, LEAKY, at=1)._replace(role="server", site=2) for at in range(5)]
    text = draw(report_of(site(1, *frames), accepting, *closes(60, 1), *leaked))
    assert not set(text) & set("\x1b\x07\u202e\u2066")
    assert "<script>" not in text.replace(HOSTILE, "") or draw is render
    assert "evil" in text
    assert all(len(line) <= 99 for line in text.splitlines()) or draw is not render
