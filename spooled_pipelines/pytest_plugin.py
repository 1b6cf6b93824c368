"""Fixtures for pytest, registered as an entry point: nothing heavy is imported before they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from spooled_pipelines.testing import JobRun, MemoryClient


@pytest.fixture
def spooled_client() -> Iterator[MemoryClient]:
    """Yield a client of a fresh server in memory; `skip(seconds)` moves its clock."""
    from spooled_pipelines.testing import server

    with server() as client:
        yield client


@pytest.fixture
def spooled_run_jobs(spooled_client: MemoryClient) -> Callable[..., list[JobRun]]:
    """`spooled_run_jobs(handler, queue_name)` on the server of `spooled_client`."""
    from spooled_pipelines.testing import run_jobs

    return partial(run_jobs, client=spooled_client)
