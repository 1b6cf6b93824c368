"""One suite for every engine: `pytest tests/engines --engine spark` runs it on that one alone.

Each is real, with its tasks in processes of their own, of which one can be killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest

from tests.support.engines import Engine

# Two of them take a minute each, most of it to start.
EACH = (
    "dask",
    pytest.param("ray", marks=pytest.mark.long),
    pytest.param("spark", marks=pytest.mark.long),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--engine") or EACH
        metafunc.parametrize("engine", chosen, indirect=True, scope="module")


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A cluster of two processes."""
    module = import_module(f"tests.support.engine_of_{request.param}")
    with module.started() as running:
        yield running
