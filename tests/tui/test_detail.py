"""The drill-down, drawn from invented snapshots: exact lines."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest
from hypothesis import given

from tests.tui.samples import (
    CACHE,
    COLUMNS,
    CURL,
    DATABASE,
    DRILLED,
    HOSTILE,
    JAVA,
    NETNS,
    ORDERS,
    QUIET_POOL,
    REAP,
    REPLICA,
    ROWS,
    SITES,
    UNKNOWN,
    closed,
    drilled,
    ended,
    fitted,
    flow,
    pool,
    process,
    row,
    snapshot,
    who,
)
from tracer.model import (
    UNKNOWN_OWNER,
    CallSites,
    Closed,
    Closing,
    Endpoints,
    Flow,
    Grade,
    HeldGroup,
    Owner,
    Place,
    Pool,
    Process,
    Row,
    Snapshot,
    Tally,
    Ways,
)
from tracer.text import printable, width
from tracer.tui import detail
from tracer.tui.cells import Severity, text_of
from tracer.tui.drill import closes_of, flows_of
from tracer.tui.listing import Table

HALF, NARROW, MIDDLE = 57, 76, 116
NOW_US = 1_700_000_000_000_000
MANY = 99


def clock(us: int) -> str:
    """The time of day in UTC."""
    return f"{datetime.fromtimestamp(us // 1_000_000, timezone.utc):%H:%M:%S}.{us // 1_000 % 1_000:03d}"


def drawn(table: Table) -> list[str]:
    """Headings and lines as they are drawn."""
    lines = ["".join(cell.text for cell in line.cells) for line in table.lines]
    return ["".join(heading.text for heading in table.headings), *lines]


def crumbs(columns: int, whose: Row, peer: Flow | None = None, one: Closed | None = None) -> str:
    return text_of(detail.crumbs(columns, whose, peer, one))


def identity(shown: Snapshot, whose: Row, columns: int, rows: int = MANY) -> list[str]:
    return fitted(detail.identity(shown, whose, columns, rows), columns, rows)


def why(shown: Snapshot, whose: Row, columns: int, rows: int = MANY) -> list[str]:
    return fitted(detail.why(shown, whose, columns, rows), columns, rows)


def typical(shown: Snapshot, columns: int, rows: int = MANY) -> list[str]:
    return fitted(detail.typical(shown, DRILLED, columns, rows), columns, rows)


def typical_of(*closes: Closed, **fields: object) -> list[str]:
    """Of these connections of orders-api and no others."""
    mine = tuple(one._replace(row=ORDERS.key) for one in closes)
    return typical(drilled(recent=mine, flows=(), **fields), MIDDLE)


def socket(one: Closed, columns: int = MIDDLE) -> list[str]:
    return fitted(detail.socket(one, drilled(), columns, MANY, clock), columns, MANY)


# The way here


def test_crumbs() -> None:
    one = closed()
    assert crumbs(200, DRILLED) == "Overview ▸ orders-api[4711]"
    assert crumbs(200, DRILLED, DATABASE) == "Overview ▸ orders-api[4711] ▸ 10.2.0.9:5432"
    assert crumbs(200, DRILLED, None, one) == ("Overview ▸ orders-api[4711] ▸ 10.0.3.7:51224 → 10.2.0.9:5432")
    assert crumbs(200, DRILLED, DATABASE, one) == (
        "Overview ▸ orders-api[4711] ▸ 10.2.0.9:5432 ▸ 10.0.3.7:51224"
    )
    assert crumbs(200, JAVA, flow(role="server", remote="::1", port=443)) == (
        "Overview ▸ java[2290] ▸ ::1 (:443)"
    )
    assert detail.crumbs(200, DRILLED)[-1].severity is Severity.STRONG


def test_crumbs_keep_pid_and_port_where_there_is_little_room() -> None:
    whose = row("a-very-long-name-of-a-process[4711]")
    there = flow(remote="2001:db8:85a3::8a2e:370:7334")
    assert crumbs(60, whose, there) == "Overview ▸ a-very-long-name…[4711] ▸ [2001:db8:85a3::8…:5432"
    served = replace(there, role="server", port=443)
    assert crumbs(60, whose, served) == "Overview ▸ a-very-long-name…[4711] ▸ 2001:db8:85a3::… (:443)"
    assert crumbs(30, whose, there) == "Overview ▸ a-very-… ▸ [2001:d…"


# Identity


def test_identity() -> None:
    assert identity(drilled(), DRILLED, NARROW) == [
        "/usr/bin/python3.12 gunicorn orders.wsgi -w 8   pid 4711   uid 33",
        "up 3 d 04 h   unit orders.service   netns 4026531840",
        "owner ● certain: seen in its own connect, read, write or close",
        "TIME_WAIT now 24,720 = 97% of 25,530",
        "TW/s, 2 min ▁▁▁▂▂▂▃▃▃▄▄▄▅▅▅▆▆▆▇▇▇███ 412.0",
        "cgroup /system.slice/orders.service",
    ]


def test_identity_in_two_lines() -> None:
    assert identity(drilled(), DRILLED, 104, 2) == [
        "/usr/bin/python3.12 gunicorn orde…   pid 4711   uid 33   up 3 d 04 h   unit orders.service",
        (
            "owner ● certain: seen in its own connect, read, write or close"
            "   TIME_WAIT now 24,720 = 97% of 25,530"
        ),
    ]
    assert identity(drilled(), DRILLED, MIDDLE, 2)[0].endswith("   unit orders.service   netns 4026531840")


def test_identity_of_many_alike_is_of_one_of_them() -> None:
    one = Process(107, NOW_US - 44_000_000, "curl", container="0123456789abcdef")
    many = CURL._replace(pids=tuple(range(100, 116)), process=one)
    assert identity(drilled(flows=(), held=()), many, NARROW) == [
        "curl   one of them, pid 107   up 44 s",
        "owner ◐ inferred: found among its open files (the least sure of them)",
        "TIME_WAIT now 78 = <1% of 25,530   TW/s, 2 min ▂ 1.3",
        "container 0123456789ab",
        "lowest pids 100 101 102 103 104 105 106 107 108 109 110 111 112 113 114 115",
    ]


def test_identity_of_what_is_no_process() -> None:
    shown = drilled()
    assert identity(shown, shown.unknown, NARROW) == [
        "nobody was seen using these sockets, or they were there before the trace",
        "owner ? unknown: nobody was seen using it   TIME_WAIT now 12 = <1% of 25,530",
    ]
    assert identity(shown, shown.total, NARROW) == [
        "all that was traced, known owners and unknown   netns 4026531840",
        "TIME_WAIT now 25,530",
    ]
    group = row("/system.slice", key="by//system.slice", time_wait_now=25_530)
    assert identity(drilled(by="cgroup"), group, NARROW)[0] == "/system.slice"


@pytest.mark.parametrize(
    ("exe", "cmdline", "expected"),
    [
        ("/usr/bin/python3.12", "python3 a.py", "python3 a.py"),
        ("/usr/bin/python3.12", "/opt/venv/bin/python a.py", "/opt/venv/bin/python a.py"),
        ("/usr/bin/python3.12", "gunicorn", "/usr/bin/python3.12 gunicorn"),
        ("/usr/bin/python3.12", None, "/usr/bin/python3.12"),
        (None, "java -jar x", "java -jar x"),
        (None, None, "orders"),
        ("/bin/x", "\x1b[2J", "/bin/x \\x1b[2J"),
    ],
)
def test_command(exe: str | None, cmdline: str | None, expected: str) -> None:
    whose = row("a", process=Process(1, NOW_US, "orders", exe=exe, cmdline=cmdline))
    assert identity(drilled(flows=()), whose, NARROW)[0] == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59, "59 s"), (720, "12 min"), (7_500, "2 h 05 min"), (273_600, "3 d 04 h"), (-5, "0 s")],
)
def test_up(seconds: int, expected: str) -> None:
    whose = DRILLED._replace(process=Process(4711, NOW_US - seconds * 1_000_000, "a"))
    assert f"up {expected}" in identity(drilled(flows=()), whose, 200)[0].split("   ")


def test_several_namespaces_are_counted() -> None:
    shown = drilled(flows=(DATABASE, replace(CACHE, netns=NETNS - 1), replace(CACHE, netns=NETNS + 1)))
    assert "netns 4026531839 and 2 more" in identity(shown, DRILLED, 200)[0].split("   ")


# Why


def test_why() -> None:
    assert why(drilled(), DRILLED, HALF) == [
        "Σ 29,670 closes                               415.0/s now",
        "├─ 99.1%  we close first ──▶ TIME_WAIT             29,400",
        "│         close() 29,380   shutdown() 14   exit() 6",
        "│         60 more sent a FIN first and ended below",
        "├─  0.7%  peer closes first ─▶ CLOSE_WAIT             200",
        "├─  0.1%  RST received                                 40",
        "├─  0.1%  RST sent (SO_LINGER 0, unread data)          20",
        "├─ <0.1%  failed: no connection, or timed out           8",
        "└─ <0.1%  other: both at once, or not seen              2",
    ]


def test_why_says_what_overflowed_and_what_is_held() -> None:
    shown = drilled(overflows=(Tally(NETNS, 120, 7, DATABASE.who), Tally(NETNS, 9, 9, who("else[1]"))))
    lines = why(shown, DRILLED, HALF)
    assert lines[3] == "│         ▲ 120 left none: too many (tcp_max_tw_buckets)"
    assert lines[4] == "│         60 more sent a FIN first and ended below"
    assert why(shown, JAVA, HALF) == [
        "Σ 0 closes                                      0.0/s now",
        "▲ 41 left open in CLOSE_WAIT on port 8080, oldest 12 min",
        "· 2 half-closed in FIN_WAIT2 to port 443, oldest 10.0 s",
    ]
    assert why(drilled(held=()), JAVA, HALF)[1:] == ["▲ 41 left open in CLOSE_WAIT"]
    assert detail.why(shown, JAVA, HALF, 9)[1][0].severity is Severity.WARN


def test_why_with_little_room_still_adds_up() -> None:
    assert why(drilled(), DRILLED, HALF, 8)[1:4] == [
        "├─ 99.1%  we close first ──▶ TIME_WAIT             29,400",
        "│         close() 29,380   shutdown() 14   exit() 6",
        "├─  0.7%  peer closes first ─▶ CLOSE_WAIT             200",
    ]
    assert why(drilled(), DRILLED, HALF, 4) == [
        "Σ 29,670 closes                               415.0/s now",
        "├─ 99.1%  we close first ──▶ TIME_WAIT             29,400",
        "├─  0.7%  peer closes first ─▶ CLOSE_WAIT             200",
        "└─  0.2%  other                                        70",
    ]


def test_what_never_happened_is_left_out_before_what_did() -> None:
    one = row("a", closes=5, first_remote=4, resets_received=1)
    assert len(why(drilled(), one, HALF)) == 7
    assert why(drilled(), one, HALF, 6)[1:] == [
        "├─ 80.0%  peer closes first ─▶ CLOSE_WAIT               4",
        "└─ 20.0%  RST received                                  1",
    ]


@pytest.mark.parametrize(
    ("fields", "figures"),
    [
        ({"first_local": 10, "ways": Ways(10, 0, 0, 0)}, [10, 0, 0, 0, 0, 0]),
        ({"first_remote": 9}, [0, 9, 0, 0, 0, 1]),
        # peer's FIN first, then our reset: the reset it is
        ({"first_remote": 10, "resets_sent": 4}, [0, 6, 0, 4, 0, 0]),
        # ours first, then a reset came
        ({"first_local": 10, "ways": Ways(7, 0, 0, 0), "resets_received": 3}, [7, 0, 3, 0, 0, 0]),
        ({"failed": 10}, [0, 0, 0, 0, 10, 0]),
        ({}, [0, 0, 0, 0, 0, 10]),
        # no process: how it closed is not counted
        ({"first_local": 6, "resets_sent": 4, "first_remote": 1}, [6, 0, 0, 4, 0, 0]),
    ],
)
def test_parts_add_up(fields: dict[str, object], figures: list[int]) -> None:
    lines = why(drilled(), row("a", closes=10, **fields), HALF)
    counts = [int(line.split()[-1]) for line in lines if line[0] in "├└"]
    assert counts == figures
    assert sum(counts) == 10


# Peers


def test_peers() -> None:
    found = detail.peer_table(drilled(), DRILLED, HALF)
    assert found.title == "PEERS  3"
    assert drawn(found) == [
        " PEER                   TW/s  TW NOW PORTS LIFE p50 AGAIN",
        " 10.2.0.9:5432         412.0  24,103  ▲88%   9.1 ms   98%",
        " 10.2.0.10:5432          0.0       0     –    3.4 s    0%",
        " 127.0.0.1:6379          0.0       0     –   1.0 ms    6%",
    ]
    assert [line.cells[3].severity for line in found.lines] == [
        Severity.WARN,
        Severity.PLAIN,
        Severity.PLAIN,
    ]
    assert drawn(detail.peer_table(drilled(), DRILLED, 96))[3] == (
        " 127.0.0.1:6379               0.0       0     –   1.0 ms    6%      208    4% redis-server[880] "
    )


@pytest.mark.parametrize(
    ("fields", "ports"),
    [
        ({"settles": 22_586.0}, "▲88%"),
        ({"settles": 22_585.0}, "88%"),
        ({"settles": 24_840.0, "reuse": True}, "88%"),
        ({"settles": 1.0, "failures_lately": 1}, "▲88%"),
        ({"size": None}, "–"),
        ({"live": 9_999}, "▲100%"),
        ({"netns": 1}, "–"),
        ({"saddr": "10.0.3.8"}, "–"),
        ({"dport": 5433}, "–"),
    ],
)
def test_ports_share(fields: dict[str, object], ports: str) -> None:
    def share(one: Flow, *pools: Pool) -> str:
        found = detail.peer_table(drilled(pools=pools, flows=(one,)), DRILLED, HALF)
        return found.lines[0].cells[3].text.strip()

    given = pool(**fields)
    assert share(DATABASE, QUIET_POOL, given) == ports
    assert share(DATABASE, pool(daddr=None, dport=None, time_waits=0, settles=0.0), given) == (
        ports if ports != "–" or "size" in fields else "<1%"
    )
    assert share(replace(DATABASE, role="server"), given) == "–"


def test_a_peer_is_found_again_in_a_later_snapshot() -> None:
    key = detail.peer_table(drilled(), DRILLED, HALF).lines[1].key
    later = replace(REPLICA, closes=21, time_wait_now=1, who=replace(REPLICA.who, label="renamed[4711]"))
    assert detail.find_flow(drilled(flows=(CACHE, later)), key) == later
    assert detail.find_flow(drilled(flows=(CACHE,)), key) is None
    assert detail.flow_key(later) == key


def test_no_peers() -> None:
    assert detail.peer_table(drilled(), JAVA, HALF).title == "PEERS  none so far"
    grouped = detail.peer_table(drilled(by="comm"), row("orders-api", key="by/orders-api"), HALF)
    assert grouped.title == "PEERS  known of processes, and the rows stand for comm: a"
    assert detail.peer_table(drilled(by="comm"), drilled().total, HALF).title == "PEERS  3"


def test_whose_is_what() -> None:
    shown = drilled()
    assert flows_of(shown, DRILLED) == flows_of(shown, shown.total) == shown.flows
    assert flows_of(shown, JAVA) == ()
    assert closes_of(shown, DRILLED) == tuple(reversed(shown.recent))
    assert closes_of(shown, UNKNOWN) == ()
    unowned = closed()._replace(row="unknown")
    assert closes_of(drilled(recent=(unowned,)), UNKNOWN) == (unowned,)


def peer(shown: Snapshot, one: Flow, columns: int = MIDDLE) -> list[str]:
    return fitted(detail.peer(shown, one, columns, MANY), columns, MANY)


def test_peer_in_full() -> None:
    assert peer(drilled(), DATABASE, NARROW) == [
        "owner     ● orders-api[4711], client at 10.0.3.7 in netns 4026531840",
        "peer      10.2.0.9:5432: not on this host, or not traced",
        "closes    29,442, of which we closed 29,400 (99%) first; half of them lasted",
        "          less than 9.1 ms",
        "TIME_WAIT 24,103 now, 29,400 so far, 412.0/s",
        "again     29,000 (98%) began within 1 s of another's end: poolable",
        "ports     █████████████████▌░░ 88% of 28,232: 24,600 TIME_WAIT + 120 live;",
        "          settles at 24,840; connect() fails above 471/s",
        "",
        "0      405 µs         9.0 ms     9.5 ms                            60,009 ms",
        "SYN ─▶ ESTABLISHED ═▶ close() ─▶ peer FIN ─▶ ┃━ TIME_WAIT 60 s ━┃▶ port free",
        "useful 8.6 ms : port held about 60,009 ms = 1 : 6,970   median of 9",
        "98% reconnect within 1 s: poolable",
    ]


def test_peer_of_a_server_with_all_that_can_go_wrong() -> None:
    one = flow(
        role="server",
        local="::1",
        remote="::2",
        port=443,
        closes=100,
        first_local=10,
        reconnects=0,
        resets_sent=7,
        reset_rate=0.5,
        lingering=3,
        age_p50_us=None,
        peer=who("curl ×412"),
    )
    assert peer(drilled(), one)[:7] == [
        "owner     ● orders-api[4711], server at [::1]:443 in netns 4026531840",
        "peer      ::2 (:443): curl ×412, on this host",
        "closes    100, of which we closed 10 (10%) first",
        "TIME_WAIT 24,103 now, 29,400 so far, 412.0/s",
        "again     0 (0%) began within 1 s of another's end",
        "resets    7 sent, 0.5/s now",
        "FIN_WAIT2 3 waited over 1 s for the peer's FIN",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"failures": 1_234, "failures_lately": 17, "exhausts_in_us": 0},
            "; ▲ none left in 0 µs; ▲ 1,234 connect() found none, 17 of them lately",
        ),
        ({"reuse": True}, "; connect() takes over those in TIME_WAIT after 1.0 s (tcp_tw_reuse)"),
    ],
)
def test_ports_of_a_peer(fields: dict[str, object], expected: str) -> None:
    lines = peer(drilled(pools=(QUIET_POOL, pool(**fields))), DATABASE, 200)
    assert next(line for line in lines if line.startswith("ports")).endswith(expected)


def test_ports_that_bind_took_and_those_of_unknown_number() -> None:
    bound = pool(daddr=None, dport=None, size=None)
    line = peer(drilled(pools=(bound,)), DATABASE, 200)[5]
    assert line == (
        "ports     24,600 TIME_WAIT + 120 live, of how many is not known; taken by bind(), so for all"
        " destinations; settles at 24,840"
    )
    elsewhere = replace(bound, who=who("else[1]"))
    assert not any("bind()" in line for line in peer(drilled(pools=(elsewhere,)), DATABASE))


# A typical connection


def test_typical() -> None:
    assert typical(drilled(), 96) == [
        "0       405 µs              9.0 ms      9.5 ms                                         60,009 ms",
        "SYN ──▶ ESTABLISHED ══════▶ close() ──▶ peer FIN ──▶ ┃━━━━━━━ TIME_WAIT 60 s ━━━━━━━┃▶ port free",
        "useful 8.6 ms : port held about 60,009 ms = 1 : 6,970   median of 9 of 10",
        "98% reconnect within 1 s: poolable",
    ]


def test_typical_with_little_room() -> None:
    full = typical(drilled(), MIDDLE)
    assert typical(drilled(), MIDDLE, 2) == full[1:]
    assert typical(drilled(), MIDDLE, 1) == full[2:]
    assert typical(drilled(), 66, 2)[0] == ("SYN ─▶ ESTAB ═▶ close() ─▶ peer FIN ─▶ ┃━━ TW 60 s ━━━┃▶ free")
    assert typical(drilled(), 40)[:3] == [
        "SYN 405 µs → ESTABLISHED 8.6 ms →",
        "close() 505 µs → TIME_WAIT 60,000 ms →",
        "port free",
    ]


def test_typical_of_nothing() -> None:
    text = "none of the last connections was one of these and seen from beginning to end"
    assert typical_of() == [text]
    assert typical_of(closed(age_us=None, states={"ESTABLISHED": 1})) == [text]
    assert typical_of(closed(how="failed", first="none", states={"SYN_SENT": 1}, time_wait=False)) == [text]


def test_typical_where_the_peer_closes_first() -> None:
    states = {"SYN_RECV": 4, "ESTABLISHED": 41_000, "CLOSE_WAIT": 900, "LAST_ACK": 30}
    one = closed(role="server", first="remote", via="shutdown", states=states, time_wait=False)
    times, course, use = typical_of(one)
    assert times.split("  ")[0] == "0"
    assert " ".join(course.replace("─", "").replace("═", "").split()) == (
        "SYN ▶ ESTABLISHED ▶ peer FIN ▶ shutdown() ▶ gone"
    )
    assert times.split() == ["0", "4", "µs", "41", "ms", "41", "ms", "41", "ms"]
    assert use == "useful 41 ms : socket kept 41 ms   median of 1   no TIME_WAIT on this side"


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({"how": "reset_sent", "first": "none"}, "ESTABLISHED ▶ RST sent ▶ port free"),
        ({"how": "reset_received", "first": "local"}, "ESTABLISHED ▶ close() ▶ RST received ▶ port free"),
        ({"how": "timeout", "first": "none"}, "ESTABLISHED ▶ timed out ▶ port free"),
        ({"first": "both", "via": "exit"}, "ESTABLISHED ▶ exit() ▶ port free"),
        ({"first": "local", "via": "unknown"}, "ESTABLISHED ▶ our FIN ▶ port free"),
    ],
)
def test_courses(fields: dict[str, object], steps: str) -> None:
    one = closed(**{"states": {"ESTABLISHED": 8_600}, "time_wait": False, **fields})
    course = typical_of(one)[1]
    assert " ".join(course.replace("─", "").replace("═", "").split()) == steps


def test_how_long_it_is_held_is_measured_on_those_that_are_over() -> None:
    """And not on those so young that only early ends can be known."""
    states = {"ESTABLISHED": 10_000, "FIN_WAIT1": 100}
    long_ago, just_now = NOW_US - 66_000_000, NOW_US - 5_000_000
    old = closed(ts_us=long_ago, states=states, end=ended(long_ago, lifetime_us=63_000_000))
    young = closed(ts_us=just_now, states=states, end=ended(just_now, lifetime_us=1_000_000))
    assert typical_of(old, young, young)[2] == "useful 10 ms : port held 63,010 ms = 1 : 6,301   median of 3"
    assert " TIME_WAIT 63 s " in typical_of(old, young, young)[1]
    lingered = closed(ts_us=long_ago, states=states, end=ended(long_ago, fin_wait2_us=40_000))
    assert typical_of(lingered)[2] == "useful 10 ms : port held 60,949 ms = 1 : 6,095   median of 1"
    assert typical_of(young)[2] == "useful 10 ms : port held about 60,010 ms = 1 : 6,001   median of 1"
    assert typical_of(young, pools=(pool(lifetime_us=61_000_000),))[2].startswith(
        "useful 10 ms : port held about 61,010 ms"
    )


def test_the_commonest_kind_is_typical() -> None:
    ours = closed(states={"ESTABLISHED": 1_000})
    theirs = closed(states={"ESTABLISHED": 2_000, "CLOSE_WAIT": 1}, first="remote", time_wait=False)
    assert typical_of(ours, theirs, theirs)[2].startswith(
        "useful 2.0 ms : port held 2.0 ms   median of 2 of 3"
    )
    median = [closed(states={"ESTABLISHED": us}) for us in (9_000, 1_000, 3_000)]
    assert typical_of(*median)[2].startswith("useful 3.0 ms")


# Sockets


def test_sockets() -> None:
    found = detail.socket_table(drilled(), DRILLED, 98, clock)
    assert found.title == "SOCKETS  newest first  13 of 29,670 closed"
    assert drawn(found)[:7] == [
        "   TIME         LOCAL                 PEER                        STATE          LEFT ENDED BY    ",
        " ● 22:13:19.500 127.0.0.1:33524       127.0.0.1:6379              ▲ overflow        – close()     ",
        " ● 22:13:19.400 127.0.0.1:33522       127.0.0.1:6379              reused            – exit()      ",
        " ● 22:13:19.300 127.0.0.1:33520       127.0.0.1:6379              RST sent          – RST close() ",
        " ● 22:13:19.200 127.0.0.1:33518       127.0.0.1:6379              closed            – peer FIN    ",
        " ● 22:13:12.997 10.0.3.7:50999        10.2.0.9:5432               TIME_WAIT    53.0 s close()     ",
        " ● 22:13:05.994 10.0.3.7:50998        10.2.0.9:5432               TIME_WAIT    46.0 s close()     ",
    ]
    assert column("age") == "9.1 ms"
    assert [line.key for line in found.lines[:3]] == ["2004", "2003", "2002"]
    assert [line.cells[4].severity for line in found.lines[:5]] == [
        Severity.WARN,
        Severity.PLAIN,
        Severity.PLAIN,
        Severity.PLAIN,
        Severity.STRONG,
    ]


def test_sockets_of_all_name_their_owners() -> None:
    shown = drilled()
    headings = [heading.key for heading in detail.socket_table(shown, shown.total, NARROW, clock).headings]
    assert headings == ["grade", "time", "peer", "state", "owner"]
    headings = [heading.key for heading in detail.socket_table(shown, DRILLED, NARROW, clock).headings]
    assert headings == ["grade", "time", "peer", "state", "left", "by"]


def test_no_more_sockets_than_a_table_can_take() -> None:
    many = tuple(
        closed(ends=Endpoints(number, NETNS, 4, "a", 1, "b", 2))._replace(row=ORDERS.key)
        for number in range(300)
    )
    found = detail.socket_table(drilled(recent=many), DRILLED, MIDDLE, clock)
    assert len(found.lines) == 200
    assert found.lines[0].key == "299"
    assert found.title == "SOCKETS  newest first  200 of 29,670 closed"
    assert found.total == 29_670
    after_a_reset = detail.socket_table(drilled(recent=many), DRILLED._replace(closes=4), MIDDLE, clock)
    assert after_a_reset.title == "SOCKETS  newest first  200 of 300 closed"
    assert detail.socket_table(drilled(), JAVA, MIDDLE, clock).title == "SOCKETS  none so far"


def column(key: str, **fields: object) -> str:
    """What a socket's line has there."""
    one = closed(**fields)._replace(row=ORDERS.key)
    found = detail.socket_table(drilled(recent=(one,)), DRILLED, 200, clock)
    at = [heading.key for heading in found.headings].index(key)
    return found.lines[0].cells[at].text.strip()


