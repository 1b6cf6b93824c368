"""Mapped tasks fill one batch, each its part; the sensor seals it, and waits for all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor
from spooled_pipelines.airflow.platform.versions import AirflowFailException, TaskDeferred
from spooled_pipelines.errors import InvalidArgumentError
from tests.support.server_process import ServerProcess

MODES = [
    pytest.param({"deferrable": True}, id="deferrable"),
    pytest.param({"deferrable": False}, id="poke"),
]


@pytest.fixture
def add(connected: ServerProcess, queue: str, context: Any) -> Any:
    """`add(1, rows)`: what the mapped task with that index returns, as XCom keeps it."""

    def add(number: int, rows: list[dict[str, Any]], **arguments: Any) -> dict[str, Any]:
        op = EnqueueBatchOperator(
            task_id="enqueue",
            data=rows,
            queue_name=queue,
            key="id",
            part=f"{number}",
            **arguments,
        )
        op.render_template_fields(context)
        returned = json.loads(json.dumps(op.execute(context)))
        assert len(json.dumps(returned)) < 1_500
        return dict(returned)

    return add


def rows(first: int, count: int = 3) -> list[dict[str, Any]]:
    return [{"id": number} for number in range(first, first + count)]


def complete_all(client: SpooledClient, queue: str) -> None:
    for job in client.dequeue(queue, "hand", batch_size=100):
        client.complete(job)


@pytest.mark.parametrize("mode", MODES)
def test_parts_are_one_batch_that_is_done_when_all_of_it_is(
    mode: dict[str, Any],
    add: Any,
    client: SpooledClient,
    queue: str,
    context: Any,
) -> None:
    parts = [add(0, rows(0)), add(1, rows(3)), add(2, [])]
    assert len({part["batch_id"] for part in parts}) == 1
    complete_all(client, queue)
    # Nobody else takes it for complete.
    assert not client.batch(parts[0]["batch_id"]).stats().sealed
    stats = StreamJobsSensor(task_id="wait", batch=parts, **mode).execute(context)
    assert (stats["total"], stats["completed"], stats["sealed"]) == (6, 6, True)
    again = StreamJobsSensor(task_id="wait", batch=parts, **mode).execute(context)
    assert again["completed"] == 6


def test_a_part_that_is_run_again_sends_nothing_twice(
    add: Any, client: SpooledClient, queue: str, context: Any
) -> None:
    first = add(0, rows(0))
    assert (first["created"], first["duplicates"]) == (3, 0)
    again = add(0, rows(0))
    assert (again["created"], again["duplicates"]) == (0, 3)
    complete_all(client, queue)
    assert StreamJobsSensor(task_id="wait", batch=[again]).execute(context)["total"] == 3


def test_parts_without_a_name_are_a_batch_of_their_task_and_run(
    connected: ServerProcess, queue: str, context_of: Any
) -> None:
    def run(part: str, **instance: Any) -> dict[str, Any]:
        op = EnqueueBatchOperator(task_id="e", data=rows(0), queue_name=queue, part=part, key="id")
        context = context_of(**instance)
        op.render_template_fields(context)
        return op.execute(context)

    of_one = [run("{{ ti.map_index }}", map_index=number) for number in (0, 1)]
    assert {part["name"] for part in of_one} == {"airflow/dag/task/run-1"}
    # Two DAGs of one schedule have the same run ids.
    for other in ({"dag_id": "dag2"}, {"task_id": "task2"}, {"run_id": "run-2"}):
        assert run("0", **other)["created"] == 3


def test_a_new_part_of_a_complete_batch_is_refused_and_a_known_one_is_not(
    add: Any, client: SpooledClient, queue: str, context: Any
) -> None:
    first = add(0, rows(0), name="shared")
    complete_all(client, queue)
    StreamJobsSensor(task_id="wait", batch=[first]).execute(context)
    assert add(0, rows(0), name="shared")["duplicates"] == 3
    with pytest.raises(AirflowFailException, match=r"is complete: .* it has no part '1'"):
        add(1, rows(3), name="shared")
    # A run that is cleared may have got another part.
    of_run = add(0, rows(6))
    complete_all(client, queue)
    StreamJobsSensor(task_id="wait", batch=[of_run]).execute(context)
    assert add(1, rows(9))["created"] == 3


def test_a_part_that_is_not_in_is_named(add: Any, context: Any) -> None:
    one, two = add(0, rows(0)), add(1, rows(3))
    two["part"] = {**two["part"], "part_id": "7"}
    with pytest.raises(AirflowFailException, match="7"):
        StreamJobsSensor(task_id="wait", batch=[one, two]).execute(context)


def test_the_trigger_is_given_no_more_than_it_needs(add: Any, context: Any) -> None:
    parts = [add(number, rows(3 * number)) for number in range(3)]
    with pytest.raises(TaskDeferred) as raised:
        StreamJobsSensor(task_id="wait", batch=parts).execute(context)
    _, arguments = raised.value.trigger.serialize()
    assert not {"parts", "opened"} & set(arguments["batch"])
    assert arguments["batch"]["batch_id"] == parts[0]["batch_id"]


def test_a_server_without_batches_is_told_of_the_parts(
    plain_server: ServerProcess,
    connect_airflow: Any,
    queue: str,
    context: Any,
    add: Any,
) -> None:
    connect_airflow(plain_server)
    parts = [add(0, rows(0)), add(1, rows(3))]
    from spooled_pipelines import connect

    with connect(plain_server.address, api_key=plain_server.api_key) as plain:
        complete_all(plain, queue)
    stats = StreamJobsSensor(task_id="wait", batch=parts).execute(context)
    assert (stats["completed"], stats["settled"]) == (6, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_rerun": "fresh"}, "starts a whole batch over"),
        ({"wait_for_completion": True}, "about a whole batch"),
    ],
)
def test_what_makes_no_sense_of_a_part_is_refused_with_the_dag(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        EnqueueBatchOperator(task_id="e", data=[], queue_name="q", part="1", **arguments)
