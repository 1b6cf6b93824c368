"""Airflow's CeleryExecutor: two workers fill one batch, one dies, and each row is one job."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from demo.processes import Session, free_ports
from tests.support.postgres import shared_cluster
from tests.support.rerun_table import DAGS, count_jobs
from tests.support.server_process import ServerProcess
from tests.support.standalone import World, standalone

pytestmark = [pytest.mark.airflow, pytest.mark.long, pytest.mark.timeout(3600)]

PARTITIONS, ROWS_EACH = 20, 500
ROWS = PARTITIONS * ROWS_EACH
SECONDS = 1_800


@pytest.fixture(scope="module")
def celery_world() -> Iterator[World]:
    """An Airflow whose tasks go to Celery through a Redis of their own; no worker yet."""
    with ExitStack() as stack:
        broker = stack.enter_context(_redis())
        database = shared_cluster().empty_database()
        results = f"db+postgresql+psycopg://{database.partition('://')[2]}"

        def environment(folder: Path, _: ServerProcess) -> Mapping[str, str]:
            return {
                "TESTS_FOLDER": str(folder),
                # Standalone itself insists on a local executor; the DAG names the other.
                "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,CeleryExecutor",
                "TESTS_EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CELERY__BROKER_URL": broker,
                "AIRFLOW__CELERY__RESULT_BACKEND": results,
                # How soon what a dead worker had is given to another: a day and five minutes else.
                "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "60",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
                "AIRFLOW__CORE__PARALLELISM": "8",
            }

        yield stack.enter_context(standalone([DAGS / "workers.py"], environment, database))


class _redis:  # noqa: N801 - reads as the context manager that it is
    """A Redis that keeps nothing; yields its URL."""

    def __enter__(self) -> str:
        (port,) = free_ports(1)
        command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                break
        return f"redis://127.0.0.1:{port}/0"

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)


def worker(world: World, name: str) -> Session:
    """`airflow celery worker`, two tasks at a time."""
    command = [sys.executable, "-m", "airflow", "celery", "worker", "--concurrency", "2"]
    return world.sessions.start(
        name,
        [*command, "--celery-hostname", f"{name}@here", "--skip-serve-logs"],
        log=world.home / f"{name}.log",
        environment={**world.airflow.environment, "TESTS_WORKER": name},
        folder=world.home,
    )


def ran(world: World) -> list[list[str]]:
    """Worker, part and try of each task that has begun."""
    path = world.folder / "ran"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_two_workers_fill_one_batch_though_one_of_them_dies(celery_world: World) -> None:
    world, airflow, run = celery_world, celery_world.airflow, ("workers", "run-1")
    airflow.knows(["workers"])
    mortal, other = worker(world, "mortal"), worker(world, "other")
    airflow.trigger(*run, {})
    airflow.until(
        lambda: Counter(name for name, *_ in ran(world))["mortal"] >= 4,
        SECONDS,
        "the worker that is to die to have begun four parts",
    )
    mortal.kill()
    at_its_death = Counter(name for name, *_ in ran(world))
    airflow.until(
        lambda: count_jobs(world.server.store, "workers")["all"] == ROWS,
        SECONDS,
        "every part to be in",
    )
    with world.client() as client:
        while jobs := client.dequeue("workers", "worker", batch_size=100):
            for job in jobs:
                client.complete(job)
    airflow.all_end({run: "success"}, SECONDS)
    assert other.process.poll() is None

    waited = airflow.returned(*run, "wait")
    assert (waited["total"], waited["completed"], waited["sealed"]) == (ROWS, ROWS, True)
    counts = count_jobs(world.server.store, "workers")
    assert (counts["all"], counts["completed"]) == (ROWS, ROWS)
    parts = [airflow.returned_by(*run, "enqueue", number) for number in range(PARTITIONS)]
    assert len({part["batch_id"] for part in parts}) == 1
    assert {part["created"] + part["duplicates"] for part in parts} == {ROWS_EACH}
    tries = ran(world)
    print(
        f"\n{ROWS:,} rows in {PARTITIONS} parts: begun {dict(Counter(name for name, *_ in tries))}"
        f" ({dict(at_its_death)} when the one was killed), of those again "
        f"{sum(int(number) > 1 for *_, number in tries)}"
    )