@pytest.mark.parametrize(
    ("fields", "state", "ended_by"),
    [
        ({}, "TIME_WAIT", "close()"),
        ({"via": "shutdown"}, "TIME_WAIT", "shutdown()"),
        ({"via": "unknown"}, "TIME_WAIT", "own FIN"),
        ({"first": "both"}, "TIME_WAIT", "both FIN"),
        ({"first": "remote", "time_wait": False}, "closed", "peer FIN"),
        ({"first": "none", "how": "reset_sent", "via": "abort", "time_wait": False}, "RST sent", "RST abort"),
        ({"first": "none", "how": "reset_sent", "via": "unknown", "time_wait": False}, "RST sent", "RST"),
        ({"first": "none", "how": "reset_received", "time_wait": False}, "RST received", "peer RST"),
        ({"how": "reset_received", "time_wait": False}, "RST received", "close()"),
        ({"first": "none", "how": "timeout", "time_wait": False}, "timed out", "timeout"),
        ({"first": "none", "how": "failed", "time_wait": False}, "failed", "connect()"),
        ({"first": "none", "how": "unknown", "time_wait": False}, "ended", "not seen"),
        ({"end": ended(0)}, "expired", "close()"),
        ({"end": ended(0, reason="replaced")}, "new SYN", "close()"),
        ({"end": ended(0, reason="unknown")}, "ended", "close()"),
    ],
)
def test_states_and_ends(fields: dict[str, object], state: str, ended_by: str) -> None:
    assert (column("state", **fields), column("by", **fields)) == (state, ended_by)


