"""The example DAGs, which the docs show, and `dags/arguments.py` run against a real server."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spooled_pipelines import SpooledClient, connect
from tests.support.server_process import ServerProcess

DAGS = Path(__file__).resolve().parents[2] / "dags"
TEST_DAGS = Path(__file__).resolve().parent / "dags"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "airflow-dags.md"
EXAMPLES = ("backfill", "sql_jobs", "mapped", "retry_dead_letters", "event_driven")
# Airflow changes much in a process that runs a DAG, so all of them share one that is not ours.
RUN_DAGS = """
import json, sys
from datetime import datetime, timezone
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from spooled_pipelines.airflow.links import BatchLink
from tests.support.airflow_versions import bag_of

bag = bag_of(*sys.argv[1:])

def run(dag_id, **arguments):
    run = bag.get_dag(dag_id).test(**arguments)
    returned, states, shown, links = {}, {}, {}, {}
    for ti in run.get_task_instances():
        name = ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"
        returned[name] = ti.xcom_pull(ti.task_id, map_indexes=ti.map_index)
        states[name] = ti.state
        shown[name] = str(RenderedTaskInstanceFields.get_templated_fields(ti))
        # As the page of the task finds it.
        links[name] = ti.xcom_pull(ti.task_id, key=BatchLink().xcom_key, map_indexes=ti.map_index)
    told = [dag_id, run.state, returned, states, shown, links]
    print("RETURNED", json.dumps(told, default=list), flush=True)

for day in (1, 2):
    run("sales", logical_date=datetime(2026, 1, day, tzinfo=timezone.utc))
# As the shell and the API start a run, without a date.
run("sales", logical_date=None)
run("customer_scores")
run("readings")
run("retry_dead_letters")
for dag_id in ("passed", "grouped", "nothing", "joined", "blue", "red"):
    run(dag_id)
for dag_id in ("templated", "native"):
    run(dag_id)
    # This once, as a person who triggers the DAG asks for it.
    run(dag_id, run_conf={"rerun": "fresh"})
"""


def work(client: SpooledClient) -> None:
    """What workers would do with the jobs of all these queues."""
    for queue in ("sales-2026-01", "scores", "readings", "orders", "joined"):
        for job in client.dequeue(queue, "hand", batch_size=100):
            result: dict[str, Any] = {"score": 7} if queue == "scores" else {}
            if queue == "joined":
                result = {"charged": job.payload["amount"] * 2}
            client.complete(job, result=result)


@contextlib.contextmanager
def workers(server: ServerProcess) -> Iterator[None]:
    over = threading.Event()

    def go_on() -> None:
        with connect(server.address, api_key=server.api_key) as client:
            while not over.wait(0.2):
                work(client)

    working = threading.Thread(target=go_on)
    working.start()
    try:
        yield
    finally:
        over.set()
        working.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A server of their own, since queues have fixed names; the shop's database; all runs."""
    folder = tmp_path_factory.mktemp("dags")
    shop = folder / "shop.db"
    with sqlite3.connect(shop) as database:
        database.execute("CREATE TABLE customers (id INTEGER, name TEXT, spent REAL, since TEXT)")
        database.execute("CREATE TABLE scores (customer INTEGER PRIMARY KEY, score INTEGER)")
        rows = [(n, f"c{n}", 1.5 * n, "2026-02-01" if n % 2 else "2025-01-01") for n in range(10)]
        database.executemany("INSERT INTO customers VALUES (?, ?, ?, ?)", rows)
    database.close()
    with ServerProcess(folder / "jobs.db") as server:
        with connect(server.address, api_key=server.api_key) as client:
            client.enqueue_batch([{"id": n} for n in range(6)], "orders", name="dead")
            for number, job in enumerate(client.dequeue("orders", "hand", batch_size=6)):
                error = "Timeout: too slow" if number < 4 else "ValueError: no"
                client.fail(job, error, retry=False)
        spooled = {
            "conn_type": "spooled",
            "host": server.host,
            "port": server.port,
            "password": server.api_key,
            "extra": {"page": "https://spooled.example.org"},
        }
        environment = {
            **os.environ,
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
            "AIRFLOW_CONN_SPOOLED_DEFAULT": json.dumps(spooled),
            "AIRFLOW_CONN_SHOP": json.dumps({"conn_type": "sqlite", "host": str(shop)}),
            "AIRFLOW__SPOOLED__QUEUE_POLL_SECONDS": "0.2",
            "TESTS_FOLDER": str(folder),
        }
        with workers(server):
            done = subprocess.run(
                [sys.executable, "-c", RUN_DAGS, str(DAGS), str(TEST_DAGS / "arguments.py")],
                capture_output=True,
                text=True,
                check=False,
                env=environment,
            )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        with connect(server.address, api_key=server.api_key) as client:
            runs = [
                json.loads(line[9:])
                for line in done.stdout.splitlines()
                if line.startswith("RETURNED ")
            ]
            yield {
                "runs": runs,
                "client": client,
                "shop": shop,
                "folder": folder,
                "log": done.stdout,
            }


