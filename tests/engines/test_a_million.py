"""A million rows in two hundred partitions, whose processes die meanwhile, are a million jobs."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spooled_pipelines import SpooledClient
from tests.support.engines import Engine

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(3_600),
    # The table is a part of the graph, which no user would do with one of this size.
    pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
]

ROWS, PARTITIONS, DEATHS = 1_000_000, 200, 5


def test_a_million_rows_are_a_million_jobs_though_tasks_are_killed(
    engine: Engine,
    client: SpooledClient,
    queue: str,
    tmp_path: Path,
    size: Callable[[str, int], int],
) -> None:
    count = size("rows", ROWS)
    table = [{"id": number, "text": f"row {number}"} for number in range(count)]
    chance = random.Random(20_261_126)
    ends = sorted(chance.sample(range(count), DEATHS))
    # Spark's executor, its shuffled data included, and a task that is long behind all the others.
    executors, slow = (ends[:1], PARTITIONS - 1) if engine.name == "spark" else ([], None)
    frame = engine.computed(table, PARTITIONS, trouble(str(tmp_path), ends, executors, slow))
    started = time.monotonic()
    batch = engine.enqueue(frame, queue, client=client, name="n", key="id")
    took = time.monotonic() - started
    stats = batch.stats()
    print(
        f"\n{engine.name}: {count:,} rows in {took:.0f} s, {DEATHS} processes killed; "
        f"{batch.created:,} created, {batch.duplicates:,} duplicates; {engine.happened()}"
    )
    assert {path.name for path in tmp_path.iterdir()} >= set(map(str, ends))
    assert (stats.sealed, stats.total, stats.pending) == (True, count, count)
    assert client.queue_stats(queue).pending == count
    if engine.name == "spark":
        assert engine.happened()["stages again"] > 0
        assert engine.happened()["speculative tasks"] > 0
    # The same again, undisturbed.
    again = engine.enqueue(
        engine.frame(table, PARTITIONS), queue, client=client, name="n", key="id"
    )
    assert (again.id, again.created, again.duplicates) == (batch.id, 0, count)


def trouble(
    folder: str, ends: list[int], executors: list[int], slow: int | None
) -> Callable[[int], None]:
    """Runs in a task: at some rows kill -9 of its process, in one partition a pause; each once.

    A function within a function goes to the tasks by value: these files are not on their path.
    """

    def first(number: int) -> bool:
        try:
            Path(folder, str(number)).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def is_slow() -> bool:
        if slow is None:
            return False
        from pyspark import TaskContext

        task = TaskContext.get()
        return task is not None and task.partitionId() == slow and first(-1)

    def each(number: int) -> None:
        if is_slow():
            time.sleep(60)
        if number not in ends or not first(number):
            return
        if number in executors:
            # A task's process is made by a daemon, and that by the executor.
            stat = Path(f"/proc/{os.getppid()}/stat").read_text()
            os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    return each
