"""Every argument that can be a template is one, and means what its rendered text says."""

from __future__ import annotations

import datetime as dt
import inspect
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk import DAG

from spooled_pipelines import SpooledClient
from spooled_pipelines.airflow import (
    BatchResultsOperator,
    EnqueueBatchOperator,
    SpooledWorkOperator,
    StreamJobsSensor,
    enqueue_batch,
)
from spooled_pipelines.airflow.operators import enqueue_options
from spooled_pipelines.airflow.platform.versions import AirflowFailException
from spooled_pipelines.errors import InvalidArgumentError
from tests.support.server_process import ServerProcess

ROWS = [{"id": 1, "day": "mon"}, {"id": 2, "day": "tue"}]
PARAMS = {
    "day": "tue",
    "nothing": "sun",
    "column": "day",
    "n": 7,
    "rate": 2.5,
    "version": "2.10",
    "code": "0042",
    "rerun": "fresh",
    "at": "2020-01-01T00:00:00Z",
    "lossy": "string",
    "changed": "replace",
    "none": None,
}


def run(op: Any, context: Any) -> dict[str, Any]:
    context["params"] = PARAMS
    op.render_template_fields(context)
    returned: dict[str, Any] = op.execute(context)
    return returned


def operator(queue: str, **arguments: Any) -> Any:
    given: dict[str, Any] = {"task_id": "enqueue", "data": ROWS, "queue_name": queue}
    return EnqueueBatchOperator(**{**given, **arguments})


def test_what_templates_say_is_a_number_a_time_a_choice_or_a_column(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    op = operator(
        queue,
        columns=["id", "{{ params.column }}"],
        where=[("day", "==", "{{ params.day }}")],
        priority="{{ params.n }}",
        max_retries="{{ params.n }}",
        timeout_seconds="{{ params.n * 10 }}",
        retry_backoff="{{ params.n }}s, 2m",
        ttl="{{ params.n }}h",
        scheduled_at="{{ params.at }}",
        on_rejected="{{ 'skip' }}",
        on_lossy={"id": "{{ params.lossy }}"},
        tags={"run": "{{ run_id }}"},
    )
    assert run(op, context)["created"] == 1
    (job,) = client.dequeue(queue, "reader", batch_size=10)
    assert job.payload == {"id": 2, "day": "tue"}
    assert (job.priority, job.max_retries, job.timeout_seconds) == (7, 7, 70)
    assert client.fail(job, "no").next_retry_delay == 7
    assert op.tags == {"run": "run-1"}


def test_a_rerun_may_start_over_this_once(
    connected: ServerProcess, queue: str, context: Any
) -> None:
    op = operator(queue, on_rerun="{{ params.rerun }}")
    assert run(op, context)["created"] == 2
    assert (op.on_rerun, run(op, context)["generation"]) == ("fresh", 1)


def test_a_corrected_source_is_counted_and_logged_and_may_replace_what_has_not_started(
    connected: ServerProcess,
    client: SpooledClient,
    queue: str,
    context: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(operator(queue, key="id"), context)
    corrected = [ROWS[0], {**ROWS[1], "day": "wed"}]
    returned = run(operator(queue, key="id", data=corrected), context)
    assert (returned["duplicates"], returned["changed"], returned["replaced"]) == (2, 1, 0)
    assert "1 (their jobs keep the payload they had)" in capsys.readouterr().out
    with pytest.raises(AirflowFailException, match="1 of 2 rows have changed"):
        run(operator(queue, key="id", data=corrected, on_changed="{{ 'raise' }}"), context)
    op = operator(queue, key="id", data=corrected, on_changed="{{ params.changed }}")
    returned = run(op, context)
    assert (returned["changed"], returned["replaced"]) == (1, 1)
    assert "1 (1 replaced)" in capsys.readouterr().out
    assert [job.payload for job in client.dequeue(queue, "reader", batch_size=9)] == corrected
    part = run(operator(queue, key="id", data=corrected, part="1", name="p"), context)
    assert (part["changed"], part["part"]["replaced"]) == (0, 0)


def test_durations_rates_and_limits_are_rendered_too(
    connected: ServerProcess, queue: str, context: Any
) -> None:
    op = operator(queue, rate="{{ params.rate }}", wait_timeout="{{ params.n }}")
    run(op, context)
    assert (op.rate, op.wait_timeout) == (2.5, dt.timedelta(seconds=7))
    spread = operator(queue, name="s", spread="{{ params.n }}")
    run(spread, context)
    assert spread.spread == dt.timedelta(seconds=7)
    waits = StreamJobsSensor(task_id="w", batch="b_1", max_failed="{{ params.n }}")
    context["params"] = PARAMS
    waits.render_template_fields(context)
    assert waits._target().max_failed == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_rerun": "{{ params.day }}"}, "on_rerun must be 'resume', 'retry_failed' or 'fresh'"),
        ({"on_changed": "{{ params.day }}"}, "on_changed must be 'keep', 'raise' or 'replace'"),
        ({"on_lossy": {"id": "{{ 7 }}"}}, "on_lossy['id'] must be"),
        ({"table_version": "{{ params.at }}"}, "table_version is for Delta and Iceberg tables"),
        ({"table_version": "{{ params.at[:-1] }}"}, "table_version: a time must have a zone"),
        ({"priority": "{{ params.day }}"}, "priority: there is no column 'tue'"),
        ({"rate": "{{ params.day }}"}, "rate must be a number of jobs a second above 0, got 'tue'"),
        ({"spread": "{{ params.day }}"}, "spread must be a timedelta, or a template of a number"),
        ({"max_failed": "{{ params.day }}", "wait_for_completion": True}, "max_failed must be"),
        ({"where": [("id", "==", "{{ params.n }}")]}, "a number with a number, not with its text"),
        ({"part": "1", "on_rerun": "{{ params.rerun }}"}, "starts a whole batch over"),
    ],
)
def test_a_template_that_says_something_else_fails_the_task_for_good(
    arguments: dict[str, Any], message: str, connected: ServerProcess, queue: str, context: Any
) -> None:
    with pytest.raises(AirflowFailException) as raised:
        run(operator(queue, **arguments), context)
    assert message in str(raised.value)


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", ["name", "queue_name", "part"])
def test_a_name_without_a_value_is_not_that_of_all_runs(
    name: str, native: bool, connected: ServerProcess, queue: str, context: Any
) -> None:
    with DAG("dag", render_template_as_native_obj=native):
        op = operator(queue, **{name: "{{ params.none }}"})
        default = operator(queue, task_id="default", name="{{ params.none or '' }}")
    with pytest.raises(AirflowFailException, match=f"{name} was rendered to None"):
        run(op, context)
    assert run(default, context)["name"].startswith("airflow/")


