"""A real Airflow for the demo: scheduler, triggerer, DAG processor and API server.

It has its own home, SQLite database and ports, and is used through its REST API, as any Airflow
would be.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from demo.processes import Session, Sessions, free_ports

if TYPE_CHECKING:
    from typing_extensions import Self

READY_SECONDS = 240.0
_COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


class Airflow:
    """A running `airflow standalone`, and the few REST calls that the demo makes."""

    # Time for one response, and for a successful one: SQLite under Airflow is sometimes busy.
    call_seconds = 15.0
    patience_seconds = 60.0

    def __init__(self, session: Session, port: int, environment: Mapping[str, str]) -> None:
        self.session = session
        self.environment = environment
        self.address = f"http://127.0.0.1:{port}"
        self._token = ""

    @classmethod
    def start(
        cls, sessions: Sessions, home: Path, dags: Path, environment: Mapping[str, str]
    ) -> Self:
        """Start it, without waiting until it is ready; `environment` adds to this process's own."""
        home.mkdir(parents=True, exist_ok=True)
        api, worker_logs, trigger_logs = free_ports(3)
        whole = {
            **_inherited(),
            **_settings(home, dags, api, worker_logs, trigger_logs),
            **environment,
        }
        session = sessions.start(
            "airflow",
            [sys.executable, "-m", "airflow", "standalone"],
            log=home / "airflow.log",
            environment=whole,
            folder=home,
        )
        return cls(session, api, whole)

    def wait_until_ready(self, dag_id: str, seconds: float = READY_SECONDS) -> None:
        """Wait until every component is up and the DAG, where one is named, is known.

        Raises:
            DemoError: it ended, or is not ready in time; with the end of its log.
        """
        self.session.until(
            lambda: self._is_ready(dag_id) or None, seconds=seconds, what="Airflow to start"
        )

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start a run of a DAG."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        self._must("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)

    def clear(self, dag_id: str, run_id: str) -> None:
        """Clear all tasks of a finished run, as the Clear button does, so that they run again."""
        body = {"dry_run": False, "only_failed": False}
        self._must("POST", f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/clear", body)

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the run's state, such as ``"success"``."""
        found = self._must("GET", f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}")
        return str(found["state"])

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return each task's state by its id; ``"none"`` where it has not started."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances"
        found = self._must("GET", path)
        return {task["task_id"]: task["state"] or "none" for task in found["task_instances"]}

    def returned(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned: its XCom."""
        path = (
            f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
            "/xcomEntries/return_value?deserialize=true"
        )
        return self._must("GET", path)["value"]

    def _is_ready(self, dag_id: str) -> bool:
        health = self._call("GET", "/api/v2/monitor/health")
        if health is None or any(health[name]["status"] != "healthy" for name in _COMPONENTS):
            return False
        self._token = self._token or (self._call("GET", "/auth/token") or {}).get(
            "access_token", ""
        )
        known = not dag_id or self._call("GET", f"/api/v2/dags/{dag_id}") is not None
        return bool(self._token) and known

    def _must(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self.session.until(
            lambda: self._call(method, path, body),
            seconds=self.patience_seconds,
            what=f"{method} {path}",
        )

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the response body, or None if the call did not succeed (yet)."""
        status, content = self.ask(method, path, body)
        # An earlier call has started the run, although its response was an error.
        if status == 409 and method == "POST":
            return {}
        return content if 200 <= status < 300 else None

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Make one REST call; return the HTTP status (0 if nothing answers) and the body."""
        request = urllib.request.Request(  # noqa: S310 - the address is our own
            self.address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"},
        )
        try:
            with _opener.open(request, timeout=self.call_seconds) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except (urllib.error.URLError, HTTPException, OSError):
            return 0, None


# No proxy for this machine itself, whatever the environment says.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _inherited() -> dict[str, str]:
    """Return this process's environment without another Airflow's settings."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AIRFLOW")}
    # Airflow starts its components by the bare name `airflow`.
    beside = str(Path(sys.executable).parent)
    return {**kept, "PATH": os.pathsep.join([beside, kept.get("PATH", "")])}


def _settings(
    home: Path, dags: Path, api: int, worker_logs: int, trigger_logs: int
) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # The default of 32 makes 40 processes.
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
        # Changed files are read at once anyway; reading every file each 30 s takes half a core.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{api}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
