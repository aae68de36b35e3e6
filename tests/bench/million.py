"""A trace of a million lines, as a busy host would have it: for measuring, not for keeping.

    python -m tests.bench.million /tmp/million.ndjson [LINES]
    /usr/bin/time -v twtrace report /tmp/million.ndjson

200 processes, 2,500 flows: clients that reconnect to a few destinations each, servers with many clients,
some that are reset, some that reuse a port, some that leave CLOSE_WAITs. Nothing is random but the seed.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

from tracer.model import (
    UNKNOWN_OWNER,
    Balance,
    Close,
    Counters,
    Endpoints,
    Grade,
    Held,
    Owner,
    Process,
    Start,
    TimeWait,
    TimeWaitEnd,
)
from tracer.record import Encoder

SECOND = 1_000_000
BEGAN_US = 1_750_000_000 * SECOND
NETNS = (4_026_531_840, 4_026_532_900, 4_026_533_100)
PROCESSES, FLOWS = 200, 2_500
CLOSES_PER_SECOND = 3_000
SYSCTL: dict[str, int | str] = {
    "ip_local_port_range": "32768 60999",
    "tcp_tw_reuse": 2,
    "tcp_timestamps": 1,
    "tcp_max_tw_buckets": 262144,
    "tcp_fin_timeout": 60,
}


@dataclass(frozen=True)
class Flow:
    owner: Owner
    role: str
    netns: int
    local: str
    remote: str
    port: int
    habit: str


def _owner(number: int) -> Owner:
    unit = f"svc-{number % 40}.service"
    return Owner(
        Grade.CERTAIN if number % 20 else Grade.INFERRED,
        Process(
            1000 + number,
            BEGAN_US - number * SECOND,
            f"worker-{number % 60}",
            uid=number % 7,
            cgroup=f"/system.slice/{unit}",
            unit=unit,
            container=f"{number % 9:012x}" if number % 3 else None,
            exe=f"/usr/bin/worker-{number % 60}",
            cmdline=f"/usr/bin/worker-{number % 60} --instance {number}",
        ),
    )


_HABITS = ("first",) * 5 + ("peer",) * 3 + ("reset", "was_reset")


def _flows(chance: random.Random) -> list[Flow]:
    owners = [_owner(number) for number in range(PROCESSES)]
    flows = []
    for number in range(FLOWS):
        owner = UNKNOWN_OWNER if number % 100 == 99 else owners[number % PROCESSES]
        flows.append(
            Flow(
                owner,
                "client" if number % 2 else "server",
                NETNS[number % PROCESSES % 3],
                f"10.0.{number % 3}.{1 + number % 5}",
                f"10.{1 + number % 3}.{number // 200}.{1 + number % 200}",
                (5432, 6379, 8080, 443, 9000)[number % 5],
                chance.choice(_HABITS),
            )
        )
    return flows


def _close(flow: Flow, ends: Endpoints, now_us: int, chance: random.Random) -> Close:
    age_us = int(chance.lognormvariate(9.2, 1.6)) + 200
    handshake = {"SYN_SENT": 120} if flow.role == "client" else {"SYN_RECV": 60}
    first, how, states = {
        "first": ("local", "fin", {"FIN_WAIT1": age_us // 20 + 1, "FIN_WAIT2": age_us // 10 + 1}),
        "peer": ("remote", "fin", {"CLOSE_WAIT": age_us // 15 + 1, "LAST_ACK": 40}),
        "reset": ("none", "reset_sent", {}),
        "was_reset": ("none", "reset_received", {}),
    }[flow.habit]
    via = "exit" if chance.random() < 0.02 else "close"
    return Close(
        now_us,
        ends,
        flow.owner,
        flow.role,
        first,
        how,
        via if how != "reset_received" else "abort",
        age_us,
        {"ESTABLISHED": age_us * 4 // 5, **handshake, **states},
        first == "local",
        flow.owner,
        flow.owner,
    )


def _balance(born: int, ended: int) -> Balance:
    return Balance(born, 0, ended, born - ended, born - ended, 0)


def write(path: Path, lines: int, closes_per_second: float = CLOSES_PER_SECOND) -> None:
    """Write a trace of so many lines."""
    chance = random.Random(902)  # noqa: S311 - the same each time
    flows, encoder = _flows(chance), Encoder()
    start = Start(
        BEGAN_US,
        "0",
        "million",
        "6.12.0",
        ("twtrace", "record"),
        {},
        {"source": "fentry"},
        {"realtime_minus_monotonic_us": 0, "tick_us": 4000},
        {str(netns): SYSCTL for netns in NETNS},
    )
    weights = [1 + 40 * (number % 50 == 0) for number in range(FLOWS)]
    waiting: deque[TimeWait] = deque()
    born_in, ended_in = Counter[int](), Counter[int]()
    written, conn, now_us = 1, 0, BEGAN_US
    due_us = BEGAN_US + 10 * SECOND
    ports = [32768 + number % 28232 for number in range(FLOWS)]
    with path.open("wb") as file:
        file.write(encoder.start(start))
        while written < lines - 1:
            now_us += int(chance.expovariate(closes_per_second) * SECOND)
            if now_us >= due_us:
                file.write(encoder.event(Counters(now_us, {"closes": conn}, {})))
                written, due_us = written + 1, due_us + 10 * SECOND
            while waiting and waiting[0].ts_us + 61 * SECOND < now_us and written < lines - 1:
                born = waiting.popleft()
                reason = "reused" if chance.random() < 0.05 else "expired"
                ended = TimeWaitEnd(
                    born.ts_us + 61 * SECOND,
                    born.ends,
                    born.owner,
                    61 * SECOND + born.ends.conn % 2000,
                    None,
                    reason,
                    born.owner if reason == "reused" else None,
                    max(0, 3 - born.ends.conn % 97),
                    preexisting=False,
                )
                file.write(encoder.event(ended))
                ended_in[born.ends.netns] += 1
                written += 1
            if written >= lines - 2:
                break
            conn += 1
            (which,) = chance.choices(range(FLOWS), weights)
            flow = flows[which]
            ports[which] = 32768 + (ports[which] - 32768 + 1) % 28232
            sport, dport = (flow.port, ports[which]) if flow.role == "server" else (ports[which], flow.port)
            ends = Endpoints(conn, flow.netns, 4, flow.local, sport, flow.remote, dport)
            if chance.random() < 0.0005:
                file.write(encoder.event(Held(now_us, ends, flow.owner, "CLOSE_WAIT", False, flow.role)))
                written += 1
                continue
            close = _close(flow, ends, now_us, chance)
            file.write(encoder.event(close))
            written += 1
            if close.time_wait and written < lines - 1:
                born = TimeWait(now_us, ends, flow.owner, "TIME_WAIT", preexisting=False)
                file.write(encoder.event(born))
                waiting.append(born)
                born_in[flow.netns] += 1
                written += 1
        ledger = {str(netns): _balance(born_in[netns], ended_in[netns]) for netns in NETNS}
        file.write(encoder.end(now_us, now_us - BEGAN_US, {}, ledger)[1])


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
