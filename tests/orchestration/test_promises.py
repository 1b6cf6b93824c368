"""What a batch in a run promises, whichever of Airflow, Prefect and Dagster runs it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from spooled_pipelines import Batch, SpooledClient
from tests.support.orchestrators import Orchestrator, Orchestrators, Pipeline
from tests.support.server_process import ServerProcess

# Prefect leaves sockets of its own clients to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
TABLE = pd.DataFrame({"id": range(10), "amount": 1.5})
MARK = "sp_test_orchestrated_secret_0123456789"


NAMES = ("airflow", "prefect", "dagster")


@pytest.fixture(scope="module")
def orchestrators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orchestrators]:
    """All three, with a server whose key is a mark to look for."""
    from airflow.sdk.bases.operator import ExecutorSafeguard

    folder = tmp_path_factory.mktemp("orchestrators")
    with (
        ServerProcess(folder / "jobs.db", api_key=MARK) as server,
        pytest.MonkeyPatch.context() as patch,
        Orchestrators(server, folder) as made,
    ):
        # Tests call `execute`, which Airflow takes for a mistake outside its task runner.
        patch.setattr(ExecutorSafeguard, "test_mode", True)
        yield made


@pytest.fixture(params=NAMES)
def orchestrator(request: pytest.FixtureRequest, orchestrators: Orchestrators) -> Orchestrator:
    return orchestrators[request.param]


@pytest.fixture
def client(orchestrators: Orchestrators) -> Iterator[SpooledClient]:
    with SpooledClient(orchestrators.server.address, api_key=MARK) as made:
        yield made


def work(client: SpooledClient, queue: str, fails: Callable[[int], bool] = lambda _: False) -> None:
    """Settle every job of the queue: fail those whose id says so, complete the others."""
    while jobs := client.dequeue(queue, "worker", batch_size=100):
        for job in jobs:
            if fails(job.payload["id"]):
                client.fail(job, f"no customer {job.payload['id']}", retry=False)
            else:
                client.complete(job, result={"double": job.payload["amount"] * 2})


def test_a_re_run_finds_its_batch_and_doubles_no_row(
    orchestrator: Orchestrator, client: SpooledClient, queue: str
) -> None:
    pipeline = Pipeline(TABLE, queue, options={"key": "id"})
    first = orchestrator.run(pipeline)
    again = orchestrator.again(first, pipeline)

    assert (first.error, again.error) == (None, None)
    assert again.batch["batch_id"] == first.batch["batch_id"]
    assert (first.batch["created"], first.batch["duplicates"]) == (10, 0)
    assert (again.batch["created"], again.batch["duplicates"]) == (0, 10)
    assert client.batch(first.batch["batch_id"]).stats().total == 10


def test_a_batch_says_which_pipeline_made_it(
    orchestrator: Orchestrator, client: SpooledClient, queue: str
) -> None:
    ran = orchestrator.run(Pipeline(TABLE, queue, options={"key": "id"}))

    made_by = client.batch(ran.batch["batch_id"]).stats().made_by
    assert made_by.split("/")[0] == type(orchestrator).__name__.lower()
    assert len(made_by.split("/")) == 3


def test_another_run_has_a_batch_of_its_own(
    orchestrator: Orchestrator, client: SpooledClient, queue: str
) -> None:
    pipeline = Pipeline(TABLE, queue, options={"key": "id"})
    one, other = orchestrator.run(pipeline), orchestrator.run(pipeline)

    assert one.batch["batch_id"] != other.batch["batch_id"]
    assert client.queue_stats(queue).pending == 20


def test_a_run_with_too_many_failed_jobs_fails_and_its_re_run_retries_them(
    orchestrator: Orchestrator, client: SpooledClient, queue: str
) -> None:
    enqueued = orchestrator.run(Pipeline(TABLE, queue, options={"key": "id"}))
    work(client, queue, fails=lambda row: row < 3)
    # The wait of the same run, which finds the batch as the worker left it.
    waits = Pipeline(TABLE, queue, max_failed=0, options={"key": "id", "on_rerun": "resume"})
    failed = orchestrator.again(enqueued, waits)

    assert "3 failed, more than max_failed=0 allows" in str(failed.error)
    assert "no customer" in str(failed.error)

    retried = orchestrator.again(failed, Pipeline(TABLE, queue, options={"key": "id"}))
    assert retried.batch["retried"] == 3
    work(client, queue)
    assert orchestrator.again(retried, waits).error is None


def test_as_many_failed_jobs_as_are_allowed_are_a_success(
    orchestrator: Orchestrator, client: SpooledClient, queue: str
) -> None:
    enqueued = orchestrator.run(Pipeline(TABLE, queue, options={"key": "id"}))
    work(client, queue, fails=lambda row: row < 3)
    waits = Pipeline(TABLE, queue, max_failed=0.3, options={"key": "id", "on_rerun": "resume"})

    assert orchestrator.again(enqueued, waits).error is None


def test_a_table_without_rows_is_a_settled_batch_without_jobs(
    orchestrator: Orchestrator, client: SpooledClient, queue: str
) -> None:
    ran = orchestrator.run(Pipeline(TABLE.head(0), queue, max_failed=0))

    assert ran.error is None
    assert ran.batch["rows"] == 0
    stats = client.batch(ran.batch["batch_id"]).stats()
    assert (stats.settled, stats.total) == (True, 0)


def test_results_belong_to_the_batch(
    orchestrator: Orchestrator, client: SpooledClient, queue: str
) -> None:
    ran = orchestrator.run(Pipeline(TABLE, queue, options={"key": "id"}))
    work(client, queue)

    results = client.batch(ran.batch).results()
    assert results.column("double").to_pylist() == [3.0] * 10


def test_what_was_cancelled_is_wanted_again_by_a_re_run(
    orchestrator: Orchestrator, client: SpooledClient, queue: str
) -> None:
    pipeline = Pipeline(TABLE, queue, options={"key": "id"})
    ran = orchestrator.run(pipeline)
    assert client.batch(ran.batch).cancel().cancelled == 10

    assert orchestrator.again(ran, pipeline).batch["retried"] == 10
    assert client.queue_stats(queue).pending == 10


def test_the_key_is_in_nothing_that_is_kept(
    orchestrator: Orchestrator, queue: str, tmp_path: Path
) -> None:
    orchestrator.run(Pipeline(TABLE, queue, options={"key": "id"}))
    missing = orchestrator.run(Pipeline(str(tmp_path / "missing.parquet"), queue))
    assert missing.error is not None

    assert not [kept for kept in orchestrator.kept() if MARK.encode() in kept]


def test_each_door_waits_with_what_a_batch_does() -> None:
    """Prefect and Dagster show progress in their own ways."""
    from spooled_pipelines.dagster.run_batch import RunBatch
    from spooled_pipelines.prefect.spooled_batch import SpooledBatch
    from spooled_pipelines.prefect.tasks import await_batch, wait_for_batch

    expected = inspect.signature(Batch.wait).parameters.keys() - {"self", "on_progress"}
    doors = (SpooledBatch.wait, SpooledBatch.wait_async, RunBatch.wait)
    for wait in (*doors, wait_for_batch.fn, await_batch.fn):
        assert expected <= inspect.signature(wait).parameters.keys()
