"""Of a limited key no more jobs run than may, though workers are killed, and all complete."""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines import connect
from tests.support.postgres import empty_store
from tests.support.server_thread import ServerThread
from tests.support.waiting import eventually

JOBS, KEYS, MOST, LEASE = 14, 2, 2, 60


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_killed_workers_give_up_places_and_no_more_than_the_limit_run(
    store: str,
    folder: Path,
    runs: Callable[[str], list[tuple[int, int]]],
    start_worker: Callable[..., Any],
) -> None:
    rows = pa.table({"n": range(JOBS), "customer": [f"c{n % KEYS}" for n in range(JOBS)]})
    with (
        empty_store(store, folder) as url,
        ServerThread(folder, store=url) as server,
        connect(server.address, api_key=server.api_key) as client,
    ):
        client.enqueue_batch(rows, "q", key="n", limit_by=("customer", MOST))

        def start() -> Any:
            options = ("--concurrency", "2", "--lease-seconds", str(LEASE))
            return start_worker(server, "q", "handlers:gated", *options)

        killed = [start() for _ in range(2)]
        # Each has two jobs, and has all that may run; others are held.
        eventually(lambda: len(runs("began")) == KEYS * MOST)
        stats = client.queue_stats("q")
        assert (stats.processing, stats.pending) == (KEYS * MOST, JOBS - KEYS * MOST)
        for worker in killed:
            worker.send(signal.SIGKILL)
            worker.ended()
            with (folder / "runs.txt").open("a") as file:
                file.write(f"killed 0 {worker.pid}\n")
        server.advance(LEASE)
        for _ in range(2):
            start()
        eventually(lambda: len(runs("began")) == 2 * KEYS * MOST)
        (folder / "go").touch()
        eventually(lambda: client.queue_stats("q").completed == JOBS)

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