@pytest.mark.parametrize(
    ("ago_us", "left"), [(0, "60.0 s"), (59_940_000, "0.1 s"), (60_000_000, "due"), (64_000_000, "due")]
)
def test_left(ago_us: int, left: str) -> None:
    assert column("left", ts_us=NOW_US - ago_us) == left


def test_socket_in_full() -> None:
    *_, query, by_peer, reset, reused, overflow = drilled().recent
    assert socket(query) == [
        "socket    10.0.3.7:50999 → 10.2.0.9:5432",
        "          client, IPv4, netns 4026531840, number 999",
        "owner     ● orders-api[4711], certain: seen in its own connect, read, write or close",
        "opened by the same",
        "closed by the same",
        "opened    22:13:12.987",
        "closed    22:13:12.997 after 9.5 ms: we closed first by close(); ended by FIN",
        "states    SYN_SENT 401 µs → ESTABLISHED 8.6 ms → FIN_WAIT1 80 µs → FIN_WAIT2 421 µs",
        "TIME_WAIT from 22:13:12.997 on; 53.0 s of 60 left",
    ]
    assert socket(by_peer)[6:] == [
        "closed    22:13:19.200 after 1.0 ms: the peer closed first, then we by close(); ended by FIN",
        "states    SYN_SENT 40 µs → ESTABLISHED 700 µs → CLOSE_WAIT 200 µs → LAST_ACK 60 µs",
        "TIME_WAIT none on this side: the peer closed first",
    ]
    assert socket(reset)[6:] == [
        "closed    22:13:19.300 after 2.0 ms: no FIN was sent, closed by close(); ended by a reset we sent",
        "states    none was seen",
        "TIME_WAIT none on this side: a reset leaves none",
    ]
    assert socket(reused)[5:] == [
        "opened    before the trace",
        "closed    22:13:19.400: we closed first by exit(); ended by FIN",
        "states    none was seen",
        "TIME_WAIT from 22:13:19.400 on; its port was taken over by connect() at 22:14:20.300 after 1.1 s",
        "          by ● orders-api[4711], certain: seen in its own connect, read, write or close",
        "          born as FIN_WAIT2, 500 µs before the peer's FIN",
    ]
    lingered = reused.close, ended(reused.close.ts_us, fin_wait2_us=2_000_000)
    assert socket(Closed(*lingered, ""))[-2:] == [
        "TIME_WAIT from 22:13:21.400 on; expired at 22:14:20.300 after 60.9 s",
        "          born as FIN_WAIT2, 2.0 s before the peer's FIN",
    ]
    assert socket(overflow)[-1] == "TIME_WAIT ▲ left out: there were too many already (tcp_max_tw_buckets)"


