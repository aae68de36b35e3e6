"""Fixtures of the kernel tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture(scope="session")
def churn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A client and a server in C, as fast as they can be."""
    program = tmp_path_factory.mktemp("churn") / "churn"
    source = Path(__file__).with_name("churn.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", str(program), str(source)], check=True)
    return str(program)
