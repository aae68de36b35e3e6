"""docs/queries.md: DuckDB and ClickHouse find with its SQL what plain Python counts from the same lines."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import json
import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.unit.samples import SECOND, T0, birth, close, death, ends, held, owner, start
from tests.unit.stacks import closing, frame, libc, site
from tracer.model import (
    CONNECTION_EVENTS,
    Balance,
    ConnectFailed,
    Counters,
    Endpoints,
    Event,
    Grade,
    LivePorts,
    Lost,
    Owner,
    Process,
)
from tracer.places import NOT_RESOLVED
from tracer.record import Encoder

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples/demo.ndjson"
_, *_PARTS = re.split(r"^##+ (.+)\n", (ROOT / "docs/queries.md").read_text(), flags=re.MULTILINE)
SECTIONS = dict(zip(_PARTS[::2], _PARTS[1::2], strict=True))

Line = dict[str, Any]
Row = tuple[Any, ...]


def statements(section: str) -> list[str]:
    """The SQL below a heading, up to the next one."""
    blocks = re.findall(r"```sql\n(.*?)```", SECTIONS[section], re.DOTALL)
    return [part.strip() for block in blocks for part in block.split(";") if part.strip()]


VIEW = statements("The questions")
QUESTIONS = {title: statements(title)[0] for title in SECTIONS if title[0].isdigit()}


# The traces


def connection(conn: int, near: tuple[str, int], far: tuple[str, int], netns: int = 1) -> Endpoints:
    return Endpoints(conn, netns, 6 if ":" in near[0] else 4, *near, *far)


def second_trace() -> Iterator[Event]:
    """What the demo has not: failures, losses, other ends, reasons, sockets from before, changed settings."""
    app, other, web = owner(10), owner(11, "other", None), owner(20, "web", "/web.service")
    for conn in range(8):
        where = ends(conn, sport=1000 + conn)
        yield close(conn, app, at=conn, where=where)
        yield birth(conn, app, at=conn)._replace(ends=where)
    yield death(0, app, at=20)._replace(ends=ends(0, sport=1000), reason="reused", by=other, rearmed=2)
    yield death(1, app, at=61.5)._replace(ends=ends(1, sport=1001), lifetime_us=60_400_000)
    orphan = death(2, app, at=62)._replace(ends=ends(2, sport=1002), lifetime_us=None, reason="reset")
    yield orphan._replace(fin_wait2_us=60 * SECOND)
    for conn, whose in ((10, app), (11, app), (12, other)):
        yield ConnectFailed(T0, ends(conn), whose, "EADDRNOTAVAIL", "exhausted" if conn < 12 else "conflict")
        yield close(conn, whose, how="failed", first="none", via="unknown", time_wait=False)
    yield close(13, other, how="failed", first="none", time_wait=False)
    yield close(14, other, how="timeout", first="none", time_wait=False)
    yield close(
        15, web, role="server", how="reset_sent", first="none", where=connection(15, ("::1", 80), ("::1", 9))
    )
    yield close(16, app, how="reset_received", first="none", age_us=None)
    yield birth(20, preexisting=True)
    yield birth(21, preexisting=True)
    yield death(21)._replace(preexisting=True, lifetime_us=None)
    for conn in (30, 31, 32, 33):
        yield held(conn, web if conn < 33 else app, at=conn)._replace(
            role="server" if conn < 33 else "client"
        )
    yield held(31, web, state="LAST_ACK", at=40)
    yield held(34, app, state="FIN_WAIT2", at=40)
    yield close(30, web, role="server", first="remote", at=50)
    yield Lost(T0, "close records, event ring full", 3)
    yield Lost(T0 + SECOND, "connections, map full", 2)
    live = (LivePorts(1, 4, "10.0.0.1", "10.0.0.2", 80, 3),)
    for at, ports in ((10, 1), (20, 3), (30, 2)):
        changed: dict[str, dict[str, int | str]] = (
            {"1": {"ip_local_port_range": "1000 1019"}} if at == 20 else {}
        )
        yield Counters(T0 + at * SECOND, {}, {}, (live[0]._replace(ports=ports),), changed)
    # The other ends of these are in third_trace(), but for the last: that is nearly an hour later there.
    for conn, sport in ((40, 5000), (41, 5001), (42, 5002)):
        yield close(conn, app, where=connection(conn, ("192.0.2.1", sport), ("192.0.2.9", 5432)))
    # Loopback is no way from host to host, nor from one namespace to another.
    yield close(43, app, where=connection(43, ("127.0.0.1", 5003), ("127.0.0.1", 5432)))
    elsewhere = connection(45, ("127.0.0.1", 5432), ("127.0.0.1", 5003), netns=2)
    yield close(45, app, role="server", first="remote", where=elsewhere)
    yield close(44, app, where=connection(44, ("::1", 5004), ("::1", 5432)))
    for conn, number in ((60, 1), (61, 1), (62, 2), (63, 3), (64, 4)):
        yield close(conn, app)._replace(site=number)
    yield close(65, app, first="remote")._replace(site=1)
    yield closing(1)
    yield closing(2, line=131)
    yield site(3, libc("close"), frame(None))


def third_trace() -> Iterator[Event]:
    """Of another host, where both ends of second_trace() meet."""
    db = Owner(Grade.CERTAIN, Process(30, T0, "db", cgroup="/db.service", unit="db.service"))
    for conn, sport, at in ((40, 5000, 0), (41, 5001, 59), (42, 5002, 3000)):
        where = connection(conn, ("192.0.2.9", 5432), ("192.0.2.1", sport), netns=7)
        yield close(conn, db, role="server", first="remote", at=at, where=where)
    for conn, address in ((43, "127.0.0.1"), (44, "::1")):
        where = connection(conn, (address, 5432), (address, 4960 + conn), netns=7)
        yield close(conn, db, role="server", first="remote", where=where)
    yield birth(50, db)
    yield close(51, db)._replace(site=1)
    yield closing(1)


def written(events: Iterable[Event], host: str, *, complete: bool = True) -> bytes:
    encoder = Encoder()
    first = dataclasses.replace(start(ip_local_port_range="1000 1009"), host=host)
    lines = [encoder.start(first), *map(encoder.event, events)]
    if complete:
        balances = {"1": Balance(9, 2, 4, 7, 9, -2), "2": Balance(1, 0, 0, 1, None, None)}
        lines.append(encoder.end(T0 + 81 * SECOND, 81 * SECOND, {}, balances)[1])
    else:
        lines.append(lines[-1][:100])
    return b"".join(lines)


@pytest.fixture(params=["demo", "fleet"])
def directory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the traces are, and where the SQL looks for them."""
    shutil.copy(DEMO, tmp_path / "before.ndjson")
    if request.param == "fleet":
        shutil.copy(DEMO, tmp_path / "again.ndjson")
        (tmp_path / "after.ndjson.gz").write_bytes(gzip.compress(written(second_trace(), "host")))
        other = written(third_trace(), "other-host", complete=False)
        (tmp_path / "other.ndjson.zst").write_bytes(zstandard.compress(other))
    monkeypatch.chdir(tmp_path)
    return tmp_path