def test_socket_of_several_hands() -> None:
    one = closed(
        role="unknown",
        bound=True,
        opener=Owner(Grade.INFERRED, Process(1, 0, "init")),
        closer=UNKNOWN_OWNER,
        ends=Endpoints(7, NETNS, 6, "::1", 1, "::2", 2),
        end=ended(NOW_US, reason="killed", lifetime_us=None, fin_wait2_us=None, rearmed=2),
    )
    assert socket(one) == [
        "socket    [::1]:1 → [::2]:2",
        "          client or server, not seen, its port taken by bind(), IPv6, netns 4026531840, number 7",
        "owner     ● orders-api[4711], certain: seen in its own connect, read, write or close",
        "opened by ◐ init[1], inferred: found among its open files",
        "closed by nobody that was seen",
        "opened    22:13:20.108",
        "closed    22:13:20.118 after 9.1 ms: we closed first by close(); ended by FIN",
        "states    none was seen",
        "TIME_WAIT not reached, or not seen; killed at 22:14:20.900",
        "          its timer was started anew 2 times",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"how": "failed", "first": "none"}, "connect() did not succeed"),
        ({"how": "timeout", "first": "remote", "via": "unknown"}, "the peer closed first; timed out"),
        ({"how": "unknown", "first": "none", "via": "unknown"}, "no FIN was sent; how it ended was not seen"),
        ({"first": "both", "via": "exit"}, "both closed at once, we by exit(); ended by FIN"),
    ],
)
def test_how_it_closed(fields: dict[str, object], expected: str) -> None:
    assert socket(closed(**fields))[6].endswith(f"after 9.1 ms: {expected}")


