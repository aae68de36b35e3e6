"""Fixtures of the kernel tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kernel.support import Namespace, namespace


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid():
        pytest.fail("the kernel tests need root: run `make test`")


@pytest.fixture
def netns() -> Iterator[Namespace]:
    with namespace() as made:
        yield made
