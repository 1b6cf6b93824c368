"""Several servers on one PostgreSQL: who works for them, who calls them, and what kills them."""

from __future__ import annotations

import itertools
import random
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spooled_pipelines import Batch, SpooledClient, connect
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.rpc.struct import from_struct
from tests.support import forked, programs
from tests.support.server_process import API_KEY, ServerProcess
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from typing_extensions import Self

QUEUE = "q"
# Without it callers take the processors from those whom they watch.
_BETWEEN_CALLS_SECONDS = 0.01


@contextmanager
def working(address: str, folder: Path, processes: int, each: int) -> Iterator[list[Path]]:
    """Worker processes, for as long as the context lasts; yields their logs."""
    with ExitStack() as stack:
        logs = [folder / f"worker-{number}.log" for number in range(processes)]
        for log in logs:
            command = programs.command(
                "proof.replica_worker", address, API_KEY, QUEUE, str(each), str(log)
            )
            process = stack.enter_context(
                forked.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=programs.environment(),
                )
            )
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            stack.callback(_end, process)
        yield logs


def _end(process: forked.Popen) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0


class Executions:
    """What the handlers wrote down: the lease of each run of each job, by the server's clock."""

    def __init__(self, logs: list[Path]) -> None:
        self.runs: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
        for log in logs:
            for line in log.read_text().splitlines():
                job_id, lease_id, start, end = line.split()
                self.runs[job_id].append((float(start), float(end), lease_id))

    @property
    def again(self) -> int:
        """Runs beyond a job's first."""
        return sum(len(runs) - 1 for runs in self.runs.values())

    def without_reason(self, jobs: list[Any]) -> list[str]:
        """Jobs that ran oftener than leases of theirs ended, or whose result is of no run."""
        return [
            job.id
            for job in jobs
            if len(self.runs[job.id]) > 1 + job.retry_count
            or from_struct(job.result)["lease"] not in [lease for *_, lease in self.runs[job.id]]
        ]

    def overlapping(self) -> list[str]:
        """Jobs that ran under a lease which began before the one before it ended."""
        return [
            job_id
            for job_id, runs in self.runs.items()
            for before, after in itertools.pairwise(sorted(runs))
            if after[0] < before[1]
        ]


class Callers:
    """Users of the client who call it all the time; what they see as an error is in `errors`."""

    def __init__(self, address: str, retry: RetryPolicy | None = None, count: int = 2) -> None:
        self._address = address
        self._retry = retry
        self._stopping = threading.Event()
        self.errors: list[str] = []
        self.seconds: list[float] = []
        self.enqueued: set[str] = set()
        self._threads = [
            threading.Thread(target=self._call, args=(number,)) for number in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def _call(self, number: int) -> None:
        with connect(self._address, api_key=API_KEY, retry=self._retry) as client:
            for count in itertools.count():
                if self._stopping.wait(_BETWEEN_CALLS_SECONDS):
                    return
                began = time.perf_counter()
                try:
                    job = client.enqueue(
                        "singles", {"n": count}, idempotency_key=f"{number}-{count}"
                    )
                    client.queue_stats(QUEUE)
                # The boundary of a thread: the test sees it in `errors`.
                except Exception as error:  # noqa: BLE001
                    self.errors.append(repr(error))
                else:
                    self.enqueued.add(job.job_id)
                    self.seconds.append((time.perf_counter() - began) / 2)


def enqueue(client: SpooledClient, jobs: int, name: str) -> Batch:
    rows = ({"n": number} for number in range(jobs))
    return client.enqueue_batch(rows, QUEUE, key="n", name=name)


def kill_now_and_then(
    replicas: list[ServerProcess], over: threading.Event, pause: float, chance: random.Random
) -> int:
    """kill -9 of one of them at once, which comes back, and every so often until `over`."""
    for kills in itertools.count(1):
        one = chance.choice(replicas)
        one.kill()
        bring_back(one)
        if over.wait(pause):
            return kills
    raise AssertionError("counted to the end")


def bring_back(replica: ServerProcess) -> None:
    """As systemd or Kubernetes do: again, where the database is away when it starts."""

    def is_back() -> bool:
        try:
            replica.restart()
        except AssertionError:
            if "cannot connect to database" not in replica.log.read_text():
                raise
            return False
        return True

    eventually(is_back, 60)
