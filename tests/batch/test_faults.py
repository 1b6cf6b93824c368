"""Whatever dies in the middle: the same call again, and each row is exactly one job."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines import AsyncSpooledClient, SpooledClient, connect
from spooled_pipelines.errors import BatchTimeoutError, UnavailableError
from spooled_pipelines.rpc.retry import RetryPolicy
from tests.support import forked
from tests.support.server_process import ServerProcess

StartServer = Callable[..., ServerProcess]
PLAIN = "--no-batch-extension"
NO_RETRY = RetryPolicy(max_attempts=1)
# Rows of `table_of` in more messages than are on their way at once.
MORE_THAN_ON_THEIR_WAY = 2_800


def table_of(rows: int) -> pa.Table:
    """Wide enough for many messages."""
    return pa.table({"n": range(rows), "text": [f"row {i} " + "x" * 3_800 for i in range(rows)]})


def assert_each_row_is_one_job(door: Any, batch: Any, server: ServerProcess, rows: int) -> None:
    """The ledger against what the server lists, and against the store's own file."""
    ledger = batch.ledger
    assert ledger["row"].to_pylist() == list(range(rows))
    ids = ledger["job_id"].to_pylist()
    assert len(set(ids)) == rows
    # A plain server lists no batches: there the ledger's own jobs are asked for.
    listed = batch if PLAIN in server.arguments else door.batch(batch.id)
    assert Counter(listed.results()["job_id"].to_pylist()) == Counter(ids)
    for row in (0, rows // 2, rows - 1):
        job = door.get_job(ids[row])
        assert (job.payload["n"], job.idempotency_key) == (row, ledger["key"][row].as_py())
    with closing(sqlite3.connect(f"file:{server.store}?mode=ro", uri=True)) as store:
        assert store.execute("SELECT COUNT(*) FROM jobs").fetchone() == (rows,)


class KillAfter:
    """A progress callback that kills the server once some rows are acknowledged, in the midst of
    the upload, and calls `then` if given."""

    def __init__(
        self, server: ServerProcess, rows: int, then: Callable[[], object] | None = None
    ) -> None:
        self.server = server
        self.rows = rows
        self.then = then
        self.killed_at = 0

    def __call__(self, sent: int, total: int) -> None:
        if sent >= self.rows and not self.killed_at:
            assert sent < total, "the upload was over before the server could be killed"
            self.killed_at = sent
            self.server.kill()
            if self.then is not None:
                self.then()


@pytest.mark.parametrize(("arguments", "rows"), [((), 2_000), ((PLAIN,), 600)])
def test_a_server_killed_in_the_middle_and_the_same_call_again(
    open_door: Callable[..., Any],
    start_server: StartServer,
    queue: str,
    arguments: tuple[str, ...],
    rows: int,
) -> None:
    server = start_server(*arguments)
    door = open_door(server, retry=NO_RETRY)
    table = table_of(rows)
    kill = KillAfter(server, rows // 5)
    with pytest.raises(UnavailableError, match="Repeat the same call to resume") as caught:
        door.enqueue_batch(table, queue, progress=kill)
    acknowledged = caught.value.details["acknowledged"]
    assert isinstance(acknowledged, int)
    assert kill.killed_at <= acknowledged < rows
    assert f"{acknowledged} of {rows} rows were acknowledged" in str(caught.value)

    server.restart()
    door = open_door(server)
    if not arguments:
        half = door.batch(caught.value.details["batch_id"]).stats()
        assert acknowledged <= half.total <= rows
        assert (half.sealed, half.settled) == (False, False)
    batch = door.enqueue_batch(table, queue)
    assert batch.created + batch.duplicates == rows
    assert batch.duplicates >= acknowledged
    assert batch.id == caught.value.details["batch_id"]
    assert batch.stats().sealed
    assert batch.stats().total == rows
    assert_each_row_is_one_job(door, batch, server, rows)


@pytest.mark.parametrize(("arguments", "rows"), [((), 2_000), ((PLAIN,), 600)])
def test_a_server_that_comes_back_is_gone_on_with_in_the_same_call(
    open_door: Callable[..., Any],
    start_server: StartServer,
    queue: str,
    arguments: tuple[str, ...],
    rows: int,
) -> None:
    server = start_server(*arguments)
    door = open_door(server)
    back = threading.Thread(target=server.restart)
    kill = KillAfter(server, rows // 3, then=back.start)
    batch = door.enqueue_batch(table_of(rows), queue, progress=kill)
    back.join()
    assert kill.killed_at
    assert batch.created + batch.duplicates == rows
    if not arguments:
        # The outcome of a chunk is replayed, so what this upload made counts as made by it. A
        # plain server cannot tell a call that is repeated from one that comes a second time.
        assert (batch.created, batch.duplicates) == (rows, 0)
    assert batch.stats().total == rows
    assert_each_row_is_one_job(door, batch, server, rows)


def test_a_wait_survives_a_server_that_comes_back(
    open_door: Callable[..., Any], start_server: StartServer, queue: str
) -> None:
    server = start_server()
    door = open_door(server)
    batch = door.enqueue_batch(table_of(20), queue)
    seen = []

    def on_progress(stats: Any) -> None:
        seen.append(stats.completed)
        if len(seen) == 1:
            server.kill()
            server.restart()
            worker.start()

    worker = threading.Thread(target=complete_all, args=(server, queue))
    assert batch.wait(timeout=60, on_progress=on_progress).completed == 20
    worker.join()


def test_a_wait_whose_server_stays_away_says_so(
    open_door: Callable[..., Any], start_server: StartServer, queue: str
) -> None:
    server = start_server()
    door = open_door(server)
    batch = door.enqueue_batch(table_of(20), queue)
    with pytest.raises(BatchTimeoutError, match="the server was away") as caught:
        batch.wait(timeout=1.0, on_progress=lambda _: server.kill() if server.running else None)
    assert caught.value.stats is not None
    assert caught.value.stats.pending == 20


def complete_all(server: ServerProcess, queue: str) -> None:
    with connect(server.address, api_key=server.api_key) as client:
        while jobs := client.dequeue(queue, "w", batch_size=100):
            for job in jobs:
                client.complete(job)


class BrokenOffError(Exception):
    """What a user's own callback might raise."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, BrokenOffError])
def test_breaking_off_leaves_an_unsealed_batch_that_the_same_call_finishes(
    open_door: Callable[..., Any], server: ServerProcess, queue: str, kind: type[BaseException]
) -> None:
    door = open_door(server)
    table = table_of(MORE_THAN_ON_THEIR_WAY)

    def break_off(sent: int, total: int) -> None:
        assert sent < total
        raise kind

    with pytest.raises(kind) as caught:
        door.enqueue_batch(table, queue, name="broken off", progress=break_off)
    said = " ".join([*map(str, caught.value.args), *getattr(caught.value, "__notes__", [])])
    assert "not sealed" in said
    assert "Repeat the same call to resume" in said
    batch_id = next(word.strip(";") for word in said.split() if word.startswith("b_"))

    found = door.batch(batch_id)
    assert 0 < found.stats().total < MORE_THAN_ON_THEIR_WAY
    with pytest.raises(BatchTimeoutError):
        found.wait(timeout=0.1)
    batch = door.enqueue_batch(table, queue, name="broken off")
    assert batch.id == batch_id
    assert batch.created + batch.duplicates == MORE_THAN_ON_THEIR_WAY
    assert batch.created > 0
    stats = found.stats()
    assert (stats.sealed, stats.total) == (True, MORE_THAN_ON_THEIR_WAY)


async def test_a_cancelled_task_leaves_the_same(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    table = table_of(MORE_THAN_ON_THEIR_WAY)
    begun = asyncio.Event()
    task = asyncio.ensure_future(
        async_client.enqueue_batch(table, queue, progress=lambda *_: begun.set())
    )
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    batch = await async_client.enqueue_batch(table, queue)
    assert batch.created + batch.duplicates == MORE_THAN_ON_THEIR_WAY
    assert 0 < batch.created < MORE_THAN_ON_THEIR_WAY
    assert (await batch.stats()).sealed


def test_several_at_once_make_each_row_once(
    server: ServerProcess, queue: str, client: SpooledClient
) -> None:
    """Two runs of the same task at the same time, as a zombie and its retry would be."""
    table = table_of(3_000)
    made: list[Any] = []

    def enqueue() -> None:
        with connect(server.address, api_key=server.api_key) as own:
            made.append(own.enqueue_batch(table, queue))

    threads = [threading.Thread(target=enqueue) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(batch.created for batch in made) == 3_000
    assert len({batch.id for batch in made}) == 1
    assert client.queue_stats(queue).total == 3_000
    assert client.batch(made[0].id).stats().total == 3_000


_CLIENT = """
import sys
import pyarrow as pa
from spooled_pipelines import connect

address, key, queue, rows = sys.argv[1:4] + [int(sys.argv[4])]
table = pa.table({"n": range(rows), "text": [f"row {i} " + "x" * 3_800 for i in range(rows)]})

def stand_still(sent, total):
    print(sent, flush=True)
    sys.stdin.read()

with connect(address, api_key=key) as client:
    client.enqueue_batch(table, queue, progress=stand_still)
"""


def test_a_client_killed_in_the_middle_and_the_same_call_by_another(
    door: Any, any_server: ServerProcess, queue: str
) -> None:
    rows = 600 if PLAIN in any_server.arguments else MORE_THAN_ON_THEIR_WAY
    command = [sys.executable, "-c", _CLIENT, any_server.address, any_server.api_key, queue]
    with forked.Popen(
        [*command, str(rows)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = int(process.stdout.readline())
        process.kill()
    batch = door.enqueue_batch(table_of(rows), queue)
    assert batch.created + batch.duplicates == rows
    assert acknowledged <= batch.duplicates < rows
    assert door.queue_stats(queue).total == rows
    assert batch.stats().total == rows
    assert len(set(batch.ledger["job_id"].to_pylist())) == rows
