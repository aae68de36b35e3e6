"""What there is to complete, whatever the shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What the value of an option or an argument can be."""

    NONE = "none"
    """There is none."""
    FREE = "free"
    """Nothing to propose: a number, a name."""
    WORDS = "words"
    FILES = "files"
    NETNS = "netns"


@dataclass(frozen=True, slots=True)
class Word:
    """An option, or an argument by its place."""

    names: tuple[str, ...]
    """Empty for an argument."""
    about: str
    metavar: str
    kind: Kind
    choices: tuple[str, ...] = ()
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the command line."""

    name: str
    about: str
    options: tuple[Word, ...]
    arguments: tuple[Word, ...]
    runs_another: bool
    """Another command may follow `--`."""


def command(
    name: str, about: str, actions: Iterable[argparse.Action], *, runs_another: bool = False
) -> Command:
    """A command by what its parser takes."""
    words = [_word(action) for action in actions if action.help != argparse.SUPPRESS]
    return Command(
        name,
        about,
        tuple(word for word in words if word.names),
        tuple(word for word in words if not word.names),
        runs_another,
    )


def _word(action: argparse.Action) -> Word:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return Word(
        tuple(action.option_strings),
        (action.help or metavar) % vars(action),
        metavar,
        _kind(action, metavar),
        tuple(map(str, action.choices or ())),
        # argparse's own names for them are private
        action.nargs in ("+", "*") or type(action).__name__ in ("_AppendAction", "_ExtendAction"),
    )


def _kind(action: argparse.Action, metavar: str) -> Kind:
    if action.nargs == 0:
        return Kind.NONE
    if action.choices:
        return Kind.WORDS
    if metavar == "FILE":
        return Kind.FILES
    if metavar.startswith("NAME|PATH|INODE"):
        return Kind.NETNS
    return Kind.FREE
