r"""The filter that is typed: `/` on the screen and `--filter EXPR` on the command line.

Terms are separated by blanks, and all of them must hold. A `!` before a term
turns it round; `!( ... )` around all of them turns the whole round.

    proc:nginx,haproxy    text: one of these is in it, in upper or lower case
    cgroup:/k8s.*burst/   text: a regular expression matches (Python's; `\/` is a slash)
    exe=/usr/bin/curl     text: this and nothing else
    cmdline:"-w 8"        quotes: for blanks, commas and parentheses
    peer:10.2.0.0/16      addresses: a network too
    dport:80,8000-8999    numbers: one of these, or in one of these ranges
    tw/s>=1.5             numbers: also > < <=
    orders                a word: it is in the process's label, name[pid], or in address:port of the peer

KEYS has the keys. Some are about connections, and can be asked of every event;
others about a row of a view. What is not known does not match: `uid:0` is
false of an unknown owner, and `!uid:0` true.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from ipaddress import ip_address, ip_network
from itertools import takewhile
from typing import Any, NamedTuple

from tracer.account import MAX_NAMED_PIDS
from tracer.errors import UsageError
from tracer.model import Endpoints, Flow, Grade, Owner, Pool, Process, Row, Who
from tracer.text import endpoint, fit, printable, width

Test = Callable[[Any], bool]
"""Is it such a value?"""

Check = Callable[[Endpoints, Owner], bool]
"""Does a term hold of an event?"""


class FilterError(UsageError):
    """What is typed is no filter."""

    def __init__(self, cause: str, hint: str, at: int) -> None:
        super().__init__(cause, hint)
        self.at = at
        """The character it fails at, from 0."""


class _Place(NamedTuple):
    """What is known of the ends of connections, by the names of Endpoints."""

    netns: int | None = None
    family: int | None = None
    saddr: str | None = None
    sport: int | None = None
    daddr: str | None = None
    dport: int | None = None

    def peer(self) -> str:
        """As people read it; empty if not known."""
        if self.daddr is None or self.dport is None:
            return self.daddr or ""
        return endpoint(self.daddr, self.dport)


@dataclass(frozen=True, slots=True)
class Term:
    """One condition."""

    text: str
    """As written."""
    key: str
    """One of KEYS; empty for a word."""
    negated: bool
    test: Test = field(compare=False, repr=False)

    def holds(self, *values: object) -> bool:
        """Does one of the values match, or none if it is negated? None never matches."""
        return any(value is not None and self.test(value) for value in values) is not self.negated


@dataclass(frozen=True, slots=True)
class Expression:
    """A filter; an empty one lets everything pass."""

    text: str = ""
    terms: tuple[Term, ...] = ()
    is_inverted: bool = False
    """Whether it stands in `!( ... )`."""
    by_owner: bool = field(init=False, repr=False, compare=False)
    """Whether a term asks who is behind a connection."""
    row_level: bool = field(init=False, repr=False, compare=False)
    """Whether a term asks what only a row of a view can say."""
    _checks: tuple[Check, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        terms = self.terms
        checks = tuple(_check(term) for term in terms if term.key not in _OF_ROW)
        object.__setattr__(self, "_checks", checks)
        object.__setattr__(self, "by_owner", any(term.key in _OF_OWNER or not term.key for term in terms))
        object.__setattr__(self, "row_level", len(checks) < len(terms))

    def __bool__(self) -> bool:
        return bool(self.terms)

    def inverted(self) -> Expression:
        """What does not pass; of an empty one itself. Twice gives the first again."""
        if not self.terms:
            return self
        inside = " ".join(term.text for term in self.terms)
        text = inside if self.is_inverted else f"!( {inside} )"
        return Expression(text, self.terms, not self.is_inverted)

    def for_rows(self) -> Expression:
        """What is left to ask of rows, if passes() was asked of all that went into them."""
        if self.is_inverted:
            return self if self.row_level else EVERYTHING
        terms = tuple(term for term in self.terms if term.key in _OF_ROW)
        return Expression(" ".join(term.text for term in terms), terms)

    def passes(self, ends: Endpoints, owner: Owner) -> bool:
        """Does a connection pass? Terms about rows are taken to hold, or not to, as lets more pass."""
        for check in self._checks:
            if not check(ends, owner):
                return self.is_inverted
        return not self.is_inverted or self.row_level

    def passes_row(self, row: Row, flows: tuple[Flow, ...]) -> bool:
        """Does a row pass? `flows` may hold others' too.

        A row has many connections: it passes if one of its flows satisfies all the terms about ends. One
        without flows has its top peer.
        """
        of_ends = [term for term in self.terms if _asks_ends(term)]
        held = [_holds_of_row(term, row) for term in self.terms if not _asks_ends(term)]
        if of_ends and False not in held:
            places = _places(row, flows)
            held.append(any(all(_holds_of_place(term, at, row.label) for term in of_ends) for at in places))
        return self._come_to(held)

    def passes_pool(self, pool: Pool) -> bool:
        """Do the source ports for a destination pass? What they cannot say lets them pass."""
        place = _Place(pool.netns, pool.family, pool.saddr, None, pool.daddr, pool.dport)
        # Without a destination they are for all of them.
        unsaid = {"sport"} if pool.dport is not None else {"sport", "dport", "port", "daddr"}
        return self._come_to(
            [None if term.key in unsaid else _holds_of_who(term, pool.who, place) for term in self.terms]
        )

    def passes_flow(self, flow: Flow) -> bool:
        """Does a flow pass? What it cannot say lets it pass."""
        place = _place_of(flow)
        return self._come_to([_holds_of_who(term, flow.who, place) for term in self.terms])

    def _come_to(self, held: list[bool | None]) -> bool:
        """Pass, unless it is known not to; None: nobody knows."""
        if False in held:
            return self.is_inverted
        return not self.is_inverted or None in held


EVERYTHING = Expression()
"""The empty one."""


def parse(text: str) -> Expression:
    """The expression; raises FilterError for what is none."""
    for at, char in enumerate(text):
        if "\ud800" <= char <= "\udfff":
            raise _wrong(text, "not UTF-8", r"bytes that are none are in names as \xNN: write that", at)
    inside, turns = text.strip(), 0
    while inside.startswith("!(") and inside.endswith(")"):
        inside = inside[2:-1].strip()
        turns += 1
    before = text.index("(", text.rindex("!(")) + 1 if turns and not inside else text.index(inside)
    try:
        terms = tuple(_terms(inside))
    except FilterError as error:
        error.at += before
        raise
    if turns and not terms:
        hint = "write it like !( proc:nginx dport:443 )"
        raise _wrong(text, "nothing stands in the parentheses", hint, before)
    expression = Expression(" ".join(term.text for term in terms), terms)
    return expression.inverted() if turns % 2 else expression


# What a term says of an event, a row, a flow, a pool.


def _check(term: Term) -> Check:
    """The term for passes(): it is asked at every event, so all that can be is decided here."""
    test, negated = term.test, term.negated
    if not term.key:
        return lambda ends, owner: (
            (test(_label(owner.process)) or test(endpoint(ends.daddr, ends.dport))) is not negated
        )
    if term.key == "port":
        return lambda ends, _: (test(ends.sport) or test(ends.dport)) is not negated
    if term.key == "grade":
        return lambda _, owner: test(owner.grade) is not negated
    get = operator.attrgetter(_ATTRIBUTES.get(term.key, term.key))
    if term.key in _OF_ENDS:
        return lambda ends, _: test(get(ends)) is not negated

    def check(_: Endpoints, owner: Owner) -> bool:
        value = None if owner.process is None else get(owner.process)
        return (value is not None and test(value)) is not negated

    return check


def _label(process: Process | None) -> str:
    """As Row.label."""
    return "unknown" if process is None else f"{process.comm}[{process.pid}]"


def _asks_ends(term: Term) -> bool:
    return term.key in _OF_ENDS or not term.key


def _holds_of_place(term: Term, place: _Place, label: str) -> bool:
    if not term.key:
        return term.holds(label, place.peer())
    if term.key == "port":
        return term.holds(place.sport, place.dport)
    return term.holds(getattr(place, term.key))


def _holds_of_who(term: Term, who: Who, place: _Place) -> bool | None:
    if _asks_ends(term):
        return _holds_of_place(term, place, who.label)
    if term.key == "grade":
        return term.holds(who.grade or Grade.UNKNOWN)
    if term.key == "proc":
        return term.holds(who.comm)
    if term.key == "pid":
        return _holds_of_pids(term, who.pids)
    # Whatever else there is to an owner, one who is not known has not got it.
    return term.negated if term.key in _OF_OWNER and who.comm is None else None


def _holds_of_row(term: Term, row: Row) -> bool | None:
    if term.key in _OF_ROW:
        return term.holds(_OF_ROW[term.key](row))
    if term.key == "grade":
        return term.holds(row.grade)
    if term.key == "pid":
        return _holds_of_pids(term, row.pids or _pids_named(row))
    if row.process is None:
        return term.holds(_of_group(row).get(term.key))
    value = getattr(row.process, _ATTRIBUTES.get(term.key, term.key))
    return term.holds(row.cgroup or value if term.key == "cgroup" else value)


def _holds_of_pids(term: Term, pids: tuple[int, ...]) -> bool | None:
    """Is there such a process among them? Of many only the lowest pids are known."""
    if any(term.holds(pid) for pid in pids or (None,)):
        return True
    return None if len(pids) >= MAX_NAMED_PIDS else False


_LABEL = re.compile(r"(.*?)(?:\[(\d{1,10})\]| ×\d+\+?)?", re.DOTALL)


def _of_group(row: Row) -> dict[str, str | None]:
    """What is known of a row that stands for no process: it is called after what it has in common."""
    named = None if row.grade in (None, Grade.UNKNOWN) else _LABEL.fullmatch(row.label)
    name = named[1] if named else ""
    is_path = name.startswith("/")
    return {"proc": None if is_path else name or None, "cgroup": row.cgroup or (name if is_path else None)}


def _pids_named(row: Row) -> tuple[int, ...]:
    found = _LABEL.fullmatch(row.label)
    return (int(found[2]),) if found and found[2] else ()


def _places(row: Row, flows: tuple[Flow, ...]) -> list[_Place]:
    own = [_place_of(flow) for flow in flows if flow.who.row == row.key]
    return own or [_place_named(row.top_peer or "")]


def _place_of(flow: Flow) -> _Place:
    is_server = flow.role == "server"
    return _Place(
        flow.netns,
        _family(flow.remote),
        flow.local,
        flow.port if is_server else None,
        flow.remote,
        None if is_server else flow.port,
    )


_SERVED = re.compile(r"(.+) \(:(\d{1,5})\)")
_SERVICE = re.compile(r"\[?(.+?)\]?:(\d{1,5})")


def _place_named(peer: str) -> _Place:
    """The ends that Row.top_peer tells of."""
    if found := _SERVED.fullmatch(peer):
        return _Place(family=_family(found[1]), daddr=found[1], sport=int(found[2]))
    if found := _SERVICE.fullmatch(peer):
        return _Place(family=_family(found[1]), daddr=found[1], dport=int(found[2]))
    return _Place()


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


# What values look like. A reader gives the value, or None if there is none in the text.


class _Form(NamedTuple):
    takes: str
    """What is written, for hints."""
    read: Callable[[str], float | None] | None = None
    """For numbers."""
    choices: dict[str, object] | None = None
    """For one of few."""
    is_address: bool = False


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


_MAX_PORT = 65535


def _port(text: str) -> int | None:
    number = _whole(text)
    return None if number is None or number > _MAX_PORT else number


def _decimal(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text) else None


def _share(text: str) -> float | None:
    number = _decimal(text.removesuffix("%"))
    return None if number is None or number > 100 else number  # noqa: PLR2004 - percent


_UNITS_US = {"us": 1, "µs": 1, "ms": 1e3, "": 1e6, "s": 1e6, "m": 60e6, "min": 60e6, "h": 3600e6}


def _duration(text: str) -> float | None:
    amount = "".join(takewhile(lambda char: char in "0123456789.", text))
    number, unit_us = _decimal(amount), _UNITS_US.get(text[len(amount) :])
    return None if number is None or unit_us is None else number * unit_us


_TEXT = _Form('a part of it, name=all of it, name:/expression/, or name:"in quotes"')
_ADDRESS = _Form("a part of it, name=address, name:address/bits or name:/expression/", is_address=True)
_NUMBER = _Form("whole numbers: 5432, 80,443, 8000-8999, or name>1000", _whole)
_PORT = _Form("ports, 0 to 65535: 5432, 80,443, 8000-8999, or name>1000", _port)
_RATE = _Form("numbers: name>10, name>=1.5, or name:1-20", _decimal)
_PERCENT = _Form("percentages, 0 to 100: name>50, or name:90-100", _share)
_DURATION = _Form("durations: name<9ms, name>1.2s, or name:1s-3min", _duration)


def _one_of(**choices: object) -> _Form:
    return _Form(f"one of {', '.join(choices)}", choices=choices)


class _Key(NamedTuple):
    name: str
    form: _Form
    means: str
    aliases: tuple[str, ...] = ()


_OWNER_KEYS = (
    _Key("proc", _TEXT, "process name", ("comm",)),
    _Key("pid", _NUMBER, "process id"),
    _Key("uid", _NUMBER, "user id"),
    _Key("cgroup", _TEXT, "path of the cgroup"),
    _Key("unit", _TEXT, "systemd unit"),
    _Key("container", _TEXT, "container id, or name of an LXC one"),
    _Key("exe", _TEXT, "path of the executable"),
    _Key("cmdline", _TEXT, "command line"),
    _Key(
        "grade",
        _one_of(**{grade.value: grade for grade in Grade}),
        "how the owner is known: certain, inferred, unknown",
    ),
)
_ENDS_KEYS = (
    _Key("netns", _NUMBER, "inode number of the network namespace"),
    _Key("sport", _PORT, "local port", ("lport",)),
    _Key("dport", _PORT, "remote port", ("rport",)),
    _Key("port", _PORT, "local or remote port"),
    _Key("saddr", _ADDRESS, "local address", ("laddr",)),
    _Key("daddr", _ADDRESS, "remote address", ("raddr", "peer")),
    _Key("family", _Form("4 or 6", choices={"4": 4, "6": 6}), "4 or 6; a mapped address is 4"),
)
_ROW_KEYS = (
    _Key("tw", _NUMBER, "TIME_WAITs there are now"),
    _Key("tw/s", _RATE, "TIME_WAITs a second"),
    _Key("close/s", _RATE, "closes a second"),
    _Key("closes", _NUMBER, "closes so far"),
    _Key("first", _PERCENT, "percent of closes with the first FIN from this side"),
    _Key("rst", _PERCENT, "percent of closes by reset, sent or received"),
    _Key("held", _NUMBER, "half-closed sockets held"),
    _Key("life", _DURATION, "median age of connections at their close"),
    _Key(
        "role",
        _one_of(**{role: role for role in ("client", "server", "mixed", "unknown")}),
        "client, server, mixed, unknown",
    ),
)

_ATTRIBUTES = {"proc": "comm"}
"""Of Process, where it is not called like the key."""
_OF_OWNER = frozenset(key.name for key in _OWNER_KEYS)
_OF_ENDS = frozenset(key.name for key in _ENDS_KEYS)
_OF_ROW: dict[str, Callable[[Row], object]] = {
    "tw": lambda row: row.time_wait_now,
    "tw/s": lambda row: row.time_wait_rate,
    "close/s": lambda row: row.close_rate,
    "closes": lambda row: row.closes,
    "first": lambda row: _percent(row.first_local, row.closes),
    "rst": lambda row: _percent(row.resets_sent + row.resets_received, row.closes),
    "held": lambda row: row.held_close_wait + row.held_fin_wait2,
    "life": lambda row: row.age_p50_us,
    "role": lambda row: row.role,
}

_ALL_KEYS = (*_OWNER_KEYS, *_ENDS_KEYS, *_ROW_KEYS)
_BY_NAME = {name: key for key in _ALL_KEYS for name in (key.name, *key.aliases)}

KEYS = tuple((key.name, key.means) for key in _ALL_KEYS)
"""Each key and what it means: those of owners, of ends, of rows."""
ALIASES = {alias: key.name for key in _ALL_KEYS for alias in key.aliases}
"""Other names of keys."""


# From text to terms.

_HEAD = re.compile(r'([^\s:=<>"]*)(>=|<=|[:=<>])?')
_BLANKS = re.compile(r"\s*")
_WORD = re.compile(r"\S*")
_VALUE = re.compile(r'"([^"]*)"|([^\s",]*)')
_PATTERN = re.compile(r"/((?:[^/\\]|\\.)*)/(?!\S)")
_ADDRESS_LIKE = re.compile(r"[\[0-9a-fA-F.]*")


def _terms(text: str) -> Iterator[Term]:
    at = 0
    while at < len(text):
        term = _term(text, at)
        yield term
        at = _at(_BLANKS, text, at + len(term.text)).end()


def _at(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    """The match that begins there, of a pattern that matches nothing too."""
    return next(pattern.finditer(text, at))


def _term(text: str, start: int) -> Term:
    """The term that begins there."""
    negated = text[start] == "!"
    at = start + negated
    if text[at : at + 1].strip() in ("", "!"):
        raise _wrong(
            "!",
            "nothing to turn round follows it",
            "put it right before what should not hold: !proc:nginx",
            start,
        )
    head = _at(_HEAD, text, at)
    name, operation = head.groups()
    key = _BY_NAME.get(name.lower())
    is_word = operation is None or (
        key is None and operation == ":" and _ADDRESS_LIKE.fullmatch(name) is not None
    )
    if is_word:
        values, end = _values(text, at, start)
        test = _part_of(values)
    elif "(" in name or ")" in name:
        raise _parenthesis(_shown_term(text, start), text, at)
    elif key is None:
        raise _unknown_key(name, _shown_term(text, start), at)
    else:
        end, test = _read_values(text, head.end(), start, key, operation)
    return Term(text[start:end], key.name if key and not is_word else "", negated, test)


def _read_values(text: str, at: int, start: int, key: _Key, operation: str) -> tuple[int, Test]:
    """Where the values of a key end, and the test they come to."""
    is_text = key.form.read is None and key.form.choices is None
    if is_text and operation == ":" and text[at : at + 1] == "/":
        found = _PATTERN.match(text, at)
        if not found:
            raise _wrong(
                _shown_term(text, start),
                "a / begins an expression, and a / must end it",
                rf'for a path {key.name}="/path" or, a part of it, {key.name}:"/path"; in an expression \/',
                at,
            )
        return found.end(), _matching(found[1], text[start : found.end()], at + 1)
    values, end = _values(text, at, start)
    try:
        return end, _test(key.form, operation, values)
    except ValueError as error:
        takes = key.form.takes.replace("name", key.name)
        raise _wrong(text[start:end], str(error), f"{key.name} takes {takes}", at) from None


def _values(text: str, at: int, start: int) -> tuple[tuple[str, ...], int]:
    """The values that begin there, and where they end."""
    values = []
    while True:
        found = _at(_VALUE, text, at)
        quoted, plain = found.groups()
        began, at = at, found.end()
        if not (quoted or plain):
            raise _wrong(
                _shown_term(text, start),
                "a quote does not end" if plain == "" and text[at : at + 1] == '"' else "no value",
                'write it like proc:nginx, proc:nginx,haproxy or cmdline:"-w 8"',
                began,
            )
        if plain and ("(" in plain or ")" in plain):
            raise _parenthesis(_shown_term(text, start), text, began)
        values.append(quoted or plain)
        following = text[at : at + 1]
        if not following.strip():
            return tuple(values), at
        if following != ",":
            raise _wrong(
                _shown_term(text, start),
                "a quote amid a value",
                'write it like proc:"a b",c; a quote itself only fits in an /expression/',
                at,
            )
        at += 1


def _test(form: _Form, operation: str, values: tuple[str, ...]) -> Test:
    """The test; ValueError says what is wrong with the values."""
    if form.read:
        return _number_test(form.read, operation, values)
    if operation not in (":", "="):
        raise ValueError(f"{operation} is for numbers")
    if form.choices:
        wanted = {_choice(form.choices, value) for value in values}
        return lambda value: value in wanted
    if form.is_address:
        return _address_test(operation, values)
    return _part_of(values) if operation == ":" else frozenset(values).__contains__


def _choice(choices: dict[str, object], value: str) -> object:
    if value.lower() not in choices:
        raise ValueError(f"no {value!r} here")
    return choices[value.lower()]


def _part_of(values: tuple[str, ...]) -> Test:
    parts = tuple(value.casefold() for value in values)
    if len(parts) == 1:
        (part,) = parts
        return lambda value: part in value.casefold()
    return lambda value: any(part in folded for folded in (value.casefold(),) for part in parts)


def _matching(pattern: str, shown: str, at: int) -> Test:
    if not pattern:
        raise _wrong(shown, "the expression is empty", "write one between the slashes", at)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python may read otherwise one day
            search = re.compile(pattern).search
    except (re.error, OverflowError, RecursionError) as error:
        if isinstance(error, re.error):
            at += error.pos or 0
        raise _wrong(
            shown, f"no regular expression: {error}", r"put a \ before what stands for itself", at
        ) from None
    return lambda value: search(value) is not None


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def _number_test(read: Callable[[str], float | None], operation: str, values: tuple[str, ...]) -> Test:
    if operation in _COMPARISONS:
        compare = _COMPARISONS[operation]
        if len(values) > 1:
            raise ValueError(f"{operation} takes one number, without commas")
        bound = _number(read, values[0])
        return lambda value: compare(value, bound)
    ranges = []
    exact = set()
    for value in values:
        low, dash, high = value.partition("-")
        if not dash:
            exact.add(_number(read, value))
            continue
        ends = _number(read, low), _number(read, high)
        if ends[0] > ends[1]:
            raise ValueError(f"{low} is more than {high}")
        ranges.append(ends)
    if not ranges:
        return frozenset(exact).__contains__
    return lambda value: value in exact or any(low <= value <= high for low, high in ranges)


def _number(read: Callable[[str], float | None], text: str) -> float:
    number = read(text)
    if number is None:
        raise ValueError(f"{text!r} does not do")
    return number


def _address_test(operation: str, values: tuple[str, ...]) -> Test:
    tests = [
        _network_test(value) if "/" in value or operation == "=" else _part_of((value,)) for value in values
    ]
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)


def _network_test(text: str) -> Test:
    """For an address, which is a network of one, or a network."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no {'network' if '/' in text else 'address'}") from None
    version, first, mask = network.version, int(network.network_address), int(network.netmask)

    def test(value: str) -> bool:
        number = _as_number(value)
        return number is not None and number[0] == version and number[1] & mask == first

    return test


