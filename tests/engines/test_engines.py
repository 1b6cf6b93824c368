"""What every engine promises, on a real cluster of it and a real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.worker import Worker
from tests.support.engines import Engine, Rows
from tests.support.server_process import ServerProcess

pytestmark = [
    pytest.mark.timeout(300),
    # What the engines say of their own insides, and of a pandas that is newer than they know.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
]


def rows(count: int) -> Rows:
    return [{"id": number, "text": f"row {number}"} for number in range(count)]


def test_each_row_is_a_job_of_one_sealed_batch(
    engine: Engine, client: SpooledClient, queue: str
) -> None:
    batch = engine.enqueue(engine.frame(rows(500), 5), queue, client=client, name="n", key="id")
    assert (batch.rows, batch.created, batch.duplicates) == (500, 500, 0)
    stats = batch.stats()
    assert (stats.sealed, stats.total, stats.pending) == (True, 500, 500)
    texts = set()
    while jobs := client.dequeue(queue, "w", batch_size=100):
        texts |= {(job.payload["id"], job.payload["text"]) for job in jobs}
    assert texts == {(row["id"], row["text"]) for row in rows(500)}


def test_the_same_rows_in_other_partitions_are_the_same_jobs(
    engine: Engine, client: SpooledClient, queue: str
) -> None:
    first = engine.enqueue(engine.frame(rows(90), 2), queue, client=client, name="n", key="id")
    more = engine.frame(rows(100)[::-1], 3)
    again = engine.enqueue(more, queue, client=client, name="n", key="id")
    assert again.id == first.id
    assert (again.rows, again.created, again.duplicates) == (100, 10, 90)
    assert again.stats().total == 100


def test_a_fresh_run_makes_every_row_a_new_job(
    engine: Engine, client: SpooledClient, queue: str
) -> None:
    frame = engine.frame(rows(40), 2)
    engine.enqueue(frame, queue, client=client, name="n", key="id")
    again = engine.enqueue(frame, queue, client=client, name="n", key="id", on_rerun="fresh")
    assert (again.created, again.stats().total) == (40, 40)
    assert client.queue_stats(queue).pending == 40


def test_a_process_that_is_killed_loses_and_doubles_nothing(
    engine: Engine, client: SpooledClient, queue: str, tmp_path: Path
) -> None:
    table = rows(2_000)
    deaths = [150, 700, 1_950]
    frame = engine.computed(table, 8, dying_once(str(tmp_path), deaths))
    batch = engine.enqueue(frame, queue, client=client, name="n", key="id")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, deaths))
    assert batch.rows == 2_000
    stats = batch.stats()
    assert (stats.sealed, stats.total) == (True, 2_000)
    assert client.queue_stats(queue).pending == 2_000


def test_a_row_that_can_be_no_job_is_named_and_the_batch_stays_open(
    engine: Engine, client: SpooledClient, queue: str
) -> None:
    table = rows(60)
    table[41]["id"] = 2**60
    arguments = {"client": client, "name": "n", "key": "text"}
    with pytest.raises(Exception, match=str(2**60)) as caught:
        engine.enqueue(engine.frame(table, 3), queue, **arguments)
    assert "LossyValueError" in f"{caught.value!r} {caught.value}"
    mended = engine.enqueue(engine.frame(rows(60), 3), queue, **arguments)
    assert mended.rows == 60
    stats = mended.stats()
    assert (stats.sealed, stats.total) == (True, 60)


def test_a_frame_without_rows_is_an_error(
    engine: Engine, client: SpooledClient, queue: str
) -> None:
    frame = engine.frame([], 1)
    with pytest.raises(InvalidArgumentError, match="has no rows"):
        engine.enqueue(frame, queue, client=client, name="n", key="id")


def test_what_became_of_the_jobs_is_a_frame_again(
    engine: Engine, client: SpooledClient, server: ServerProcess, queue: str
) -> None:
    batch = engine.enqueue(engine.frame(rows(50), 2), queue, client=client, name="n", key="id")
    with Worker(server.address, queue, double, api_key=server.api_key):
        batch.wait(timeout=60)
    found = engine.results(batch)
    assert sorted(row["twice"] for row in found) == [2 * number for number in range(50)]
    assert {row["status"] for row in found} == {"completed"}


def test_the_key_is_in_nothing_that_is_sent_or_written_down(
    engine: Engine, client: SpooledClient, queue: str
) -> None:
    arguments = {"client": client, "name": "n", "key": "id"}
    shown = engine.shown(engine.frame(rows(10), 2), queue, **arguments)
    assert queue in shown
    assert client.settings.api_key not in shown
    # It was there all the same.
    assert client.queue_stats(queue).pending == 10


def test_a_key_may_be_in_a_file_of_every_executor(
    engine: Engine, client: SpooledClient, server: ServerProcess, queue: str, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    arguments = {"client": client, "name": "n", "key": "id", "api_key_file": path}
    frame = engine.frame(rows(10), 2)
    with pytest.raises(Exception, match=f"api_key_file: {path} cannot be read"):
        engine.enqueue(frame, queue, **arguments)
    path.write_text(server.api_key + "\n")
    assert engine.enqueue(frame, queue, **arguments).rows == 10


def dying_once(folder: str, deaths: list[int]) -> Callable[[int], None]:
    """Runs in a task: kill -9 of its process at each of these rows, once.

    A function within a function goes to the tasks by value: these files are not on their path.
    """

    def die(number: int) -> None:
        if number not in deaths:
            return
        try:
            Path(folder, str(number)).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return die


def double(job: Any) -> dict[str, int]:
    return {"twice": job.payload["id"] * 2}
