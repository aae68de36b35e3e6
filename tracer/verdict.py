"""Snapshot to findings: who, why, whether it matters, what to change and what that would do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum

from tracer.advice import NO_HELP, Remedy, keep_connections, let_peer_close, more_ports, reuse_ports
from tracer.callsites import top_opening, top_site
from tracer.model import Flow, Grade, HeldGroup, Pool, Snapshot, Tally, Who
from tracer.series import SECOND
from tracer.text import duration, endpoint

Figures = dict[str, int | float | str | None]


class Severity(IntEnum):
    """How much a finding asks for attention."""

    FINE = 0
    NOTICE = 1
    WARN = 2
    CRITICAL = 3


MARKS = {Severity.FINE: "✔", Severity.NOTICE: "·", Severity.WARN: "▲", Severity.CRITICAL: "✘"}
"""Before a finding, for the eye; the word stands beside it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer."""

    id: str
    severity: Severity
    who: Who
    why: str
    """One sentence; what it names may be hostile text."""
    evidence: Figures
    """The figures it rests on."""
    remedies: tuple[Remedy, ...] = ()
    """The best first."""
    no_help: tuple[str, ...] = ()
    """What is often advised here and does nothing."""
    confidence: str = "high"
    """`high`, `medium` or `low`."""
    refuted_by: str = ""
    """What would show it to be wrong."""
    limits: tuple[str, ...] = field(default=())
    """What the trace could not see."""
    where: str = ""
    """The call site that most of it comes from, if that was looked at; may be hostile text."""


HOST = Who("this host", None, (), None)

POOL_NEARLY_FULL = 0.8
"""A share of the ports from which on it is a warning."""
_FEW = 20
"""Fewer connections than this are no habit."""
_OFTEN = 0.5
"""Per second: a process that reconnects less often than this does no harm."""
_HABIT = 0.5
"""The share of its connections that makes something a habit."""
_RESET_SHARE = 0.1
_LEAK_COUNT = 3
_LEAK_US = 5 * SECOND
_LEAK_ALONE_US = 60 * SECOND
_TIME_WAIT_US = 60 * SECOND


def judge(snapshot: Snapshot) -> tuple[Finding, ...]:
    """All findings, the worst first; at least one, which may say that all is well."""
    found = [
        *_ports(snapshot),
        *_conflicts(snapshot),
        *_overflows(snapshot),
        *_held(snapshot),
        *_resets(snapshot),
        *_lingering(snapshot),
        *_reconnects(snapshot),
    ]
    if not any(finding.severity > Severity.FINE for finding in found):
        found.append(_nothing(snapshot))
    found += _both_ends(snapshot)
    found = [_qualified(finding, snapshot) for finding in found]
    return tuple(sorted(found, key=lambda finding: -finding.severity))


def _qualified(finding: Finding, snapshot: Snapshot) -> Finding:
    """With how far it can be trusted."""
    who = finding.who
    doubts = [snapshot.lost > 0, who.grade is Grade.INFERRED, finding.confidence != "high"]
    unknown = who.grade in (None, Grade.UNKNOWN) and who is not HOST
    confidence = "low" if unknown or sum(doubts) > 1 else "medium" if any(doubts) else "high"
    return replace(finding, confidence=confidence, limits=_limits(snapshot))


def _ports(snapshot: Snapshot) -> Iterator[Finding]:
    for pool in snapshot.pools:
        where = _destination(pool)
        flow = _busiest_flow(snapshot, pool)
        remedies = _port_remedies(pool, flow)
        evidence: Figures = {
            "saddr": pool.saddr,
            "daddr": pool.daddr,
            "dport": pool.dport,
            "ports": pool.size,
            "time_waits": pool.time_waits,
            "live": pool.live,
            "failures": pool.failures,
            "births_per_s": round(pool.birth_rate, 1),
            "settles_at": round(pool.settles),
            "exhausts_in_us": pool.exhausts_in_us,
        }
        if pool.failures_lately:
            holder = "live connections" if pool.live > pool.time_waits else "TIME_WAIT"
            yield Finding(
                "connect_failing",
                Severity.CRITICAL,
                pool.who,
                f"connect() to {where} found no free source port {pool.failures:,} times (EADDRNOTAVAIL):"
                f" {_of_ports(pool.used, pool)} are held, most by {holder}",
                evidence,
                remedies,
                where=_where(snapshot, pool.who),
                no_help=NO_HELP,
                refuted_by="connect() failing with another error than EADDRNOTAVAIL",
            )
        elif pool.size and pool.settles >= POOL_NEARLY_FULL * pool.size and not pool.reuse:
            if pool.exhausts_in_us is not None:
                then = f"connect() will fail in {duration(pool.exhausts_in_us)}"
            else:
                then = f"it settles at {pool.settles:,.0f}; more than {_ceiling(pool):,.0f}/s fail"
            yield Finding(
                "ports_exhausting",
                Severity.WARN,
                pool.who,
                f"{where} keeps {_of_ports(pool.used, pool)} in use at {pool.birth_rate:,.1f}"
                f" TIME_WAITs/s: {then}",
                evidence,
                remedies,
                where=_where(snapshot, pool.who),
                no_help=NO_HELP,
                refuted_by="a rate that falls, or connections that the peer closes first",
            )


def _conflicts(snapshot: Snapshot) -> Iterator[Finding]:
    for tally in _recent(snapshot.conflicts):
        yield Finding(
            "connect_conflict",
            Severity.NOTICE,
            tally.who,
            f"connect() failed {tally.count:,} times because the port it had bound is already in use for that"
            " destination (EADDRNOTAVAIL)",
            {"netns": tally.netns, "failures": tally.count},
            (
                Remedy(
                    "do not bind() a fixed port before connect()", "connect() picks a free one", "application"
                ),
            ),
            refuted_by="a connect() without bind() before it",
        )


def _overflows(snapshot: Snapshot) -> Iterator[Finding]:
    for tally in _recent(snapshot.overflows):
        limit = snapshot.settings.get(tally.netns, {}).get("tcp_max_tw_buckets")
        yield Finding(
            "time_wait_overflow",
            Severity.WARN,
            tally.who,
            f"{tally.count:,} closes left no TIME_WAIT because there were too many already: old segments may"
            " reach a new connection",
            {"netns": tally.netns, "skipped": tally.count, "tcp_max_tw_buckets": limit},
            (
                Remedy(
                    "raise net.ipv4.tcp_max_tw_buckets",
                    "none is skipped; each costs about 250 bytes",
                    "setting",
                ),
                *_remedies_of(snapshot, tally.who),
            ),
            refuted_by="TcpExtTCPTimeWaitOverflow that does not rise (nstat)",
        )


def _recent(tallies: tuple[Tally, ...]) -> Iterator[Tally]:
    """What was mended two minutes ago is none of today's findings."""
    return (tally for tally in tallies if tally.lately)


