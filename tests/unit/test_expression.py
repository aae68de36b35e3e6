from __future__ import annotations

import shlex
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.tui.samples import CURL, JAVA, ORDERS, TOTAL, UNKNOWN, row
from tests.unit.samples import T0, birth, close, held, owner, start
from tracer import cli
from tracer.aggregate import Aggregator
from tracer.commands import live, running
from tracer.errors import ExitCode, UsageError
from tracer.expression import ALIASES, EVERYTHING, KEYS, Expression, FilterError, parse
from tracer.filters import Filters
from tracer.live import Plan
from tracer.model import (
    UNKNOWN_OWNER,
    Counters,
    Endpoints,
    Event,
    Flow,
    Grade,
    Lost,
    Owner,
    Pool,
    Process,
    Row,
    Who,
)
from tracer.text import printable, width

ENDS = Endpoints(7, 4026531840, 4, "10.0.3.7", 51224, "10.2.0.9", 5432)
ENDS6 = Endpoints(8, 4026531841, 6, "2001:db8::1", 443, "2001:db8:5::2", 60000)
OWNER = Owner(
    Grade.CERTAIN,
    Process(
        4711,
        1,
        "orders-api",
        uid=33,
        cgroup="/system.slice/orders.service",
        unit="orders.service",
        container="0a1b2c",
        exe="/usr/bin/python3.12",
        cmdline="gunicorn orders.wsgi -w 8",
    ),
)
BARE = Owner(Grade.INFERRED, Process(5, 1, "(sd-pam)"))


def passes(text: str, ends: Endpoints = ENDS, whose: Owner = OWNER) -> bool:
    return parse(text).passes(ends, whose)


@pytest.mark.parametrize(
    "text",
    [
        "proc:orders",
        "PROC:ORDERS",
        "comm:nginx,Orders",
        "proc=orders-api",
        "proc=nginx,orders-api",
        "proc:/^orders-[a-z]+$/",
        "proc:/(?i)^ORDERS/",
        'proc:"ders-a"',
        "pid:4711",
        "pid=4711",
        "pid:1,4711",
        "pid:4000-5000",
        "pid:4711-4711",
        "pid>4710",
        "pid>=4711",
        "pid<4712",
        "pid<=4711",
        "uid:33",
        "cgroup:/orders/",
        'cgroup:"/system.slice"',
        "cgroup:/^\\/system.slice\\//",
        "cgroup=/system.slice/orders.service",
        "unit:orders.service",
        "container:0a1b",
        "exe=/usr/bin/python3.12",
        'cmdline:"-w 8"',
        "cmdline:/wsgi -w \\d/",
        'cmdline:nothing,"wsgi -w"',
        "grade:certain",
        "grade:unknown,Certain",
        "netns:4026531840",
        "sport:51224",
        "lport:51000-52000",
        "dport:80,5432",
        "rport:5432",
        "dport<=5432",
        "port:51224",
        "port:5432",
        "saddr:10.0.3",
        "laddr=10.0.3.7",
        "daddr:10.2.0.0/16",
        "daddr:10.2.5.5/16",
        "raddr=10.2.0.8/31",
        "peer:0.9",
        "peer:/^10\\.2\\./",
        "peer:192.0.2.1,10.2.0.0/24",
        "family:4",
        "family:4,6",
        "orders",
        "ORDERS",
        "api[4711]",
        "10.2.0.9",
        "10.2.0.9:5432",
        ":5432",
        "nginx,orders",
        '"ders-a"',
        "!proc:nginx",
        "!nginx",
        "!dport:443",
        "!uid:0",
        '!cmdline:"-w 9"',
        "!cgroup:/lb/",
        "proc:orders dport:5432 !cgroup:/lb/",
        "\tproc:orders\n dport:5432 ",
        "!( proc:nginx )",
        "!(proc:nginx)",
        "!( proc:orders dport:80 )",
        "!( !( proc:orders ) )",
        "",
        "  ",
    ],
)
def test_a_connection_passes(text: str) -> None:
    assert passes(text)
    assert not parse(text) or not parse(text).inverted().passes(ENDS, OWNER)


