"""A plan says what the call would do, by the same code, and writes nothing."""

from __future__ import annotations

import datetime as dt
import inspect
import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines import AsyncSpooledClient, SpooledClient
from spooled_pipelines.batch.options.row_options import (
    BatchOptions,
    EnqueueOptions,
    JobOptions,
    PartOptions,
    RowOptions,
)
from spooled_pipelines.batch.plan import BatchPlan
from spooled_pipelines.batch.sync.open_batch import OpenBatch
from spooled_pipelines.errors import InvalidArgumentError, LossyValueError, RowsRejectedError
from spooled_pipelines.notebook import bulk_enqueue
from tests.support.server_process import ServerProcess


def test_a_plan_takes_what_the_call_takes() -> None:
    taken = inspect.signature(SpooledClient.enqueue_batch).parameters
    planned = inspect.signature(SpooledClient.plan_batch).parameters
    assert taken.keys() == planned.keys()


def test_an_option_is_the_same_for_who_passes_it_and_for_who_reads_it() -> None:
    # A part's id is an argument of its own, of another call.
    read = {field.name: field.type for field in fields(RowOptions) if field.name != "part_id"}
    passed = {
        name: annotation.__forward_arg__
        for name, annotation in BatchOptions.__annotations__.items()
    }
    assert passed == read


@pytest.mark.parametrize(
    ("door", "options"),
    [
        (SpooledClient.enqueue_batch, EnqueueOptions),
        (AsyncSpooledClient.plan_batch, BatchOptions),
        (SpooledClient.open_batch, JobOptions),
        (OpenBatch.add, PartOptions),
        (bulk_enqueue, EnqueueOptions),
    ],
)
def test_a_door_shows_every_option_that_it_takes(door: Any, options: type) -> None:
    shown = inspect.signature(door).parameters
    assert options.__annotations__.keys() <= shown.keys()
    assert "options" not in shown


def test_nothing_is_written(door: Any, queue: str, flights: pa.Table) -> None:
    plan = door.plan_batch(flights, queue, name="nightly", progress=lambda *_: None)
    assert (plan.rows, plan.created, plan.rejected, plan.chunks) == (60, 60, 0, 1)
    assert plan.queue_name == queue
    assert door.queue_stats(queue).total == 0
    assert door.enqueue_batch(flights, queue, name="nightly").id == plan.batch_id


