"""Events for tests: a connection's life in few words."""

from __future__ import annotations

from tracer.model import (
    UNKNOWN_OWNER,
    Close,
    Endpoints,
    Grade,
    Held,
    Owner,
    Process,
    Start,
    TimeWait,
    TimeWaitEnd,
)

T0 = 1_700_000_000_000_000
SECOND = 1_000_000


def start(**sysctl: int | str) -> Start:
    return Start(
        ts_us=T0,
        version="0",
        host="host",
        kernel="6.18",
        argv=("twtrace",),
        filters={},
        hooks={"source": "timer"},
        clock={"tick_us": 4000},
        sysctl={"1": {"tcp_fin_timeout": 60, **sysctl}},
    )


def owner(
    pid: int, comm: str = "app", cgroup: str | None = "/app.service", grade: Grade = Grade.CERTAIN
) -> Owner:
    return Owner(grade, Process(pid, T0 + pid, comm, cgroup=cgroup))


def ends(conn: int, *, sport: int = 40000, dport: int = 80, daddr: str = "10.0.0.2") -> Endpoints:
    return Endpoints(conn, 1, 4, "10.0.0.1", sport, daddr, dport)


def close(  # noqa: PLR0913 - each test names the few that matter to it
    conn: int,
    whose: Owner,
    *,
    at: float = 0,
    role: str = "client",
    first: str = "local",
    how: str = "fin",
    via: str = "close",
    age_us: int | None = 1000,
    where: Endpoints | None = None,
    time_wait: bool | None = None,
    bound: bool = False,
    overflow: bool = False,
) -> Close:
    return Close(
        T0 + int(at * SECOND),
        where or ends(conn),
        whose,
        role,
        first,
        how,
        via,
        age_us,
        {"ESTABLISHED": 900},
        first == "local" if time_wait is None else time_wait,
        whose,
        whose,
        overflow,
        bound,
    )


def birth(conn: int, whose: Owner = UNKNOWN_OWNER, *, at: float = 0, preexisting: bool = False) -> TimeWait:
    return TimeWait(T0 + int(at * SECOND), ends(conn), whose, "TIME_WAIT", preexisting)


def death(conn: int, whose: Owner = UNKNOWN_OWNER, *, at: float = 60) -> TimeWaitEnd:
    return TimeWaitEnd(
        T0 + int(at * SECOND), ends(conn), whose, 60 * SECOND, None, "expired", None, 0, preexisting=False
    )


def held(conn: int, whose: Owner, *, state: str = "CLOSE_WAIT", at: float = 0) -> Held:
    return Held(T0 + int(at * SECOND), ends(conn), whose, state, preexisting=False)
