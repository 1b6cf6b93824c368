"""The operator makes one job a row, always the same ones, and lets nobody see the rows."""

from __future__ import annotations

import copy
import datetime as dt
import inspect
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from airflow.sdk import DAG, ObjectStoragePath, XComArg, task
from airflow.sdk.execution_time.task_runner import _serialize_rendered_fields
from airflow.sdk.io import attach

from spooled_pipelines import SpooledClient
from spooled_pipelines.airflow import EnqueueBatchOperator
from spooled_pipelines.airflow.operators.enqueue_request import batch_name
from spooled_pipelines.airflow.platform.versions import AirflowFailException
from spooled_pipelines.batch.options.row_options import BatchOptions, JobOptions
from spooled_pipelines.errors import InvalidArgumentError, SourceError, UnavailableError
from tests.support.airflow_versions import DagSerialization
from tests.support.server_process import ServerProcess

# Text that would be run as Jinja, and that must turn up nowhere but in the job.
MARK = "{{ 6 * 7 }} marked-row"
ROWS = [{"id": 1, "text": MARK}, {"id": 2, "text": "plain"}]
CONNECTION_ID = "spooled_default"


def operator(queue: str, **arguments: Any) -> EnqueueBatchOperator:
    given: dict[str, Any] = {"task_id": "enqueue", "data": ROWS, "queue_name": queue}
    return EnqueueBatchOperator(**{**given, **arguments})


def payloads(client: SpooledClient, queue: str) -> list[dict[str, Any]]:
    jobs = client.dequeue(queue, "reader", batch_size=100)
    return sorted((job.payload for job in jobs), key=lambda payload: payload["id"])


def run(op: EnqueueBatchOperator, context: Any) -> dict[str, Any]:
    """Render and execute, as a task does."""
    op.render_template_fields(context)
    returned: dict[str, Any] = op.execute(context)
    return returned