def _held(snapshot: Snapshot) -> Iterator[Finding]:
    for group in snapshot.held:
        age_us = snapshot.ts_us - group.oldest_us
        if age_us < _LEAK_US or (group.count < _LEAK_COUNT and age_us < _LEAK_ALONE_US):
            continue
        evidence: Figures = {
            "count": group.count,
            "oldest_us": age_us,
            "role": group.role,
            "port": group.port,
            "netns": group.netns,
        }
        how = _how_opened(group)
        if group.state == "CLOSE_WAIT":
            yield Finding(
                "close_wait_leak",
                Severity.WARN,
                group.who,
                f"{group.count:,} connections it {how} stay in CLOSE_WAIT, the oldest for {duration(age_us)}:"
                " the peer has closed, the process does not",
                evidence,
                (
                    Remedy(
                        "close the socket when read() returns 0 (and on errors)",
                        f"frees {group.count:,} sockets and descriptors; CLOSE_WAIT never ends by itself",
                        "application",
                    ),
                ),
                where=top_opening(group.opened, group.count),
                refuted_by="a process that still sends on them and closes later",
            )
        else:
            yield Finding(
                "fin_wait2_held",
                Severity.NOTICE,
                group.who,
                f"{group.count:,} connections it {how} wait in FIN_WAIT2, the oldest for {duration(age_us)}:"
                " it shut down its side, the peer does not close",
                evidence,
                (
                    Remedy(
                        "find why the peer does not close; a time limit and close() here ends the waiting",
                        f"frees {group.count:,} sockets after net.ipv4.tcp_fin_timeout",
                        "application",
                    ),
                ),
                refuted_by="a peer that still sends",
            )


def _resets(snapshot: Snapshot) -> Iterator[Finding]:
    for flow in _summed(snapshot, lambda one: one.resets_sent >= _RESET_SHARE * one.closes):
        if flow.resets_sent < _FEW or flow.reset_rate < _OFTEN:
            continue
        yield Finding(
            "resets_sent",
            Severity.NOTICE,
            flow.who,
            f"{flow.resets_sent:,} of {flow.closes:,} connections {_with(flow)} were reset, not closed"
            " (SO_LINGER 0, or data left unread): what was not yet sent is lost",
            _flow_evidence(flow),
            (
                *([keep_connections(flow)] if _comes_back(flow) else []),
                Remedy(
                    "read to the end before close(), and do not set SO_LINGER with time 0",
                    "closes end with a FIN; the side that closes first then has TIME_WAIT",
                    "application",
                ),
            ),
            refuted_by="resets that are meant, as in a health check or a load test",
        )


