from __future__ import annotations

import pytest

from tests.bench.contenders import CONTENDERS
from tests.bench.document import head, head_of, part, whole, with_part
from tests.bench.figures import Spread, around, middle, number, percent, ratios, spread, table
from tests.bench.loads import Done
from tests.bench.measure import Run, Series, Use
from tests.bench.proc import Account, Held, parse
from tests.bench.rows import Compared, Program, notes, programs
from tests.bench.sections import SECTIONS, Section
from tests.bench.started import reason


def test_spread_is_of_those_that_are_there() -> None:
    assert spread([3.0, None, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert spread([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)
    assert spread([None, None]) is None
    assert spread([]) is None


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([90.0, 40.0], [100.0, 50.0]) == [0.9, 0.8]
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.0214, "0.021"),
        (0.0996, "0.10"),
        (0.129, "0.13"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "100"),
        (13612.4, "13,612"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_spreads_in_words() -> None:
    assert percent(Spread(0.92, 0.9, 0.94)) == "92 % (90–94)"
    assert percent(Spread(0.921, 0.919, 0.922)) == "92 %"
    assert percent(None) == "–"
    assert around(Spread(1.2, 1.1, 1.3)) == "1.20 (1.10–1.30)"
    assert around(Spread(1.2, 1.2, 1.2)) == "1.20"
    assert around(None) == "–"
    assert middle(Spread(2.0, 1.0, 3.0), 1000) == "2,000"
    assert middle(None) == "–"


def test_a_table() -> None:
    assert table(["a", "b"], [["x", "1"], ["y", "2"]]) == (
        "| a | b |\n| --- | ---: |\n| x | 1 |\n| y | 2 |\n"
    )


FDINFO = """\
pos:\t0
flags:\t02000002
map_type:\t27
key_size:\t0
max_entries:\t16777216
memlock:\t16855384
map_id:\t7
frozen:\t0
"""
PROGRAM = """\
prog_type:\t5
prog_jited:\t1
prog_tag:\t3b185187f1855c4c
memlock:\t4096
prog_id:\t9
run_time_ns:\t1500
run_cnt:\t10
recursion_misses:\t0
"""
LINK = "link_type:\tperf\nlink_id:\t3\nprog_tag:\t3b185187f1855c4c\nprog_id:\t9\n"
ITERATOR = "link_type:\titer\nlink_id:\t4\nprog_id:\t11\ntarget_name:\tbpf_map_elem\nmap_id:\t7\n"


def test_what_descriptors_hold_is_counted_once() -> None:
    held = parse([FDINFO, FDINFO, PROGRAM, PROGRAM, LINK, ITERATOR, "pos:\t0\n"])
    assert held == Held({9: Account(1500, 10)}, {7: 16855384})
    assert held.account == Account(1500, 10)
    assert held.map_bytes == 16855384
    assert Account(1500, 10).since(Account(500, 4)) == Account(1000, 6)


def test_the_reason_is_the_line_that_tells() -> None:
    assert reason("chdir: x\nUnable to find kernel headers. Try\nException: Failed\n") == (
        "Unable to find kernel headers. Try"
    )
    assert reason("first\nlast\n\n") == "last"
    assert reason("") == "it said nothing"


def test_programs_as_twtrace_tells_them() -> None:
    said = (
        "twtrace: timer_cancelled: 2000 runs, 80 ns each, 0 missed\n"
        "twtrace: tcp_read: runs not counted (sysctl kernel.bpf_stats_enabled is 0), 0 missed\n"
    )
    assert programs(said) == [Program("timer_cancelled", 2000, 80)]


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        (b"twtrace: 5 closes; TIME_WAIT: 5 born; lost 3; ledger residue 0\nwarning: lost 3 x\n", [b"3"]),
        (b"; lost 0; ledger", [b"0"]),
    ],
)
def test_lost_by_twtrace(said: bytes, counts: list[bytes]) -> None:
    pattern = CONTENDERS[0].lost
    assert pattern
    assert pattern.findall(said) == counts


def test_lost_by_the_others() -> None:
    pattern = next(one.lost for one in CONTENDERS if one.key == "tcpstates")
    assert pattern
    assert pattern.findall(b"lost 12 events on CPU #1\n1 lost 5 events\nLost 3 events\n") == [b"12", b"3"]


def _use(cpu_s: float, ns: int = 0, runs: int = 0, lost: int = 0) -> Use:
    return Use(cpu_s, lost, 2048, 1 << 20, Account(ns, runs), "")


def test_a_row() -> None:
    base = Series(None, (Run(Done(1000, 1.0), 0), Run(Done(1000, 2.0), 0)), None)
    record = CONTENDERS[0]
    runs = (Run(Done(1000, 1.25), 0, _use(0.02)), Run(Done(1000, 2.0), 0, _use(0.04, lost=2)))
    series = Series(record, runs, Run(Done(1000, 1.5), 0, _use(9.0, ns=5_000_000, runs=20_000, lost=1)))
    row = Compared(series, base)
    assert (row.rate(), row.share(), row.cpu()) == ("650", "90 % (80–100)", "30.0 (20.0–40.0)")
    assert (row.bpf_each(), row.bpf_run(), row.lost()) == ("5.00", "250", "3")
    assert (row.peak(), row.maps()) == ("2.00", "1.00")
    bare = Compared(base, base)
    assert (bare.rate(), bare.share(), bare.cpu()) == ("750", "100 %", "–")
    assert (bare.bpf_each(), bare.lost(), bare.peak(), bare.maps()) == ("–", "–", "–", "–")


def test_what_else_is_told_of_runs() -> None:
    said = "twtrace: warning: lost {} ends, not shown\r\ntwtrace: warning: lost 4 of process ring\n"
    runs = tuple(
        Run(Done(1, 1.0), before, Use(0, 0, 0, 0, Account(0, 0), said.format(count)))
        for before, count in ((0.25, 1500), (0.75, 2))
    )
    assert notes([Series(CONTENDERS[0], runs, None)]) == (
        "\nCores at work on other things before a run: 0.50 (0.25–0.75).\n"
        "\nLost by twtrace: 1,502 ends, not shown.\n\nLost by twtrace: 8 of process ring.\n"
    )


HEAD = head({"kernel": "Linux 6.18"}, {"`ss`": "a file"}, {"`x`": "no headers"})


def section(title: str) -> Section:
    return Section(title, title, f"How to read {title}.", lambda _bench: "")


def test_the_document() -> None:
    document = whole(HEAD, [part(section("A"), "| a |\n", "today."), part(section("B"), "| b |\n", "then.")])
    assert document.startswith("# Performance\n")
    assert "| kernel | Linux 6.18 |\n" in document
    assert "- `x`: “no headers”\n" in document
    assert document.endswith(
        "\n## A\n\nHow to read A.\n\n| a |\n\ntoday.\n\n## B\n\nHow to read B.\n\n| b |\n\nthen.\n"
    )
    assert head_of(document) == head_of(HEAD)


def test_one_section_is_replaced_and_no_other() -> None:
    parts = [part(section(title), "| old |\n", "then.") for title in ("A", "B", "B and more")]
    new = part(section("B"), "| new |\n", "today.")
    assert with_part(whole(HEAD, parts), new) == whole(HEAD, [parts[0], new, parts[2]])
    assert with_part(whole(HEAD, parts[:2]), new) == whole(HEAD, [parts[0], new])
    assert with_part(whole(HEAD, parts[:1]), new) == whole(HEAD, [parts[0], new])


def test_sections_have_names_of_their_own() -> None:
    assert len({one.key for one in SECTIONS}) == len(SECTIONS)
    assert len({one.title for one in SECTIONS}) == len(SECTIONS)
    assert len({one.key for one in CONTENDERS}) == len(CONTENDERS)
