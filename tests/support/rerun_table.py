"""The table of docs/airflow-reruns.md, and how each of its rows is done in a real Airflow."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from spooled_pipelines import SpooledClient
from tests.support.standalone import BUSY_SECONDS, World

PAGE = Path(__file__).resolve().parents[2] / "docs" / "airflow-reruns.md"
DAGS = Path(__file__).resolve().parents[1] / "airflow" / "dags"
DATE = "2026-01-01T00:00:00Z"
ROWS = 100
# About half of what the rows of "dies_during" come to.
HALF_BYTES = 10_000_000
WORKED_ON = {"completed": 60, "deadletter": 10, "pending": 30}


@dataclass(frozen=True)
class Row:
    """What a row of the table says."""

    what: str
    on_rerun: str
    batch: str
    created: str
    there: str
    put_back: str
    jobs: str


@dataclass(frozen=True)
class Marked:
    """What a row of the page's second table says."""

    task: str
    failed: str
    success: str
    cleared: str


def rows() -> list[Row]:
    """The rows of the page's table, top to bottom."""
    return [
        Row(*(cell.strip(" `") for cell in cells)) for cells in _cells_of_tables(len(fields(Row)))
    ]


def marked() -> list[Marked]:
    """The rows of its second table: what becomes of jobs where somebody acts on the task."""
    return [Marked(*cells) for cells in _cells_of_tables(len(fields(Marked)))]


