"""Whatever befalls an enqueue_batch: the same call again, and each row is exactly one job."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines.rpc.aio import runtime as aio_runtime
from spooled_pipelines.rpc.channel import channel_options
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.rpc.sync import runtime as sync_runtime
from tests.support.postgres import Cluster
from tests.support.proof.fault_harness import FAULTS, FaultHarness, Struck, harness_over, summary

Size = Callable[[str, int], int]
# So that a connection on which nothing comes any more is given up within seconds.
PING_MS = 2_000
# Faults on one store, so that a long run does not measure how stores grow.
AT_ONE_STORE = 10


@pytest.fixture(autouse=True)
def _quick_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {
        "grpc.keepalive_time_ms": PING_MS,
        "grpc.keepalive_timeout_ms": PING_MS,
        "grpc.http2.ping_timeout_ms": PING_MS,
    }

    def options(settings: ConnectionSettings) -> list[tuple[str, Any]]:
        return list({**dict(channel_options(settings)), **quick}.items())

    for runtime in (sync_runtime, aio_runtime):
        monkeypatch.setattr(runtime, "channel_options", options)


@pytest.fixture(params=["sqlite", "postgresql", "plain"])
def new_harness(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """Opens a new harness of each kind."""
    numbers = itertools.count(1)

    @contextmanager
    def open_ground() -> Iterator[FaultHarness]:
        folder = tmp_path / f"harness-{next(numbers)}"
        folder.mkdir()

        def database() -> str:
            cluster: Cluster = request.getfixturevalue("cluster")
            return cluster.database()

        with harness_over(request.param, folder, database) as harness:
            yield harness

    return open_ground


def test_after_each_fault_the_same_call_makes_each_row_one_job(
    new_harness: Callable[[], Any],
) -> None:
    with new_harness() as harness:
        rows = 300 if harness.plain else 12_000
        struck = [harness.strike(seed, rows) for seed in range(len(FAULTS))]
        assert harness.mismatches() == []
    assert_as_promised(struck)


@pytest.mark.long
@pytest.mark.timeout(5 * 3600)
def test_after_a_hundred_faults_the_same_call_makes_each_row_one_job(
    new_harness: Callable[[], Any], size: Size
) -> None:
    """100 000 rows each; on a plain server, where each row is a call, a hundredth of that."""
    begin, faults, struck = size("first", 0), size("faults", 100), []
    for first in range(begin, faults, AT_ONE_STORE):
        with new_harness() as harness:
            rows = size("rows", 100_000) // (100 if harness.plain else 1)
            for seed in range(first, min(first + AT_ONE_STORE, faults)):
                struck.append(harness.strike(seed, rows))
                print(struck[-1], flush=True)
            assert harness.mismatches() == []
    print(f"\n{rows} rows each, {summary(struck)}")
    assert_as_promised(struck)


def assert_as_promised(struck: list[Struck]) -> None:
    assert [one.wrong for one in struck if one.wrong] == []
    # A fault that fell beside the call proves nothing.
    assert [one for one in struck if not one.felt] == []
