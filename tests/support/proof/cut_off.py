"""One of two servers is cut off from the database: what a producer, a worker and a waiter see.

    python -m tests.support.proof.cut_off FIRST_URL SECOND_URL FOLDER CUT MEND

runs in whatever network namespace it is started in; CUT and MEND are shell commands. It prints a
line of JSON, a `Story`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from spooled_pipelines import connect
from tests.support import run
from tests.support.fault_run import jobs_of
from tests.support.proof.replicas import Executions, enqueue, working
from tests.support.server_process import API_KEY, ServerProcess
from tests.support.waiting import eventually

_JOBS = 100
_BEFORE, _CUT = 3, 12
_WAIT_SECONDS = 90


@dataclass
class Story:
    """What was seen.

    Attributes:
        lines: of each second: since the cut, the seconds from a batch's first row to its verdict,
            what the server that is cut off says of its health.
        jobs: enqueued in all.
        completed: of them.
        again: runs of a job beyond its first.
        wrong: jobs that two leases held at once, or that ran again though no lease ended.
        stop_seconds: how long the server that is cut off takes to end at SIGTERM.
        exit_code: its exit code.
    """

    lines: list[tuple[float, float, str]] = field(default_factory=list)
    jobs: int = 0
    completed: int = 0
    again: int = 0
    wrong: list[str] = field(default_factory=list)
    stop_seconds: float = 0.0
    exit_code: int = -1

    def __str__(self) -> str:
        seconds = "\n".join(
            f"  {since:+6.1f} s  {_JOBS} rows settled in {took:5.2f} s   cut-off server: {health}"
            for since, took, health in self.lines
        )
        return (
            f"{self.completed} of {self.jobs} jobs completed, {self.again} runs again; the server "
            f"that was cut off ended {self.stop_seconds:.1f} s after SIGTERM\n{seconds}"
        )


def health_of(server: ServerProcess) -> str:
    """Return what a server says of itself within a second."""
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            said = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(said.status))


def tell(
    urls: tuple[str, str], folder: Path, cut: Callable[[], object], mend: Callable[[], object]
) -> Story:
    """Cut the first server off from the database, mend it, and cut it off again as it stops."""
    story = Story()
    made: list[Any] = []
    stores = [folder / f"server-{number}" for number in (1, 2)]
    with (
        ServerProcess(stores[0], "--store", urls[0]) as first,
        ServerProcess(stores[1], "--store", urls[1]) as second,
        working(f"{first.address},{second.address}", folder, 1, 2) as logs,
        connect(f"{first.address},{second.address}", api_key=API_KEY) as client,
    ):
        cut_at = time.monotonic() + _BEFORE

        def look() -> None:
            began = time.monotonic()
            batch = enqueue(client, _JOBS, f"batch-{len(story.lines)}")
            story.completed += batch.wait(timeout=_WAIT_SECONDS).completed
            story.jobs += _JOBS
            made.extend(jobs_of(client, batch.id))
            line = began - cut_at, time.monotonic() - began, health_of(first)
            story.lines.append(line)
            time.sleep(max(0.0, began + 1 - time.monotonic()))

        while time.monotonic() < cut_at:
            look()
        cut()
        cut_at = time.monotonic()
        while time.monotonic() < cut_at + _CUT:
            look()
        mend()
        eventually(lambda: health_of(first) == "SERVING", _WAIT_SECONDS)
        look()
        cut()
        began = time.monotonic()
        story.exit_code = first.stop()
        story.stop_seconds = time.monotonic() - began
        look()
        mend()
    runs = Executions(logs)
    story.again, story.wrong = runs.again, runs.overlapping() + runs.without_reason(made)
    return story


def main() -> None:
    first, second, folder, cut, mend = sys.argv[1:]
    run.begin()
    try:
        story = tell(
            (first, second),
            Path(folder),
            lambda: subprocess.run(cut, shell=True, check=True),
            lambda: subprocess.run(mend, shell=True, check=True),
        )
    finally:
        run.end()
    print(json.dumps(asdict(story)))


if __name__ == "__main__":
    main()