@pytest.mark.parametrize(
    "text",
    [
        "proc:nginx",
        "proc=orders",
        "proc=ORDERS-API",
        "proc:/ORDERS/",
        "pid:471",
        "pid:4712-9999",
        "pid>4711",
        "pid<4711",
        "pid>=4712",
        "uid:0",
        'cgroup:"/orders/"',
        "exe=python3.12",
        "grade:inferred",
        "netns:1",
        "sport:5432",
        "dport:51224",
        "dport:80,443",
        "port:80",
        "!port:5432",
        "!port:51224",
        "saddr:10.2",
        "daddr:10.3.0.0/16",
        "daddr=10.2.0.90",
        "daddr:2001:db8::/32",
        "family:6",
        "nginx",
        "10.0.3.7",
        "!proc:orders",
        "!orders",
        "!10.2.0",
        "proc:orders dport:443",
        "proc:nginx dport:5432",
        "!( proc:orders )",
        "!(proc:orders dport:5432)",
    ],
)
def test_a_connection_does_not_pass(text: str) -> None:
    assert not passes(text)
    assert parse(text).inverted().passes(ENDS, OWNER)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("peer:2001:db8:5::/48", True),
        ("peer=2001:DB8:5:0::2", True),
        ("peer:2001:DB8", True),
        ("peer:0.0.0.0/0", False),
        ("[2001:db8:5::2]:60000", True),
        ("2001:db8", True),
        ("cafe::1", False),
        ("sport:443 family:6", True),
    ],
)
def test_ipv6(text: str, expected: bool) -> None:
    assert passes(text, ENDS6) is expected


def test_an_address_that_is_none_is_in_no_network() -> None:
    assert not passes("peer:0.0.0.0/0", ENDS._replace(daddr="?"))


@pytest.mark.parametrize(
    "term",
    [
        "proc:a",
        "pid>0",
        "uid:0",
        "cgroup:a",
        "unit:a",
        "container:a",
        "exe:/./",
        "cmdline:a",
        "grade:certain",
    ],
)
def test_an_unknown_owner_does_not_match(term: str) -> None:
    assert not passes(term, whose=UNKNOWN_OWNER)
    assert passes(f"!{term}", whose=UNKNOWN_OWNER)


def test_what_is_not_known_of_a_process_does_not_match() -> None:
    for term in ("uid<1000", "cgroup:/./", "unit:a", "container:a", "exe:a", "cmdline:a"):
        assert not passes(term, whose=BARE)
        assert passes(f"!{term}", whose=BARE)


def test_unknown_is_what_an_unknown_owner_is_called() -> None:
    assert passes("grade:unknown", whose=UNKNOWN_OWNER)
    assert passes("unknown", whose=UNKNOWN_OWNER)
    assert not passes("unknown")


def test_upper_and_lower_case_are_one_unless_all_of_it_is_asked_for() -> None:
    manager = Owner(Grade.CERTAIN, Process(1, 1, "NetworkManager"))
    for text in ("proc:networkm", "proc:a-b,NETWORKM", "networkMANAGER[1]", "proc=NetworkManager"):
        assert passes(text, whose=manager)
    for text in ("proc=networkmanager", "proc:/networkm/"):
        assert not passes(text, whose=manager)


def test_parentheses_in_quotes_stand_for_themselves() -> None:
    for text in ('"(sd-pam)"', 'proc="(sd-pam)"', "proc:/\\(sd-/", '!( !"(sd-pam)" )', '!(!proc:"(sd")'):
        assert passes(text, whose=BARE)
        assert not passes(text)


def test_terms_about_rows_let_connections_pass() -> None:
    for text in ("tw>1000", "!tw>1000", "role:server", "!( tw>1000 )", "!( proc:orders tw>9 )"):
        assert passes(text)
    assert passes("proc:orders tw>9")
    assert not passes("proc:nginx tw>9")


def test_levels() -> None:
    levels = {text: (parse(text).by_owner, parse(text).row_level) for text in ("", *LEVELS)}
    assert levels == {"": (False, False), **LEVELS}


LEVELS = {
    "dport:5432 peer:10.0.0.0/8": (False, False),
    "dport:5432 proc:a": (True, False),
    "orders": (True, False),
    "!grade:unknown": (True, False),
    "tw/s>1": (False, True),
    "!( role:client uid:0 )": (True, True),
}

BUSY = row(
    "web[1]",
    closes=200,
    close_rate=60.5,
    time_waits=150,
    time_wait_rate=9.9,
    time_wait_now=594,
    held_close_wait=2,
    held_fin_wait2=3,
    first_local=150,
    resets_sent=5,
    resets_received=15,
    age_p50_us=9_100,
    role="mixed",
)


