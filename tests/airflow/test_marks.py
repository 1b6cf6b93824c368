"""What is cancelled where somebody marks or clears a task: the second table of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.support import rerun_table
from tests.support.rerun_table import count_jobs
from tests.support.standalone import BUSY_SECONDS, World

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1800)]

# What the page calls the tasks, and how the DAGs of each begin.
TASKS = {
    "the operator, deferred (`wait_for_completion=True`)": "deferred",
    "the operator, running (`deferrable=False`)": "running",
    "one of three mapped operators, deferred": "mapped",
    "the operator with `cancel_on_kill=False`, deferred": "kept",
    "a sensor, deferred": "sensor",
    "a sensor with `cancel_on_kill=True`, deferred": "cancelling_sensor",
}
ACTS = ("failed", "success", "cleared")
DAG_IDS = [f"{task}_{act}" for task in TASKS.values() for act in ACTS]


# Each task and each act once; all of them are in the long run.
SAMPLE = ("deferred_failed", "sensor_success", "cancelling_sensor_cleared", "mapped_failed")


@pytest.fixture(scope="module")
def sample(world: World) -> Iterator[dict[str, Counter[str]]]:
    with acted_on(world, SAMPLE) as found:
        yield found


@pytest.fixture(scope="module")
def everything(world: World) -> Iterator[dict[str, Counter[str]]]:
    with acted_on(world, DAG_IDS) as found:
        yield found


@contextmanager
def acted_on(world: World, dag_ids: Sequence[str]) -> Iterator[dict[str, Counter[str]]]:
    """The jobs of each DAG after somebody acted on its task."""
    airflow = world.airflow
    airflow.knows(dag_ids)
    # Those whose jobs are to stay come first: what is cancelled by mistake would be so by the end.
    order = sorted(dag_ids, key=lambda dag_id: not dag_id.startswith(("kept", "sensor")))
    for dag_id in order:
        if not dag_id.startswith("running"):
            airflow.trigger(dag_id, "run-1", {})
    for dag_id in order:
        if dag_id.startswith("running"):
            # One at a time, since it holds a worker.
            airflow.trigger(dag_id, "run-1", {})
        airflow.until(lambda dag_id=dag_id: waits(world, dag_id), BUSY_SECONDS, f"{dag_id} to wait")
        act_on(world, dag_id)
        if dag_id.startswith("running"):
            airflow.until(
                lambda dag_id=dag_id: is_as_told(world, dag_id), BUSY_SECONDS, f"{dag_id} to end"
            )
    for dag_id in order:
        airflow.until(
            lambda dag_id=dag_id: is_as_told(world, dag_id), BUSY_SECONDS, f"{dag_id} to end"
        )
        if dag_id.endswith("cleared"):
            # It waits for the same jobs again.
            airflow.until(
                lambda dag_id=dag_id: waits(world, dag_id), BUSY_SECONDS, f"{dag_id} again"
            )
    yield {dag_id: count_jobs(world.server.store, *queues_of(dag_id)) for dag_id in order}
    if "running_cleared" in order:
        airflow.mark("running_cleared", "run-1", "enqueue", "failed")


def test_every_row_of_the_table_is_done() -> None:
    assert [row.task for row in rerun_table.marked()] == list(TASKS)


@pytest.mark.parametrize("dag_id", SAMPLE)
def test_what_becomes_of_the_jobs_is_what_the_page_says(
    dag_id: str, sample: dict[str, Counter[str]]
) -> None:
    assert_as_the_page_says(dag_id, sample)


@pytest.mark.long
@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_what_becomes_of_the_jobs_is_what_the_page_says_in_every_case(
    dag_id: str, everything: dict[str, Counter[str]]
) -> None:
    assert_as_the_page_says(dag_id, everything)


def assert_as_the_page_says(dag_id: str, found: dict[str, Counter[str]]) -> None:
    kind, _, act = dag_id.rpartition("_")
    (row,) = (row for row in rerun_table.marked() if TASKS[row.task] == kind)
    jobs = 300 if kind == "mapped" else 100
    cancelled = 90 if "90 cancelled" in getattr(row, act) else 0
    counts = found[dag_id]
    assert {name: counts[name] for name in ("completed", "cancelled", "pending")} == {
        "completed": 10,
        "cancelled": cancelled,
        "pending": jobs - 10 - cancelled,
    }


def test_the_others_of_a_mapped_task_keep_their_jobs(
    world: World, sample: dict[str, Counter[str]]
) -> None:
    for number in (0, 2):
        counts = count_jobs(world.server.store, f"mapped_failed_{number}")
        assert (counts["pending"], counts["cancelled"]) == (100, 0)


def queues_of(dag_id: str) -> list[str]:
    return [f"{dag_id}_{n}" for n in range(3)] if dag_id.startswith("mapped") else [dag_id]


def task_of(dag_id: str) -> str | tuple[str, int]:
    """What is marked in it."""
    if "sensor" in dag_id:
        return "wait"
    return ("enqueue", 1) if dag_id.startswith("mapped") else "enqueue"


def waits(world: World, dag_id: str) -> bool:
    """Whether every one of its tasks has sent its jobs and waits for them."""
    states = world.airflow.all_states(dag_id, "run-1")
    assert "failed" not in states, dag_id
    if dag_id.startswith("running"):
        counts = count_jobs(world.server.store, dag_id)
        return states == ["running"] and counts["all"] == 100 and counts["cancelled"] == 0
    return len(states) > 0 and set(states) <= {"deferred", "success"} and "deferred" in states


def is_as_told(world: World, dag_id: str) -> bool:
    """Whether what was done to it has had its effect, as far as there is one to be seen."""
    counts = count_jobs(world.server.store, *queues_of(dag_id))
    keeps = dag_id.startswith(("kept", "sensor")) or dag_id.endswith("cleared")
    return keeps or counts["cancelled"] > 0


def act_on(world: World, dag_id: str) -> None:
    """Ten of its jobs are completed first."""
    task, act = task_of(dag_id), dag_id.rpartition("_")[2]
    queue = queues_of(dag_id)[1 if dag_id.startswith("mapped") else 0]
    with world.client() as client:
        jobs = client.dequeue(queue, "worker", batch_size=10)
        for job in jobs:
            client.complete(job)
    assert len(jobs) == 10
    if act == "cleared":
        world.airflow.clear_tasks(dag_id, "run-1", [task])
    else:
        world.airflow.mark(dag_id, "run-1", task, act)
