"""An Airflow with sensors asleep in its database, and triggerers that run their triggers.

The triggerer is Airflow's own, in a process of its own; the waits lie in its database as a worker
leaves them. To defer thousands by real tasks would take an hour.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.servers import API_KEY

if TYPE_CHECKING:
    from typing_extensions import Self

_DAG = """
from airflow.sdk import DAG
from spooled_pipelines.airflow import StreamJobsSensor

with DAG(dag_id={dag_id!r}, schedule=None):
    StreamJobsSensor.partial(task_id="wait").expand(batch=[str(n) for n in range({count})])
"""


def airflow_home(
    folder: Path, address: str, waits: Mapping[str, int], settings: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Create an Airflow whose database knows DAGs of sensors; return the environment for it.

    ``settings`` come on top, such as another database than SQLite.
    """
    dags = folder / "dags"
    dags.mkdir()
    for dag_id, count in waits.items():
        (dags / f"{dag_id}.py").write_text(_DAG.format(dag_id=dag_id, count=count))
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
        **(settings or {}),
    }
    for command in (["db", "migrate"], ["dags", "reserialize"]):
        _run(["airflow", *command], environment)
    return environment


def _run(module: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *module],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(module)}:\n{done.stderr[-4000:]}")


def defer(
    folder: Path,
    environment: Mapping[str, str],
    dag_id: str,
    run_id: str,
    batches: Sequence[dict[str, Any] | None],
) -> None:
    """Make a run of the DAG, of which every task waits for its batch; for nothing, where None."""
    path = folder / "waits.json"
    path.write_text(json.dumps(batches))
    _run(["benchmarks.airflow_deferred", dag_id, run_id, str(path)], environment)


class Triggerer:
    """`airflow triggerer`, with its log in a file."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
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
        family = self._family() if self._process.poll() is None else []
        self._process.terminate()
        _, alive = psutil.wait_procs(family, 20)
        for process in alive:
            process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End all of its processes at once, as a machine that fails would."""
        for process in self._family():
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