def returned(world: dict[str, Any], dag_id: str) -> list[dict[str, Any]]:
    found = [(state, values) for name, state, values, *_ in world["runs"] if name == dag_id]
    assert found, dag_id
    assert {state for state, _ in found} == {"success"}
    return [values for _, values in found]


def test_each_day_of_a_backfill_is_a_batch_on_its_months_queue(world: dict[str, Any]) -> None:
    days = [values["enqueue"] for values in returned(world, "sales")]
    assert [day["completed"] for day in days] == [200, 200, 200]
    assert len({day["batch_id"] for day in days}) == 3
    assert {day["queue_name"] for day in days} == {"sales-2026-01"}
    assert world["client"].queue_stats("sales-2026-01").completed == 600


def test_rows_of_a_database_come_back_into_it_with_what_was_made_of_them(
    world: dict[str, Any],
) -> None:
    (values,) = returned(world, "customer_scores")
    assert values["enqueue"]["created"] == 5
    assert values["store"] == 5
    with contextlib.closing(sqlite3.connect(world["shop"])) as database:
        scores = database.execute("SELECT customer, score FROM scores ORDER BY 1").fetchall()
    assert scores == [(n, 7) for n in (1, 3, 5, 7, 9)]


def test_parts_are_one_batch_that_is_sealed_by_the_task_that_waits(world: dict[str, Any]) -> None:
    (values,) = returned(world, "readings")
    parts = [value for name, value in values.items() if name.startswith("enqueue[")]
    assert [part["created"] for part in parts] == [24] * 4
    assert len({part["batch_id"] for part in parts}) == 1
    assert (values["wait"]["total"], values["wait"]["completed"]) == (96, 96)
    assert values["wait"]["sealed"]


def test_what_died_of_a_time_out_gets_another_chance(world: dict[str, Any]) -> None:
    (values,) = returned(world, "retry_dead_letters")
    assert values["retry"] == 4
    assert (values["done"]["completed"], values["done"]["deadletter"]) == (4, 2)
    assert values["report"] == {"ValueError": 2}


def test_whatever_airflow_resolves_in_an_argument_it_resolves_in_data(
    world: dict[str, Any],
) -> None:
    (values,) = returned(world, "passed")
    names = ("outputs", "concatenated", "paths", "paths_of_one", "by_connection", "shown")
    assert [values[name]["created"] for name in names] == [2, 2, 2, 2, 1, 1]
    assert {"region": "kept"} in [
        job.payload for job in world["client"].dequeue("arguments", "reader", batch_size=100)
    ]
    (shown,) = [shown for name, *_, shown, _ in world["runs"] if name == "passed"]
    assert "{'region': 'passed'}" in shown["shown"]


