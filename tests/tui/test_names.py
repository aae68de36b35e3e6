"""Names of addresses, asked of a resolver that may be slow, wrong or hostile."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue

import pytest

from tests.tui.samples import DEADLINE_S
from tracer.tui import names
from tracer.tui.names import Names, reverse


class Told:
    """Counts, and can be waited for."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[int] = SimpleQueue()

    def __call__(self) -> None:
        self._queue.put(threading.get_ident())

    def wait(self) -> int:
        """The thread in which it was told."""
        return self._queue.get(timeout=DEADLINE_S)

    @property
    def is_done(self) -> bool:
        """Was it waited for as often as it was told?"""
        return self._queue.empty()


def test_each_is_asked_once_and_told_when_it_is_known() -> None:
    asked: list[str] = []
    told = Told()

    def resolve(address: str) -> str:
        asked.append(address)
        return f"{address}.example"

    found = Names(told, resolve)
    assert (found.known, asked) == ({}, [])
    found.want(["a", "b", "a"])
    assert {told.wait(), told.wait()} != {threading.get_ident()}
    assert found.known == {"a": "a.example", "b": "b.example"}
    found.want(["b", "a", "c"])
    told.wait()
    assert asked == ["a", "b", "c"]
    assert told.is_done


def test_what_has_no_name_is_not_told() -> None:
    told = Told()
    found = Names(told, {"a": None, "b": "", "c": "c.example"}.get)
    found.want("abc")
    told.wait()
    assert found.known == {"c": "c.example"}
    assert told.is_done


def test_what_was_handed_out_stays_as_it_is() -> None:
    told = Told()
    found = Names(told, str.upper)
    found.want("a")
    told.wait()
    before = found.known
    found.want("b")
    told.wait()
    assert before == {"a": "A"}
    assert found.known == {"a": "A", "b": "B"}


def test_a_resolver_that_hangs_keeps_nobody() -> None:
    told, may = Told(), threading.Event()

    def resolve(address: str) -> str:
        assert may.wait(DEADLINE_S)
        return address

    found = Names(told, resolve)
    found.want("ab")
    found.want("cd")
    assert found.known == {}
    may.set()
    for _ in range(4):
        told.wait()
    assert {*found.known} == {*"abcd"}


def test_so_many_are_asked_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MAX_NAMES", 3)
    told = Told()
    found = Names(told, str.upper)
    found.want("ab")
    found.want("cdefg")
    for _ in range(3):
        told.wait()
    found.want("ha")
    assert found.known == {"a": "A", "b": "B", "c": "C"}
    assert told.is_done


def failing(error: Exception) -> Callable[..., tuple[str, str]]:
    def getnameinfo(*_: object) -> tuple[str, str]:
        raise error

    return getnameinfo


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "no name"),
        OSError("no network"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a name is any bytes"),
    ],
)
def test_reverse_without_a_name(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getnameinfo", failing(error))
    assert reverse("10.0.0.1") is None


def test_reverse_wants_a_name_and_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def getnameinfo(*arguments: object) -> tuple[str, str]:
        asked.append(arguments)
        return "db.example", "0"

    monkeypatch.setattr(socket, "getnameinfo", getnameinfo)
    assert reverse("fe80::1") == "db.example"
    assert asked == [(("fe80::1", 0), socket.NI_NAMEREQD)]