@lru_cache(maxsize=65536)
def _as_number(address: str) -> tuple[int, int] | None:
    """Version and number of an address."""
    try:
        known = ip_address(address)
    except ValueError:
        return None
    return known.version, int(known)


# What is wrong.

_SHOWN = 80


def _shown_term(text: str, start: int) -> str:
    """What stands there, up to a blank."""
    return _at(_WORD, text, start)[0]


def _wrong(term: str, what: str, hint: str, at: int) -> FilterError:
    return FilterError(f"filter {_short(term)}: {_short(what)}", printable(hint), at)


def _short(text: str) -> str:
    shown = printable(text)
    return fit(shown, _SHOWN) if width(shown) > _SHOWN else shown


def _parenthesis(term: str, text: str, start: int) -> FilterError:
    """For the first one from there on."""
    hint = 'put it in quotes, like "(sd-pam)"; !( ... ) goes around the whole filter'
    at = next(at for at in range(start, len(text)) if text[at] in "()")
    return _wrong(term, "a parenthesis outside quotes", hint, at)


def _unknown_key(name: str, term: str, at: int) -> FilterError:
    # Nobody mistypes a key at more length than this.
    close = get_close_matches(name.lower()[:_SHOWN], _BY_NAME, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    if name.endswith("!"):
        guess = f"not equal is !{name[:-1]}=VALUE; "
    keys = ", ".join(key.name for key in _ALL_KEYS)
    hint = f"{guess}keys are {keys}; a word with : = < > goes in quotes"
    return _wrong(term, f"no key {name!r}", hint, at)