def test_a_dag_that_renders_objects_leaves_texts_as_they_are(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    with DAG("native", schedule=None, render_template_as_native_obj=True):
        op = operator(
            f"{queue}.{{{{ params.version }}}}",
            name="{{ params.code }}",
            part="{{ params.n }}",
            tags={"code": "{{ params.code }}", "version": "{{ params.version }}"},
            where=[("id", ">", "{{ params.n - 6 }}")],
        )
        only_digits = operator("{{ params.version }}", task_id="b", data="{{ params.nothing }}")
    returned = run(op, context)
    # The filter's number is one.
    assert (returned["rows"], returned["name"], returned["part"]["part_id"]) == (1, "0042", "7")
    assert op.tags == {"code": "0042", "version": "2.10"}
    assert client.dequeue(f"{queue}.2.10", "reader", batch_size=10)[0].payload["id"] == 2
    only_digits.render_template_fields(context)
    assert only_digits.queue_name == "2.10"


UNTEMPLATED: list[tuple[type[Any], dict[str, Any]]] = [
    *((EnqueueBatchOperator, {name: "{{ x }}"}) for name in enqueue_options.UNTEMPLATED),
    (EnqueueBatchOperator, {"payload_schema": {"properties": {"a": {"const": "{{ x }}"}}}}),
    (StreamJobsSensor, {"deferrable": "{{ x }}"}),
    (SpooledWorkOperator, {"executor": "{{ x }}"}),
    (BatchResultsOperator, {"escape_formulas": "{{ x }}"}),
]


@pytest.mark.parametrize(("kind", "arguments"), UNTEMPLATED)
def test_a_template_that_nothing_would_render_is_refused_with_the_dag(
    kind: type[Any], arguments: dict[str, Any]
) -> None:
    mapped = "batch" if kind is BatchResultsOperator else "queue_name"
    given: dict[str, Any] = {"task_id": "t", mapped: "q"}
    if kind is EnqueueBatchOperator:
        given["data"] = "x.parquet"
    if kind is SpooledWorkOperator:
        given["handler"] = print
    (name,) = arguments
    with pytest.raises(InvalidArgumentError, match=f"^{name} is read with the DAG"):
        kind(**given, **arguments)
    given.pop(mapped)
    with DAG("d", schedule=None), pytest.raises(InvalidArgumentError, match="cannot be a template"):
        kind.partial(**given, **arguments).expand(**{mapped: ["q"]})
    if kind is EnqueueBatchOperator:
        with pytest.raises(InvalidArgumentError, match="cannot be a template"):
            enqueue_batch(queue_name="q", **arguments)


@pytest.mark.parametrize(
    "kind", [EnqueueBatchOperator, StreamJobsSensor, BatchResultsOperator, SpooledWorkOperator]
)
def test_each_argument_is_a_template_or_says_that_it_is_none(kind: type[Any]) -> None:
    arguments = set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"}
    functions_and_types = {"handler", "retry_on", "discard_on"}
    assert arguments - functions_and_types == {*kind.template_fields, *kind.untemplated_fields}


def test_a_filter_that_keeps_no_row_is_not_a_file_without_rows(
    tmp_path: Path, connected: ServerProcess, queue: str, context: Any
) -> None:
    path = tmp_path / "days.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    where = [("day", "==", "{{ params.nothing }}")]
    for data in (str(path), ROWS):
        with pytest.raises(AirflowFailException, match="where= keeps none of 2 rows"):
            run(operator(queue, data=data, where=where, on_empty="fail"), context)
    pq.write_table(pa.Table.from_pylist(ROWS).slice(2), path)
    with pytest.raises(AirflowFailException, match="has no rows"):
        run(operator(queue, data=str(path), where=where, on_empty="fail"), context)
