"""Two thousand sensors sleep in two triggerers, one of which dies: each has its verdict."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benchmarks.airflow_asleep import Triggerer, airflow_home, defer
from benchmarks.servers import API_KEY, server
from spooled_pipelines import SpooledClient, connect
from tests.support.postgres import shared_cluster
from tests.support.standalone import on_postgresql
from tests.support.waiting import eventually

pytestmark = [pytest.mark.airflow, pytest.mark.long, pytest.mark.timeout(3600)]

# As many as two triggerers take by default.
DAG_IDS, EACH = ("ones", "others"), 1_000
WAITS = len(DAG_IDS) * EACH
SECONDS = 1_200
_WOKEN = "SELECT count(*) FROM task_instance WHERE state = 'scheduled' AND trigger_id IS NULL"
_HELD = "SELECT triggerer_id, count(*) FROM trigger WHERE triggerer_id IS NOT NULL GROUP BY 1"


@pytest.fixture
def database() -> str:
    """The URL of an empty PostgreSQL database."""
    return shared_cluster().empty_database()


def test_two_thousand_waits_outlive_one_of_two_triggerers(tmp_path: Path, database: str) -> None:
    def asked(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(database) as connection:
            return connection.execute(query.encode()).fetchall()

    def woken() -> int:
        return int(asked(_WOKEN)[0][0])

    def all_are_held() -> bool:
        return sorted(count for _, count in asked(_HELD)) == [EACH, EACH]

    with server() as address, connect(address, api_key=API_KEY) as client:
        waits = dict.fromkeys(DAG_IDS, EACH)
        environment = airflow_home(tmp_path, address, waits, on_postgresql(database))
        batches = [
            client.enqueue_batch([{"wait": wait}], "waits", name=f"wait {wait}").to_dict()
            for wait in range(WAITS)
        ]
        for number, dag_id in enumerate(DAG_IDS):
            some = batches[number * EACH : (number + 1) * EACH]
            defer(tmp_path, environment, dag_id, "run-1", some)
        with Triggerer(tmp_path, environment) as mortal, Triggerer(tmp_path, environment) as other:
            eventually(all_are_held, SECONDS)
            for triggerer in (mortal, other):
                triggerer.until_it_says(rf"\b{EACH} triggers currently running", SECONDS)
            settle(client, WAITS // 4)
            eventually(lambda: woken() == WAITS // 4, SECONDS)
            mortal.kill()
            settle(client, WAITS - WAITS // 4)
            settled = time.monotonic()
            eventually(lambda: woken() == WAITS, SECONDS)
            took = time.monotonic() - settled
        states = Counter(state for (state,) in asked("SELECT state FROM task_instance"))
        assert states == {"scheduled": WAITS}
        # Each is woken by the verdict on its own batch, which says that its job is done.
        events = asked("SELECT next_kwargs::text FROM task_instance")
        told = [event for (event,) in events]
        assert all(
            sum(batch["batch_id"] in event for event in told) == 1 for batch in batches[::50]
        )
        stats = client.queue_stats("waits")
        assert (stats.completed, stats.pending) == (WAITS, 0)
    print(
        f"\n{WAITS:,} waits, a triggerer killed with {WAITS * 3 // 4:,} left: "
        f"the last verdict {took:.0f} s after the last job was settled"
    )


def settle(client: SpooledClient, count: int) -> None:
    """Complete so many jobs, in any order."""
    taken = []
    while len(taken) < count:
        size = min(100, count - len(taken))
        taken += client.dequeue("waits", "worker", batch_size=size, lease_seconds=3_600)
    random.Random(1).shuffle(taken)
    for job in taken:
        client.complete(job)