def test_what_a_plan_says_is_what_comes(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    rows = [
        *({"id": i, "rank": i} for i in range(90)),
        *({"id": i, "rank": 0} for i in range(10)),
        {"id": None, "rank": 5},
        {"id": 500, "rank": 200},
    ]
    options: dict[str, Any] = {"key": "id", "priority": "rank", "on_rejected": "skip"}
    door.enqueue_batch(rows[80:95], queue, key="id")
    plan = door.plan_batch(rows, queue, **options)
    assert (plan.rows, plan.created, plan.duplicates, plan.repeated) == (102, 75, 20, 10)
    assert plan.rejected == 2
    assert sum(plan.reasons.values()) == 2
    assert [example.row for example in plan.examples] == [100, 101]
    assert list(plan.limits) == ["priority (column 'rank') is not a whole number from -100 to 100"]
    assert plan.samples[:2] == ({"id": 0}, {"id": 1})
    assert door.queue_stats(queue).total == 15

    batch = door.enqueue_batch(rows, queue, **options)
    assert (batch.created, batch.rejected, batch.id) == (plan.created, 2, plan.batch_id)
    assert batch.duplicates == plan.rows - plan.created - plan.rejected
    again = door.plan_batch(rows, queue, **options)
    assert (again.created, again.duplicates) == (0, 100)
    assert json.loads(json.dumps(again.to_dict()))["duplicates"] == 100


def test_a_plan_knows_what_a_re_run_means(
    open_door: Callable[..., Any], server: ServerProcess, queue: str, flights: pa.Table
) -> None:
    door = open_door(server)
    door.enqueue_batch(flights, queue, name="n")
    assert door.plan_batch(flights, queue, name="n", on_rerun="retry_failed").created == 0
    fresh = door.plan_batch(flights, queue, name="n", on_rerun="fresh")
    assert (fresh.created, fresh.duplicates) == (60, 0)
    assert door.queue_stats(queue).total == 60


def test_a_plain_server_cannot_be_asked_by_key(
    open_door: Callable[..., Any], plain_server: ServerProcess, queue: str, flights: pa.Table
) -> None:
    door = open_door(plain_server)
    door.enqueue_batch(flights, queue)
    plan = door.plan_batch(flights, queue)
    assert (plan.created, plan.duplicates) == (60, None)
    with pytest.raises(InvalidArgumentError, match="batch extension"):
        door.plan_batch(flights, queue, on_rerun="fresh")


def test_a_plan_tells_how_long_it_takes_from_what_the_last_upload_took(
    door: Any, queue: str
) -> None:
    table = pa.table({"n": range(5_000), "text": ["x" * 60] * 5_000})
    assert door.plan_batch(table, queue).seconds is None
    door.enqueue_batch(table.slice(0, 100), queue)
    plan = door.plan_batch(table, queue)
    assert plan.seconds > 0
    # Each row is a payload and a key of 32 digits at least.
    assert plan.bytes > 5_000 * 100
    assert sum(len(chunk) for chunk in [plan.samples]) == 3


def test_where_no_row_can_be_a_job_the_plan_says_so(door: Any, queue: str) -> None:
    plan = door.plan_batch([{"id": None}] * 3, queue, key="id")
    assert (plan.rows, plan.rejected, plan.created, plan.chunks) == (3, 3, 0, 0)
    assert plan.samples == ()
    plan = door.plan_batch([{"rank": 500}] * 3, queue, priority="rank", payload=["rank"])
    assert (plan.rejected, plan.created) == (3, 0)


@pytest.mark.parametrize(
    ("data", "options", "kind", "said"),
    [
        ([{"a": 2**60}], {}, LossyValueError, "on_lossy"),
        ([], {}, InvalidArgumentError, "no rows"),
        ([{"a": 1}], {"key": "b"}, InvalidArgumentError, "no column 'b'"),
        ([{"a": 1}], {"on_rerun": "again"}, InvalidArgumentError, "on_rerun must be"),
        ([{"a": 1}], {"spread": dt.timedelta(0)}, InvalidArgumentError, "spread must be"),
        ("nothing.csv", {}, InvalidArgumentError, "there is no file"),
    ],
)
def test_what_the_call_would_raise_the_plan_raises(
    door: Any, queue: str, data: Any, options: Any, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        door.plan_batch(data, queue, **options)


def test_the_plan_comes_before_the_first_row_and_of_data_that_can_be_read_once(
    client: SpooledClient, queue: str
) -> None:
    def check(plan: BatchPlan) -> None:
        assert client.queue_stats(queue).total == 0
        plans.append(plan)

    plans: list[BatchPlan] = []
    batch = client.enqueue_batch(({"id": i} for i in range(20)), queue, key="id", on_plan=check)
    (plan,) = plans
    assert (plan.rows, plan.created, plan.batch_id) == (20, batch.created, batch.id)


def test_what_the_plan_is_answered_with_ends_the_call_and_nothing_is_sent(
    client: SpooledClient, queue: str
) -> None:
    def refuse(plan: BatchPlan) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        client.enqueue_batch([{"id": 1}], queue, on_plan=refuse)
    assert client.queue_stats(queue).total == 0


def test_the_plan_counts_rejected_rows_before_they_are_refused(
    client: SpooledClient, queue: str
) -> None:
    plans: list[BatchPlan] = []
    with pytest.raises(RowsRejectedError):
        client.enqueue_batch([{"id": 1}, {"id": None}], queue, key="id", on_plan=plans.append)
    assert plans[0].rejected == 1
    assert client.queue_stats(queue).total == 0
