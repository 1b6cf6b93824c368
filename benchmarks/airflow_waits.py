"""A thousand sensors wait in one triggerer: what that costs, and how soon each has its verdict.

The triggerer is Airflow's own, in a process of its own; the waits lie in its database as a worker
leaves them. No worker and no scheduler runs beside it: a verdict is there when the triggerer has
written it to the database, where the scheduler would find it.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.airflow_asleep import Triggerer, airflow_home, defer
from benchmarks.servers import API_KEY, server
from spooled_pipelines import SpooledClient, connect

_WAITS = 1_000
_JOBS_EACH = 3
_IDLE_SECONDS = 60.0
_SETTLED_PER_SECOND = 20.0
_CORE_PERCENT, _MEBIBYTES, _VERDICT_SECONDS, _CONNECTIONS = 5.0, 150.0, 2.0, 8


def waits() -> bool:
    """Idle, then with all of them asleep, then while their batches settle one after another."""
    with (
        tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as name,
        server() as address,
        connect(address, api_key=API_KEY) as client,
    ):
        folder = Path(name)
        environment = airflow_home(folder, address, {"waits": _WAITS})
        batches = _enqueue(client)
        with Triggerer(folder, environment) as triggerer:
            triggerer.until_it_says(r"\b0 triggers currently running")
            idle = triggerer.cost(_IDLE_SECONDS)
        # What a thousand triggers cost that wait for nothing is Airflow's own.
        defer(folder, environment, "waits", "nothing", [None] * _WAITS)
        with Triggerer(folder, environment) as triggerer:
            triggerer.until_it_says(rf"\b{_WAITS} triggers currently running")
            nothing = triggerer.cost(_IDLE_SECONDS)
            blocked_by_nothing = triggerer.blocked()
        _forget(folder / "airflow.db")
        defer(folder, environment, "waits", "waits", batches)
        with Triggerer(folder, environment) as triggerer:
            triggerer.until_it_says(rf"\b{_WAITS} triggers currently running")
            asleep = triggerer.cost(_IDLE_SECONDS)
            connections = triggerer.connections(int(address.rpartition(":")[2]))
            lags = _settle_all(client, batches, folder / "airflow.db")
            blocked = triggerer.blocked()
    verdict = statistics.quantiles(lags, n=100)[94]
    percent, mebibytes = asleep[0], asleep[1] - idle[1]
    rows = [
        (
            f"{percent:8.2f} %",
            "of a core",
            percent,
            _CORE_PERCENT,
            f"idle: {idle[0]:.2f} %, waiting for nothing: {nothing[0]:.2f} %",
        ),
        (
            f"{mebibytes:8.0f} MiB",
            "above an idle triggerer",
            mebibytes,
            _MEBIBYTES,
            f"waiting for nothing: {nothing[1] - idle[1]:.0f} MiB",
        ),
        (f"{verdict:8.2f} s", "to the verdict, p95", verdict, _VERDICT_SECONDS, ""),
        (f"{connections:8d}", "connections to the server", connections, _CONNECTIONS, ""),
    ]
    for value, what, measured, wanted, more in rows:
        missed = "" if measured <= wanted else ", MISSED"
        print(f"{value}  {what} (wanted: at most {wanted:g}{missed}) {more}".rstrip())
    print(
        f"            {_WAITS:,} waits for batches of {_JOBS_EACH} jobs, which then settled at "
        f"{_SETTLED_PER_SECOND:g} batches/s; the median verdict took "
        f"{statistics.median(lags):.2f} s, the last {max(lags):.2f} s"
    )
    print(
        f"            warnings of a blocked loop: {len(blocked)} {_worst(blocked)}(of as many that "
        f"wait for nothing: {len(blocked_by_nothing)} {_worst(blocked_by_nothing)}in "
        f"{_IDLE_SECONDS:g} s)",
        flush=True,
    )
    return all(measured <= wanted for _, _, measured, wanted, _ in rows)


def _worst(blocked: list[float]) -> str:
    return f"of up to {max(blocked):.2f} s " if blocked else ""


def _enqueue(client: SpooledClient) -> list[dict[str, Any]]:
    return [
        client.enqueue_batch(
            [{"wait": wait, "job": job} for job in range(_JOBS_EACH)], "waits", name=f"wait {wait}"
        ).to_dict()
        for wait in range(_WAITS)
    ]


def _forget(database: Path) -> None:
    """Nobody waits any more: the next triggerer has nothing of it to run."""
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.execute("UPDATE task_instance SET state = 'skipped', trigger_id = NULL")
        connection.execute("DELETE FROM trigger")


def _settle_all(
    client: SpooledClient, batches: list[dict[str, Any]], database: Path
) -> list[float]:
    """Complete every job, batch by batch; for each wait, the seconds until its verdict."""
    jobs: dict[int, list[Any]] = {}
    while taken := client.dequeue("waits", "worker", batch_size=100, lease_seconds=3_600):
        for job in taken:
            jobs.setdefault(int(job.payload["wait"]), []).append(job)
    order = list(range(len(batches)))
    random.Random(1).shuffle(order)
    verdicts = _Verdicts(database)
    settled: dict[int, float] = {}
    for number, wait in enumerate(order):
        due = verdicts.started + number / _SETTLED_PER_SECOND
        time.sleep(max(0.0, due - time.monotonic()))
        for job in jobs[wait]:
            client.complete(job)
        settled[wait] = time.monotonic()
    found = verdicts.all(len(batches))
    return [found[wait] - at for wait, at in settled.items()]


class _Verdicts:
    """Looks into Airflow's database: when was each task instance woken?"""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._found: dict[int, float] = {}
        self._ended = threading.Event()
        self.started = time.monotonic()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def all(self, count: int) -> dict[int, float]:
        ends = time.monotonic() + 120
        while len(self._found) < count and time.monotonic() < ends:
            time.sleep(0.1)
        self._ended.set()
        self._thread.join()
        if len(self._found) < count:
            raise RuntimeError(f"only {len(self._found)} of {count} verdicts came")
        return self._found

    def _look(self) -> None:
        query = "SELECT map_index FROM task_instance WHERE state = 'scheduled'"
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as database:
            while not self._ended.wait(0.05):
                try:
                    woken = [index for (index,) in database.execute(query)]
                except sqlite3.OperationalError:
                    # Locked at this moment.
                    continue
                now = time.monotonic()
                for index in woken:
                    self._found.setdefault(index, now)
