"""Processes die under a real Airflow; every run ends right, and each row is exactly one job."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from tests.support.postgres import shared_cluster
from tests.support.proxy import Proxy
from tests.support.rerun_table import DAGS
from tests.support.server_process import ServerProcess
from tests.support.standalone import ENDED, World, connection_to, standalone

pytestmark = [pytest.mark.airflow, pytest.mark.long, pytest.mark.timeout(3600)]

POINTS, SENSORS, DAYS = 20, 50, 60
# A bit more than all that a task of "killed_tasks" sends, so that some die when it is all sent.
SENT_BYTES = 10_300_000
DATE = "2026-01-01T00:00:00Z"
LAST_DATE = "2026-03-01T00:00:00Z"


class Killed:
    """How many jobs there were when the process of each mapped task was killed, by map index."""

    def __init__(self) -> None:
        self.points: dict[int, int] = {}
        self.jobs: dict[int, int] = {}


@pytest.fixture(scope="module")
def killed() -> Killed:
    return Killed()


@pytest.fixture(scope="module")
def mortal(killed: Killed) -> Iterator[World]:
    """An Airflow of this module's own, with a connection to be cut for each point of time."""
    chance = random.Random(20_261_125)
    with ExitStack() as stack:

        def environment(folder: Path, server: ServerProcess) -> Mapping[str, str]:
            def kill(point: int) -> None:
                killed.jobs[point] = jobs_of(server.store, f"killed_tasks_{point}")["all"]
                pid = int((folder / f"killed_tasks-{point}.pid").read_text())
                os.kill(pid, signal.SIGKILL)

            found = {"TESTS_FOLDER": str(folder)}
            for point in range(POINTS):
                cut = stack.enter_context(Proxy(server.address))
                killed.points[point] = chance.randrange(SENT_BYTES)
                cut.strike(killed.points[point], lambda point=point: kill(point))
                found[f"AIRFLOW_CONN_SPOOLED_POINT_{point}"] = connection_to(cut.address)
            return found

        database = shared_cluster().empty_database()
        yield stack.enter_context(standalone([DAGS / "deaths.py"], environment, database))


def test_a_task_process_that_dies_at_any_point_of_its_enqueue(
    mortal: World, killed: Killed
) -> None:
    mortal.airflow.knows(["killed_tasks"])
    mortal.airflow.trigger("killed_tasks", "run-1", {})
    mortal.airflow.all_end({("killed_tasks", "run-1"): "success"}, 1800)
    print()
    for point in range(POINTS):
        counts = jobs_of(mortal.server.store, f"killed_tasks_{point}")
        assert counts["all"] == counts["pending"] == 100, (point, counts)
        returned = mortal.airflow.returned_by("killed_tasks", "run-1", "enqueue", point)
        assert returned["created"] + returned["duplicates"] == 100
        died = point in killed.jobs
        print(
            f"point {point:2d}: {killed.points[point]:>10,} bytes, "
            + (
                f"killed at {killed.jobs[point]:3d} jobs, "
                if died
                else "sent before it was there, "
            )
            + f"then {returned['created']:3d} created and {returned['duplicates']:3d} duplicates"
        )
    assert len(killed.jobs) >= POINTS * 3 // 4


def test_fifty_sensors_outlive_their_triggerer_and_the_server(mortal: World) -> None:
    with mortal.client() as client:
        batches = [
            client.enqueue_batch([{"n": n} for n in range(3)], "waits", name=f"wait {number}").id
            for number in range(SENSORS)
        ]
    (mortal.folder / "batches.json").write_text(json.dumps(batches))
    airflow = mortal.airflow
    airflow.knows(["waiting_sensors"])
    airflow.trigger("waiting_sensors", "run-1", {})

    def are_deferred(count: int) -> bool:
        states = airflow.mapped_states("waiting_sensors", "run-1", "wait")
        assert "failed" not in states.values()
        return Counter(states.values())["deferred"] == count

    airflow.until(lambda: are_deferred(SENSORS), 1200, "all sensors to be deferred")
    processes = map(psutil.Process, airflow.session.members())
    triggerer = [one for one in processes if "triggerer" in " ".join(one.cmdline())]
    assert triggerer
    for process in triggerer:
        process.kill()
    mortal.server.kill()
    mortal.start_component("triggerer")
    mortal.server.restart()
    with mortal.client() as client:
        done = 0
        while jobs := client.dequeue("waits", "worker", batch_size=100):
            for job in jobs:
                client.complete(job)
            done += len(jobs)
    assert done == 3 * SENSORS
    airflow.all_end({("waiting_sensors", "run-1"): "success"}, 1200)
    for number in range(SENSORS):
        stats = airflow.returned_by("waiting_sensors", "run-1", "wait", number)
        assert (stats["batch_id"], stats["completed"]) == (batches[number], 3)


def test_a_backfill_of_sixty_days_that_is_killed_half_way(mortal: World) -> None:
    airflow = mortal.airflow
    airflow.knows(["sixty_days"])
    airflow.backfill("sixty_days", DATE, LAST_DATE, max_active_runs=4)

    airflow.until(
        lambda: airflow.count("sixty_days", "success") >= DAYS // 2, 1800, "half of the runs"
    )
    before = Counter(airflow.runs("sixty_days").values())
    print(f"\nkilled at {dict(before)}")
    airflow.session.kill()
    mortal.airflow = airflow = mortal.start_airflow()
    airflow.wait_until_ready("sixty_days", 600)
    try:
        airflow.until(
            lambda: sum(airflow.count("sixty_days", state) for state in ENDED) == DAYS,
            1800,
            "all of the runs",
        )
    finally:
        after = airflow.runs("sixty_days")
        print(f"then {Counter(after.values())}")
        for run_id in [run_id for run_id, state in after.items() if state != "success"][:4]:
            print(airflow.told("sixty_days", run_id))
    assert set(after.values()) == {"success"}
    with closing(sqlite3.connect(f"file:{mortal.server.store}?mode=ro", uri=True)) as database:
        query = (
            "SELECT queues.name, count(*) FROM jobs JOIN queues ON queues.id = jobs.queue "
            "WHERE queues.name LIKE 'days_%' GROUP BY 1"
        )
        counts = dict(database.execute(query).fetchall())
    assert len(counts) == DAYS
    assert set(counts.values()) == {50}


def jobs_of(store: Path, queue_name: str) -> Counter[str]:
    """The jobs of a queue, as the server's own file has them."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
        query = "SELECT count(*) FROM jobs WHERE queue = (SELECT id FROM queues WHERE name = ?)"
        (there,) = database.execute(query, (queue_name,)).fetchone()
        query = "SELECT pending FROM queues WHERE name = ?"
        (pending,) = database.execute(query, (queue_name,)).fetchone() or (0,)
    return Counter({"all": there, "pending": pending})
