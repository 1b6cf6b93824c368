"""A real Airflow for what is measured in one: its DAGs are texts, its server is given."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.servers import API_KEY
from demo.airflow_standalone import Airflow
from demo.processes import Sessions

_READY_SECONDS = 300.0
_ENDED = ("success", "failed")


def connection(address: str) -> str:
    """Return an Airflow connection to the server, as it is written into the environment."""
    host, _, port = address.rpartition(":")
    return json.dumps(
        {"conn_type": "spooled", "host": host, "port": int(port), "password": API_KEY}
    )


@contextmanager
def airflow(folder: Path, dags: Mapping[str, str], address: str) -> Iterator[Airflow]:
    """One that has read these DAGs, by dag_id; it is ended afterwards."""
    sources = folder / "dags"
    sources.mkdir()
    for dag_id, text in dags.items():
        (sources / f"{dag_id}.py").write_text(text)
    with Sessions() as sessions:
        environment = {"AIRFLOW_CONN_SPOOLED_DEFAULT": connection(address)}
        started = Airflow.start(sessions, folder / "airflow", sources, environment)
        for dag_id in dags:
            started.wait_until_ready(dag_id, _READY_SECONDS)
        yield started


def run(airflow: Airflow, dag_id: str, run_id: str, seconds: float) -> list[dict[str, Any]]:
    """Run a DAG to its end; its task instances, as Airflow's REST API shows them."""
    airflow.trigger(dag_id, run_id, {})
    ends = time.monotonic() + seconds
    while (state := airflow.run_state(dag_id, run_id)) not in _ENDED:
        if time.monotonic() > ends:
            raise airflow.session.failed(f"{dag_id} {run_id} is {state} after {seconds:g} s")
        time.sleep(1.0)
    if state != "success":
        raise airflow.session.failed(f"{dag_id} {run_id} has failed")
    path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances?limit=500"
    _, found = airflow.ask("GET", path)
    instances: list[dict[str, Any]] = found["task_instances"]
    return instances
