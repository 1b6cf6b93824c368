"""A queue with jobs, and worker processes that can be killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.rpc.settings import ConnectionSettings
from tests.support import forked
from tests.support.postgres import empty_store
from tests.support.server_process import ServerProcess
from tests.support.waiting import DEADLINE_SECONDS, eventually

# Each run leaves a line with its job's number, so that tests can count runs.
HANDLERS = """
import os, time

def note(what, job):
    with open("runs.txt", "a") as file:
        file.write(f"{what} {job.payload['n']:.0f} {os.getpid()}\\n")

def quick(job):
    note("ran", job)
    return {"n": job.payload["n"]}

def forks(job):
    copy = os.fork()
    if copy == 0:
        raise SystemExit(3)
    return {"copy": copy}

async def awaits_and_forks(job):
    return forks(job)

def slow(job):
    note("began", job)
    time.sleep(job.payload.get("seconds", 60))
    note("ended", job)
    return {"by": os.getpid()}

def gated(job):
    note("began", job)
    while not os.path.exists("go"):
        time.sleep(0.02)
    note("ended", job)
"""


class WorkerProcess:
    """`spooled-pipelines work` in a process of its own, its log in a file."""

    def __init__(
        self, folder: Path, server: ServerProcess | ConnectionSettings, *arguments: str
    ) -> None:
        self.log = folder / f"worker-{len(list(folder.glob('worker-*')))}.log"
        with self.log.open("wb") as log:
            self.process = forked.Popen(
                [sys.executable, "-m", "spooled_pipelines.cli.main", "work", *arguments],
                cwd=folder,
                stderr=log,
                env={
                    **os.environ,
                    "SPOOLED_GRPC_ADDRESS": server.address,
                    "SPOOLED_API_KEY": server.api_key,
                },
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, timeout: float = DEADLINE_SECONDS) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(timeout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where worker processes run: `handlers:quick` and others are there."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


@pytest.fixture
def runs(folder: Path) -> Callable[[str], list[tuple[int, int]]]:
    """`runs("began")`: the job numbers and process ids of the lines that begin so."""

    def read(what: str) -> list[tuple[int, int]]:
        file = folder / "runs.txt"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [(int(number), int(pid)) for word, number, pid in lines if word == what]

    return read


@pytest.fixture
def start_worker(folder: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts worker processes; whatever the test leaves of them is ended."""
    with ExitStack() as stack:

        def start(server: ServerProcess | ConnectionSettings, *arguments: str) -> WorkerProcess:
            worker = WorkerProcess(folder, server, *arguments)
            stack.callback(worker.process.wait)
            stack.callback(worker.process.kill)
            return worker

        yield start


@pytest.fixture
def fill(client: SpooledClient, queue: str) -> Callable[..., list[str]]:
    """`fill(5)`: five jobs with payloads {"n": 0..4} on the test's queue; their ids."""

    def enqueue(count: int, to: SpooledClient = client, **more: Any) -> list[str]:
        return [to.enqueue(queue, {"n": n, **more}).job_id for n in range(count)]

    return enqueue


@pytest.fixture
def drained(client: SpooledClient, queue: str) -> Callable[..., None]:
    """`drained(5)`: waits until five jobs of the queue are completed and none is left."""

    def wait(count: int, timeout: float = DEADLINE_SECONDS, to: SpooledClient = client) -> None:
        def done() -> bool:
            stats = to.queue_stats(queue)
            return stats.completed == count == stats.total

        eventually(done, timeout)

    return wait


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def typed_client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SpooledClient]:
    """A client of a server over each kind of store."""
    folder = tmp_path_factory.mktemp("typed")
    with (
        empty_store(request.param, folder) as url,
        ServerProcess(folder / "unused.db", "--store", url) as server,
        connect(server.address, api_key=server.api_key) as made,
    ):
        yield made
