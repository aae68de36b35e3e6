"""What a scenario is, and all there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.scenarios.world import World

Play = Callable[[World], None]

_SUFFIX = {"4": "", "6": "_v6", "mapped": "_mapped"}


@dataclass(frozen=True)
class Scenario:
    """Something to make happen in a namespace with those settings."""

    name: str
    family: str
    settings: dict[str, str]
    haste: bool
    """Whether it lives by retransmissions; else there is none."""
    play: Play


SCENARIOS: dict[str, Scenario] = {}


def scenario(*families: str, **settings: str) -> Callable[[Play], Play]:
    """Register a scenario, once for each family; `settings` are of net.ipv4."""
    return _register(families, settings, haste=False)


def hasty_scenario(*families: str, **settings: str) -> Callable[[Play], Play]:
    """One in which segments are sent again."""
    return _register(families, settings, haste=True)


def _register(families: tuple[str, ...], settings: dict[str, str], haste: bool) -> Callable[[Play], Play]:
    def register(play: Play) -> Play:
        for family in families or ("4",):
            name = play.__name__ + _SUFFIX[family]
            SCENARIOS[name] = Scenario(name, family, settings, haste, play)
        return play

    return register


FULL_FIN_WAIT2 = {"tcp_fin_timeout": "100"}
"""An orphan in FIN_WAIT2 stays a full socket for 40 s: whoever closes first
gets a mini-socket that is in TIME_WAIT from its birth."""