@pytest.mark.parametrize(
    "text",
    [
        "tw:594",
        "tw>=594",
        "tw:500-600",
        "tw/s>9.8",
        "tw/s<10",
        "tw/s=9.9",
        "tw/s:1,9.5-9.9",
        "close/s>60",
        "close/s>=60.5",
        "closes:200",
        "first:75",
        "first>74.9%",
        "rst:10%",
        "rst<=10",
        "held:5",
        "life>9ms",
        "life<9.2ms",
        "life:9000us-1s",
        "life<3min",
        "life<3m",
        "life<1h",
        "life<1",
        "role:mixed",
        "role=client,mixed",
        "!tw>594",
        "tw>1 tw/s>1",
        "!( tw>594 )",
        "!( tw>1 tw/s>10 )",
    ],
)
def test_a_row_passes(text: str) -> None:
    assert parse(text).passes_row(BUSY, ())
    assert not parse(text).inverted().passes_row(BUSY, ())


@pytest.mark.parametrize(
    "text",
    ["tw>594", "tw/s>9.9", "first<75", "rst>10", "held<5", "life<9.1ms", "role:server", "tw>1 tw/s>10"],
)
def test_a_row_does_not_pass(text: str) -> None:
    assert not parse(text).passes_row(BUSY, ())
    assert parse(text).inverted().passes_row(BUSY, ())


def test_shares_and_ages_of_nothing_do_not_match() -> None:
    for term in ("first>=0", "rst>=0", "life>=0"):
        assert not parse(term).passes_row(JAVA, ())
        assert parse(f"!{term}").passes_row(JAVA, ())


def who(of: Row, comm: str | None, *pids: int, grade: Grade | None = Grade.CERTAIN) -> Who:
    return Who(of.label, comm, pids, grade, of.key)


def flow(
    whose: Who, remote: str, port: int, *, role: str = "client", here: tuple[int, str] = (1, "10.0.3.7")
) -> Flow:
    return Flow(whose, role, *here, remote, port, 1, 1, 1, 0.0, 1, 0, None, 0, 0.0, 0, None)


def pool(whose: Who, daddr: str | None = "10.2.0.9", dport: int | None = 5432) -> Pool:
    return Pool(1, 4, "10.0.3.7", daddr, dport, 100, 1, 0, 0, 0, 0.0, 0.0, 60, False, 0, 0.0, None, whose)


ORDERS_WHO = who(ORDERS, "orders-api", 4711)
FLOWS = (
    flow(who(BUSY, "web", 1), "192.0.2.1", 443, role="server"),
    flow(who(BUSY, "web", 1), "10.9.1.1", 8080, here=(2, "10.0.3.8")),
    flow(ORDERS_WHO, "10.2.0.9", 5432),
    flow(who(CURL, "curl", 1, 2), "2001:db8::1", 443),
)


def kept(text: str) -> str:
    """Those of four rows that pass, by their first letters."""
    passing = parse(text)
    return "".join(one.label[0] for one in (BUSY, ORDERS, CURL, JAVA) if passing.passes_row(one, FLOWS))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", "wocj"),
        ("dport:5432", "o"),
        ("dport:443", "c"),
        ("sport:443", "w"),
        ("port:443", "wc"),
        ("dport:8080 peer:10.9.1.1", "w"),
        # Both hold of some flow, but not of the same one.
        ("sport:443 peer:10.9.1.1", ""),
        ("sport:443 10.9.1.1", ""),
        ("sport:443 192.0.2", "w"),
        ("sport:443 web", "w"),
        # A row is kept for what else it does.
        ("!dport:8080", "wocj"),
        ("!port:443", "woj"),
        ("peer:10.0.0.0/8 !dport:8080", "o"),
        ("!dport:5432", "wcj"),
        ("!( dport:8080 )", "ocj"),
        ("!( port:443 )", "oj"),
        ("family:6", "c"),
        ("family:4", "wo"),
        ("netns:2", "w"),
        ("saddr:10.0.3.8", "w"),
        ("!saddr:10.0.3.8", "wocj"),
        ("10.9.1.1:8080", "w"),
        ("10.", "wo"),
        ("e", "wo"),
        ("!e", "cj"),
        ("java", "j"),
        ("!java", "woc"),
        ("orders-api[4711]", "o"),
        ("proc:orders,curl", "oc"),
        ("proc=curl", "c"),
        ("proc:471", ""),
        ("!proc:orders", "wcj"),
        ("pid:4711", "o"),
        ("pid>4711", ""),
        ("!pid:4711", "wcj"),
        ("grade:inferred", "c"),
        ("cgroup:orders", "o"),
        ("!cgroup:orders", "wcj"),
        ("uid:33", ""),
        ("!uid:33", "wocj"),
        ("tw>500 dport:5432", "o"),
        ("tw>500 port:443", "w"),
    ],
)
def test_rows(text: str, rows: str) -> None:
    assert kept(text) == rows