def _lingering(snapshot: Snapshot) -> Iterator[Finding]:
    for flow in _summed(snapshot, lambda one: one.lingering >= _RESET_SHARE * one.closes):
        if flow.lingering < _FEW or flow.lingering * SECOND < _OFTEN * snapshot.elapsed_us:
            continue
        yield Finding(
            "fin_wait2_held",
            Severity.NOTICE,
            flow.who,
            f"{flow.lingering:,} connections it closed {_with(flow)} waited in FIN_WAIT2 for a peer that did"
            " not close",
            _flow_evidence(flow),
            (
                Remedy(
                    "find why the peer does not close",
                    "net.ipv4.tcp_fin_timeout bounds the waiting (60 s by default)",
                    "application",
                ),
            ),
            refuted_by="a peer that was still sending",
        )


def _reconnects(snapshot: Snapshot) -> Iterator[Finding]:
    for flow in _summed(snapshot, _poolable):
        if flow.reconnects < _FEW or flow.time_wait_rate < _OFTEN:
            continue
        settles = flow.time_wait_rate * _TIME_WAIT_US / SECOND
        yield Finding(
            "reconnects",
            Severity.NOTICE,
            flow.who,
            f"it closes first and reconnects: {flow.reconnects:,} of {flow.closes:,} connections"
            f" {_with(flow)} began within a second of the end of another; each leaves a TIME_WAIT after"
            f" {duration(flow.age_p50_us)} of use",
            _flow_evidence(flow) | {"settles_at": round(settles)},
            (keep_connections(flow), let_peer_close(flow)),
            where=_where(snapshot, flow.who),
            no_help=NO_HELP,
            refuted_by="connections that cannot be kept: each for another user or another session",
            confidence="high" if flow.role == "client" else "medium",
        )


def _both_ends(snapshot: Snapshot) -> Iterator[Finding]:
    for flow in snapshot.flows:
        if flow.peer is not None and 2 * flow.first_local > flow.closes and flow.time_waits >= _FEW:
            yield Finding(
                "both_ends_here",
                Severity.FINE,
                flow.who,
                f"both ends are on this host, and of the two {flow.who.label} closes first: its peer"
                f" {flow.peer.label} has no TIME_WAIT of these",
                _flow_evidence(flow),
            )


def _nothing(snapshot: Snapshot) -> Finding:
    pools = [pool for pool in snapshot.pools if pool.size]
    fullest = max(pools, key=lambda pool: pool.settles / (pool.size or 1), default=None)
    reason = f"{snapshot.total.time_wait_now:,} TIME_WAITs"
    evidence: Figures = {"time_wait_now": snapshot.total.time_wait_now}
    if fullest:
        evidence |= {"ports": fullest.size, "settles_at": round(fullest.settles)}
        reason += (
            f"; the fullest destination, {_destination(fullest)}, settles at {fullest.settles:,.0f} of"
            f" {fullest.size:,} source ports"
        )
    else:
        reason += ", none of which holds a source port of a client"
    return Finding(
        "nothing",
        Severity.FINE,
        HOST,
        f"nothing to worry about: {reason}; no connect() failed, nobody leaves sockets open",
        evidence,
        confidence="high" if snapshot.elapsed_us >= _TIME_WAIT_US else "medium",
        refuted_by="a busier hour than the one that was traced",
    )


def _where(snapshot: Snapshot, who: Who) -> str:
    """From which call site its TIME_WAITs come."""
    sites = next((one for one in snapshot.sites if one.who.row == who.row), None)
    return top_site(sites) if sites else ""


def _poolable(flow: Flow) -> bool:
    return _comes_back(flow) and 2 * flow.first_local > flow.closes and flow.time_waits > 0


def _comes_back(flow: Flow) -> bool:
    """Most of its connections could have been an earlier one."""
    return flow.reconnects >= _HABIT * flow.closes


def _summed(snapshot: Snapshot, wanted: Callable[[Flow], bool]) -> list[Flow]:
    """The wanted flows, those of one process in one role as one, named by the busiest."""
    groups: dict[tuple[object, ...], list[Flow]] = {}
    for flow in snapshot.flows:
        if wanted(flow):
            groups.setdefault((flow.who, flow.role), []).append(flow)
    return [_sum(flows) for flows in groups.values()]


def _sum(flows: list[Flow]) -> Flow:
    busiest = max(flows, key=lambda flow: flow.closes)
    sums = {name: sum(getattr(flow, name) for flow in flows) for name in _SUMS}
    return replace(busiest, **sums)


_SUMS = (
    "closes",
    "first_local",
    "time_waits",
    "time_wait_rate",
    "time_wait_now",
    "reconnects",
    "resets_sent",
    "reset_rate",
    "lingering",
)


