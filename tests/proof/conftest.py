"""Stores and servers of both kinds, for tests that try to break them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.postgres import Cluster
from tests.support.server_process import ServerProcess


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes an empty store of each kind; returns its URL."""
    if request.param == "sqlite":
        numbers = itertools.count(1)
        return lambda: f"sqlite:///{tmp_path / f'store-{next(numbers)}.db'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.database


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], ServerProcess]]:
    """Starts a server process over the store of this URL; ended afterwards."""
    with ExitStack() as stack:
        numbers = itertools.count(1)

        def start(url: str) -> ServerProcess:
            # The later --store wins; the first names the log.
            name = tmp_path / f"server-{next(numbers)}"
            return stack.enter_context(ServerProcess(name, "--store", url))

        yield start
