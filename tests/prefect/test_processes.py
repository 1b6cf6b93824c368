"""Flows in processes of their own, as `serve` runs them, that are killed and cancelled."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from prefect import get_client
from prefect.states import AwaitingRetry, Cancelling
from pydantic import SecretStr

from spooled_pipelines import SpooledClient
from spooled_pipelines.prefect import SpooledCredentials
from spooled_pipelines.worker import Worker
from tests.support.prefect_server import prefect_server
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
    ),
]
ROWS = 20_000
HALF_BYTES = 400_000
FLOW = """
from prefect import flow

from spooled_pipelines.prefect import (
    SpooledCredentials, cancel_batches, enqueue_batch, wait_for_batch
)


@flow(on_cancellation=[cancel_batches])
def fan_out(path: str, queue: str):
    credentials = SpooledCredentials.load("served")
    wait_for_batch(enqueue_batch(path, queue, key="id", credentials=credentials))


if __name__ == "__main__":
    fan_out.serve("served")
"""


class Served:
    """A deployment that a process of ours serves."""

    def __init__(self, runner: subprocess.Popen[bytes], path: Path) -> None:
        self._runner = runner
        self._path = path

    def run(self, queue: str) -> uuid.UUID:
        with get_client(sync_client=True) as api:
            deployment = api.read_deployment_by_name("fan-out/served")
            made = api.create_flow_run_from_deployment(
                deployment.id, parameters={"path": str(self._path), "queue": queue}
            )
        return made.id

    def kill(self) -> None:
        """Kill the processes of the flow runs, and leave the runner alone."""
        for process in psutil.Process(self._runner.pid).children(recursive=True):
            process.kill()

    def ended(self, flow_run_id: uuid.UUID) -> str:
        """Wait until the run is at an end, and return the name of its state."""

        def final() -> Any:
            state = self.state(flow_run_id)
            return state.name if state.is_final() else None

        return str(eventually(final, 180))

    @staticmethod
    def state(flow_run_id: uuid.UUID) -> Any:
        with get_client(sync_client=True) as api:
            return api.read_flow_run(flow_run_id).state

    @staticmethod
    def set_state(flow_run_id: uuid.UUID, state: Any) -> None:
        with get_client(sync_client=True) as api:
            api.set_flow_run_state(flow_run_id, state, force=True)


@pytest.fixture(scope="module")
def cut(server: ServerProcess) -> Iterator[Proxy]:
    with Proxy(server.address) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def served(
    server: ServerProcess, cut: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "flows.py").write_text(FLOW)
    path = folder / "table.parquet"
    pd.DataFrame({"id": range(ROWS), "text": [f"{n:040d}" for n in range(ROWS)]}).to_parquet(path)
    with prefect_server():
        host, _, port = cut.address.rpartition(":")
        SpooledCredentials(host=host, port=int(port), api_key=SecretStr(server.api_key)).save(
            "served"
        )
        with _runner(folder) as runner:
            served = Served(runner, path)
            eventually(_deployed, 120)
            yield served


def _deployed() -> bool:
    with get_client(sync_client=True) as api:
        return bool(api.read_deployments())


@contextmanager
def _runner(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    from prefect.settings import get_current_settings

    environment = {
        **os.environ,
        **get_current_settings().to_environment_variables(exclude_unset=True),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "flows.py"], cwd=folder, env=environment, stdout=log, stderr=log
        ) as runner,
    ):
        try:
            yield runner
        finally:
            for process in psutil.Process(runner.pid).children(recursive=True):
                process.kill()
            runner.kill()


def test_a_flow_killed_while_it_enqueues_doubles_and_loses_no_row(
    served: Served, cut: Proxy, client: SpooledClient, queue: str
) -> None:
    cut.strike(HALF_BYTES, served.kill)
    run = served.run(queue)
    assert served.ended(run) == "Crashed"
    (cut_off,) = client.batches(queue)
    assert 0 < cut_off.total < ROWS
    assert not cut_off.sealed

    served.set_state(run, AwaitingRetry())
    with Worker(client, queue, lambda _: None, concurrency=32):
        assert served.ended(run) == "Completed"
    (stats,) = client.batches(queue)
    assert (stats.batch_id, stats.total, stats.completed) == (cut_off.batch_id, ROWS, ROWS)


def test_a_flow_killed_while_it_waits_continues_with_its_batch(
    served: Served, client: SpooledClient, queue: str
) -> None:
    run = served.run(queue)
    eventually(lambda: [b for b in client.batches(queue) if b.sealed], 180)
    eventually(_waits(run), 60)
    served.kill()
    assert served.ended(run) == "Crashed"

    served.set_state(run, AwaitingRetry())
    with Worker(client, queue, lambda _: None, concurrency=32):
        assert served.ended(run) == "Completed"
    (stats,) = client.batches(queue)
    assert (stats.total, stats.completed) == (ROWS, ROWS)


def test_a_cancelled_flow_run_cancels_its_jobs(
    served: Served, client: SpooledClient, queue: str
) -> None:
    run = served.run(queue)
    eventually(_waits(run), 180)
    served.set_state(run, Cancelling())
    assert served.ended(run) == "Cancelled"

    def cancelled() -> bool:
        (stats,) = client.batches(queue)
        return stats.cancelled == ROWS

    eventually(cancelled, 60)


def _waits(run: uuid.UUID) -> Callable[[], bool]:
    def waits() -> bool:
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        with get_client(sync_client=True) as api:
            tasks = api.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run]))
            )
        return any(
            task.name.startswith("wait_for_batch") and task.state_name == "Running"
            for task in tasks
        )

    return waits