_PLAIN: dict[str, Callable[[bytes], bytes]] = {
    ".ndjson": bytes,
    ".gz": gzip.decompress,
    ".zst": zstandard.decompress,
}


def lines_of(directory: Path) -> list[Line]:
    """All whole lines, with the host and the name of the file."""
    found: list[Line] = []
    for path in sorted(directory.iterdir()):
        whole = _PLAIN[path.suffix](path.read_bytes()).split(b"\n")[:-1]
        lines: list[Line] = [json.loads(line) for line in whole]
        found += ({**line, "host": lines[0]["host"], "trace": path.name} for line in lines)
    return found


# The engines


def duckdb(setup: list[str], questions: list[str]) -> list[list[Row]]:
    engine = pytest.importorskip("duckdb", reason="no duckdb: `scripts/setup test` installs it")
    connection = engine.connect()
    for statement in setup:
        connection.execute(statement)
    return [[tuple(row) for row in connection.execute(question).fetchall()] for question in questions]


_CLICKHOUSE = """
import json, sys
from chdb.session import Session

session = Session()
setup, questions = json.load(sys.stdin)
for statement in setup:
    session.query(statement)
json.dump([str(session.query(question, "JSONCompactEachRow")) for question in questions], sys.stdout)
"""


def clickhouse(setup: list[str], questions: list[str]) -> list[list[Row]]:
    if not importlib.util.find_spec("chdb"):
        pytest.skip(
            "no chdb-core (174 MB), the embedded ClickHouse: `scripts/setup test` installs it if it can"
        )
    # In a process of its own: it takes over signals.
    done = subprocess.run(
        [sys.executable, "-c", _CLICKHOUSE],
        input=json.dumps([setup, questions]),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [
        [tuple(json.loads(row)) for row in answer.splitlines() if row] for answer in json.loads(done.stdout)
    ]


def cut_off(setup: list[str], old: str, new: str) -> list[str]:
    """The change for a trace whose last line is not whole, made where the document says."""
    assert sum(statement.count(old) for statement in setup) == 1
    assert new.strip(", ") in "".join(SECTIONS.values())
    return [statement.replace(old, old + new) for statement in setup]


def with_duckdb(questions: list[str]) -> list[list[Row]]:
    setup = cut_off(statements("One machine: DuckDB"), "filename = 'trace'", ", ignore_errors = true")
    return duckdb([*setup, *VIEW], questions)


def with_clickhouse(questions: list[str]) -> list[list[Row]]:
    *setup, keep_a_month = statements("A fleet: ClickHouse")
    assert "TTL" in keep_a_month  # what it would take away depends on the day
    setup = cut_off(setup, "table_functions = 1", ", input_format_allow_errors_num = 1")
    return clickhouse([*setup, *VIEW], questions)


ENGINES = [with_duckdb, with_clickhouse]


# What plain Python counts


def comm(line: Line) -> str:
    return line["owner"]["comm"] or "unknown"


def of_type(lines: list[Line], *kinds: str) -> list[Line]:
    return [line for line in lines if line["type"] in kinds]


def grouped(lines: Iterable[Line], key: Callable[[Line], Hashable]) -> dict[Any, list[Line]]:
    groups: dict[Any, list[Line]] = defaultdict(list)
    for line in lines:
        groups[key(line)].append(line)
    return groups


def number(lines: Iterable[Line], **wanted: object) -> int:
    """How many have these values."""
    return sum(all(line.get(name) == value for name, value in wanted.items()) for line in lines)


def service(line: Line) -> int:
    port: int = line["sport" if line["role"] == "server" else "dport"]
    return port


def identity(line: Line) -> Row:
    return line["host"], line["trace"], line["conn"]


def pool(line: Line) -> Row:
    return tuple(line[name] for name in ("host", "trace", "netns", "saddr", "daddr", "dport"))


def seconds(lines: list[Line]) -> float:
    """Of one trace."""
    times = [line["ts_us"] for line in lines]
    told = [line["duration_us"] for line in of_type(lines, "end")]
    return float((told[0] if told else max(times) - min(times)) / 1e6)


def limits(lines: list[Line]) -> list[Row]:
    rows: list[Row] = []
    for (host, trace), found in grouped(lines, lambda line: (line["host"], line["trace"])).items():
        told = residue = None
        for line in of_type(found, "end"):
            told = sum(line["totals"]["lines"].values())
            residue = sum(abs(balance["residue"] or 0) for balance in line["totals"]["ledger"].values())
        lost = sum(line["count"] for line in of_type(found, "lost"))
        rows.append((host, trace, len(found), told, lost, residue, round(seconds(found), 1)))
    return sorted(rows)


def holders(lines: list[Line]) -> list[Row]:
    gone = {identity(line) for line in of_type(lines, "time_wait_end")}
    births = grouped(of_type(lines, "time_wait"), lambda line: (line["host"], line["trace"], comm(line)))
    rows = [(*key, len(of), sum(identity(line) not in gone for line in of)) for key, of in births.items()]
    return sorted(rows, key=lambda row: (-row[4], -row[3], row[:3]))


def populations(lines: list[Line]) -> list[Row]:
    births = {identity(line): line for line in of_type(lines, "time_wait")}
    changes: Counter[Row] = Counter()
    for line in of_type(lines, "time_wait", "time_wait_end"):
        minute = line["ts_us"] // (60 * SECOND) * 60
        whose = comm(births[identity(line)])
        changes[line["host"], line["trace"], whose, minute] += 1 if line["type"] == "time_wait" else -1
    there: Counter[Row] = Counter()
    rows: list[Row] = []
    for (*key, minute), change in sorted(changes.items()):
        there[tuple(key)] += change
        when = datetime.fromtimestamp(minute, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        rows.append((*key, when, there[tuple(key)]))
    return rows


def first_closers(lines: list[Line]) -> list[Row]:
    groups = grouped(
        of_type(lines, "close"), lambda line: (line["host"], comm(line), line["role"], service(line))
    )
    rows = [
        (
            *key,
            len(closes),
            round(100 * number(closes, first="local") / len(closes), 1),
            number(closes, time_wait=True),
            number(closes, via="exit"),
        )
        for key, closes in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row[6], -row[4], row[:4]))


def ports(lines: list[Line]) -> list[Row]:
    clients = {identity(line) for line in of_type(lines, "close") if line["role"] == "client"}
    changes = sorted(
        (line["ts_us"], 1 if line["type"] == "time_wait" else -1, pool(line))
        for line in of_type(lines, "time_wait", "time_wait_end")
        if identity(line) in clients
    )
    there: Counter[Row] = Counter()
    peaks: Counter[Row] = Counter()
    for _, change, key in changes:
        there[key] += change
        peaks[key] = max(peaks[key], there[key])
    used: Counter[Row] = Counter()
    ranges: dict[Row, str] = {}
    for line in of_type(lines, "start", "counters"):
        for netns, settings in line["sysctl"].items():
            ranges[line["host"], line["trace"], int(netns)] = settings["ip_local_port_range"]
        for entry in line.get("live", ()):
            key = pool({**entry, "host": line["host"], "trace": line["trace"]})
            used[key] = max(used[key], entry["ports"])
    rows: list[Row] = []
    for key, peak in peaks.items():
        host, trace, netns, saddr, daddr, dport = key
        low, high = map(int, ranges[host, trace, netns].split())
        size = high - low + 1
        percent = round(100 * (peak + used[key]) / size, 2)
        rows.append((host, trace, saddr, daddr, dport, peak, used[key], size, percent))
    return sorted(rows, key=lambda row: (-row[8], row[:5]))


def lifetimes(lines: list[Line]) -> list[Row]:
    rows: list[Row] = []
    groups = grouped(of_type(lines, "time_wait_end"), lambda line: (line["host"], line["reason"]))
    for key, gone in groups.items():
        known = [line["lifetime_us"] for line in gone if line["lifetime_us"] is not None]
        measured = (min(known), statistics.median(known), max(known)) if known else ()
        figures = [round(figure / 1e6, 3) for figure in measured] or [None] * 3
        rows.append(
            (*key, len(gone), len(gone) - len(known), *figures, sum(line["rearmed"] for line in gone))
        )
    return sorted(rows, key=lambda row: (-row[2], row[:2]))


def close_waits(lines: list[Line]) -> list[Row]:
    last = {
        trace: max(line["ts_us"] for line in of)
        for trace, of in grouped(lines, lambda line: (line["host"], line["trace"])).items()
    }
    until: dict[Row, int] = {}
    for line in lines:
        if line["type"] == "close" or (line["type"] == "held" and line["state"] == "LAST_ACK"):
            until[identity(line)] = min(line["ts_us"], until.get(identity(line), line["ts_us"]))
    stays = (line for line in of_type(lines, "held") if line["state"] == "CLOSE_WAIT")
    groups = grouped(
        stays,
        lambda line: (line["host"], comm(line), line["owner"]["pid"], line["role"], line["sport"]),
    )
    rows = [
        (
            *key,
            len(of),
            sum(identity(line) not in until for line in of),
            round(
                max(
                    until.get(identity(line), last[line["host"], line["trace"]]) - line["ts_us"]
                    for line in of
                )
                / 1e6,
                1,
            ),
        )
        for key, of in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row[7], row[:3], row[4]))