def test_a_row_without_flows_has_its_top_peer() -> None:
    client = row("a[1]", top_peer="10.2.0.9:5432")
    client6 = row("a[1]", top_peer="[2001:db8::1]:443")
    server = row("a[1]", top_peer="10.0.3.1 (:443)")
    server6 = row("a[1]", top_peer="2001:db8::1 (:443)")
    expected = {
        "dport:5432": [client],
        "dport:443": [client6],
        "sport:443": [server, server6],
        "peer:2001:db8::/32": [client6, server6],
        "peer=10.0.3.1": [server],
        "family:4": [client, server],
        "family:6": [client6, server6],
        "10.2.0.9:5432": [client],
        "10.0.3": [server],
        "!port:443": [client],
        "saddr:10": [],
        "netns>0": [],
    }
    peers = (client, client6, server, server6)
    assert expected == {
        text: [one for one in peers if parse(text).passes_row(one, FLOWS)] for text in expected
    }


def test_the_process_of_a_row_speaks_for_it() -> None:
    web = row("web ×2", process=OWNER.process, pids=(4711, 4712), cgroup="/other")
    for text in ("proc=orders-api", "uid:33", "exe:python", "unit:orders", "pid:4712", "cgroup=/other"):
        assert parse(text).passes_row(web, ())
        assert not parse(text).inverted().passes_row(web, ())
    assert not parse("proc:web").passes_row(web, ())
    # As with ports: it has other processes too.
    assert parse("!pid:4712").passes_row(web, ())
    assert not parse("!pid:4711-4712").passes_row(web, ())


def test_of_very_many_processes_any_could_be_the_one() -> None:
    fleet = row("worker ×300", pids=tuple(range(100, 116)))
    for text in ("pid:115", "pid:300", "!( pid:300 )"):
        assert parse(text).passes_row(fleet, ())
    assert not parse("pid:300 proc:nginx").passes_row(fleet, ())


def test_the_unknown_and_the_sum_have_no_owner() -> None:
    for one in (UNKNOWN, TOTAL):
        for term in ("proc:/./", "pid>0", "cgroup:/./", "uid>=0"):
            assert not parse(term).passes_row(one, ())
            assert parse(f"!{term}").passes_row(one, ())
    assert parse("grade:unknown").passes_row(UNKNOWN, ())
    assert not parse("grade:unknown").passes_row(TOTAL, ())
    assert parse("unknown").passes_row(UNKNOWN, ())


def test_rows_of_groups_go_by_their_name() -> None:
    by_cgroup = row("/system.slice/nginx.service")
    assert parse("cgroup:nginx").passes_row(by_cgroup, ())
    assert not parse("proc:nginx").passes_row(by_cgroup, ())
    assert parse("proc=nginx").passes_row(row("nginx ×3"), ())
    assert not parse("cgroup:nginx").passes_row(row("nginx ×3"), ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dport:5432", True),
        ("dport:443", False),
        ("!dport:5432", False),
        ("port:5432", True),
        ("port:443", False),
        ("peer:10.2.0.0/16", True),
        ("saddr:10.0.3.7", True),
        ("saddr:10.0.3.8", False),
        ("netns:1", True),
        ("netns:2", False),
        ("family:4", True),
        ("family:6", False),
        ("proc:orders", True),
        ("proc:nginx", False),
        ("pid:4711", True),
        ("pid:1", False),
        ("!pid:4711", False),
        ("grade:certain", True),
        ("grade:unknown", False),
        ("orders", True),
        ("10.2.0.9:5432", True),
        ("nginx", False),
        # It cannot say: neither shuts it out.
        ("uid:33", True),
        ("!uid:33", True),
        ("cgroup:orders", True),
        ("tw>9", True),
        ("!tw>9", True),
        ("!( uid:33 )", True),
        ("!( uid:33 dport:5432 )", True),
        ("!( uid:33 dport:443 )", True),
        ("!( dport:5432 )", False),
        ("uid:33 dport:443", False),
    ],
)
def test_a_pool_and_a_flow(text: str, expected: bool) -> None:
    assert parse(text).passes_pool(pool(ORDERS_WHO)) is expected
    assert parse(text).passes_flow(FLOWS[2]) is expected


