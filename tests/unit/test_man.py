"""The manual says what the program does: each option, exit status, line type and phrase, and no other."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import shlex
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from tracer import cli
from tracer.commands.parsers import parser_of
from tracer.errors import ExitCode
from tracer.expression import ALIASES, KEYS, parse
from tracer.filters import Filters
from tracer.habit import habit
from tracer.kernel import decode
from tracer.model import CONNECTION_EVENTS, Counters, End, Lost, Site, Start

README = (Path(__file__).parents[2] / "README.md").read_text()
PAGE = (Path(__file__).parents[2] / "man/twtrace.8").read_text(encoding="ascii")

COMMON_FIELDS = {"ts_us", "ends", "owner"}


def parts(text: str, macro: str) -> dict[str, str]:
    """Heading → what stands below it, up to the next heading of the same macro."""
    _, *found = re.split(rf"^\.{macro} (.+)\n", text, flags=re.MULTILINE)
    return dict(zip(found[::2], found[1::2], strict=True))


_ESCAPES = {
    r"\(en": "–",
    r"\(mu": "×",
    r"\(aq": "'",
    r"\(dq": '"',
    r"\-": "-",
    r"\&": "",
}


def plain(text: str) -> str:
    r"""Escapes as the characters they stand for."""
    text = re.sub(r"\\\[u([0-9A-F]{4})\]", lambda found: chr(int(found[1], 16)), text)
    for escape, char in _ESCAPES.items():
        text = text.replace(escape, char)
    return text


def options_in(text: str) -> set[str]:
    """All that is marked up as an option."""
    return {f"-{name}" for name in re.findall(r"\bFl (\S+)", text)}


def options_of_items(text: str) -> set[str]:
    """The options described, not those merely mentioned."""
    return options_in("\n".join(re.findall(r"^\.It (.*\bFl .*)", text, re.MULTILINE)))


def words_of_items(text: str, macro: str) -> set[str]:
    """The words of all list items marked up with the macro."""
    heads = re.findall(rf"^\.It {macro} (.+)", text, re.MULTILINE)
    return {word for head in heads for word in re.findall(r"\w+", head)}


SECTIONS = parts(PAGE, "Sh")
OPTIONS = parts(SECTIONS["OPTIONS"], "Ss")
LINES = parts(SECTIONS["TRACE FORMAT"], "Ss")


def options_known(command: str) -> set[str]:
    return {option for action in parser_of(command).actions() for option in action.option_strings}


def test_commands() -> None:
    assert words_of_items(SECTIONS["COMMANDS"], "Cm") == set(cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_options_of_a_command(command: str) -> None:
    described: set[str] = set()
    for title, text in OPTIONS.items():
        if command in re.findall(r"\w+", title.partition(":")[2]):
            described |= options_of_items(text)
    assert described == options_known(command)


def test_no_option_is_made_up() -> None:
    known = {option for command in cli.COMMANDS for option in options_known(command)}
    of_others = {"-K"}  # ss -K
    assert options_in(PAGE) <= known | of_others


def test_examples_parse() -> None:
    examples = re.findall(
        r"^(?:\.Dl )?(?:sudo )?twtrace\b([^|>\n]*)", plain(SECTIONS["EXAMPLES"]), re.MULTILINE
    )
    assert len(examples) > 5
    for example in examples:
        own, *_ = f"{example} ".split(" -- ")
        words = shlex.split(own)
        command = words.pop(0) if words and words[0] in cli.COMMANDS else "live"
        parser_of(command).parse_args(words)


def test_every_column_says_where_it_comes_from() -> None:
    table = SECTIONS["THE TABLE"]
    screen, _ = parts(table, "Ss")["The screen"].split("Then four panels", 1)
    columns = re.findall(r"^\.It Sy (.+)", table.partition("\n.Ss ")[0] + screen, re.MULTILINE)
    assert len(columns) == 13
    assert re.findall(r"^\.It Sy (.+)", SECTIONS["FIELDS"], re.MULTILINE) == columns
    fields = words_of_items(SECTIONS["TRACE FORMAT"], "Va")
    named = re.findall(r"^\.Va (.+)", SECTIONS["FIELDS"], re.MULTILINE)
    assert {word for line in named for word in re.findall(r"\b[a-z_]{2,}", line)} <= fields


def test_overhead_is_what_the_readme_says() -> None:
    measured = README.split("## Overhead")[1].split("## ")[0]
    figures = re.findall(r"[\d,.]+(?= (?:%|MB|s\b|µs))|\d\d,\d\d\d", measured)
    assert len(figures) > 12
    assert [figure for figure in figures if figure not in SECTIONS["OVERHEAD"]] == []


def test_mandoc_has_nothing_to_say() -> None:
    if not shutil.which("mandoc"):
        pytest.skip("no mandoc here")
    page = str(Path(__file__).parents[2] / "man/twtrace.8")
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", page], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.returncode) == ("", 0)


def test_keys_of_filters() -> None:
    heads = re.findall(r"^\.It Cm (.+)", SECTIONS["FILTER EXPRESSIONS"], re.MULTILINE)
    names = {name: [alias for alias, key in ALIASES.items() if key == name] for name, _ in KEYS}
    assert heads == [" , ".join((name, *aliases)) for name, aliases in names.items()]


def test_forms_of_filters_parse() -> None:
    forms = re.findall(r"^\.It Li (.+)", plain(SECTIONS["FILTER EXPRESSIONS"]), re.MULTILINE)
    assert len(forms) == 8
    for form in forms:
        assert parse(form).text == form


def test_filters_of_a_trace() -> None:
    fields = {item.name for item in dataclasses.fields(Filters) if item.init} - {"expression"} | {"filter"}
    described = re.search(r"^The filters given:\n\.Li (.+) \.$", LINES["start"], re.MULTILINE)
    assert described
    assert set(described[1].split(" , ")) == fields


def test_exit_statuses() -> None:
    items = re.findall(r"^\.It (\d+)$", SECTIONS["EXIT STATUS"], re.MULTILINE)
    assert [int(item) for item in items] == sorted(ExitCode)


def test_line_types() -> None:
    assert LINES.keys() - {"Common fields", "Owners"} == {
        *CONNECTION_EVENTS,
        "site",
        "start",
        "lost",
        "counters",
        "end",
    }


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *((kind, {*made._fields} - COMMON_FIELDS) for kind, made in CONNECTION_EVENTS.items()),
        ("start", {*Start.__dataclass_fields__, "schema"} - COMMON_FIELDS),
        ("site", {*Site._fields} - {"ts_us"}),
        ("lost", {*Lost.__dataclass_fields__} - COMMON_FIELDS),
        ("counters", {*Counters.__dataclass_fields__} - COMMON_FIELDS),
        ("end", {*End.__dataclass_fields__, "crc32"} - COMMON_FIELDS),
    ],
)
def test_fields_of_a_line(kind: str, fields: set[str]) -> None:
    assert words_of_items(LINES[kind], "Va") == fields


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("close", {*decode.ROLES, *decode.FIRSTS, *decode.HOWS, *decode.VIAS}),
        ("connect_failed", {*decode.CAUSES[1:]}),
        ("time_wait_end", {*decode.REASONS}),
    ],
)
def test_values_of_fields(kind: str, values: set[str]) -> None:
    assert values <= set(re.findall(r"\w+", LINES[kind]))


def phrases() -> set[str]:
    """All that `habit` can return, with N for a figure: read off its source."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(habit))).body
    assert isinstance(function, ast.FunctionDef)
    _docstring, *body = function.body
    found: set[str] = set()
    inner: set[ast.AST] = set()
    for node in (node for statement in body for node in ast.walk(statement)):
        if isinstance(node, ast.JoinedStr):
            inner.update(node.values)
            found.add("".join(_text(part) for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            found.add(node.value)
    return found


def _text(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "N"


def test_phrases() -> None:
    described = parts(SECTIONS["THE TABLE"], "Ss")["HOW IT ENDS"]
    items = re.findall(r"^\.It (.+)", plain(described), re.MULTILINE)
    assert len(items) == len(set(items))
    assert {"▲ N never closed", "closes first", "mixed"} <= set(items) == phrases()
