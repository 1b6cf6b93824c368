"""A real Airflow with a real Spooled server for its DAGs, for whole modules of tests to share."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import quote

from demo.airflow_standalone import Airflow
from demo.processes import Session, Sessions, free_ports
from spooled_pipelines import SpooledClient, connect
from tests.support.server_process import ServerProcess

T = TypeVar("T")
KEY = "sp_test_thekeyofthestandalonetests"
# Other tests run beside these, and a busy machine is no reason to fail.
BUSY_SECONDS = 900.0
_PAUSE_SECONDS = 0.6
ENDED = ("success", "failed")
# What a failed test quotes of a task's log, in characters.
LOG_END = 4000


def on_postgresql(url: str) -> dict[str, str]:
    """What Airflow is told to keep its own data in a PostgreSQL database."""
    rest = url.partition("://")[2]
    return {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg://{rest}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+psycopg_async://{rest}",
    }


class Rest(Airflow):
    """What a user does by hand in Airflow's pages, through the calls that those make."""

    # An answer that is given up is a click that is made twice.
    call_seconds = 120.0
    patience_seconds = BUSY_SECONDS

    def run_at(self, dag_id: str, run_id: str, logical_date: str | None = None) -> bool:
        """Trigger a run by hand; False where Airflow refuses it."""
        body = {"dag_run_id": run_id, "logical_date": logical_date}

        def answered() -> int | None:
            # SQLite under Airflow is busy now and then, and says so with an error.
            status, _ = self.ask("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
            return status if status in (200, 409) else None

        status = self.session.until(answered, seconds=BUSY_SECONDS, what=f"the start of {dag_id}")
        return status == 200 or run_id in self.runs(dag_id)

    def delete_run(self, dag_id: str, run_id: str) -> None:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}"
        self.session.until(
            lambda: self.ask("DELETE", path)[0] in (204, 404) or None,
            seconds=BUSY_SECONDS,
            what=path,
        )

    def clear_tasks(self, dag_id: str, run_id: str, tasks: Iterable[str | tuple[str, int]]) -> None:
        """Clear these tasks; ``(task_id, map_index)`` is one of a mapped task."""
        body = {
            "dry_run": False,
            "only_failed": False,
            "dag_run_id": run_id,
            "task_ids": [task if isinstance(task, str) else list(task) for task in tasks],
        }
        self._must("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body)

    def mark(self, dag_id: str, run_id: str, task: str | tuple[str, int], state: str) -> None:
        """Mark a task ``"failed"`` or ``"success"``; ``(task_id, map_index)`` is a mapped one."""
        task_id, *index = (task,) if isinstance(task, str) else task
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
        self._must("PATCH", "/".join([path, *map(str, index)]), {"new_state": state})

    def backfill(self, dag_id: str, first: str, last: str, **settings: Any) -> int:
        """Make a backfill of these dates; its number."""
        body = {"dag_id": dag_id, "from_date": first, "to_date": last, **settings}
        made = self._must("POST", "/api/v2/backfills", body)
        if made:
            return int(made["id"])
        # The answer to an earlier try was lost.
        found = self._must("GET", f"/api/v2/backfills?dag_id={dag_id}&order_by=-id")
        return int(found["backfills"][0]["id"])

    def runs(self, dag_id: str) -> dict[str, str]:
        """The state of each run of a DAG; ``"~"`` is every DAG, and the names are then pairs."""
        found = self._must("GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=500")
        return {
            run["dag_run_id"] if dag_id != "~" else f"{run['dag_id']} {run['dag_run_id']}": str(
                run["state"]
            )
            for run in found["dag_runs"]
        }

    def count(self, dag_id: str, state: str) -> int:
        """How many runs of a DAG are in this state."""
        path = f"/api/v2/dags/{dag_id}/dagRuns?state={state}&limit=1"
        return int(self._must("GET", path)["total_entries"])

    def all_states(self, dag_id: str, run_id: str) -> list[str]:
        """The state of every task instance, each of the mapped ones included."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances?limit=500"
        return [one["state"] or "none" for one in self._must("GET", path)["task_instances"]]

    def mapped_states(self, dag_id: str, run_id: str, task_id: str) -> dict[int, str]:
        """The state of each instance of a mapped task, by its map index."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
        found = self._must("GET", f"{path}/listMapped?limit=1000")
        return {one["map_index"]: one["state"] or "none" for one in found["task_instances"]}

    def returned_by(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Any:
        """What a task, or one instance of a mapped one, returned."""
        path = (
            f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
            f"/xcomEntries/return_value?deserialize=true&map_index={map_index}"
        )
        return self._must("GET", path)["value"]

    def rendered(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """A task's template fields, as Airflow stores and shows them."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
        fields: dict[str, Any] = self._must("GET", path)["rendered_fields"]
        return fields

    def linked(self, dag_id: str, run_id: str, task_id: str, name: str) -> str:
        """Wait until a task has this extra link: it is kept a moment after the task's state is."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/links"

        def link() -> str | None:
            found = self._must("GET", path)["extra_links"].get(name)
            return str(found) if found else None

        return self.until(link, BUSY_SECONDS, f"the link {name!r} of {dag_id}.{task_id}")

    def _dags(self) -> list[str]:
        return [dag["dag_id"] for dag in self._must("GET", "/api/v2/dags?limit=500")["dags"]]

    def knows(self, dag_ids: Iterable[str]) -> None:
        """Wait until every one of these DAGs has been read."""
        wanted = set(dag_ids)
        self.until(lambda: wanted <= set(self._dags()), BUSY_SECONDS, f"{len(wanted)} DAGs")

    def until(self, condition: Callable[[], T | None], seconds: float, what: str) -> T:
        """Look about once a second until something true comes back; an error with its log."""
        pause = _PAUSE_SECONDS

        def looked() -> T | None:
            nonlocal pause
            # More often would keep the API server from what the tasks ask of it.
            time.sleep(pause)
            began = time.monotonic()
            found = condition() or None
            pause = max(_PAUSE_SECONDS, 2 * (time.monotonic() - began))
            return found

        return self.session.until(looked, seconds=seconds, what=what)

    def task_is(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Wait until a task is in this state; fails where one has failed that should not."""

        def there() -> bool:
            states = self.task_states(dag_id, run_id)
            failed = [task for task, now in states.items() if now == "failed" != state]
            assert not failed, f"{failed} of {dag_id} {run_id}: {self.told(dag_id, run_id)}"
            return states.get(task_id) == state

        self.until(there, BUSY_SECONDS, f"{dag_id}.{task_id} to be {state}")

    def all_end(self, runs: Mapping[tuple[str, str], str], seconds: float) -> None:
        """Wait until each of these runs has ended as said."""

        found: dict[tuple[str, str], str] = {}

        def ended() -> bool:
            # Airflow takes a second or more to list runs, so each that ended is left alone.
            for dag, run in [key for key in runs if found.get(key) not in ENDED]:
                found[dag, run] = self.run_state(dag, run)
                if found[dag, run] not in ENDED:
                    return False
            return True

        self.until(ended, seconds, f"{len(runs)} runs to end")
        wrong = {which: state for which, state in found.items() if state != runs[which]}
        assert not wrong, "\n".join(
            f"{key} is {state}: {self.told(*key)}" for key, state in wrong.items()
        )

    def told(self, dag_id: str, run_id: str) -> str:
        """The state of each task of a run, and the end of the log of each that failed."""
        home = Path(self.environment["AIRFLOW_HOME"])
        run = f"dag_id={dag_id}/run_id={run_id}"
        states = self.task_states(dag_id, run_id)
        logs = {
            str(path): path.read_text(errors="replace")[-LOG_END:]
            for task, state in states.items()
            if state not in ("success", "none")
            for path in home.glob(f"logs/{run}/task_id={task}/**/*.log*")
        }
        return "\n".join([f"{states}", *(f"{path}:\n{text}" for path, text in logs.items())])


class World:
    """Airflow, the server that its DAGs use, and what is needed to look at both."""

    def __init__(
        self,
        folder: Path,
        sessions: Sessions,
        server: ServerProcess,
        dags: Iterable[Path],
        environment: Mapping[str, str],
        database: str | None,
    ) -> None:
        self.folder = folder
        self.home = folder / "airflow"
        self.sessions = sessions
        self.server = server
        self.dags = folder / "dags"
        self.dags.mkdir()
        for path in dags:
            (self.dags / path.name).write_bytes(path.read_bytes())
        self._database = database
        self._environment = {
            "AIRFLOW_CONN_SPOOLED_DEFAULT": connection_to(server.address, page=server.page),
            # On a busy machine tasks would fail of the default of 5 s.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__CORE__PARALLELISM": "3",
            "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
            **({} if database is None else on_postgresql(database)),
            **environment,
        }
        self.airflow = self.start_airflow()

    def start_airflow(self) -> Rest:
        """Start `airflow standalone`, or start it again over what it has left."""
        return Rest.start(self.sessions, self.home, self.dags, self._environment)

    def start_component(self, name: str) -> Session:
        """Another of Airflow's processes beside those that `standalone` has started."""
        return self.sessions.start(
            name,
            [sys.executable, "-m", "airflow", name],
            log=self.home / f"{name}.log",
            environment=self.airflow.environment,
            folder=self.home,
        )

    def client(self) -> SpooledClient:
        return connect(self.server.address, api_key=self.server.api_key)

    def start_worker(self, queue_name: str, handler: str) -> Session:
        """`spooled-pipelines work`, in the folder of the DAGs."""
        return self.sessions.start(
            f"worker-{queue_name}",
            [
                *(sys.executable, "-m", "spooled_pipelines.cli.main"),
                *("work", queue_name, handler, "--address", self.server.address),
            ],
            log=self.folder / f"worker-{queue_name}.log",
            environment={**os.environ, "SPOOLED_API_KEY": self.server.api_key},
            folder=self.dags,
        )

    def task_logs(self, dag_id: str = "*") -> str:
        logs = sorted(self.home.glob(f"logs/dag_id={dag_id}/**/*.log*"))
        assert logs, "no task has a log"
        return "\n".join(path.read_text(errors="replace") for path in logs)

    def kept_by_airflow(self) -> dict[str, str]:
        """Every log of Airflow's as a text by its name, and its whole database."""
        logs = [*self.home.glob("logs/**/*.log*"), *self.home.glob("*.log")]
        texts = {str(path): path.read_text("utf8", "replace") for path in logs}
        return {**texts, "the metadata database": self._dumped()}

    def _dumped(self) -> str:
        if self._database is None:
            with closing(sqlite3.connect(self.home / "airflow.db")) as database:
                return "\n".join(database.iterdump())
        import psycopg

        with psycopg.connect(self._database) as connection:
            query = "SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public'"
            tables = [name for (name,) in connection.execute(query).fetchall()]
            found = [
                text
                for table in tables
                for (text,) in connection.execute(
                    f"SELECT whole::text FROM {table} AS whole".encode()
                ).fetchall()
            ]
        return "\n".join(found)


def connection_to(address: str, *, page: str = "") -> str:
    """An Airflow connection to a Spooled server, as it is written into the environment."""
    host, _, port = address.rpartition(":")
    where = {"host": host, "port": int(port), "extra": {"page": page}}
    return json.dumps({"conn_type": "spooled", "password": KEY, **where})


@contextmanager
def standalone(
    dags: Iterable[Path],
    environment: Callable[[Path, ServerProcess], Mapping[str, str]],
    database: str | None = None,
) -> Iterator[World]:
    """A `World` that is ready, with these files as its DAGs; nothing of it is left afterwards.

    ``environment`` gives what Airflow is told beside the connection `spooled_default`;
    ``database`` is the URL of an empty PostgreSQL database, where it is not to use SQLite.
    """
    with (
        TemporaryDirectory(prefix="standalone-") as name,
        # A port that it has again when it is restarted: links lead there.
        ServerProcess(
            Path(name) / "spooled.db",
            *("--http", f"127.0.0.1:{free_ports(1)[0]}"),
            api_key=KEY,
        ) as server,
        Sessions() as sessions,
    ):
        folder = Path(name)
        told = environment(folder, server)
        world = World(folder, sessions, server, dags, told, database)
        world.airflow.wait_until_ready("", BUSY_SECONDS)
        yield world
        sessions.__exit__()
        assert world.airflow.session.members() == []
