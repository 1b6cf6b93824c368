"""A thousand sensors wait in one triggerer: what that costs, and how soon each has its verdict.

The triggerer is Airflow's own, in a process of its own; the waits lie in its database as a worker
leaves them. No worker and no scheduler runs beside it: a verdict is there when the triggerer has
written it to the database, where the scheduler would find it.
"""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.servers import API_KEY, server
from spooled_pipelines import SpooledClient, connect

if TYPE_CHECKING:
    from typing_extensions import Self

_WAITS = 1_000
_JOBS_EACH = 3
_IDLE_SECONDS = 60.0
_SETTLED_PER_SECOND = 20.0
_CORE_PERCENT, _MEBIBYTES, _VERDICT_SECONDS, _CONNECTIONS = 5.0, 150.0, 2.0, 8

_DAG = f"""
from airflow.sdk import DAG
from spooled_pipelines.airflow import StreamJobsSensor

with DAG(dag_id="waits", schedule=None):
    StreamJobsSensor.partial(task_id="wait").expand(batch=[str(n) for n in range({_WAITS})])
"""


def waits() -> bool:
    """Idle, then with all of them asleep, then while their batches settle one after another."""
    with (
        tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as name,
        server() as address,
        connect(address, api_key=API_KEY) as client,
    ):
        folder = Path(name)
        environment = _airflow_home(folder, address)
        batches = _enqueue(client)
        with _Triggerer(folder, environment) as triggerer:
            triggerer.until_it_says(r"\b0 triggers currently running")
            idle = triggerer.cost(_IDLE_SECONDS)
            blocked_when_idle = triggerer.blocked()
        # What a thousand triggers cost that wait for nothing is Airflow's own.
        _defer(folder, environment, "nothing", [None] * _WAITS)
        with _Triggerer(folder, environment) as triggerer:
            triggerer.until_it_says(rf"\b{_WAITS} triggers currently running")
            nothing = triggerer.cost(_IDLE_SECONDS)
        _forget(folder / "airflow.db")
        _defer(folder, environment, "waits", batches)
        with _Triggerer(folder, environment) as triggerer:
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
        f"            warnings of a blocked loop: {len(blocked)} {_worst(blocked)}(the idle "
        f"triggerer had {len(blocked_when_idle)} {_worst(blocked_when_idle)}in "
        f"{_IDLE_SECONDS:g} s)",
        flush=True,
    )
    return all(measured <= wanted for _, _, measured, wanted, _ in rows)


def _worst(blocked: list[float]) -> str:
    return f"of up to {max(blocked):.2f} s " if blocked else ""


class _Triggerer:
    """`airflow triggerer`, with its log in a file."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._log = folder / f"triggerer-{time.monotonic()}.log"
        self._folder = folder
        self._environment = environment

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "triggerer"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        family = self._family()
        self._process.terminate()
        _, alive = psutil.wait_procs(family, 20)
        for process in alive:
            process.kill()
        self._process.wait()

    def _family(self) -> list[psutil.Process]:
        mother = psutil.Process(self._process.pid)
        return [mother, *mother.children(recursive=True)]

    def until_it_says(self, pattern: str, seconds: float = 900.0) -> None:
        ends = time.monotonic() + seconds
        while not re.search(pattern, self._log.read_text()):
            if self._process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"the triggerer never said {pattern!r}:\n{self._tail()}")
            time.sleep(0.2)

    def _tail(self) -> str:
        return "\n".join(self._log.read_text().splitlines()[-20:])

    def cost(self, seconds: float) -> tuple[float, float]:
        """Percent of a core over that time, and MiB that no other process shares with it."""
        before = self._processor_seconds()
        started = time.monotonic()
        time.sleep(seconds)
        used = self._processor_seconds() - before
        memory = sum(process.memory_full_info().uss for process in self._family())
        return 100 * used / (time.monotonic() - started), memory / 2**20

    def _processor_seconds(self) -> float:
        times = [process.cpu_times() for process in self._family()]
        return float(sum(one.user + one.system for one in times))

    def connections(self, port: int) -> int:
        """How many lead to the Spooled server."""
        found = [one for process in self._family() for one in process.net_connections("tcp")]
        return sum(bool(one.raddr) and one.raddr.port == port for one in found)

    def blocked(self) -> list[float]:
        """For how many seconds each, says the triggerer, was its loop held up."""
        said = re.findall(r"was blocked for ([\d.]+) seconds", self._log.read_text())
        return [float(seconds) for seconds in said]


def _airflow_home(folder: Path, address: str) -> dict[str, str]:
    """An Airflow with one DAG in its database; the environment to use it in."""
    dags = folder / "dags"
    dags.mkdir()
    (dags / "waits.py").write_text(_DAG)
    host, _, port = address.rpartition(":")
    connection = {"conn_type": "spooled", "host": host, "port": int(port), "password": API_KEY}
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AIRFLOW")}
    environment = {
        **kept,
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{folder}/logs",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": "0",
        "AIRFLOW_CONN_SPOOLED_DEFAULT": json.dumps(connection),
        # For the triggers that wait for nothing.
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
    for command in (["db", "migrate"], ["dags", "reserialize"]):
        _run(["airflow", *command], environment)
    return environment


def _run(module: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *module],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(module)}:\n{done.stderr[-4000:]}")


def _enqueue(client: SpooledClient) -> list[dict[str, Any]]:
    return [
        client.enqueue_batch(
            [{"wait": wait, "job": job} for job in range(_JOBS_EACH)], "waits", name=f"wait {wait}"
        ).to_dict()
        for wait in range(_WAITS)
    ]


def _defer(folder: Path, environment: dict[str, str], run_id: str, batches: Sequence[Any]) -> None:
    path = folder / "waits.json"
    path.write_text(json.dumps(batches))
    _run(["benchmarks.airflow_deferred", "waits", run_id, str(path)], environment)


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
