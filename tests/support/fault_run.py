"""Workers, their server and the way between them fail at random; the handlers' own log tells."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spooled_pipelines import Batch, SpooledClient, connect
from spooled_pipelines.rpc.struct import from_struct
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.methods import BATCH
from tests.support import forked
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from typing_extensions import Self

QUEUE = "faults"
# The shortest that the wire allows, and a stop that outlasts it.
LEASE_SECONDS = 5
STOPPED_SECONDS = 7.0
WORKERS = 4
# Each run leaves a line before it does anything: its job, its lease, its process.
HANDLERS = """
import os, signal, time

log = os.open("runs.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def run(job):
    os.write(log, f"{job.payload['n']:.0f} {job.lease_id} {os.getpid()}\\n".encode())
    if job.payload.get("crash") and job.retry_count == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(job.payload.get("takes", 0.002))
    about = {"worker": job.assigned_worker_id, "try": job.retry_count}
    return {"n": job.payload["n"], "lease": job.lease_id, **about}
"""


@dataclass
class Found:
    """What came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    jobs: list[Any] = field(default_factory=list)
    runs: Counter[int] = field(default_factory=Counter)
    leases: Counter[tuple[int, str]] = field(default_factory=Counter)

    def describe(self) -> str:
        again = sum(self.runs.values()) - len(self.runs)
        retried = sum(job.retry_count for job in self.jobs)
        return (
            f"{len(self.jobs):,} jobs in {self.seconds:.0f} s, {sum(self.runs.values()):,} runs "
            f"({again:,} beyond the first, {retried:,} leases lost or crashes), faults: "
            + ", ".join(f"{count} × {name}" for name, count in sorted(self.faults.items()))
        )


class FaultRun:
    """Four workers over a server behind a proxy, and what happens to them, by a seed."""

    def __init__(self, folder: Path, server: ServerProcess, seed: int, *arguments: str) -> None:
        (folder / "handlers.py").write_text(HANDLERS)
        self.folder = folder
        self.server = server
        self.arguments = arguments
        self.found = Found()
        self._random = random.Random(seed)
        self._stack = ExitStack()
        self._workers: list[forked.Popen] = []
        self._stopped: list[threading.Timer] = []

    def __enter__(self) -> Self:
        self.proxy = self._stack.enter_context(Proxy(self.server.address))
        self._workers = [self._worker() for _ in range(WORKERS)]
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._stopped:
            timer.cancel()
        for worker in self._workers:
            worker.kill()
            worker.wait()
        self._stack.close()

    def fault(self) -> None:
        """One thing goes wrong."""
        for place, worker in enumerate(self._workers):
            # One that found no server when it started.
            if worker.poll() is not None:
                self._workers[place] = self._worker()
        kinds = ["kill", "stop", "term", "server", "cut"]
        name = self._random.choice(kinds)
        self.found.faults[name] += 1
        place = self._random.randrange(WORKERS)
        worker = self._workers[place]
        if name == "kill":
            worker.kill()
            worker.wait()
            self._workers[place] = self._worker()
        elif name == "stop":
            worker.send_signal(signal.SIGSTOP)
            timer = threading.Timer(STOPPED_SECONDS, worker.send_signal, [signal.SIGCONT])
            timer.daemon = True
            timer.start()
            self._stopped.append(timer)
        elif name == "term":
            worker.send_signal(signal.SIGCONT)
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)
            self._workers[place] = self._worker()
        elif name == "server":
            self.server.kill()
            self.server.restart()
        else:
            self.proxy.cut()

    def run(
        self, client: SpooledClient, lots: list[list[dict[str, Any]]], pauses: Iterable[float]
    ) -> Found:
        """Do these jobs with faults after these pauses, then to the end; and look at it all.

        Before each fault comes a lot of jobs, while there are any.
        """
        began = time.monotonic()
        batches: list[Batch] = []
        for pause in pauses:
            if len(batches) < len(lots):
                lot = lots[len(batches)]
                batches.append(client.enqueue_batch(lot, QUEUE, key="n", max_retries=100))
            elif all(batch.stats().settled for batch in batches):
                break
            time.sleep(pause)
            self.fault()
        eventually(lambda: all(batch.stats().settled for batch in batches), 900)
        self.found.seconds = time.monotonic() - began
        self.found.jobs = [job for batch in batches for job in jobs_of(client, batch.id)]
        for line in (self.folder / "runs.txt").read_text().splitlines():
            number, lease, _ = line.split()
            self.found.runs[int(number)] += 1
            self.found.leases[int(number), lease] += 1
        return self.found

    def _worker(self) -> forked.Popen:
        command = [sys.executable, "-m", "spooled_pipelines.cli.main", "work", QUEUE]
        command += ["handlers:run", "--lease-seconds", str(LEASE_SECONDS), *self.arguments]
        environment = {
            **os.environ,
            "SPOOLED_GRPC_ADDRESS": self.proxy.address,
            "SPOOLED_API_KEY": self.server.api_key,
        }
        with (self.folder / "workers.log").open("ab") as log:
            return forked.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=environment)


def jobs_of(client: SpooledClient, batch_id: str) -> list[Any]:
    """All jobs of a batch, as the server has them."""
    request = batch_v1.ListBatchJobsRequest(batch_id=batch_id)
    pages = client.connection.stream(BATCH["ListBatchJobs"], request)
    return [job for page in pages for job in page.jobs]


def check(found: Found, count: int) -> None:
    """Every job is settled once, by who held it, and every further run has its reason."""
    assert len(found.jobs) == count
    assert {from_struct(job.payload)["n"] for job in found.jobs} == set(range(count))
    assert {job.status for job in found.jobs} == {4}
    assert set(found.runs) == set(range(count))
    # A lease is run under once: nothing that was claimed once was begun twice.
    assert max(found.leases.values()) == 1
    for job in found.jobs:
        result = from_struct(job.result)
        assert result["n"] == from_struct(job.payload)["n"]
        # The result is that of the run that held the last lease.
        assert (result["worker"], result["try"]) == (job.assigned_worker_id, job.retry_count)
        assert found.leases[result["n"], result["lease"]] == 1
        # Each further run follows a lease that ran out or a try that failed.
        assert found.runs[result["n"]] <= 1 + job.retry_count


def client_of(server: ServerProcess) -> SpooledClient:
    return connect(server.address, api_key=server.api_key)