def test_a_socket_is_found_by_its_number() -> None:
    shown = drilled()
    assert detail.find_closed(shown, "2003") == shown.recent[-2]
    assert detail.find_closed(shown, "0") is None


def test_socket_says_from_where_it_was_closed() -> None:
    looked_at = closed(site=3)
    assert socket(looked_at._replace(place=REAP), 76)[9:12] == [
        "call site Pool::reap(Clock&) /home/ci/build/orders/src/pool/reaper.cc:1117",
        "          main → Pool::run() → Pool::reap(Clock&) → close",
        "states    none was seen",
    ]
    assert "call site not resolved" in socket(looked_at)
    assert not [line for line in socket(closed()) if "call site" in line]


# Call sites


def test_call_sites() -> None:
    shown = drilled(sites=(SITES,))
    whole = why(shown, DRILLED, NARROW, 18)
    assert whole[:9] == why(drilled(), DRILLED, NARROW)
    assert whole[9:] == [
        "call sites of 128 TIME_WAITs looked at, of 29,400",
        "  71%  finish_request                                    src/server.c:88",
        "  16%  give_up                                          src/server.c:131",
        "   6%  Pool::reap(Clock&)               …/orders/src/pool/reaper.cc:1117",
        "   2%  elsewhere",
        "   5%  not resolved",
    ]
    assert why(shown, CURL, NARROW) == why(drilled(), CURL, NARROW)
    assert why(shown, shown.total, NARROW) == why(drilled(), drilled().total, NARROW)


