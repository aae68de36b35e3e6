"""What the scenarios are made of: each starts its programs and lets a client do its work."""

from __future__ import annotations

from tests.kernel.support import eventually
from tests.scenarios.real.programs import ab, haproxy, nginx, python, redis
from tests.scenarios.real.stage import Stage

REQUESTS = 200
TOGETHER = 2
"""Requests at a time."""
RATE = 50
"""Requests a second of the Python programs."""
VISITORS = 60
VISITORS_RATE = 10
"""A second; the first has been gone for 6 s when the last goes: long enough for a leak."""
WEB, BACKEND, REDIS = 8080, 9000, 6379
URL = f"http://127.0.0.1:{WEB}/"

_LOCATION = f"listen 127.0.0.1:{WEB}; location /"
_UPSTREAM = f"upstream kept {{ server 127.0.0.1:{BACKEND}; keepalive 8; }}"
_HTTP_1_1 = 'proxy_http_version 1.1; proxy_set_header Connection "";'
PROXY_AS_IT_COMES = f"server {{ {_LOCATION} {{ proxy_pass http://127.0.0.1:{BACKEND}; }} }}\n"
PROXY_FORGETS = f"server {{ {_LOCATION} {{ proxy_pass http://127.0.0.1:{BACKEND}; {_HTTP_1_1} }} }}\n"
PROXY_KEEPS = f"{_UPSTREAM}\nserver {{ {_LOCATION} {{ proxy_pass http://kept; {_HTTP_1_1} }} }}\n"


def go_server(stage: Stage, *options: str) -> None:
    """A Go server under ab with those options."""
    _shop(stage, WEB)
    stage.run("client", ab(URL, REQUESTS, TOGETHER, *options))


def go_client(stage: Stage, *options: str, page: int = 2000, together: int = TOGETHER) -> None:
    """A Go client of a Go server."""
    _shop(stage, WEB, f"-page={page}")
    fetch = [stage.go("mirror"), "fetch", f"-together={together}", f"-requests={REQUESTS}"]
    stage.run("client", [*fetch, *options, URL])


def nginx_server(stage: Stage, keepalive_seconds: int) -> None:
    """nginx under ab, which would keep its connections."""
    page = f'server {{ keepalive_timeout {keepalive_seconds}; {_LOCATION} {{ return 200 "page"; }} }}\n'
    stage.serve("web", nginx(stage.folder / "nginx", page), WEB)
    stage.run("client", ab(URL, REQUESTS, TOGETHER, "-k"))


def nginx_proxy(stage: Stage, servers: str, *backend: str) -> None:
    """nginx in front of a Go server; its client keeps one connection."""
    _shop(stage, BACKEND, *backend)
    stage.serve("balancer", nginx(stage.folder / "nginx", servers), WEB)
    stage.run("client", python("visitor", "fetch_kept", str(WEB), str(REQUESTS), str(RATE)))


def haproxy_proxy(stage: Stage, *options: str) -> None:
    """haproxy in front of nginx, under ab, which would keep its connections."""
    _haproxy(stage, options)
    stage.run("client", ab(URL, REQUESTS, TOGETHER, "-k"))


def haproxy_visited(stage: Stage, *options: str) -> None:
    """haproxy in front of nginx; each visitor comes and goes."""
    _haproxy(stage, options)
    stage.run("client", python("visitor", "fetch_anew", str(WEB), str(VISITORS), str(RATE)))


def importer(stage: Stage, fetch: str, ports: tuple[int, int]) -> None:
    """A Python client that has those ports, on a host that does not reuse them."""
    stage.settings(ip_local_port_range=f"{ports[0]} {ports[1]}", tcp_tw_reuse="0")
    _shop(stage, WEB, "-think=0")
    stage.run("client", python("importer", fetch, str(WEB), str(REQUESTS), str(RATE)))


def mailer(stage: Stage, serve: str) -> None:
    """A Python server whose clients close."""
    stage.serve("web", python("mailer", serve, str(WEB)), WEB)
    stage.run("client", python("visitor", "greet", str(WEB), str(VISITORS), str(VISITORS_RATE)))
    if serve == "serve_and_close":
        eventually(lambda: not stage.netns.kernel_sockets("close-wait"))


def redis_client(stage: Stage, count: str) -> None:
    """A Python client of Redis."""
    stage.serve("redis", redis(REDIS), REDIS)
    stage.run("client", python("counter", count, str(REDIS), str(REQUESTS), str(RATE)))


def _shop(stage: Stage, port: int, *options: str) -> None:
    role = "web" if port == WEB else "backend"
    stage.serve(role, [stage.go("shop"), "serve", *options, f"127.0.0.1:{port}"], port)


def _haproxy(stage: Stage, options: tuple[str, ...]) -> None:
    page = f'server {{ listen 127.0.0.1:{BACKEND}; location / {{ return 200 "page"; }} }}\n'
    stage.serve("backend", nginx(stage.folder / "nginx", page), BACKEND)
    lines = "".join(f"    {option}\n" for option in options)
    proxies = f"listen web\n    bind 127.0.0.1:{WEB}\n{lines}    server one 127.0.0.1:{BACKEND}\n"
    stage.serve("balancer", haproxy(stage.folder / "haproxy", proxies), WEB)
