"""Two hundred mapped tasks of a real Airflow fill one batch: each row is one job."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import shared_cluster
from tests.support.rerun_table import DAGS, count_jobs
from tests.support.standalone import World, standalone

pytestmark = [pytest.mark.airflow, pytest.mark.long, pytest.mark.timeout(3600)]

PARTITIONS, ROWS_EACH = 200, 10
ROWS = PARTITIONS * ROWS_EACH
SECONDS = 1_800


@pytest.fixture(scope="module")
def quiet_world() -> Iterator[World]:
    """An Airflow that has nothing else to do."""
    database = shared_cluster().empty_database()
    with standalone([DAGS / "partitions.py"], lambda _, __: {}, database) as world:
        yield world


def test_two_hundred_parts_are_one_batch_and_a_part_alone_adds_nothing(
    quiet_world: World,
) -> None:
    airflow, run = quiet_world.airflow, ("partitions", "run-1")
    airflow.knows(["partitions"])
    airflow.trigger(*run, {})
    airflow.until(
        lambda: count_jobs(quiet_world.server.store, "partitions")["all"] == ROWS,
        SECONDS,
        "every part to be in",
    )
    with quiet_world.client() as client:
        while jobs := client.dequeue("partitions", "worker", batch_size=100):
            for job in jobs:
                client.complete(job)
    airflow.all_end({run: "success"}, SECONDS)
    first = airflow.returned_by(*run, "enqueue", 0)
    for number in range(1, PARTITIONS, 20):
        part = airflow.returned_by(*run, "enqueue", number)
        assert (part["batch_id"], part["created"]) == (first["batch_id"], ROWS_EACH)
    assert_all_are_there(quiet_world)

    airflow.clear_tasks(*run, [("enqueue", 7), "wait"])
    airflow.all_end({run: "success"}, SECONDS)
    again = airflow.returned_by(*run, "enqueue", 7)
    assert (again["batch_id"], again["duplicates"]) == (first["batch_id"], ROWS_EACH)
    assert_all_are_there(quiet_world)


def assert_all_are_there(world: World) -> None:
    waited = world.airflow.returned("partitions", "run-1", "wait")
    assert (waited["total"], waited["completed"], waited["sealed"]) == (ROWS, ROWS, True)
    counts = count_jobs(world.server.store, "partitions")
    assert (counts["all"], counts["completed"]) == (ROWS, ROWS)