def failed_connects(lines: list[Line]) -> list[Row]:
    without_port = {identity(line) for line in of_type(lines, "connect_failed")}
    rows: list[Row] = []
    failures = [
        line for line in of_type(lines, "connect_failed", "close") if line.get("how", "failed") == "failed"
    ]
    groups = grouped(failures, lambda line: (line["host"], comm(line), line["daddr"], line["dport"]))
    for key, of in groups.items():
        no_answer = sum(line["type"] == "close" and identity(line) not in without_port for line in of)
        rows.append((*key, number(of, cause="exhausted"), number(of, cause="conflict"), no_answer))
    return sorted(rows, key=lambda row: (-row[4], -row[5], -row[6], row[:4]))


def resets(lines: list[Line]) -> list[Row]:
    groups = grouped(
        of_type(lines, "close"),
        lambda line: (line["host"], comm(line), line["role"], line["daddr"], service(line)),
    )
    rows = [
        (*key, len(of), number(of, how="reset_sent"), number(of, how="reset_received"))
        for key, of in groups.items()
    ]
    rows = [row for row in rows if row[6] + row[7]]
    return sorted(rows, key=lambda row: (-row[6] - row[7], row[:5]))


def comparison(lines: list[Line]) -> list[Row]:
    phases = {
        phase: [line for line in lines if line["trace"].startswith(phase)] for phase in ("before", "after")
    }
    closes = {phase: grouped(of_type(of, "close"), comm) for phase, of in phases.items()}
    rows: list[Row] = []
    for process in {*closes["before"], *closes["after"]}:
        rates = [
            round(len(closes[phase][process]) / seconds(of), 2) if process in closes[phase] else 0
            for phase, of in phases.items()
        ]
        shares = [
            round(number(closes[phase][process], time_wait=True) / len(closes[phase][process]), 2)
            if process in closes[phase]
            else None
            for phase in phases
        ]
        rows.append((process, *rates, *shares))
    return sorted(rows, key=lambda row: (-abs(row[2] - row[1]), row[0]))