def test_a_pool_has_all_local_ports() -> None:
    for text in ("sport:40000", "!sport:40000", "!( sport:40000 )"):
        assert parse(text).passes_pool(pool(ORDERS_WHO))
    assert not parse("sport:40000").passes_flow(FLOWS[2])
    assert parse("sport:443").passes_flow(FLOWS[0])
    assert not parse("dport:443").passes_flow(FLOWS[0])


def test_ports_taken_at_bind_are_for_all_destinations() -> None:
    bound = pool(ORDERS_WHO, None, None)
    for text in ("dport:1", "!dport:1", "port:1", "peer:192.0.2.1", "sport:1"):
        assert parse(text).passes_pool(bound)
    assert not parse("proc:nginx").passes_pool(bound)
    assert not parse("family:6").passes_pool(bound)
    assert not parse("10.2.0.9").passes_pool(bound)


def test_a_pool_of_nobody_has_no_owner() -> None:
    nobody = pool(Who("unknown", None, (), None))
    for term in ("proc:/./", "pid>0", "uid:0", "grade:certain"):
        assert not parse(term).passes_pool(nobody)
        assert parse(f"!{term}").passes_pool(nobody)
    assert parse("grade:unknown").passes_pool(nobody)


def test_what_rows_are_left_to_be_asked() -> None:
    assert parse("proc:a tw>9 !dport:443 !role:server").for_rows() == parse("tw>9 !role:server")
    assert parse("proc:a dport:443").for_rows() == EVERYTHING
    assert parse("!( proc:a tw>9 )").for_rows() == parse("!( proc:a tw>9 )")
    assert parse("!( proc:a )").for_rows() == EVERYTHING


def test_against_a_snapshot() -> None:
    """What the filter lets through of the events, its rows let through again."""
    orders, web = owner(4711, "orders-api"), owner(902, "nginx", "/nginx.service")
    db = ENDS._replace(netns=1)
    served = Endpoints(9, 1, 4, "10.0.3.7", 443, "192.0.2.1", 50000)
    events: list[Event] = [
        close(7, orders, where=db),
        birth(7, orders)._replace(ends=db),
        close(9, web, where=served, role="server", first="remote"),
        held(10, web)._replace(ends=served._replace(conn=10)),
    ]
    aggregator = Aggregator(start())
    aggregator.add(events)
    snapshot = aggregator.snapshot(T0 + 1_000_000)
    names = {}
    for text in (
        "dport:5432",
        "sport:443",
        "proc:nginx",
        "uid:0",
        "pid:902",
        "cgroup:/nginx/",
        "tw>0",
        "192.",
    ):
        passing = parse(text)
        names[text] = [one.label for one in snapshot.rows if passing.passes_row(one, snapshot.flows)]
    assert names == {
        "dport:5432": ["orders-api[4711]"],
        "sport:443": ["nginx[902]"],
        "proc:nginx": ["nginx[902]"],
        "uid:0": [],
        "pid:902": ["nginx[902]"],
        "cgroup:/nginx/": ["nginx[902]"],
        "tw>0": ["orders-api[4711]"],
        "192.": ["nginx[902]"],
    }
    assert [one.dport for one in snapshot.pools if parse("proc:orders dport:5432").passes_pool(one)] == [5432]
    assert [one.port for one in snapshot.flows if parse("!dport:5432").passes_flow(one)] == [443]


ALL_KEYS = (
    "proc, pid, uid, cgroup, unit, container, exe, cmdline, grade, netns, sport, dport, port, saddr, daddr,"
    " family, tw, tw/s, close/s, closes, first, rst, held, life, role"
)