def _cells_of_tables(columns: int) -> list[list[str]]:
    lines = re.findall(r"^\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    found = [line.split(" | ") for line in lines]
    # Without the head, and the line under it.
    return [cells for cells in found if len(cells) == columns][2:]


@dataclass(frozen=True)
class Scenario:
    """A row's DAG, and what is done in it: ``again`` gives the run to look at afterwards."""

    dag_id: str
    again: Callable[[World, str], str | None]
    worked_on: bool = False
    task_id: str = "enqueue"
    map_index: int = -1


def clear_task(world: World, dag_id: str) -> str:
    world.airflow.clear_tasks(dag_id, "run-1", ["enqueue"])
    return "run-1"


def clear_run(world: World, dag_id: str) -> str:
    world.airflow.clear(dag_id, "run-1")
    return "run-1"


def nothing(world: World, dag_id: str) -> str:
    """Airflow's own retry has done it."""
    return "run-1"


def mark_failed_and_clear(world: World, dag_id: str) -> str:
    world.airflow.mark(dag_id, "run-1", "enqueue", "failed")
    assert world.airflow.task_states(dag_id, "run-1") == {"enqueue": "failed"}
    return clear_task(world, dag_id)


def clear_second_part(world: World, dag_id: str) -> str:
    world.airflow.clear_tasks(dag_id, "run-1", [("enqueue", 1)])
    return "run-1"


def backfill_next_date(world: World, dag_id: str) -> str:
    next_date = DATE.replace("01-01", "01-02")
    world.airflow.backfill(dag_id, next_date, next_date)
    return f"backfill__{next_date.replace('Z', '+00:00')}"


def backfill_same_date(world: World, dag_id: str) -> str:
    world.airflow.backfill(dag_id, DATE, DATE, reprocess_behavior="completed")
    return "run-1"


def run_same_date(world: World, dag_id: str) -> None:
    assert not world.airflow.run_at(dag_id, "run-2", DATE)
    assert set(world.airflow.runs(dag_id)) == {"run-1"}


def run_next_date(world: World, dag_id: str) -> str:
    assert world.airflow.run_at(dag_id, "run-2", DATE.replace("01-01", "01-02"))
    return "run-2"


def run_later_that_day(world: World, dag_id: str) -> str:
    assert world.airflow.run_at(dag_id, "run-2", DATE.replace("T00", "T12"))
    return "run-2"


def delete_run_and_trigger(world: World, dag_id: str) -> str:
    world.airflow.delete_run(dag_id, "run-1")
    assert world.airflow.run_at(dag_id, "run-1", DATE)
    return "run-1"


DIED = "a retry: the task process was killed"
SCENARIOS: dict[tuple[str, str], Scenario] = {
    (f"{DIED} before it sent anything", "retry_failed"): Scenario("dies_before", nothing),
    (f"{DIED} while it sent", "retry_failed"): Scenario("dies_during", nothing),
    (f"{DIED} after it had sent everything", "retry_failed"): Scenario("dies_after", nothing),
    **{
        ("worked on; the task is cleared", choice): Scenario(
            f"cleared_task_{choice}", clear_task, worked_on=True
        )
        for choice in ("retry_failed", "resume", "fresh")
    },
    ("worked on; the run is cleared", "retry_failed"): Scenario(
        "cleared_run", clear_run, worked_on=True
    ),
    ("worked on; the task is marked failed, then cleared", "retry_failed"): Scenario(
        "marked_failed", mark_failed_and_clear, worked_on=True
    ),
    ("a backfill of another date", "retry_failed"): Scenario("backfill_new", backfill_next_date),
    ("worked on; a backfill that reprocesses the run", "retry_failed"): Scenario(
        "backfill_reprocess", backfill_same_date, worked_on=True
    ),
    ("a manual run of the same logical date: Airflow refuses it", "retry_failed"): Scenario(
        "same_date", run_same_date
    ),
    ("a manual run of another logical date", "retry_failed"): Scenario(
        "another_date", run_next_date
    ),
    ("worked on; the run is deleted, and made again under its run_id", "retry_failed"): Scenario(
        "run_deleted", delete_run_and_trigger, worked_on=True
    ),
    ('another run of the same date, with `name="orders/{{ ds }}"', "retry_failed"): Scenario(
        "named_by_date", run_later_that_day
    ),
    ("one instance of a mapped task (100 rows each of 3) is cleared", "retry_failed"): Scenario(
        "mapped", clear_second_part, map_index=1
    ),
    **{
        (what, "retry_failed"): Scenario(dag_id, clear_task)
        for what, dag_id in (
            ("the table got 10 more rows; the task is cleared", "rows_added"),
            ("the table lost 10 rows; the task is cleared", "rows_removed"),
            (
                "a column that is not in the key has other values; the task is cleared",
                "row_changed",
            ),
            ("key` is another column; the task is cleared", "key_changed"),
            ("queue_name` is another; the task is cleared", "queue_changed"),
        )
    },
    ("task_id` is another; the run is cleared", "retry_failed"): Scenario(
        "task_renamed", clear_run, task_id="enqueue_orders"
    ),
}


@dataclass(frozen=True)
class Observed:
    """What came of a row: what the task returned before and after, the batches, and the jobs."""

    before: dict[str, Any] | None
    after: dict[str, Any] | None
    batches_before: int
    statuses: Counter[str]


def do_all(world: World, dag_ids: Collection[str]) -> dict[str, Observed]:
    """Do the scenarios, all at once in each step: the first runs, the work, the re-runs."""
    airflow = world.airflow
    scenarios = [one for one in SCENARIOS.values() if one.dag_id in dag_ids]
    airflow.knows(one.dag_id for one in scenarios)
    for one in scenarios:
        assert airflow.run_at(one.dag_id, "run-1", DATE), one.dag_id
    airflow.all_end({(one.dag_id, "run-1"): "success" for one in scenarios}, BUSY_SECONDS)
    before = {one.dag_id: returned(world, one, "run-1") for one in scenarios}
    with world.client() as client:
        for one in scenarios:
            if one.worked_on:
                work_on(client, one.dag_id)
    changing = world.dags / "changing.py"
    changing.write_text(changing.read_text().replace("VERSION = 1", "VERSION = 2"))
    runs = {one.dag_id: one.again(world, one.dag_id) for one in scenarios}
    airflow.all_end({(dag, run): "success" for dag, run in runs.items() if run}, BUSY_SECONDS)
    return {
        one.dag_id: Observed(
            before[one.dag_id],
            returned(world, one, run) if (run := runs[one.dag_id]) else None,
            3 if one.map_index >= 0 else 1,
            count_jobs(world.server.store, one.dag_id, f"{one.dag_id}_2"),
        )
        for one in scenarios
    }


def returned(world: World, scenario: Scenario, run_id: str) -> dict[str, Any]:
    """What the task returned; of one that has its name only later, what it did before."""
    tasks = world.airflow.task_states(scenario.dag_id, run_id)
    task_id = scenario.task_id if tasks.get(scenario.task_id) == "success" else "enqueue"
    found: dict[str, Any] = world.airflow.returned_by(
        scenario.dag_id, run_id, task_id, scenario.map_index
    )
    return found


def work_on(client: SpooledClient, queue_name: str) -> None:
    """Complete 60 of 100 jobs, and make dead letters of 10."""
    jobs = client.dequeue(queue_name, "worker", batch_size=70)
    for number, job in enumerate(jobs):
        if number < 60:
            client.complete(job)
        else:
            client.fail(job, "no such order", retry=False)
    assert len(jobs) == 70


def count_jobs(store: Path, *queues: str) -> Counter[str]:
    """The jobs in these queues by status, and the batches, as the server's own file has them."""
    statuses = ("pending", "completed", "deadletter", "cancelled")
    counts: Counter[str] = Counter()
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
        for queue in queues:
            found = database.execute(
                f"SELECT {', '.join(statuses)} FROM queues WHERE name = ?", (queue,)
            ).fetchone()
            counts.update(dict(zip(statuses, found or (), strict=False)))
            # A batch that starts over has a line for each of its generations.
            for what, table, counted in (
                ("all", "jobs", "*"),
                ("batches", "batches", "DISTINCT batch_id"),
            ):
                of_queue = "WHERE queue = (SELECT id FROM queues WHERE name = ?)"
                (there,) = database.execute(
                    f"SELECT count({counted}) FROM {table} {of_queue}", (queue,)
                ).fetchone()
                counts[what] += there
    return counts


def kill_process_of(folder: Path, dag_id: str) -> None:
    """kill -9 of the process that runs a DAG's task at this moment."""
    os.kill(int((folder / f"{dag_id}.pid").read_text()), signal.SIGKILL)