def causes(lines: list[Line]) -> list[Row]:
    spans: defaultdict[str, float] = defaultdict(float)
    for (host, _), of in grouped(lines, lambda line: (line["host"], line["trace"])).items():
        spans[host] += seconds(of)
    births = [line for line in of_type(lines, "time_wait") if not line.get("preexisting")]
    groups = grouped(
        births,
        lambda line: (
            line["host"],
            line["owner"].get("unit") or line["owner"].get("cgroup") or "",
            comm(line),
        ),
    )
    rows = [(*key, len(of), round(len(of) / spans[key[0]], 2)) for key, of in groups.items()]
    return sorted(rows, key=lambda row: (-row[4], row[:3]))


def other_ends(lines: list[Line]) -> list[Row]:
    closes = of_type(lines, "close")
    found: Counter[Row] = Counter()
    ends_of = ("saddr", "sport", "daddr", "dport")
    far_ends = grouped(closes, lambda line: tuple(line[name] for name in ends_of))
    for near in closes:
        for far in far_ends.get((near["daddr"], near["dport"], near["saddr"], near["sport"]), ()):
            loopback = near["saddr"].startswith("127.") or near["saddr"] == "::1"
            together = (near["host"], near["netns"]) == (far["host"], far["netns"])
            if (
                (near["first"], far["first"]) == ("local", "remote")
                and abs(near["ts_us"] - far["ts_us"]) < 60 * SECOND
                and (together or not loopback)
            ):
                found[near["host"], comm(near), far["host"], comm(far)] += 1
    return sorted(((*key, count) for key, count in found.items()), key=lambda row: (-row[4], row[:4]))