def test_call_sites_with_little_room() -> None:
    shown = drilled(sites=(SITES,))
    assert why(shown, DRILLED, HALF, 9) == [
        *why(drilled(), DRILLED, HALF, 5),
        "call sites of 128 TIME_WAITs looked at, of 29,400",
        "  71%  finish_request                     src/server.c:88",
        "  16%  give_up                           src/server.c:131",
        "   6%  Pool::reap(Clock&)       …/src/pool/reaper.cc:1117",
    ]
    assert why(shown, DRILLED, HALF, 14)[-2:] == ["   2%  elsewhere", "   5%  not resolved"]


# Whatever names there are


def hostile_snapshot(name: str, address: str) -> tuple[Snapshot, Row]:
    whose = replace(who("a[1]"), label=name)
    proc = Process(1, 0, name, 0, name, name, name, name, name)
    owner = Owner(Grade.CERTAIN, proc)
    states = {"ESTABLISHED": 8, name: 5}
    one = row(
        name,
        key="a[1]",
        process=proc,
        pids=(1, 2),
        cgroup=name,
        closes=9,
        first_local=9,
        ways=Ways(8, 0, 0, 0),
        held_close_wait=1,
        history=(1, 2),
    )
    there = flow(who=whose, local=address, remote=address, peer=whose)
    ends = Endpoints(1, NETNS, 6, address, 1, address, 5432)
    last = closed(owner=owner, opener=owner, ends=ends, states=states, via=name, end=ended(0, by=owner))
    strange = closed(owner=process(2, name), how=name, first=name, role=name, end=ended(0, reason=name))
    place = Place("close", name, name, 8, (name, name))
    shown = drilled(
        rows=(one,),
        flows=(there,),
        pools=(pool(saddr=address, daddr=address),),
        held=(HeldGroup(whose, "CLOSE_WAIT", name, NETNS, 80, 3, 0),),
        overflows=(Tally(NETNS, 1, 1, whose),),
        recent=(last._replace(row="a[1]", place=place), strange._replace(row="a[1]")),
        sites=(CallSites(whose, 9, 9, (Closing(place, 1, 1), Closing(None, 1, 1))),),
    )
    return shown, one


