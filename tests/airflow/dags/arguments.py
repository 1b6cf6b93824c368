"""What authors pass: outputs of tasks, lists of paths, mapped groups, tasks without rows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, ObjectStoragePath, task, task_group
from airflow.sdk.io import attach

from spooled_pipelines.airflow import (
    BatchResultsOperator,
    EnqueueBatchOperator,
    SpooledWorkOperator,
    StreamJobsSensor,
    enqueue_batch,
)

FOLDER = Path(os.environ.get("TESTS_FOLDER", "."))


@task
def rows(region: str) -> list[dict[str, str]]:
    return [{"region": region}]


@task
def path_of(region: str) -> str:
    path = FOLDER / f"{region}.jsonl"
    path.write_text(json.dumps({"region": region}) + "\n")
    return str(path)


def enqueue(task_id: str, **arguments: Any) -> EnqueueBatchOperator:
    return EnqueueBatchOperator(task_id=task_id, queue_name="arguments", **arguments)


with DAG("passed", schedule=None):
    first, second = rows.override(task_id="first")("eu"), rows.override(task_id="second")("us")
    paths = [path_of.override(task_id=f"path_{region}")(region) for region in ("eu", "us")]

    @task
    def all_paths(paths: Any) -> Any:
        return paths

    @task
    def storage() -> str:
        attach("memory", fs=__import__("fsspec").filesystem("memory"), conn_id="kept")
        (ObjectStoragePath("memory://kept@bucket") / "rows.jsonl").write_text('{"region": "kept"}')
        return "memory://kept@bucket/*.jsonl"

    enqueue("outputs", data=[first, second])
    enqueue("concatenated", data=first.concat(second))
    enqueue("paths", data=paths)
    enqueue("paths_of_one", data=all_paths(paths))
    enqueue("by_connection", data=storage())
    enqueue(
        "shown", data=lambda region: [{"region": region}], op_kwargs={"region": "{{ dag.dag_id }}"}
    )

with DAG("grouped", schedule=None):

    @task_group
    def of_region(path: str) -> None:
        enqueue("enqueue", data=path, part="{{ ti.map_index }}", tags={"path": path})

        @enqueue_batch(queue_name="arguments")
        def decorated(path: str) -> list[dict[str, str]]:
            return [{"path": path}]

        decorated(path)
        StreamJobsSensor(task_id="wait", queue_name="arguments", until="total > 0")

    regions = path_of.expand(region=["eu", "us"])
    of_region.expand(path=regions)
    # Somebody works on this queue.
    parts = EnqueueBatchOperator.partial(
        task_id="parts", queue_name="scores", part="{{ ti.map_index }}"
    ).expand(data=regions)
    StreamJobsSensor(task_id="wait_parts", batch=parts.output)

with DAG("nothing", schedule=None):

    @task
    def none() -> list[str]:
        return []

    mapped = EnqueueBatchOperator.partial(task_id="mapped", queue_name="arguments").expand(
        data=none()
    )

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def stop() -> bool:
        return False

    skipped = enqueue("skipped", data=[{"id": 1}])
    stop() >> skipped
    for name, made in (("mapped", mapped), ("skipped", skipped)):
        done: dict[str, Any] = {"batch": made.output, "trigger_rule": "all_done"}
        StreamJobsSensor(task_id=f"wait_{name}", **done)
        StreamJobsSensor(task_id=f"skip_{name}", on_empty="skip", **done)
        BatchResultsOperator(task_id=f"results_{name}", **done)
    SpooledWorkOperator(task_id="work_skipped", handler=print, **done)

ORDERS = [
    {"order_id": f"o{n}", "amount": 1.5 * n, "paid": n % 2 == 0, "status": "new"} for n in range(4)
]

with DAG("joined", schedule=None):
    orders: dict[str, Any] = {
        "data": ORDERS,
        "queue_name": "joined",
        "key": "order_id",
        "ledger": str(FOLDER / "ledger-{{ task.task_id }}.parquet"),
    }
    in_one: dict[str, Any] = {"wait_for_completion": True, "results": str(FOLDER / "one.csv")}
    EnqueueBatchOperator(task_id="in_one", **orders, **in_one)
    made = EnqueueBatchOperator(task_id="made", **orders)
    waited = StreamJobsSensor(task_id="waited", batch=made.output)
    made >> waited
    for suffix in ("parquet", "arrow", "csv", "jsonl"):
        path = str(FOLDER / f"results.{suffix}")
        waited >> BatchResultsOperator(task_id=suffix, batch=made.output, path=path)
    results = BatchResultsOperator(task_id="results", batch=made.output)

    @task
    def joined(results: list[dict[str, Any]]) -> list[dict[Any, Any]]:
        import pandas as pd

        table = pd.DataFrame(ORDERS)
        charged = pd.DataFrame(results)[["order_id", "charged"]]
        return table.merge(charged, on="order_id").to_dict("records")

    waited >> results
    joined(results.output)  # type: ignore[arg-type]  # Airflow puts its value in place

# Two DAGs from one template, whose runs have equal ids.
for dag_id in ("blue", "red"):
    with DAG(dag_id, schedule=None):
        pasted: dict[str, Any] = {"data": [{"id": 1}], "key": "id", "queue_name": "pasted"}
        EnqueueBatchOperator(task_id="part", part="{{ ti.map_index }}", **pasted)
        EnqueueBatchOperator(task_id="named", name="nightly", **pasted)

for dag_id, native in (("templated", False), ("native", True)):
    params = {"day": "tue", "least": 2, "rerun": "resume", "version": "2.10"}
    with DAG(dag_id, schedule=None, params=params, render_template_as_native_obj=native):
        number = [("id", ">=", "{{ params.least }}")] if native else []
        EnqueueBatchOperator(
            task_id="enqueue",
            data=[{"id": 1, "day": "tue"}, {"id": 2, "day": "tue"}, {"id": 3, "day": "wed"}],
            where=[("day", "==", "{{ params.day }}"), *number],
            queue_name="v{{ params.version }}",
            name="{{ params.version }}",
            priority="{{ params.least }}",
            on_rerun="{{ params.rerun }}",
        )