# What goes in.


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "rows-run-1.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(ROWS, id="dicts"),
        pytest.param(pd.DataFrame(ROWS), id="pandas"),
        pytest.param(pa.Table.from_pylist(ROWS), id="arrow"),
        pytest.param(lambda: ROWS, id="callable"),
        pytest.param(lambda: iter(ROWS), id="callable-iterator"),
    ],
)
def test_each_row_becomes_a_job_with_its_text_as_it_is(
    data: Any, connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    returned = run(operator(queue, data=data), context)
    assert payloads(client, queue) == ROWS
    assert (returned["rows"], returned["created"], returned["duplicates"]) == (2, 2, 0)


def test_a_path_is_templated(
    parquet: Path,
    connected: ServerProcess,
    client: SpooledClient,
    queue: str,
    context: Any,
) -> None:
    op = operator(queue, data=parquet.parent / "rows-{{ run_id }}.parquet")
    run(op, context)
    assert payloads(client, queue) == ROWS
    assert op.data == str(parquet)


@pytest.mark.parametrize("kind", [str, ObjectStoragePath])
def test_a_file_uri_is_read_like_a_path(
    kind: Callable[[str], Any],
    parquet: Path,
    connected: ServerProcess,
    client: SpooledClient,
    queue: str,
    context: Any,
) -> None:
    run(operator(queue, data=kind(parquet.as_uri())), context)
    assert payloads(client, queue) == ROWS


def test_an_object_storage_path_is_read_through_its_own_file_system(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    storage = fsspec.filesystem("memory")
    storage.pipe("/bucket/rows.jsonl", "\n".join(json.dumps(row) for row in ROWS).encode())
    attach("memory", fs=storage)
    run(operator(queue, data=ObjectStoragePath("memory://bucket/rows.jsonl")), context)
    assert payloads(client, queue) == ROWS


def test_what_is_read_and_what_is_made_of_it_can_be_said(
    parquet: Path,
    connected: ServerProcess,
    client: SpooledClient,
    queue: str,
    context: Any,
) -> None:
    def payload(batch: Any) -> Any:
        return batch.append_column("length", pc.utf8_length(batch.column("text")))

    schema = {"properties": {"length": {"maximum": 100}}}
    op = operator(
        queue,
        data=parquet,
        columns=["id", "text"],
        where=[("id", ">", 1)],
        payload=payload,
        payload_schema=schema,
        tags=["text"],
        spread=dt.timedelta(microseconds=1),
        on_lossy={"id": "null"},
    )
    dag = DAG("said")
    dag.add_task(op)
    DagSerialization.to_dict(dag)
    run(copy.deepcopy(op), context)
    assert payloads(client, queue) == [{"id": 2, "text": "plain", "length": 5}]


def test_a_source_that_fails_is_worth_another_try(
    connected: ServerProcess, queue: str, context: Any
) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield ROWS[0]
        raise OSError("the share went away")

    with pytest.raises(SourceError, match="the share went away"):
        run(operator(queue, data=rows), context)


def test_a_callable_gets_what_its_signature_names(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    def rows(params: dict[str, Any], run_id: str, factor: int, label: str) -> pd.DataFrame:
        return pd.DataFrame({"id": range(params["n"]), "v": f"{run_id}/{factor}/{label}"})

    op = operator(queue, data=rows, op_kwargs={"factor": 5, "label": "{{ run_id }}!"})
    run(op, context)
    assert payloads(client, queue) == [{"id": n, "v": "run-1/5/run-1!"} for n in range(3)]


def test_the_output_of_another_task_is_pulled_when_it_is_needed(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    class Pulled(XComArg):
        pulls = 0

        def resolve(self, context: Any) -> Any:
            Pulled.pulls += 1
            return pd.DataFrame(ROWS)

        def iter_references(self) -> Iterator[Any]:
            return iter(())

    op = operator(queue, data=Pulled())
    for _ in range(2):
        # A deferred task's fields are rendered once more when it resumes.
        op.render_template_fields(context)
    assert Pulled.pulls == 0
    op.execute(context)
    assert Pulled.pulls == 1
    assert payloads(client, queue) == ROWS


def test_columns_say_priority_time_retries_and_key(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    soon = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    rows = [{"id": n, "p": n * 10, "tries": n, "text": "x"} for n in (1, 2)]
    returned = run(
        operator(
            queue,
            data=[*rows, {**rows[0], "text": "the same key again"}],
            key="id",
            payload={"number": "id"},
            priority="p",
            max_retries="tries",
            timeout_seconds=60,
            scheduled_at=soon,
            tags={"run": "{{ run_id }}"},
        ),
        context,
    )
    assert (returned["rows"], returned["created"], returned["duplicates"]) == (3, 2, 1)
    jobs = client.dequeue(queue, "reader", batch_size=10)
    assert [(job.payload, job.priority, job.max_retries) for job in jobs] == [
        ({"number": 2}, 20, 2),
        ({"number": 1}, 10, 1),
    ]
    assert {job.timeout_seconds for job in jobs} == {60}


# Run again.


def test_the_same_task_instance_finds_its_jobs_again_whatever_the_try(
    connected: ServerProcess, queue: str, context_of: Callable[..., Any]
) -> None:
    first = run(operator(queue), context_of())
    later = context_of()
    later["ti"].try_number = 4
    again = run(operator(queue), later)
    assert again["batch_id"] == first["batch_id"]
    assert (again["created"], again["duplicates"]) == (0, 2)


@pytest.mark.parametrize(
    "other",
    [{"dag_id": "dag2"}, {"task_id": "task2"}, {"run_id": "run-2"}, {"map_index": 0}],
)
def test_another_task_instance_has_jobs_of_its_own(
    other: dict[str, Any],
    connected: ServerProcess,
    queue: str,
    context_of: Callable[..., Any],
) -> None:
    first = run(operator(queue), context_of())
    second = run(operator(queue), context_of(**other))
    assert second["batch_id"] != first["batch_id"]
    assert second["created"] == 2


def test_task_instances_that_say_one_name_share_a_batch(
    connected: ServerProcess, queue: str, context_of: Callable[..., Any]
) -> None:
    name = "nightly-{{ run_id }}"
    first = run(operator(queue, name=name), context_of(task_id="a"))
    second = run(operator(queue, name=name), context_of(task_id="b"))
    assert second["batch_id"] == first["batch_id"]
    assert second["created"] == 0


def test_the_longest_ids_still_make_a_name_of_their_own(
    context_of: Callable[..., Any],
) -> None:
    runs = [context_of("d" * 250, "t" * 250, f"{'r' * 249}{end}") for end in "12"]
    names = [batch_name(each) for each in runs]
    assert len(set(names)) == 2
    assert all(len(name) <= 255 for name in names)
    assert batch_name(context_of("d", "t", "r", 3)) == "airflow/d/t/r/3"


# What comes out.


def test_the_log_says_how_far_it_is_and_what_came_of_it(
    connected: ServerProcess, queue: str, context: Any
) -> None:
    op = operator(queue)
    said: list[str] = []
    op.log.info = lambda text, *values: said.append(text % values)  # type: ignore[method-assign]
    run(op, context)
    assert "2 of 2 rows sent" in said
    assert "2 rows, 2 jobs created, 0 duplicates, 0 rejected" in said[-1]
    assert "marked-row" not in str(said)


def test_a_rerun_does_with_dead_letters_what_it_is_told(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    def bury() -> None:
        for job in client.dequeue(queue, "w", batch_size=100):
            client.fail(job, "boom", retry=False)

    run(operator(queue), context)
    bury()
    assert run(operator(queue, on_rerun="resume"), context)["retried"] == 0
    again = run(operator(queue), context)
    assert (again["created"], again["retried"], again["generation"]) == (0, 2, 0)
    bury()
    fresh = run(operator(queue, on_rerun="fresh"), context)
    assert (fresh["created"], fresh["retried"], fresh["generation"]) == (2, 0, 1)
    assert client.queue_stats(queue).deadletter == 2


def test_a_retry_continues_with_what_its_first_try_has_started_over(
    connected: ServerProcess, queue: str, context_of: Callable[..., Any]
) -> None:
    def generation_of(try_number: int, max_tries: int, **ids: Any) -> int:
        context = context_of(**ids)
        context["ti"].try_number, context["ti"].max_tries = try_number, max_tries
        fresh = operator(queue, on_rerun="fresh", name=f"{queue}/fresh", retries=2)
        return int(run(fresh, context)["generation"])

    assert [generation_of(number, 2) for number in (1, 2, 3)] == [0, 0, 0]
    # As Airflow counts after a Clear.
    assert [generation_of(number, 5) for number in (4, 5)] == [1, 1]
    assert generation_of(1, 2, run_id="run-2") == 2
    assert generation_of(1, 2, run_id="run-2", map_index=1) == 3


def test_a_plain_server_can_be_used_with_the_default_and_refuses_fresh(
    plain_server: ServerProcess,
    connect_airflow: Callable[..., None],
    queue: str,
    context: Any,
) -> None:
    connect_airflow(plain_server)
    for _ in range(2):
        assert run(operator(queue), context)["retried"] == 0
    with pytest.raises(AirflowFailException, match='on_rerun="fresh" needs a server'):
        run(operator(queue, on_rerun="fresh"), context)


def test_what_it_returns_is_small_and_plain(
    connected: ServerProcess, queue: str, context: Any
) -> None:
    returned = run(operator(queue), context)
    text = json.dumps(returned)
    assert len(text) < 1024
    assert "marked-row" not in text
    assert returned["queue_name"] == queue
    assert json.loads(text) == returned


def test_rows_that_cannot_be_jobs_fail_the_task_for_good_before_anything_is_sent(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    rows = [{"id": 1, "p": 5}, {"id": 2, "p": 500}]
    with pytest.raises(AirflowFailException, match="priority"):
        run(operator(queue, data=rows, priority="p"), context)
    assert client.queue_stats(queue).total == 0


def test_such_rows_are_counted_where_they_may_be_skipped(
    connected: ServerProcess, queue: str, context: Any
) -> None:
    rows = [{"id": 1, "p": 5}, {"id": 2, "p": 500}]
    returned = run(operator(queue, data=rows, priority="p", on_rejected="skip"), context)
    assert (returned["created"], returned["rejected"]) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": "idd"}, "idd"),
        ({"queue_name": "no such/queue"}, "no such/queue"),
        ({"data": 42}, "int"),
        ({"data": "/nowhere/at/all.parquet"}, "/nowhere/at/all.parquet"),
        ({"data": lambda: None}, "gave None instead of a table"),
        ({"data": [{"n": 2**60}]}, "'n'"),
    ],
)
def test_bad_input_fails_the_task_for_good_and_says_what_was_wrong(
    arguments: dict[str, Any],
    message: str,
    connected: ServerProcess,
    queue: str,
    context: Any,
) -> None:
    with pytest.raises(AirflowFailException) as raised:
        run(operator(queue, **arguments), context)
    assert message in str(raised.value)


def test_a_value_too_exact_for_a_payload_is_sent_as_text_where_asked(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    run(operator(queue, data=[{"id": 2**60}], on_lossy="string"), context)
    assert payloads(client, queue) == [{"id": str(2**60)}]


def test_a_server_that_is_away_leaves_the_task_its_retries(
    start_server: Callable[..., ServerProcess],
    connect_airflow: Callable[..., None],
    queue: str,
    context: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = start_server()
    connect_airflow(server)
    server.kill()
    monkeypatch.setattr("spooled_pipelines.batch.flow_control.RETRY_SECONDS", 0.5)
    with pytest.raises(UnavailableError, match="does not answer") as raised:
        run(operator(queue), context)
    assert server.api_key not in str(raised.value)


# Out of sight.


def shown(op: EnqueueBatchOperator) -> str:
    """All that Airflow stores and shows of the operator's fields."""
    return json.dumps(_serialize_rendered_fields(op), default=str)


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        pd.DataFrame(ROWS),
        pa.Table.from_pylist(ROWS),
        {"id": [1], "text": [MARK]},
        tuple(ROWS),
    ],
    ids=lambda data: type(data).__name__,
)
def test_rows_are_neither_rendered_nor_shown_nor_part_of_the_dag(data: Any, context: Any) -> None:
    with DAG("d", schedule=None) as dag:
        op = EnqueueBatchOperator(task_id="e", data=data, queue_name="q", op_kwargs={"table": data})
    before = pickle.dumps(data)
    stored = json.dumps(DagSerialization.to_dict(dag))
    op.render_template_fields(context)
    for text in (stored, shown(op), repr(op), repr(op.data), str(op.op_kwargs)):
        assert "marked-row" not in text
    assert pickle.dumps(data) == before
    assert DagSerialization.from_dict(json.loads(stored)).task_ids == ["e"]


def test_the_rows_of_another_task_are_not_shown_after_they_were_used(
    connected: ServerProcess, queue: str, context: Any
) -> None:
    op = operator(queue, data=lambda table: table, op_kwargs={"table": pd.DataFrame(ROWS)})
    run(op, context)
    assert "marked-row" not in shown(op)
    assert "pandas.DataFrame of length 2" in shown(op)


def test_what_is_shown_says_where_the_rows_come_from() -> None:
    def make_rows() -> None: ...

    with DAG("d", schedule=None):

        @task
        def read() -> list[dict[str, Any]]:
            return ROWS

        by_task = operator("q", task_id="a", data=read())
        by_callable = operator("q", task_id="b", data=make_rows)
        by_path = operator("q", task_id="c", data="/data/{{ ds }}.parquet")
    assert "xcom_pull(task_ids='read'" in shown(by_task)
    assert "make_rows" in shown(by_callable)
    assert "/data/{{ ds }}.parquet" in shown(by_path)


def test_tasks_whose_output_it_takes_come_before_it() -> None:
    with DAG("d", schedule=None) as dag:

        @task
        def read() -> list[dict[str, Any]]:
            return ROWS

        table = read()
        operator("q", task_id="by_data", data=table)
        operator("q", task_id="by_op_kwargs", data=len, op_kwargs={"x": table})
        operator("q", task_id="by_queue", queue_name=table)
        operator("q", task_id="later").data = table
        EnqueueBatchOperator.partial(task_id="mapped", queue_name="q").expand(data=table)
        EnqueueBatchOperator.partial(task_id="partial", data=table).expand(queue_name=["a"])
    for task_id in ("by_data", "by_op_kwargs", "by_queue", "later", "mapped", "partial"):
        assert dag.get_task(task_id).upstream_task_ids == {"read"}, task_id


@pytest.mark.parametrize("data", [ROWS, pd.DataFrame(ROWS)], ids=lambda data: type(data).__name__)
def test_the_rows_of_a_mapped_task_are_not_stored_either(
    data: Any, connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    with DAG("d", schedule=None) as dag:
        EnqueueBatchOperator.partial(task_id="mapped", data=data, op_kwargs={"table": data}).expand(
            queue_name=[queue]
        )
    assert "marked-row" not in json.dumps(DagSerialization.to_dict(dag))
    one = dag.get_task("mapped").unmap({"queue_name": queue})
    assert isinstance(one, EnqueueBatchOperator)
    run(one, context)
    assert payloads(client, queue) == ROWS


def test_a_copy_of_the_dag_does_not_copy_the_table() -> None:
    table = pd.DataFrame(ROWS)
    with DAG("d", schedule=None) as dag:
        operator("q", data=table)
    copied = copy.deepcopy(dag).get_task("enqueue")
    assert isinstance(copied, EnqueueBatchOperator)
    assert copied.data.value is table


def test_a_class_made_from_it_may_have_template_fields_of_its_own(
    connected: ServerProcess, queue: str, context: Any
) -> None:
    class EnqueueDay(EnqueueBatchOperator):
        template_fields = (*EnqueueBatchOperator.template_fields, "day")

        def __init__(self, *, day: str, **kwargs: Any) -> None:
            super().__init__(data=lambda run_id: [{"day": run_id}], **kwargs)
            self.day = day

    day = EnqueueDay(task_id="day", day="{{ run_id }}", queue_name=queue)
    assert run(day, context)["created"] == 1
    assert day.day == context["run_id"]


def test_it_takes_every_option_of_enqueue_batch() -> None:
    taken = inspect.signature(EnqueueBatchOperator.__init__).parameters
    # A query's connection is one of Airflow's here.
    assert BatchOptions.__annotations__.keys() - {"connection"} <= taken.keys()
    op = operator("q", data="x.parquet")
    fields = {*op.untemplated_fields, *op.template_fields}
    assert JobOptions.__annotations__.keys() <= fields


def test_the_executors_queue_is_not_taken_for_that_of_the_jobs() -> None:
    with pytest.raises(InvalidArgumentError, match="queue= is Airflow's own"):
        EnqueueBatchOperator(task_id="e", data=[], queue="orders")
    with pytest.raises(InvalidArgumentError, match=r"the queue of the jobs$"):
        EnqueueBatchOperator(task_id="e", data=[])
