"""An Airflow home of the tests' own, connections to a real Spooled server, a task's context."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.postgres import shared_cluster
from tests.support.proxy import Proxy
from tests.support.rerun_table import HALF_BYTES, kill_process_of
from tests.support.server_process import ServerProcess
from tests.support.standalone import World, connection_to, standalone

DAGS = Path(__file__).resolve().parents[2] / "dags"
TEST_DAGS = Path(__file__).resolve().parent / "dags"

# Airflow reads its settings when it is imported, which collecting the tests does.
_home = tempfile.TemporaryDirectory(prefix="airflow-tests-")
os.environ.update(
    AIRFLOW_HOME=_home.name,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(DAGS),
    # As those who have a triggerer set it; what the default is has a test of its own.
    AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE="True",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_home.name}/airflow.db",
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=f"{_home.name}/logs",
)


_worlds = ExitStack()
_running: dict[str, World] = {}


@pytest.fixture(scope="module")
def world() -> World:
    """A real Airflow over PostgreSQL, with the DAGs of `dags/` and of the tests, and their server.

    It takes half a minute and a core to start, so that modules share it: use DAGs of your own.
    SQLite, which the demo's test and the long run have, gives up where the machine is busy.
    """
    if "world" not in _running:
        database = shared_cluster().empty_database()
        _running["world"] = _worlds.enter_context(_world(database))
    return _running["world"]


@pytest.fixture(scope="module")
def world_on_sqlite() -> World:
    """The same, where Airflow keeps its own data in SQLite."""
    if "world_on_sqlite" not in _running:
        _running["world_on_sqlite"] = _worlds.enter_context(_world(None))
    return _running["world_on_sqlite"]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Idle, an Airflow takes a fifth of a core: it ends as soon as the next test wants none."""
    here = nextitem is not None and nextitem.path.parent == Path(__file__).parent
    if _running and not (here and nextitem.get_closest_marker("airflow")):
        _running.clear()
        _worlds.pop_all().close()


@contextmanager
def _world(database: str | None) -> Iterator[World]:
    with ExitStack() as stack:

        def environment(folder: Path, server: ServerProcess) -> Mapping[str, str]:
            cut = stack.enter_context(Proxy(server.address))
            cut.strike(HALF_BYTES, lambda: kill_process_of(folder, "dies_during"))
            return {
                "TESTS_FOLDER": str(folder),
                "AIRFLOW_CONN_SPOOLED_CUT": connection_to(cut.address),
                "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            }

        dags = [*DAGS.glob("*.py"), *TEST_DAGS.glob("*.py")]
        yield stack.enter_context(standalone(dags, environment, database))


@pytest.fixture(autouse=True)
def _called_without_a_task_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests call `execute`, which Airflow takes for a mistake outside its task runner."""
    from airflow.sdk.bases.operator import ExecutorSafeguard

    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """Take back the methods that a test gave a logger: up to 3.1 a class's operators share one."""
    yield
    for logger in logging.Logger.manager.loggerDict.values():
        for method in ("info", "warning"):
            vars(logger).pop(method, None)


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
def context() -> Any:
    """The few things of a task's context that are always there."""
    return make_context()


@pytest.fixture
def context_of() -> Callable[..., Any]:
    """`context_of(run_id=..., map_index=...)`: the context of that task instance."""
    return make_context


def make_context(
    dag_id: str = "dag", task_id: str = "task", run_id: str = "run-1", map_index: int = -1
) -> Any:
    ti = SimpleNamespace(dag_id=dag_id, task_id=task_id, map_index=map_index, try_number=1)
    return {"ti": ti, "run_id": run_id, "params": {"n": 3}}


@pytest.fixture
def dags_importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`dags/` on the path, as Airflow and a worker started there have it."""
    monkeypatch.syspath_prepend(str(DAGS))
    yield
    for name in ("flights", "flight_handler", "flight_report"):
        sys.modules.pop(name, None)