def call_sites(lines: list[Line]) -> list[Row]:
    places: dict[Row, Row] = {}
    for line in of_type(lines, "site"):
        own = next(one for one in line["frames"] if "/libc.so" not in one["module"])
        key = (line["host"], line["trace"], line["site"])
        places[key] = (own.get("function", NOT_RESOLVED), own.get("file"), own.get("line"))
    looked_at = [line for line in of_type(lines, "close") if "site" in line]
    groups = grouped(
        looked_at,
        lambda line: (
            line["host"],
            comm(line),
            *places.get((line["host"], line["trace"], line["site"]), (NOT_RESOLVED, None, None)),
        ),
    )
    rows = [(*key, len(of), number(of, time_wait=True)) for key, of in groups.items()]
    return sorted(rows, key=lambda row: (-row[6], -row[5], row[:3], row[3] or "~", row[4] or 0))


ANSWERS = [
    limits,
    holders,
    populations,
    first_closers,
    ports,
    lifetimes,
    close_waits,
    failed_connects,
    resets,
    comparison,
    causes,
    other_ends,
    call_sites,
]


def plain(row: Row) -> Row:
    """As Python has it: a file without its directory, a time as text."""
    return tuple(
        Path(value).name if isinstance(value, str) and ".ndjson" in value
        else str(value) if isinstance(value, datetime)
        else value
        for value in row
    )  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_every_question_is_answered_as_python_does(
    engine: Callable[[list[str]], list[list[Row]]], directory: Path
) -> None:
    lines = lines_of(directory)
    answers = engine(list(QUESTIONS.values()))
    assert len(answers) == len(ANSWERS)
    for title, answer, count in zip(QUESTIONS, answers, ANSWERS, strict=True):
        limit = 20 if "LIMIT 20" in QUESTIONS[title] else None
        assert [plain(row) for row in answer] == count(lines)[:limit], title