@pytest.mark.parametrize(
    ("text", "cause", "hint"),
    [
        (
            "proc:a dpotr:443",
            "filter dpotr:443: no key 'dpotr'",
            f"did you mean dport? keys are {ALL_KEYS}; a word with : = < > goes in quotes",
        ),
        (
            "zzz>9",
            "filter zzz>9: no key 'zzz'",
            f"keys are {ALL_KEYS}; a word with : = < > goes in quotes",
        ),
        (
            "proc!=nginx",
            "filter proc!=nginx: no key 'proc!'",
            f"not equal is !proc=VALUE; keys are {ALL_KEYS}; a word with : = < > goes in quotes",
        ),
        ("proc:", "filter proc:: no value", 'write it like proc:nginx, proc:nginx,haproxy or cmdline:"-w 8"'),
        (
            "dport:443,",
            "filter dport:443,: no value",
            'write it like proc:nginx, proc:nginx,haproxy or cmdline:"-w 8"',
        ),
        (
            'x proc:"a b',
            'filter proc:"a: a quote does not end',
            'write it like proc:nginx, proc:nginx,haproxy or cmdline:"-w 8"',
        ),
        (
            'proc:""',
            'filter proc:"": no value',
            'write it like proc:nginx, proc:nginx,haproxy or cmdline:"-w 8"',
        ),
        (
            'proc:a"b"',
            'filter proc:a"b": a quote amid a value',
            'write it like proc:"a b",c; a quote itself only fits in an /expression/',
        ),
        (
            "cgroup:/system.slice/nginx.service !cgroup:/lb/",
            "filter cgroup:/system.slice/nginx.service: a / begins an expression, and a / must end it",
            'for a path cgroup="/path" or, a part of it, cgroup:"/path"; in an expression \\/',
        ),
        (
            "proc:/a(/",
            "filter proc:/a(/: no regular expression: missing ), unterminated subpattern at position 1",
            "put a \\ before what stands for itself",
        ),
        ("proc://", "filter proc://: the expression is empty", "write one between the slashes"),
        (
            "proc>5",
            "filter proc>5: > is for numbers",
            'proc takes a part of it, proc=all of it, proc:/expression/, or proc:"in quotes"',
        ),
        (
            "dport:http",
            "filter dport:http: 'http' does not do",
            "dport takes ports, 0 to 65535: 5432, 80,443, 8000-8999, or dport>1000",
        ),
        (
            "dport:65536",
            "filter dport:65536: '65536' does not do",
            "dport takes ports, 0 to 65535: 5432, 80,443, 8000-8999, or dport>1000",
        ),
        (
            "pid:9-8",
            "filter pid:9-8: 9 is more than 8",
            "pid takes whole numbers: 5432, 80,443, 8000-8999, or pid>1000",
        ),
        (
            "tw>1,2",
            "filter tw>1,2: > takes one number, without commas",
            "tw takes whole numbers: 5432, 80,443, 8000-8999, or tw>1000",
        ),
        (
            "tw/s>x",
            "filter tw/s>x: 'x' does not do",
            "tw/s takes numbers: tw/s>10, tw/s>=1.5, or tw/s:1-20",
        ),
        (
            "first>101",
            "filter first>101: '101' does not do",
            "first takes percentages, 0 to 100: first>50, or first:90-100",
        ),
        (
            "life>9parsecs",
            "filter life>9parsecs: '9parsecs' does not do",
            "life takes durations: life<9ms, life>1.2s, or life:1s-3min",
        ),
        (
            "grade:good",
            "filter grade:good: no 'good' here",
            "grade takes one of certain, inferred, unknown",
        ),
        ("family:5", "filter family:5: no '5' here", "family takes 4 or 6"),
        (
            "peer:10.2.0.0/99",
            "filter peer:10.2.0.0/99: '10.2.0.0/99' is no network",
            "daddr takes a part of it, daddr=address, daddr:address/bits or daddr:/expression/",
        ),
        (
            "saddr=10.2",
            "filter saddr=10.2: '10.2' is no address",
            "saddr takes a part of it, saddr=address, saddr:address/bits or saddr:/expression/",
        ),
        (
            "proc:a ! dport:1",
            "filter !: nothing to turn round follows it",
            "put it right before what should not hold: !proc:nginx",
        ),
        (
            "!!nginx",
            "filter !: nothing to turn round follows it",
            "put it right before what should not hold: !proc:nginx",
        ),
        (
            "!(proc:a) dport:1",
            "filter !(proc:a): a parenthesis outside quotes",
            'put it in quotes, like "(sd-pam)"; !( ... ) goes around the whole filter',
        ),
        (
            "!(proc:a) !(dport:1)",
            "filter proc:a): a parenthesis outside quotes",
            'put it in quotes, like "(sd-pam)"; !( ... ) goes around the whole filter',
        ),
        (
            "!( )",
            "filter !( ): nothing stands in the parentheses",
            "write it like !( proc:nginx dport:443 )",
        ),
        (
            "proc:\udcff",
            "filter proc:\\xff: not UTF-8",
            "bytes that are none are in names as \\xNN: write that",
        ),
        (
            "\x1b[2J\u202e:1",
            "filter \\x1b[2J\\u202e:1: no key '\\x1b[2J\\u202e'",
            f"keys are {ALL_KEYS}; a word with : = < > goes in quotes",
        ),
    ],
)
def test_what_is_wrong(text: str, cause: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert (error.value.cause, error.value.hint) == (cause, hint)


def test_keys() -> None:
    assert [name for name, _ in KEYS] == ALL_KEYS.split(", ")
    assert dict(KEYS)["tw/s"] == "TIME_WAITs a second"
    assert ALIASES == {
        "comm": "proc",
        "lport": "sport",
        "rport": "dport",
        "laddr": "saddr",
        "raddr": "daddr",
        "peer": "daddr",
    }


# Any text at all, and text that looks like the grammar.

_PIECES = st.sampled_from(
    [
        *dict(KEYS),
        *ALIASES,
        *'!:=<>,/"()[]-. \\*+?',
        ">=",
        "!(",
        " )",
        "443",
        "80-90",
        "1.5",
        "9ms",
        "10.2.0.0/16",
        *("nginx", "certain", "client", "[a-z]+", "\n", "é", "\x1b", "\udcff", "::1"),
    ]
)
TEXTS = st.text(st.characters()) | st.lists(_PIECES, max_size=12).map("".join)


def terms() -> st.SearchStrategy[str]:
    values = {
        "proc": ["nginx", "orders-api", '"a b"', "/^o/", "a,b"],
        "uid": ["33", "1,33", "0-50"],
        "dport": ["5432", "80-90"],
        "port": ["51224", "1"],
        "daddr": ["10.2.0.0/16", "10.", "/2/"],
        "family": ["4", "6"],
        "grade": ["certain", "unknown"],
        "tw": ["594", "0-10"],
        "role": ["client", "mixed"],
    }
    keyed = st.sampled_from([f"{key}:{value}" for key, ones in values.items() for value in ones])
    words = st.sampled_from(["orders", "10.2.0.9:5432", '"( x"', "tw>5", "life<1s"])
    return st.tuples(st.sampled_from(["", "!"]), keyed | words).map("".join)


EXPRESSIONS = st.tuples(st.booleans(), st.lists(terms(), max_size=4)).map(
    lambda drawn: parse(" ".join(drawn[1])).inverted() if drawn[0] else parse(" ".join(drawn[1]))
)


def expression_or_error(text: str) -> Expression | UsageError:
    try:
        return parse(text)
    except UsageError as error:
        return error


@given(TEXTS)
@example("!(" * 2000 + "a" + ")" * 2000)
@example("proc:/" + "(" * 20_000 + "/")
@example("proc:/a{99999999999}/")
@example("pid:" + "9" * 5000)
@example("pid:٣")
@example("peer:1/8")
@example("proc:/[[a]/")
@example('proc:/\\/"')
def test_any_text_is_an_expression_or_a_usage_error(text: str) -> None:
    found = expression_or_error(text)
    if isinstance(found, UsageError):
        assert printable(found.cause) == found.cause
        assert printable(found.hint) == found.hint
        assert width(found.cause) <= len("filter : ") + 2 * 80
    else:
        assert parse(found.text) == found
        assert found.passes(ENDS, OWNER) is parse(found.text).passes(ENDS, OWNER)


def verdicts(of: Expression) -> list[bool]:
    ends = (ENDS, ENDS6)
    owners = (OWNER, BARE, UNKNOWN_OWNER)
    return [
        *(of.passes(one, whose) for one in ends for whose in owners),
        *(of.passes_row(one, FLOWS) for one in (BUSY, ORDERS, CURL, JAVA, UNKNOWN)),
        *(of.passes_pool(pool(ORDERS_WHO, *where)) for where in (("10.2.0.9", 5432), (None, None))),
        *map(of.passes_flow, FLOWS),
    ]


@given(EXPRESSIONS)
def test_inverted(found: Expression) -> None:
    other = found.inverted()
    assert other.inverted() == found
    assert verdicts(other.inverted()) == verdicts(found)
    assert parse(other.text) == other
    assert verdicts(parse(other.text)) == verdicts(other)
    # Whoever cannot say is in both; nobody is in neither.
    assert not other or all(one or two for one, two in zip(verdicts(found), verdicts(other), strict=True))


@given(EXPRESSIONS)
def test_what_passes_as_a_connection_is_not_lost_by_its_terms_about_rows(found: Expression) -> None:
    """A row is asked the rest: with that alone, no connection is kept that the whole would not keep."""
    rest = found.for_rows()
    assert not rest or rest.row_level
    assert all(
        rest.passes(ENDS, whose) for whose in (OWNER, BARE, UNKNOWN_OWNER) if found.passes(ENDS, whose)
    )


@given(st.lists(terms(), max_size=4), st.booleans())
def test_all_terms_must_hold(written: list[str], inverted: bool) -> None:
    """Against the words of the manual, for connections."""
    of_connections = [term for term in written if not parse(term).row_level]
    found = parse(" ".join(of_connections))
    each = all(parse(term).passes(ENDS, OWNER) for term in of_connections)
    if inverted and found:
        assert found.inverted().passes(ENDS, OWNER) is not each
    else:
        assert found.passes(ENDS, OWNER) is each


# Filters, and the command line.


def test_filters_ask_the_expression_of_each_event() -> None:
    orders, web = owner(1, "orders"), owner(2, "nginx")
    lost, counters = Lost(1, "x", 1), Counters(1, {}, {})
    events: list[Event] = [close(1, orders), birth(1, orders), lost, close(2, web), counters, birth(3)]
    kept_by = {
        "": events,
        "proc:orders": [events[0], events[1], lost, counters],
        "!proc:orders": [lost, events[3], counters, events[5]],
        "dport:80 !grade:unknown": [events[0], events[1], lost, events[3], counters],
        "dport:81": [lost, counters],
        "tw>9": events,
    }
    for text, expected in kept_by.items():
        assert Filters(expression=parse(text)).passing(events) == expected
    both = Filters(comms=frozenset({"orders", "nginx"}), expression=parse("!proc:orders"))
    assert both.passing(events) == [lost, events[3], counters]


def test_the_ledger_knows_nothing_of_an_expression() -> None:
    """It counts what the kernel side tells, and that is not filtered by it."""
    some = Filters(expression=parse("dport:81 proc:a"))
    assert some.pass_ends(ENDS)
    assert some.pass_owner(UNKNOWN_OWNER)
    assert not some.by_endpoint
    assert not some.by_owner


def test_filters_tell_the_expression() -> None:
    some = Filters(family=4, expression=parse("proc:x  dport:5432"))
    assert some.as_dict() == {"family": 4, "filter": "proc:x dport:5432"}
    assert some.describe() == 'family=4 filter="proc:x dport:5432"'
    assert Filters().as_dict() == {}


def plan(command: str, arguments: Iterable[str]) -> Plan:
    options = live.parser().parse_args(list(arguments))
    return running.plan(options, ("twtrace", *command.split(), *arguments), 1.0)


def test_the_option() -> None:
    assert plan("", ["--filter", "proc:x tw>9"]).filters.expression == parse("proc:x tw>9")
    assert plan("demo", ["--filter=!( tw>9 )"]).filters.expression == parse("!( tw>9 )")
    assert plan("record", ["--filter", "proc:x"]).filters.expression == parse("proc:x")
    assert plan("", []).filters == Filters()


def test_a_trace_has_no_rows() -> None:
    for text in ("proc:x tw>9", "!( role:client )"):
        with pytest.raises(UsageError) as error:
            plan("record", ["--filter", text])
        assert error.value.cause == f"filter {text}: this asks about rows of a view"
        assert (
            error.value.hint
            == "a trace has connections: use keys of owners and ends, as in `proc:nginx dport:443`"
        )


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("proc:a dpotr:443", 7),
        ("  zzz>9", 2),
        ("!zzz>9", 1),
        ("proc:a ! b", 7),
        ("proc:a tw/s>x", 12),
        ("dport:443,", 10),
        ('proc:"a b', 5),
        ('proc:a"b"', 6),
        ("proc:a(b", 6),
        ("a(b)c:d", 1),
        ("proc:/ab", 5),
        ("proc://", 6),
        ("proc:/a(b/", 7),
        ("!( proc:a zzz:1 )", 10),
        ("!(!( zzz:1 ) )", 5),
        ("!( )", 2),
        ("proc:\udc80", 5),
    ],
)
def test_it_says_at_which_character(text: str, at: int) -> None:
    with pytest.raises(FilterError) as error:
        parse(text)
    assert error.value.at == at


def test_a_wrong_expression_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split("record --filter 'dprt:1'")) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith(
        "twtrace: error: filter dprt:1: no key 'dprt', at character 1\n"
        "twtrace: hint: did you mean dport? keys are proc,"
    )
