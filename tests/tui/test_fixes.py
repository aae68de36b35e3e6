"""FIX: what is advised, and above all which commands are handed out."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import given

from tests.tui.samples import (
    COLUMNS,
    CURL,
    DATABASE,
    DRILLED,
    HOSTILE,
    JAVA,
    NETNS,
    QUIET_POOL,
    ROWS,
    SETTINGS,
    drilled,
    fitted,
    flow,
    pool,
    row,
    snapshot,
    who,
)
from tracer.advice import Remedy, keep_connections, let_peer_close, more_ports, reuse_ports
from tracer.model import Flow, Grade, HeldGroup, Pool, Snapshot, Tally
from tracer.tui import fixes
from tracer.tui.cells import Severity as Weight
from tracer.tui.cells import text_of
from tracer.verdict import HOST, Finding, Severity, judge
from tracer.whatif import parse_change

MANY = 10_000
OTHER = 4026532001
VALUES = {**SETTINGS[NETNS], "tcp_tw_reuse": 2, "tcp_timestamps": 1}

REUSE = "sysctl -w net.ipv4.tcp_tw_reuse=1"
WIDER = 'sysctl -w net.ipv4.ip_local_port_range="1024 65535"'
BUCKETS = "sysctl -w net.ipv4.tcp_max_tw_buckets=524288"


def ill(**fields: object) -> Snapshot:
    """Nothing is well: orders-api fills its ports and the table, curl finds none, java leaks."""
    usual: dict[str, object] = {
        "settings": {NETNS: VALUES},
        "overflows": (Tally(NETNS, 120, 12, who("orders-api[4711]")),),
        "pools": (pool(), replace(QUIET_POOL, failures=12, failures_lately=3)),
    }
    return drilled(**(usual | fields))


def drawn(
    findings: tuple[Finding, ...], shown: Snapshot, columns: int = 96, key: str | None = None
) -> list[str]:
    return fitted(fixes.render(findings, shown, columns, key), columns, MANY)


def rendered(shown: Snapshot, columns: int = 96, key: str | None = None) -> list[str]:
    return drawn(judge(shown), shown, columns, key)


def commands(shown: Snapshot, key: str | None = None) -> tuple[str, ...]:
    return fixes.commands(judge(shown), shown, key)


def test_one_finding_in_full() -> None:
    shown = ill(pools=(pool(),), overflows=(), flows=(), held=(), preexisting=0, hooks="fentry")
    assert rendered(shown) == [
        "▲ WARN      ● orders-api[4711]                                 ports_exhausting, confidence high",
        "  why       10.0.3.7 → 10.2.0.9:5432 keeps 24,720 of 28,232 source ports in use at 412.0",
        "            TIME_WAITs/s: it settles at 24,840; more than 471/s fail",
        "  evidence  source ports 28,232 · TIME_WAITs held 24,600 · live 120 · born/s 412.0 ·",
        "            settles at 24,840",
        "  do 1      sysctl net.ipv4.tcp_tw_reuse=1, with tcp_timestamps on at both ends",
        "            → a port is free again after 1 s instead of 60: 28,232 connections/s instead of 471",
        "            now 2, default 2, netns 4026531840",
        "            does not help the side that accepts connections, nor make TIME_WAIT shorter",
        "            $ sysctl -w net.ipv4.tcp_tw_reuse=1   y copies it",
        '  do 2      sysctl net.ipv4.ip_local_port_range="1024 65535"',
        "            → 64,512 ports instead of 28,232: 2.3 times as many connections/s",
        "            now 32768 60999, default 32768 60999, netns 4026531840",
        "            does not give more ports to a server that accepts: all its connections share the",
        "            listening port",
        '            $ sysctl -w net.ipv4.ip_local_port_range="1024 65535"   y ×2 copies it',
        "  unless    a rate that falls, or connections that the peer closes first",
        "",
        "  no help   tcp_fin_timeout bounds FIN_WAIT2 only · tcp_tw_recycle is gone since Linux 4.12",
        "  harmful   SO_LINGER with time 0 makes close() send a reset, which leaves no TIME_WAIT. Data",
        "            that was not yet sent is thrown away, and the peer gets ECONNRESET.",
        "  try it    R records a trace; then: twtrace report FILE --what-if tw_reuse=1",
        "            --what-if port_range=1024-65535",
    ]


def test_all_is_well() -> None:
    shown = snapshot(hooks="fentry", rows=())
    assert rendered(shown) == [
        "✔ FINE      this host                                                   nothing, confidence high",
        "  why       nothing to worry about: 24,810 TIME_WAITs, none of which holds a source port of a",
        "            client; no connect() failed, nobody leaves sockets open",
        "  evidence  TIME_WAITs now 24,810",
    ]
    assert commands(shown) == ()
    assert drawn((), shown) == []


def heads(shown: Snapshot, key: str | None = None) -> list[str]:
    """The first words of each finding, in the order they are shown, and what stands between them."""
    return [" ".join(line.split()[:4]) for line in rendered(shown, key=key) if line[:1].strip()]


def test_the_selected_row_comes_first() -> None:
    shown = ill()
    assert heads(shown) == [
        "✘ CRITICAL ◐ curl",
        "▲ WARN ● orders-api[4711]",
        "▲ WARN ● orders-api[4711]",
        "▲ WARN ● java[2290]",
        "· NOTICE ● orders-api[4711]",
    ]
    assert heads(shown, JAVA.key) == [
        "▲ WARN ● java[2290]",
        "ELSEWHERE ON THIS HOST",
        "✘ CRITICAL ◐ curl",
        "▲ WARN ● orders-api[4711]",
        "▲ WARN ● orders-api[4711]",
        "· NOTICE ● orders-api[4711]",
    ]
    assert rendered(shown, key=shown.total.key) == rendered(shown)


def test_nothing_to_change_for_the_selected_row() -> None:
    shown = snapshot()
    lines = rendered(shown, key=CURL.key)
    assert lines[:4] == ["✔ nothing to change for curl ×412", "", "ELSEWHERE ON THIS HOST", ""]
    assert rendered(shown, key="gone")[0] == "✔ nothing to change for what was selected"


def test_commands_are_in_the_order_shown_each_once() -> None:
    shown = ill()
    assert commands(shown) == (REUSE, WIDER, BUCKETS)
    assert commands(shown, DRILLED.key) == (REUSE, WIDER, BUCKETS)
    only = replace(judge(shown)[2], remedies=judge(shown)[2].remedies[:1])
    assert fixes.commands((only, *judge(shown)), shown) == (BUCKETS, REUSE, WIDER)
    for key in (None, DRILLED.key, JAVA.key, CURL.key):
        copies = [line.split("$ ")[1] for line in rendered(shown, key=key) if "$ " in line]
        assert [line.split("   ")[0] for line in copies] == list(commands(shown, key))
        assert [line.split("   ")[1] for line in copies] == [
            "y copies it",
            "y ×2 copies it",
            "y ×3 copies it",
        ]


def test_what_has_been_said_is_not_said_again() -> None:
    lines = rendered(ill())
    assert sum("→ a port is free again" in line for line in lines) == 1
    assert lines.count("  do 4      " + 'sysctl net.ipv4.ip_local_port_range="1024 65535": as above') == 1


def test_settings_are_of_a_namespace() -> None:
    """A sysctl in the wrong one would do nothing, and say nothing."""
    shown = ill(settings={NETNS: VALUES, OTHER: VALUES}, overflows=())
    assert commands(shown, DRILLED.key)[0] == "nsenter -t 4711 -n sysctl -w net.ipv4.tcp_tw_reuse=1"
    nobody = replace(judge(shown)[1], who=replace(DATABASE.who, pids=()))
    assert fixes.commands((nobody,), shown)[0] == REUSE


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ((pool(),), "now 2, default 2, netns 4026531840"),
        ((pool(netns=OTHER),), "now –, default 2, netns 4026532001"),
        ((pool(netns=OTHER, who=who("else[1]")), pool()), "now 2, default 2, netns 4026531840"),
        ((), "now –, default 2"),
    ],
)
def test_present_values(pools: tuple[Pool, ...], expected: str) -> None:
    (finding,) = (one for one in judge(ill(pools=(pool(),))) if one.id == "ports_exhausting")
    assert f"            {expected}" in drawn((finding,), ill(pools=pools))


def finding(*remedies: Remedy, **fields: object) -> Finding:
    usual = Finding("ports_exhausting", Severity.WARN, who("a[1]"), "why", {}, remedies)
    return replace(usual, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "do",
    [
        "sysctl net.ipv4.tcp_tw_reuse=1; reboot",
        "sysctl net.ipv4.tcp_tw_reuse=$(reboot)",
        "sysctl net.ipv4.tcp_tw_reuse=1\nreboot",
        'sysctl net.ipv4.ip_local_port_range="1 2"`reboot`',
        "sysctl net.ipv4.ip_forward=1",
        "sysctl kernel.panic=1",
        "please sysctl net.ipv4.tcp_tw_reuse=1",
        "reboot",
        "",
    ],
)
def test_nothing_else_becomes_a_command(do: str) -> None:
    assert fixes.commands((finding(Remedy(do, "", "setting")),), snapshot()) == ()


def test_only_settings_become_commands() -> None:
    assert fixes.commands((finding(Remedy(REUSE.replace(" -w", ""), "", "application")),), snapshot()) == ()
    unknown = finding(
        Remedy("raise net.ipv4.tcp_max_tw_buckets", "", "setting"),
        id="time_wait_overflow",
        evidence={"tcp_max_tw_buckets": None},
    )
    assert fixes.commands((unknown,), snapshot()) == ()


def test_advice_is_worded_so_that_it_becomes_a_command() -> None:
    narrow = pool(size=1_000)
    remedies = (reuse_ports(pool()), more_ports(pool()), more_ports(narrow), more_ports(pool(size=64_512)))
    assert fixes.commands((finding(*remedies),), snapshot()) == (
        REUSE,
        WIDER,
        'sysctl -w net.ipv4.ip_local_port_range="32768 60999"',
    )


def test_what_can_be_tried_on_a_trace() -> None:
    def tried(*remedies: Remedy) -> list[str]:
        return re.findall(r"--what-if (\S+)", " ".join(drawn((finding(*remedies),), snapshot(), 200)))

    client, server = flow(), flow(role="server")
    assert tried(keep_connections(client), keep_connections(server)) == ["keepalive"]
    changes = tried(let_peer_close(client), reuse_ports(pool()), more_ports(pool()))
    assert changes == ["peer-closes-first", "tw_reuse=1", "port_range=1024-65535"]
    overflow = finding(
        Remedy("raise net.ipv4.tcp_max_tw_buckets", "", "setting"),
        id="time_wait_overflow",
        evidence={"tcp_max_tw_buckets": 4096},
    )
    *_, last = drawn((overflow,), snapshot(), 200)
    assert last.endswith("--what-if max_tw_buckets=8192")
    for change in ("keepalive", "max_tw_buckets=8192", *changes):
        parse_change(change)
    assert tried(Remedy("close the socket", "", "application")) == []


def test_evidence() -> None:
    one = finding(
        evidence={
            "daddr": "10.2.0.9",
            "count": 41,
            "oldest_us": 720_000_000,
            "netns": NETNS,
            "time_waits": 3,
            "failures": 0,
            "limit": None,
            "some_share": 1_234.5,
            "note": "a\nb",
        }
    )
    assert drawn((one,), snapshot())[2:4] == [
        "  evidence  sockets 41 · oldest 12 min · netns 4026531840 · TIME_WAITs held 3 ·",
        "            some share 1,234.5 · note a\\nb",
    ]
    both = finding(evidence={"time_waits": 3, "time_wait_now": 2})
    assert drawn((both,), snapshot())[2] == "  evidence  TIME_WAITs so far 3 · TIME_WAITs now 2"


def test_severity_is_a_word_and_a_mark() -> None:
    for severity, start, weight in (
        (Severity.FINE, "✔ FINE ", Weight.STRONG),
        (Severity.NOTICE, "· NOTICE ", Weight.STRONG),
        (Severity.WARN, "▲ WARN ", Weight.WARN),
        (Severity.CRITICAL, "✘ CRITICAL ", Weight.WARN),
    ):
        line = fixes.render((finding(severity=severity),), snapshot(), 80)[0]
        assert text_of(line).startswith(start)
        assert line[0].severity is weight
    assert not any(
        line.startswith("  unless")
        for line in drawn((finding(refuted_by="x", severity=Severity.FINE),), snapshot())
    )
    assert drawn((finding(who=HOST),), snapshot(), 40)[0] == "▲ WARN      this host    confidence high"


def test_limits_are_said_once() -> None:
    shown = ill(lost=3)
    lines = rendered(shown)
    assert sum("records were lost" in line for line in lines) == 1
    at = next(number for number, line in enumerate(lines) if line.startswith("  limits"))
    assert lines[at].startswith("  limits    3 records were lost: counts are at least what is said · 12 ")


# In the drill-down


def brief(shown: Snapshot, key: str, columns: int, rows: int) -> list[str]:
    return fitted(fixes.brief(judge(shown), shown, key, columns, rows), columns, rows)


def test_brief() -> None:
    assert brief(ill(overflows=()), DRILLED.key, 90, 5) == [
        "1 keep connections open and reuse them → spares 29,000 of 29,442 connections: TIME_WAITs… ",
        "2 let the server close first → moves 29,400 TIME_WAITs to the server, where they hold no… ",
        "3 sysctl net.ipv4.tcp_tw_reuse=1, with tcp_timestamps on at both ends → a port is free ag…",
        '4 sysctl net.ipv4.ip_local_port_range="1024 65535" → 64,512 ports instead of 28,232: 2.3… ',
        "✘ no help: tcp_fin_timeout bounds FIN_WAIT2 only · tcp_tw_recycle is gone since Linux 4.12",
    ]
    assert len(brief(ill(), DRILLED.key, 100, 4)) == 4
    assert brief(ill(), "unknown", 100, 4) == ["✔ nothing to change here"]


@given(columns=COLUMNS, rows=ROWS, name=HOSTILE, address=HOSTILE)
def test_hostile_names(columns: int, rows: int, name: str, address: str) -> None:
    whose = replace(who("a[1]"), label=name, comm=name, pids=(1,))
    there: Flow = flow(who=whose, local=address, remote=address, peer=whose)
    shown = ill(
        rows=(row(name, key="a[1]"),),
        flows=(there, replace(there, role="server")),
        pools=(pool(saddr=address, daddr=address, who=whose, failures=1, failures_lately=1),),
        held=(HeldGroup(whose, "CLOSE_WAIT", "server", NETNS, 80, 30, 0),),
        overflows=(Tally(NETNS, 9, 9, whose),),
        settings={NETNS: {**VALUES, "tcp_tw_reuse": name}, OTHER: {}},
    )
    findings = (
        *judge(shown),
        finding(Remedy(name, name, name), who=replace(whose, grade=Grade.UNKNOWN), why=name, refuted_by=name),
        finding(Remedy(f"sysctl net.ipv4.{name}=1", "", "setting"), evidence={name: name, "x_us": 5}),
    )
    for key in (None, "a[1]", name):
        drawn(findings, shown, columns, key)
        fitted(fixes.brief(findings, shown, key or "", columns, rows), columns, rows)
        for command in fixes.commands(findings, shown, key):
            assert re.fullmatch(r"nsenter -t 1 -n sysctl -w net\.ipv4\.[a-z_]+=(\d+|\"\d+ \d+\")", command)
            assert shlex.split(command)[-1].startswith("net.ipv4.")
