"""All scenarios."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.scenarios.real import plays
from tests.scenarios.real.plays import RATE, REQUESTS, TOGETHER, VISITORS
from tests.scenarios.real.scenario import NONE, Count, Facts, Part, Scenario, Verdict, exactly
from tests.scenarios.real.stage import Stage

_NO_TIME_WAIT = Facts(time_waits=NONE)
_EACH_ANEW = Facts(time_waits=exactly(REQUESTS))
_EACH_OF_AB = Facts(time_waits=Count(REQUESTS, REQUESTS + TOGETHER))
"""ab opens one too many now and then."""
# haproxy closes its connections to a server by a reset. With `close` agreed on, nginx closes when it has
# answered and haproxy when it has read that: which of them is first differs from run to run.
_ITS_SERVER_FIRST = Count(REQUESTS // 4, REQUESTS)
_OR_ELSE_RESETS = Count(0, REQUESTS)
_HAPROXY_KEEPS = Facts(NONE, resets=Count(0, TOGETHER))
_PORTS = 50
_BURST = 8

_reconnects = partial(Verdict, "reconnects", why="clos", remedy="keep")


def _few(ports: int) -> tuple[int, int]:
    return 40_000, 40_000 + ports - 1


def _part(what: str, facts: Facts, play: Callable[..., None], *words: object, **more: object) -> Part:
    def run(stage: Stage) -> None:
        play(stage, *words, **more)

    return Part(what, run, facts)


_ALL = (
    Scenario(
        "go-server",
        _part("ab without keep-alive; the Go server closes first", _EACH_OF_AB, plays.go_server),
        _part("ab -k keeps its connections", _NO_TIME_WAIT, plays.go_server, "-k"),
        _reconnects("web", "shop"),
    ),
    Scenario(
        "go-client-unread",
        _part("a Go client closes bodies it has not read", _EACH_ANEW, plays.go_client, "-unread"),
        _part("it reads them to their end", Facts(exactly(TOGETHER)), plays.go_client),
        _reconnects("client", "mirror"),
    ),
    Scenario(
        "go-client-unread-long",
        _part(
            "the same with long bodies: data is left, so that close() sends a reset",
            Facts(NONE, resets=exactly(REQUESTS)),
            plays.go_client, "-unread", page=60_000,
        ),
        _part("it reads them to their end", Facts(exactly(TOGETHER)), plays.go_client, page=60_000),
        Verdict("resets_sent", "client", "mirror", why="reset", remedy="read"),
    ),
    Scenario(
        "go-client-idle",
        _part(
            f"a Go client asks {_BURST} at a time and keeps 2 (MaxIdleConnsPerHost)",
            Facts(Count(REQUESTS // 2, REQUESTS)),
            plays.go_client, together=_BURST,
        ),
        _part(
            f"MaxIdleConnsPerHost = {_BURST}",
            Facts(Count(1, _BURST)),
            plays.go_client, f"-idle={_BURST}", together=_BURST,
        ),
        _reconnects("client", "mirror"),
    ),
    Scenario(
        "nginx-server",
        _part("nginx with keepalive_timeout 0", _EACH_OF_AB, plays.nginx_server, keepalive_seconds=0),
        _part("keepalive_timeout 75", _NO_TIME_WAIT, plays.nginx_server, keepalive_seconds=75),
        _reconnects("web", "nginx"),
    ),
    Scenario(
        "nginx-upstream-closes",
        _part(
            "nginx in front of a Go server as it comes, with HTTP/1.0: the web server closes first",
            _EACH_ANEW,
            plays.nginx_proxy, plays.PROXY_AS_IT_COMES, "-stream",
        ),
        _part("upstream keepalive, HTTP/1.1", _NO_TIME_WAIT, plays.nginx_proxy, plays.PROXY_KEEPS, "-stream"),
        _reconnects("backend", "shop"),
    ),
    Scenario(
        "nginx-closes-upstream",
        _part(
            "HTTP/1.1 to the upstream without `keepalive`: nginx closes first",
            _EACH_ANEW,
            plays.nginx_proxy, plays.PROXY_FORGETS,
        ),
        _part("upstream keepalive", _NO_TIME_WAIT, plays.nginx_proxy, plays.PROXY_KEEPS),
        _reconnects("balancer", "nginx"),
    ),
    Scenario(
        "haproxy-httpclose",
        _part(
            "haproxy with option httpclose closes first to its clients",
            Facts(Count(REQUESTS, REQUESTS + TOGETHER), resets=_OR_ELSE_RESETS),
            plays.haproxy_proxy, "option httpclose",
        ),
        _part("option http-keep-alive", _HAPROXY_KEEPS, plays.haproxy_proxy, "option http-keep-alive"),
        _reconnects("balancer", "haproxy"),
    ),
    Scenario(
        "haproxy-server-close",
        _part(
            "haproxy with option http-server-close: nginx behind it closes first",
            Facts(_ITS_SERVER_FIRST),
            plays.haproxy_proxy, "option http-server-close",
        ),
        _part("http-reuse always", _NO_TIME_WAIT, plays.haproxy_proxy, "http-reuse always"),
        _reconnects("backend", "nginx"),
    ),
    Scenario(
        "haproxy-reuse-never",
        _part(
            "haproxy with http-reuse never: its clients leave, and it resets its connection to nginx",
            Facts(NONE, resets=exactly(VISITORS)),
            plays.haproxy_visited, "http-reuse never",
        ),
        _part("http-reuse always", _HAPROXY_KEEPS, plays.haproxy_visited, "http-reuse always"),
        Verdict("resets_sent", "balancer", "haproxy", why="reset", remedy="http-reuse"),
    ),
    Scenario(
        "python-out-of-ports",
        _part(
            f"a Python client connects each time; it has {_PORTS} ports and no more",
            Facts(exactly(_PORTS), refused=exactly(REQUESTS - _PORTS)),
            plays.importer, "fetch_anew", _few(_PORTS),
        ),
        _part("it keeps its connection", Facts(exactly(1)), plays.importer, "fetch_kept", _few(_PORTS)),
        Verdict("connect_failing", "client", "importer", why="port", remedy="keep"),
    ),
    Scenario(
        "python-few-ports",
        _part(
            f"it has {2 * REQUESTS} ports, and would need {60 * RATE} a minute",
            _EACH_ANEW,
            plays.importer, "fetch_anew", _few(2 * REQUESTS),
        ),
        _part("ip_local_port_range 32768 60999", _EACH_ANEW, plays.importer, "fetch_anew", (32_768, 60_999)),
        Verdict(
            "ports_exhausting", "client", "importer", why="port", remedy="ip_local_port_range",
            may_stay=("reconnects",),
        ),
    ),
    Scenario(
        "python-close-wait",
        _part(
            "a Python server forgets to close",
            Facts(NONE, held=exactly(VISITORS)),
            plays.mailer, "serve_and_forget",
        ),
        _part("it closes", _NO_TIME_WAIT, plays.mailer, "serve_and_close"),
        Verdict("close_wait_leak", "web", "mailer", why="close", remedy="close"),
    ),
    Scenario(
        "redis-client",
        _part("a Python client of Redis connects each time", _EACH_ANEW, plays.redis_client, "count_anew"),
        _part("it keeps its connection", Facts(exactly(1)), plays.redis_client, "count_kept"),
        _reconnects("client", "counter"),
    ),
)  # fmt: skip

SCENARIOS = {scenario.name: scenario for scenario in _ALL}