def test_what_a_mapped_group_is_given_is_resolved_in_data_too(world: dict[str, Any]) -> None:
    (values,) = returned(world, "grouped")
    parts = [values[f"of_region.enqueue[{number}]"] for number in (0, 1)]
    assert [part["created"] for part in parts] == [1, 1]
    assert len({part["batch_id"] for part in parts}) == 1
    assert [values[f"of_region.decorated[{number}]"]["created"] for number in (0, 1)] == [1, 1]


def test_a_sensor_over_a_mapped_task_has_the_link_of_the_one_batch(world: dict[str, Any]) -> None:
    (values,) = returned(world, "grouped")
    batches = {values[f"parts[{number}]"]["batch_id"] for number in (0, 1)}
    assert len(batches) == 1
    assert values["wait_parts"]["total"] == 2
    (links,) = [links for name, *_, links in world["runs"] if name == "grouped"]
    link = f"https://spooled.example.org/batches/{batches.pop()}"
    assert {links[task] for task in ("parts[0]", "parts[1]", "wait_parts")} == {link}


def test_what_waits_for_nothing_passes_or_is_skipped_as_it_says(world: dict[str, Any]) -> None:
    (values,) = returned(world, "nothing")
    (states,) = [states for name, _, _, states, *_ in world["runs"] if name == "nothing"]
    for upstream in ("mapped", "skipped"):
        assert states[upstream] == "skipped"
        assert states[f"skip_{upstream}"] == "skipped"
        assert values[f"wait_{upstream}"]["total"] == 0
        assert values[f"results_{upstream}"] == []
    assert values["work_skipped"] == {}


def test_results_have_the_rows_key_and_payload_in_whatever_file_they_are(
    world: dict[str, Any],
) -> None:
    (values,) = returned(world, "joined")
    first = values["results"][1]
    assert list(first)[:3] == ["order_id", "amount", "paid"]
    assert first == {
        "order_id": "o1",
        "amount": 1.5,
        "paid": False,
        "status": "new",
        "row": 1,
        "job_id": first["job_id"],
        "job.status": "completed",
        "error": None,
        "charged": 3.0,
    }
    assert [row["charged"] for row in values["joined"]] == [0.0, 3.0, 6.0, 9.0]
    folder = world["folder"]
    table = pa.Table.from_pylist(
        values["results"], schema=pq.read_schema(folder / "results.parquet")
    )
    assert pq.read_table(folder / "results.parquet") == table
    assert pa.ipc.open_file(folder / "results.arrow").read_all() == table
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == values["results"]
    for name in ("results", "one"):
        read = list(csv.DictReader((folder / f"{name}.csv").read_text().splitlines()))
        assert [(row["row"], row["order_id"], float(row["charged"])) for row in read] == [
            (str(n), f"o{n}", 3.0 * n) for n in range(4)
        ]


def test_arguments_come_from_the_parameters_of_the_run(world: dict[str, Any]) -> None:
    for dag_id, rows in (("templated", 2), ("native", 1)):
        first, fresh = (values["enqueue"] for values in returned(world, dag_id))
        assert (first["rows"], first["queue_name"], first["name"]) == (rows, "v2.10", "2.10")
        assert (fresh["created"], fresh["generation"]) == (rows, first["generation"] + 1)


def test_a_batch_of_another_dag_is_named_in_the_log_and_parts_have_none(
    world: dict[str, Any],
) -> None:
    (blue,), (red,) = returned(world, "blue"), returned(world, "red")
    assert [dag["part"]["created"] for dag in (blue, red)] == [1, 1]
    assert [dag["named"]["created"] for dag in (blue, red)] == [1, 0]
    (line,) = [line for line in world["log"].splitlines() if "by airflow/blue" in line]
    assert "was made by airflow/blue/named, not by airflow/" in line
    assert world["client"].batch(red["named"]).stats().made_by == "airflow/blue/named"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_docs_show_it(name: str) -> None:
    code = (DAGS / f"{name}.py").read_text()
    shown = code.partition('"""\n\n')[2].split("from __future__ import annotations\n\n", 1)[-1]
    assert shown.strip() in PAGE.read_text()
