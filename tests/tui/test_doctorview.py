"""DOCTOR, drawn from what `twtrace doctor --json` says, or from a trace."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from hypothesis import given

from tests.tui.samples import COLUMNS, HOSTILE, NETNS, fitted, snapshot
from tracer.model import Snapshot, Start
from tracer.settings import SETTINGS
from tracer.tui import doctorview
from tracer.tui.cells import Severity

MANY = 10_000
OTHER = 4026532001


def check(name: str, status: str = "works", detail: str = "attached", **fields: Any) -> dict[str, Any]:
    return {"name": name, "status": status, "detail": detail, "needed": True, "hint": "", **fields}


EXAMINED: dict[str, Any] = {
    "kernel": "6.18.44",
    "hooks": "timer",
    "why": "fentry: load refused: Operation not permitted",
    "checks": [
        check("privileges", detail="root"),
        check("raw tracepoint timer_start", needed=False),
        check("fentry", "refused", "load refused: Operation not permitted", needed=False),
        check("kprobe", "missing", "no kprobes", needed=False, hint="CONFIG_KPROBE_EVENTS"),
    ],
    "sysctl": {"tcp_tw_reuse": 1, "tcp_fin_timeout": 60, "ip_local_reserved_ports": "", "new_one": 7},
}
START = Start(
    ts_us=0,
    version="0.1.0",
    host="elsewhere",
    kernel="5.10",
    argv=("twtrace", "record", "-o", "a\x1bb"),
    filters={"local_ports": [80, 443], "family": 4},
    hooks={"source": "fentry", "owner": "process context of transitions"},
    clock={},
    sysctl={},
)


def drawn(
    examined: dict[str, Any] | None, columns: int, shown: Snapshot | None = None, start: Start | None = None
) -> list[str]:
    return fitted(doctorview.render(examined, shown or snapshot(), columns, start), columns, MANY)


def test_this_host() -> None:
    assert drawn(EXAMINED, 80) == [
        "✔ twtrace works here: TIME_WAIT facts come from the timer hooks",
        "why       fentry: load refused: Operation not permitted",
        "kernel    Linux 6.18.44",
        "",
        "CHECKS  4 tried, 2 work, 2 do not, none of them needed",
        "✘ refused  optional  fentry",
        "                     load refused: Operation not permitted",
        "– missing  optional  kprobe                      no kprobes",
        "                     → CONFIG_KPROBE_EVENTS",
        "✔ works    needed    privileges                  root",
        "✔ works    optional  raw tracepoint timer_start  attached",
        "",
        "SETTINGS of this network namespace, read only",
        "≠ tcp_tw_reuse             1              default 2",
        "    lets connect() take over a port in TIME_WAIT: 1 always, 2 on loopback only,",
        "    0 never; needs tcp_timestamps on both ends",
        "    does not help the side that accepts connections, nor make TIME_WAIT shorter",
        "  tcp_fin_timeout          60             default 60",
        "    seconds that a closed socket whose peer has not closed stays in FIN_WAIT2",
        "  ip_local_reserved_ports  none           default none",
        "    ports of that range that connect() leaves alone",
        "  new_one                  7              ",
    ]


def test_where_it_does_not_work() -> None:
    refused = check("privileges", "refused", "not root", hint="run it with sudo")
    lines = doctorview.render({**EXAMINED, "hooks": None, "checks": [refused]}, snapshot(), 80)
    assert [cell.text for cell in lines[0]] == ["", "▲ twtrace does not work here"]
    assert lines[0][1].severity is Severity.WARN
    assert drawn({**EXAMINED, "hooks": None, "checks": [refused]}, 80)[4:7] == [
        "CHECKS  1 tried, 0 work, 1 do not, 1 of them needed",
        "✘ refused  needed    privileges  not root",
        "                     → run it with sudo",
    ]
    assert lines[5][0].severity is Severity.WARN
    assert drawn({**EXAMINED, "checks": [check("BTF")]}, 80)[4] == "CHECKS  1 tried, 1 work"


def test_takes_what_doctor_has_with_its_enums() -> None:
    from tracer.kernel.capabilities import Check, Report, Status  # noqa: PLC0415  only here

    report = Report("6.18", "fentry", "best", (Check("BTF", Status.REFUSED, "no", True),), {})
    assert drawn(asdict(report), 80)[4:6] == [
        "CHECKS  1 tried, 0 work, 1 do not, 1 of them needed",
        "✘ refused  needed    BTF  no",
    ]


def test_a_replay_says_that_this_host_was_not_asked() -> None:
    shown = snapshot(settings={NETNS: {"tcp_fin_timeout": 60}, OTHER: {"tcp_fin_timeout": 60}, 7: {}})
    assert drawn(None, 80, shown, START) == [
        "A replay: this host was not asked; this is what the trace says:",
        "host      web-14",
        "kernel    Linux 6.8",
        "twtrace   0.1.0",
        "command   twtrace record -o a\\x1bb",
        "filters   local_ports=80,443 family=4",
        "",
        "HOOKS, by what is known from each",
        "  source         fentry",
        "  owner          process context of transitions",
        "",
        "SETTINGS of netns 4026531840, 4026532001, read only",
        "  tcp_fin_timeout          60             default 60",
        "    seconds that a closed socket whose peer has not closed stays in FIN_WAIT2",
        "",
        "SETTINGS of netns 7, read only",
    ]
    assert "filters   none" in drawn(None, 80, shown, replace(START, filters={}))


def test_before_the_answer() -> None:
    assert drawn(None, 80)[:6] == [
        "This host has not answered yet, or was not asked; this is what the trace says:",
        "host      web-14",
        "kernel    Linux 6.8",
        "",
        "HOOKS, by what is known from each",
        "  source         timer",
    ]


def test_every_setting_is_explained() -> None:
    values = {setting.name: "1 2 3" for setting in SETTINGS}
    text = " ".join(" ".join(drawn({**EXAMINED, "sysctl": values}, 80)).split())
    for setting in SETTINGS:
        assert " ".join(setting.does.split()) in text


@given(columns=COLUMNS, name=HOSTILE)
def test_hostile_text(columns: int, name: str) -> None:
    examined = {
        "kernel": name,
        "hooks": name,
        "why": name,
        "checks": [check(name, name, name, hint=name), check("x", "works", name)],
        "sysctl": {name: name, "tcp_tw_reuse": name},
    }
    drawn(examined, columns)
    shown = snapshot(host=name, kernel=name, hooks=name, settings={1: {name: name}})
    drawn(None, columns, shown)
    told = replace(START, version=name, argv=(name,), filters={name: name}, hooks={name: name})
    drawn(None, columns, shown, told)