@given(columns=COLUMNS, rows=ROWS, name=HOSTILE, address=HOSTILE)
def test_hostile_names(columns: int, rows: int, name: str, address: str) -> None:
    shown, one = hostile_snapshot(name, address)
    there = shown.flows[0]
    for whose in (one, shown.total, shown.unknown):
        fitted(detail.identity(shown, whose, columns, rows), columns, rows)
        fitted(detail.why(shown, whose, columns, rows), columns, rows)
        fitted(detail.typical(shown, whose, columns, rows), columns, rows)
        fitted((detail.crumbs(columns, whose, there, shown.recent[0]),), columns, 1)
        for table in (
            detail.peer_table(shown, whose, columns),
            detail.socket_table(shown, whose, columns, lambda _: name),
        ):
            assert printable(table.title) == table.title
            fitted(tuple(line.cells for line in table.lines), columns, 200)
            heading = sum(width(one.text) for one in table.headings)
            assert {width(text_of(line.cells)) for line in table.lines} <= {heading}
    fitted(detail.peer(shown, there, columns, rows), columns, rows)
    for last in shown.recent:
        fitted(detail.socket(last, shown, columns, rows, lambda _: name), columns, rows)


@given(columns=COLUMNS, rows=ROWS)
def test_usual_names(columns: int, rows: int) -> None:
    shown = drilled()
    for whose in (*shown.rows, shown.unknown, shown.total):
        identity(shown, whose, columns, rows)
        why(shown, whose, columns, rows)
        for table in (
            detail.peer_table(shown, whose, columns),
            detail.socket_table(shown, whose, columns, clock),
        ):
            assert {width(text) for text in drawn(table)} <= set(range(columns + 1))
    typical(shown, columns, rows)
    assert snapshot().recent == ()