def _busiest_flow(snapshot: Snapshot, pool: Pool) -> Flow | None:
    """Of the connections that hold these ports."""
    return max(
        (
            flow
            for flow in snapshot.flows
            if flow.role == "client"
            and (flow.netns, flow.local) == (pool.netns, pool.saddr)
            and (pool.daddr is None or (flow.remote, flow.port) == (pool.daddr, pool.dport))
        ),
        key=lambda flow: flow.closes,
        default=None,
    )


def _port_remedies(pool: Pool, flow: Flow | None) -> tuple[Remedy, ...]:
    remedies = []
    if flow is not None and _poolable(flow):
        remedies.append(keep_connections(flow))
    if flow is not None and 2 * flow.first_local > flow.closes:
        remedies.append(let_peer_close(flow))
    if not pool.reuse:
        remedies.append(reuse_ports(pool))
    remedies.append(more_ports(pool))
    return tuple(remedies)


def _remedies_of(snapshot: Snapshot, who: Who) -> tuple[Remedy, ...]:
    return tuple(keep_connections(flow) for flow in _summed(snapshot, _poolable) if flow.who == who)


def _flow_evidence(flow: Flow) -> Figures:
    return {
        "role": flow.role,
        "peer": endpoint(flow.remote, flow.port) if flow.role == "client" else flow.remote,
        "port": flow.port,
        "closes": flow.closes,
        "closed_first": flow.first_local,
        "time_waits": flow.time_waits,
        "time_wait_now": flow.time_wait_now,
        "time_waits_per_s": round(flow.time_wait_rate, 1),
        "reconnects": flow.reconnects,
        "resets_sent": flow.resets_sent,
        "lingering": flow.lingering,
        "age_p50_us": flow.age_p50_us,
        "other_end": flow.peer.label if flow.peer else None,
    }


def _with(flow: Flow) -> str:
    if flow.role == "client":
        return f"to {endpoint(flow.remote, flow.port)}"
    return f"from {flow.remote} to its port {flow.port}"


def _how_opened(group: HeldGroup) -> str:
    return {"client": "connected", "server": f"accepted on port {group.port}"}.get(group.role, "holds")


def _destination(pool: Pool) -> str:
    if pool.daddr is None or pool.dport is None:
        return f"{pool.saddr} → any destination (ports taken by bind())"
    return f"{pool.saddr} → {endpoint(pool.daddr, pool.dport)}"


def _of_ports(count: int, pool: Pool) -> str:
    if pool.size is None:
        return f"{count:,} source ports"
    return f"{count:,} of {pool.size:,} source ports"


def _ceiling(pool: Pool) -> float:
    """Connections per second that the ports are enough for."""
    return (pool.size or 0) * SECOND / pool.lifetime_us


def _limits(snapshot: Snapshot) -> tuple[str, ...]:
    limits = []
    if snapshot.lost:
        limits.append(f"{snapshot.lost:,} records were lost: counts are at least what is said")
    if snapshot.preexisting:
        limits.append(f"{snapshot.preexisting:,} TIME_WAITs are from before the trace: nobody knows whose")
    if snapshot.elapsed_us < _TIME_WAIT_US:
        limits.append("the trace is shorter than a TIME_WAIT: where it settles is reckoned, not seen")
    if snapshot.hooks != "fentry":
        limits.append(f"with the {snapshot.hooks} hooks a FIN_WAIT2 beyond tcp_max_tw_buckets is not told")
    return tuple(limits)


class Verdicts:
    """The findings of a whole trace: of each the worst it came to, and of those the last."""

    def __init__(self) -> None:
        self._worst: dict[tuple[str, str | None], Finding] = {}
        self._last: tuple[Finding, ...] = ()

    def note(self, snapshot: Snapshot) -> None:
        """Judge one more moment, later than those before."""
        self._last = judge(snapshot)
        for finding in self._last:
            key = (finding.id, finding.who.comm)
            before = self._worst.get(key)
            if before is None or finding.severity >= before.severity:
                self._worst[key] = finding

    def findings(self) -> tuple[Finding, ...]:
        """The worst first; that there is nothing only if there never was."""
        failing = {finding.who.comm for finding in self._worst.values() if finding.id == "connect_failing"}
        found = [
            finding
            for finding in self._worst.values()
            # What was foretold has come, and its remedies are named there.
            if finding.id != "nothing"
            and not (finding.id == "ports_exhausting" and finding.who.comm in failing)
        ]
        if not any(finding.severity > Severity.FINE for finding in found):
            found += [finding for finding in self._last if finding.id == "nothing"]
        return tuple(sorted(found, key=lambda finding: -finding.severity))
