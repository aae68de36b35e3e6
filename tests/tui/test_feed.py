"""CLOSES, drawn for invented connections."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given

from tests.tui.samples import COLUMNS, HOSTILE, NETNS, ROWS, busy, closed, ended, fitted, process, snapshot
from tracer.model import UNKNOWN_OWNER, Close, Endpoints, Grade, Owner
from tracer.text import width
from tracer.tui import feed
from tracer.tui.cells import Severity
from tracer.tui.feed import ways

NGINX = process(902, "nginx")
SERVED = Endpoints(3, NETNS, 4, "10.0.3.7", 443, "10.7.1.22", 51_011)
LONG = Endpoints(
    4,
    NETNS,
    6,
    "2001:db8:85a3:1111:2222:8a2e:370:7334",
    51_224,
    "2001:db8:85a3:1111:2222:8a2e:370:7335",
    9100,
)


def utc(ts_us: int) -> str:
    return f"{time.strftime('%H:%M:%S', time.gmtime(ts_us // 1_000_000))}.{ts_us // 1_000 % 1_000:03d}"


def drawn(columns: int, rows: int, **fields: object) -> list[str]:
    return fitted(feed.render(busy(**fields), columns, rows, utc), columns, rows)


def line(columns: int, **fields: object) -> str:
    """The line of one connection, without its time."""
    return drawn(columns, 1, recent=(closed(**fields),))[0][13:]


def test_middle() -> None:
    first, second = drawn(116, 3)
    assert first == (
        "22:13:20.118 ● orders-api[4711]   10.0.3.7:51224 → 10.2.0.9:5432     9.1 ms"
        " we closed first (close()) → TIME_WAIT"
    )
    assert second == (
        "22:13:20.116 ● haproxy[1201]      10.0.3.7:40110 → 10.2.0.4:6379     2.0 ms RST sent on close()"
    )


def test_small_keeps_whom_and_how() -> None:
    assert drawn(76, 7) == [
        "22:13:20.118 ● orders-api[4711] → 10.2.0.9:5432  we closed first → TIME_WAIT",
        "22:13:20.116 ● haproxy[1201]    → 10.2.0.4:6379  RST sent on close()",
    ]
    assert drawn(46, 1) == ["22:13:20.118 ● orders-api   we closed first"]
    assert drawn(20, 1) == ["● orders-… we close…"]


def test_wide_says_how_the_time_wait_ended() -> None:
    one = closed(age_us=None, end=ended(0, reason="reused", lifetime_us=1_234_000))
    assert drawn(196, 1, recent=(one,))[0] == (
        f"22:13:20.118 {'● orders-api[4711]':<32} {'10.0.3.7:51224 → 10.2.0.9:5432':<66}       –"
        " we closed first (close()) → TIME_WAIT, reused after 1.2 s"
    )


def test_the_newest_first() -> None:
    many = tuple(closed(ts_us=1_700_000_000_000_000 + number * 1_000) for number in range(1_000))
    assert [text[:12] for text in drawn(76, 3, recent=many)] == [
        "22:13:20.999",
        "22:13:20.998",
        "22:13:20.997",
    ]
    assert feed.render(busy(), 76, 0) == ()


def test_none_yet() -> None:
    assert fitted(feed.render(snapshot(), 76, 3), 76, 3) == ["no connection has ended yet"]


def test_the_local_time_unless_told() -> None:
    assert fitted(feed.render(busy(), 76, 1), 76, 1)[0][2:12] == utc(1_700_000_000_118_000)[2:12]


def test_both_ends_or_the_one_that_matters() -> None:
    server = {"role": "server", "owner": NGINX, "ends": SERVED, "first": "remote", "time_wait": False}
    assert line(116, **server).startswith("● nginx[902]         10.0.3.7:443 ← 10.7.1.22:51011 ")
    assert line(76, **server) == "● nginx[902]       :443 ← 10.7.1.22 peer closed first"
    unknown = line(76, role="unknown", owner=UNKNOWN_OWNER)
    assert unknown == "? unknown          – 10.2.0.9:5432  we closed first → TIME_WAIT"
    inferred = Owner(Grade.INFERRED, process(1, "curl").process)
    assert line(116, ends=LONG, owner=inferred) == (
        "◐ curl[1]            → [2001:db8:85a3:1111:2222:…:9100  9.1 ms we closed first (close()) → TIME_WAIT"
    )
    assert line(116, ends=LONG, role="server")[21:54] == ":51224 ← 2001:db8:85a3:1111:2222…"


@pytest.mark.parametrize(
    ("fields", "forms"),
    [
        ({}, ["we closed first (close()) → TIME_WAIT", "we closed first → TIME_WAIT", "we closed first"]),
        ({"via": "shutdown"}, ["we closed first (shutdown()) → TIME_WAIT"]),
        ({"via": "exit"}, ["we closed first (exit) → TIME_WAIT"]),
        ({"via": "unknown"}, ["we closed first → TIME_WAIT"]),
        ({"time_wait": False}, ["we closed first (close())", "we closed first"]),
        (
            {"first": "both"},
            ["both closed at once → TIME_WAIT", "both closed → TIME_WAIT", "both closed"],
        ),
        ({"first": "none"}, ["closed, first FIN not seen → TIME_WAIT", "closed → TIME_WAIT", "closed"]),
        ({"first": "remote", "time_wait": False}, ["peer closed first, then close()", "peer closed first"]),
        (
            {"first": "remote", "via": "exit", "time_wait": False},
            ["peer closed first, then exit", "peer closed first"],
        ),
        ({"how": "reset_sent", "first": "none"}, ["RST sent on close()", "RST sent"]),
        (
            {"how": "reset_sent", "first": "remote", "via": "exit"},
            ["RST sent on exit after the peer's FIN", "RST sent on exit", "RST sent"],
        ),
        ({"how": "reset_sent", "first": "none", "via": "unknown"}, ["RST sent"]),
        ({"how": "reset_sent", "first": "none", "via": "abort"}, ["connection aborted", "aborted"]),
        ({"how": "reset_received", "first": "none"}, ["RST received"]),
        ({"how": "reset_received", "first": "local"}, ["RST received after our FIN", "RST received"]),
        ({"how": "timeout", "first": "none"}, ["timed out"]),
        ({"how": "failed", "first": "none"}, ["connect failed"]),
        ({"how": "unknown", "first": "none"}, ["ended, not known how", "ended"]),
        (
            {"overflow": True, "time_wait": False},
            [
                "▲ no TIME_WAIT: table full; we closed first (close())",
                "▲ no TIME_WAIT: table full; we closed first",
                "▲ no TIME_WAIT: table full",
                "▲ table full",
            ],
        ),
        (
            {"end": ended(0)},
            ["we closed first (close()) → TIME_WAIT, expired after 60.9 s"],
        ),
        (
            {"end": ended(0, lifetime_us=None, fin_wait2_us=3_000_000, reason="reset")},
            [
                "we closed first (close()) → FIN_WAIT2, ended by RST after 3.0 s",
                "we closed first (close()) → FIN_WAIT2",
            ],
        ),
        (
            {"end": ended(0, lifetime_us=None, fin_wait2_us=None, reason="unknown")},
            ["we closed first (close()) → TIME_WAIT, ended"],
        ),
        (
            {"end": ended(0, lifetime_us=80_000, reason="replaced")},
            ["we closed first (close()) → TIME_WAIT, replaced by a SYN after 80 ms"],
        ),
    ],
)
def test_in_words_how(fields: dict[str, object], forms: list[str]) -> None:
    assert ways(closed(**fields))[: len(forms)] == forms


def test_only_what_is_missing_its_time_wait_warns() -> None:
    for one, severity in (
        (closed(), Severity.PLAIN),
        (closed(overflow=True, time_wait=False), Severity.WARN),
    ):
        cells = feed.render(busy(recent=(one,)), 76, 1, utc)[0]
        assert cells[-1].severity is severity
        assert ("▲" in cells[-1].text) is (severity is Severity.WARN)


def test_title() -> None:
    assert feed.title(busy(), 76) == "CLOSES · newest first of 490.7/s"
    assert feed.title(busy(), 20) == "CLOSES"


@given(columns=COLUMNS, rows=ROWS, name=HOSTILE, address=HOSTILE, word=HOSTILE)
def test_hostile_names(columns: int, rows: int, name: str, address: str, word: str) -> None:
    ends = Endpoints(1, NETNS, 6, address, 0, address, 65_535)
    one = closed(owner=process(4_194_304, name), ends=ends, end=ended(0, reason=word))
    others = (
        replace_close(one.close, role=role, how=how, via=via, first=first)
        for role, how, via, first in (
            ("server", "fin", "exit", "remote"),
            ("unknown", "reset_sent", "abort", "both"),
            (word, word, word, word),
        )
    )
    recent = (one, *(one._replace(close=close) for close in others))
    shown = replace(busy(), recent=recent)
    fitted(feed.render(shown, columns, rows, utc), columns, rows)
    assert width(feed.title(shown, columns)) <= columns


def replace_close(close: Close, **fields: str) -> Close:
    return close._replace(**fields)  # type: ignore[arg-type]
