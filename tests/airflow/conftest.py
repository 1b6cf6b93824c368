"""An Airflow home of the tests' own, connections to a real Spooled server, a task's context."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.server_process import ServerProcess

DAGS = Path(__file__).resolve().parents[2] / "dags"

# Airflow reads its settings when it is imported, which collecting the tests does.
_home = tempfile.TemporaryDirectory(prefix="airflow-tests-")
os.environ.update(
    AIRFLOW_HOME=_home.name,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(DAGS),
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_home.name}/airflow.db",
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=f"{_home.name}/logs",
)


@pytest.fixture
def connect_airflow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`connect_airflow(server, **fields)`: sets the connection `spooled_default`."""

    def connect(server: ServerProcess | None = None, **fields: Any) -> None:
        connection: dict[str, Any] = {"conn_type": "spooled"}
        if server is not None:
            connection |= {"host": server.host, "port": server.port, "password": server.api_key}
        text = json.dumps({**connection, **fields})
        monkeypatch.setenv("AIRFLOW_CONN_SPOOLED_DEFAULT", text)

    return connect


@pytest.fixture
def connected(server: ServerProcess, connect_airflow: Callable[..., None]) -> ServerProcess:
    """The shared server, with `spooled_default` leading to it."""
    connect_airflow(server)
    return server


@pytest.fixture
def context() -> dict[str, Any]:
    """The few things of a task's context that are always there."""
    return make_context()


@pytest.fixture
def context_of() -> Callable[..., dict[str, Any]]:
    """`context_of(run_id=..., map_index=...)`: the context of that task instance."""
    return make_context


def make_context(
    dag_id: str = "dag", task_id: str = "task", run_id: str = "run-1", map_index: int = -1
) -> dict[str, Any]:
    ti = SimpleNamespace(dag_id=dag_id, task_id=task_id, map_index=map_index, try_number=1)
    return {"ti": ti, "run_id": run_id, "params": {"n": 3}}


@pytest.fixture
def dags_importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`dags/` on the path, as Airflow and a worker started there have it."""
    monkeypatch.syspath_prepend(str(DAGS))
    yield
    for name in ("flights", "flight_handler", "flight_report"):
        sys.modules.pop(name, None)
