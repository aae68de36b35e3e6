"""What a view shows, for other programs."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.samples import CURL, DRILLED, JAVA, TOTAL, UNKNOWN, drilled, row, snapshot
from tracer.export import as_csv, as_json, document
from tracer.expression import parse
from tracer.model import Snapshot
from tracer.verdict import judge

FIELDS = [
    *("label", "grade", "role", "cgroup", "closes", "close_rate", "time_waits", "time_wait_rate"),
    *("time_wait_now", "held_close_wait", "held_fin_wait2", "first_local", "first_remote", "resets_sent"),
    *("resets_received", "failed", "by_exit", "age_p50_us", "age_p99_us", "top_peer"),
]


def table(shown: Snapshot) -> list[dict[str, str]]:
    """The CSV, as others read it."""
    return [*csv.DictReader(io.StringIO(as_csv(shown).decode(), newline=""))]


def test_json_has_all_that_is_known() -> None:
    shown = drilled()
    found = json.loads(as_json(shown, judge(shown), parse("tw>9 proc:x")))
    assert {name: value for name, value in found.items() if not isinstance(value, list)} == {
        "host": "web-14",
        "kernel": "6.8",
        "hooks": "timer",
        "ts_us": 1_700_000_000_000_000,
        "duration_us": 764_000_000,
        "lost": 0,
        "by": "process",
        "filter": "tw>9 proc:x",
    }
    assert {name for name in found if isinstance(found[name], list)} == {
        *("findings", "pools", "rows", "flows", "sites"),
    }
    assert [one["id"] for one in found["findings"]] == [one.id for one in judge(shown)]
    assert found["findings"][0]["severity"] == "warn"
    assert found["findings"][0]["who"]["grade"] == "certain"
    assert [one["key"] for one in found["rows"]] == [
        "orders-api[4711]",
        "curl ×412",
        "java[2290]",
        "unknown",
        "all",
    ]
    first = found["rows"][0]
    assert first["ways"] == {"close": 29_380, "shutdown": 14, "exit": 6, "unknown": 0}
    assert first["process"]["cmdline"] == "gunicorn orders.wsgi -w 8"
    assert (first["grade"], first["pids"], first["time_wait_rate"]) == ("certain", [4711], 412.0)
    assert found["rows"][-1]["grade"] is None
    assert len(found["rows"][0]["history"]) == 120
    assert [pool["daddr"] for pool in found["pools"]] == ["10.2.0.9", "10.9.1.1"]
    assert found["flows"][2]["peer"]["label"] == "redis-server[880]"
    assert found["flows"][0]["peer"] is None


def test_json_is_a_document_with_a_filter() -> None:
    shown = drilled()
    found = as_json(shown, judge(shown))
    assert found.endswith(b"}\n")
    assert found.count(b"\n") > 100  # for people, too
    assert {*json.loads(found)} - {*document(shown, judge(shown))} == {"filter"}
    assert json.loads(found)["filter"] == ""


def test_csv_has_a_line_for_each_row() -> None:
    found = table(drilled())
    assert [*found[0]] == FIELDS
    assert [one["label"] for one in found] == [
        "orders-api[4711]",
        "curl ×412",
        "java[2290]",
        "unknown",
        "all",
    ]
    assert found[0] == {
        **dict.fromkeys(FIELDS, "0"),
        "label": "orders-api[4711]",
        "grade": "certain",
        "role": "client",
        "cgroup": "/system.slice/orders.service",
        "closes": "29670",
        "close_rate": "415.0",
        "time_waits": "993",
        "time_wait_rate": "412.0",
        "time_wait_now": "24720",
        "first_local": "29460",
        "first_remote": "200",
        "resets_sent": "20",
        "resets_received": "40",
        "failed": "8",
        "age_p50_us": "9100",
        "age_p99_us": "31000",
        "top_peer": "10.2.0.9:5432",
    }
    assert (found[-1]["grade"], found[-1]["cgroup"], found[-2]["age_p50_us"]) == ("", "", "")
    assert as_csv(snapshot()).count(b"\r\n") == 6


def test_rates_are_rounded() -> None:
    (one, *_) = table(snapshot(row("x", close_rate=1 / 3, time_wait_rate=2e-9)))
    assert (one["close_rate"], one["time_wait_rate"]) == ("0.333", "0.0")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "\\t=1"),
        ("\r=1", "\\r=1"),
        ('a,"b"\nc', 'a,"b"\\nc'),
        ("x\x1b[2J", "x\\x1b[2J"),
        ("\udcff", r"\xff"),
        ("日本語[1]", "日本語[1]"),
        ("a=b", "a=b"),
    ],
)
def test_names_are_text_and_nothing_else(name: str, written: str) -> None:
    (one, *_) = table(snapshot(row(name, cgroup=name, top_peer=name)))
    assert (one["label"], one["cgroup"], one["top_peer"]) == (written,) * 3


@given(st.text(max_size=20))
def test_no_name_breaks_a_line_or_begins_a_formula(name: str) -> None:
    found = table(snapshot(row(name), JAVA))
    assert len(found) == 4
    assert found[1]["label"] == JAVA.label
    assert not found[0]["label"].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_rows_are_those_of_the_snapshot() -> None:
    shown = snapshot(CURL)
    assert [one["label"] for one in table(shown)] == [CURL.label, UNKNOWN.label, TOTAL.label]
    assert [one["key"] for one in json.loads(as_json(shown, ()))["rows"]] == [
        CURL.key,
        UNKNOWN.key,
        TOTAL.key,
    ]
    assert DRILLED.key not in as_csv(shown).decode()