@pytest.mark.parametrize("directory", ["fleet"], indirect=True)
def test_these_traces_have_an_answer_to_every_question(directory: Path) -> None:
    lines = lines_of(directory)
    for count in ANSWERS:
        assert len({row[0] for row in count(lines)}) > 1 or count in (failed_connects, other_ends), count
        assert count(lines), count


def test_python_counts_what_the_example_says_of_itself() -> None:
    """The README beside it: 390 born, 129 ended, 261 left."""
    lines = [{**json.loads(line), "host": "h", "trace": "t"} for line in DEMO.read_bytes().splitlines()]
    rows = holders(lines)
    assert (sum(row[3] for row in rows), sum(row[4] for row in rows)) == (390, 261)
    assert sum(row[2] for row in lifetimes(lines)) == 129


@pytest.mark.parametrize("title", ["One machine: DuckDB", "A fleet: ClickHouse"])
def test_every_field_of_a_connection_has_its_column(title: str) -> None:
    fields = {name for made in CONNECTION_EVENTS.values() for name in made._fields} - {"ends"}
    fields |= {*Endpoints._fields, "type", "host", "what", "count", "totals"}
    columns = "\n".join(statements(title))
    assert [name for name in sorted(fields) if not re.search(rf'[\s("]{name}"?:? [\'A-Z]', columns)] == []
