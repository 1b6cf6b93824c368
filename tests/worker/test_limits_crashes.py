"""Of a limited key no more jobs run than may, though workers are killed, and all complete."""

from __future__ import annotations

import signal
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from spooled_pipelines import SpooledClient
from tests.support.waiting import eventually

JOBS, KEYS, MOST = 14, 2, 2


def test_killed_workers_give_up_places_and_no_more_than_the_limit_run(
    typed_client: SpooledClient,
    folder: Path,
    runs: Callable[[str], list[tuple[int, int]]],
    start_worker: Callable[..., Any],
) -> None:
    client, queue = typed_client, f"limited-{uuid.uuid4()}"
    rows = pa.table({"n": range(JOBS), "customer": [f"c{n % KEYS}" for n in range(JOBS)]})
    client.enqueue_batch(rows, queue, key="n", limit_by=("customer", MOST))

    def start(lease_seconds: int) -> Any:
        options = ("--concurrency", "2", "--lease-seconds", str(lease_seconds))
        return start_worker(client.settings, queue, "handlers:gated", *options)

    killed = [start(lease_seconds=10) for _ in range(2)]
    # Each has two jobs, and has all that may run; others are held.
    eventually(lambda: len(runs("began")) == KEYS * MOST, 30)
    stats = client.queue_stats(queue)
    assert (stats.processing, stats.pending) == (KEYS * MOST, JOBS - KEYS * MOST)
    for worker in killed:
        worker.send(signal.SIGKILL)
        worker.ended()
        with (folder / "runs.txt").open("a") as file:
            file.write(f"killed 0 {worker.pid}\n")
    for _ in range(2):
        start(lease_seconds=600)
    eventually(lambda: len(runs("began")) == 2 * KEYS * MOST, 30)
    (folder / "go").touch()
    eventually(lambda: client.queue_stats(queue).completed == JOBS, 30)

    running: defaultdict[int, set[tuple[str, str]]] = defaultdict(set)
    for line in (folder / "runs.txt").read_text().splitlines():
        what, number, pid = line.split()
        for of_key in running.values():
            of_key -= {run for run in of_key if what == "killed" and run[1] == pid}
        own = running[int(number) % KEYS]
        if what == "began":
            own.add((number, pid))
            assert len(own) <= MOST
        own -= {(number, pid)} if what == "ended" else set()
    assert sorted(number for number, _ in runs("ended")) == list(range(JOBS))
