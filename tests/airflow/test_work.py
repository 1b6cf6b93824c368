"""A task that does the jobs itself: a batch to its end, a queue until it is empty."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.bases.operator import ExecutorSafeguard

from spooled_pipelines import Job, SpooledClient
from spooled_pipelines.airflow import EnqueueBatchOperator, SpooledWorkOperator
from spooled_pipelines.airflow.platform.versions import AirflowException, AirflowFailException
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.worker import Discard
from tests.support.server_process import ServerProcess


@pytest.fixture(autouse=True)
def _called_without_a_task_runner(
    monkeypatch: pytest.MonkeyPatch, connected: ServerProcess
) -> None:
    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)


def work(context: Any, handler: Any, **arguments: Any) -> dict[str, Any]:
    operator = SpooledWorkOperator(task_id="work", handler=handler, **arguments)
    operator.render_template_fields(context)
    returned: dict[str, Any] = operator.execute(context)
    return returned


def double(job: Job) -> dict[str, Any]:
    return {"doubled": job.payload["n"] * 2}


def rows(count: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(count)]


def test_a_batch_is_done_to_its_end(client: SpooledClient, queue: str, context: Any) -> None:
    batch = client.enqueue_batch(rows(50), queue, key="n", name=queue)
    returned = work(context, double, batch=batch.to_dict(), concurrency=4)
    assert (returned["completed"], returned["settled"]) == (50, True)
    assert sorted(batch.results()["doubled"].to_pylist()) == [2 * n for n in range(50)]
    # Once more there is nothing to do.
    assert work(context, double, batch=batch.id)["completed"] == 50


def test_several_batches_are_worked_on_whatever_their_queues_and_parts(
    client: SpooledClient, queue: str, context: Any
) -> None:
    def enqueued(index: int, **arguments: Any) -> Any:
        given: dict[str, Any] = {"data": rows(index + 3), "key": "n", **arguments}
        context["ti"].map_index = index
        op = EnqueueBatchOperator(task_id="enqueue", **given)
        op.render_template_fields(context)
        return op.execute(context)

    mapped = [enqueued(n, queue_name=f"{queue}-{n}") for n in range(2)]
    parts = [enqueued(n, queue_name=queue, name=f"{queue}/p", part=n) for n in range(2)]
    done = work(context, double, batch=[*mapped, *parts])
    assert (done["completed"], done["settled"]) == (3 + 4 + 4, True)
    assert client.batch(parts[0]["batch_id"]).stats().sealed
    assert work(context, double, batch=[None, None]) == {}


def test_a_task_that_is_told_to_end_does_so_at_once(
    client: SpooledClient, queue: str, context: Any
) -> None:
    batch = client.enqueue_batch(rows(3), queue, key="n")

    def end(job: Job) -> None:
        # As Airflow does where somebody marks the task.
        operator.on_kill()

    operator = SpooledWorkOperator(task_id="work", handler=end, batch=batch.id, concurrency=1)
    with pytest.raises(AirflowException, match="told to end"):
        operator.execute(context)


def test_a_process_gets_a_handler_that_it_can_import(
    client: SpooledClient, queue: str, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_AIRFLOW__AS_LIBRARY", "")
    batch = client.enqueue_batch(rows(2), queue, key="n")
    done = work(context, double, batch=batch.id, executor="process", concurrency=1)
    assert done["completed"] == 2
    # Otherwise Airflow looks for its database in each of them, which a task has no access to.
    assert os.environ["_AIRFLOW__AS_LIBRARY"] == "1"

    def of_the_dag(job: Job) -> None: ...

    of_the_dag.__module__ = "unusual_prefix_0123_dag"
    with pytest.raises(InvalidArgumentError, match="into a module beside it"):
        SpooledWorkOperator(task_id="work", handler=of_the_dag, batch="b", executor="process")


def test_a_queue_is_worked_until_it_is_empty(
    client: SpooledClient, queue: str, context: Any
) -> None:
    client.enqueue_batch(rows(20), queue, key="n", name=queue)
    context["params"] = {"queue": queue}
    done = work(context, double, queue_name="{{ params.queue }}")
    assert done == {"completed": 20, "retrying": 0, "deadletter": 0}


def test_too_many_failures_fail_the_task_for_good_and_name_the_errors(
    client: SpooledClient, queue: str, context: Any
) -> None:
    def discard(job: Job) -> None:
        raise Discard("no such account")

    batch = client.enqueue_batch(rows(5), queue, key="n", name=queue)
    with pytest.raises(AirflowFailException, match="no such account"):
        work(context, discard, batch=batch.to_dict())
    assert work(context, discard, batch=batch.to_dict(), max_failed=5)["deadletter"] == 5


def test_jobs_that_did_not_start_in_time_may_be_allowed(
    client: SpooledClient, queue: str, context: Any
) -> None:
    batch = client.enqueue_batch(rows(1), queue, ttl=0)
    batch.wait(timeout=20, allow_expired=True)
    with pytest.raises(AirflowFailException, match="1 of them expired"):
        work(context, double, batch=batch.to_dict())
    context["params"] = {"allow": True}
    done = work(context, double, batch=batch.to_dict(), allow_expired="{{ params.allow }}")
    assert done["cancelled"] == 1


def test_its_time_is_bounded_and_what_is_not_finished_is_given_back(
    client: SpooledClient, queue: str, context: Any
) -> None:
    async def slow(job: Job) -> None:
        import asyncio

        await asyncio.sleep(0.3)

    batch = client.enqueue_batch(rows(200), queue, key="n", name=queue)
    limits: dict[str, Any] = {"max_time": timedelta(seconds=1.5), "concurrency": 1}
    with pytest.raises(AirflowException, match=r"max_time of 1.5 s is up. Batch .* of 200"):
        work(context, slow, batch=batch.to_dict(), **limits)
    stats = batch.stats()
    assert (stats.processing, stats.deadletter) == (0, 0)
    assert stats.pending + stats.completed == 200
    with pytest.raises(AirflowException, match="max_time"):
        work(context, slow, queue_name=queue, **limits)


@pytest.mark.parametrize("which", [{}, {"batch": "b", "queue_name": "q"}])
def test_it_has_to_be_said_which_jobs(which: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="give one of them"):
        SpooledWorkOperator(task_id="work", handler=double, **which)


def test_a_batch_that_is_not_there_fails_the_task_for_good(context: Any) -> None:
    with pytest.raises(AirflowFailException, match="no-such-batch"):
        work(context, double, batch="no-such-batch")
