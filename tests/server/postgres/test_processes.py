"""Server processes over PostgreSQL, end to end with the client; kill -9 under load."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.postgres.store import PostgresStore
from tests.support.postgres import OwnCluster, running_cluster
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

StartServer = Callable[..., ServerProcess]
CRASHES = 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    """A PostgreSQL of this module's own, which its tests stop."""
    with running_cluster() as cluster:
        yield cluster


def table_of(rows: int) -> pa.Table:
    return pa.table({"n": range(rows), "text": [f"row {n}" for n in range(rows)]})


@pytest.fixture
def start(start_server: StartServer, database: str) -> Callable[[], ServerProcess]:
    """Starts a server over the database, one of several."""
    return lambda: start_server("--store", database)


def client_of(server: ServerProcess) -> SpooledClient:
    return connect(server.address, api_key=server.api_key)


def test_a_table_in_and_its_results_out(start: Callable[[], ServerProcess]) -> None:
    """Enqueued through one server, worked off through another."""
    with client_of(start()) as door, client_of(start()) as other:
        batch = door.enqueue_batch(table_of(250), "q", name="b")
        assert (batch.created, batch.duplicates) == (250, 0)

        def work() -> None:
            done = 0
            with other.stream_jobs("q", "w") as jobs:
                for job in jobs:
                    other.complete(job, result={"square": job.payload["n"] ** 2})
                    done += 1
                    if done == 250:
                        return

        worker = threading.Thread(target=work)
        worker.start()
        stats = batch.wait(timeout=30)
        worker.join()
        assert (stats.completed, stats.settled) == (250, True)
        results = batch.results()
        assert results["square"].to_pylist() == [float(n**2) for n in range(250)]
        again = other.enqueue_batch(table_of(250), "q", name="b")
        assert (again.created, again.duplicates) == (0, 250)


def test_a_stream_on_one_server_gets_what_another_takes_in(
    start: Callable[[], ServerProcess],
) -> None:
    with client_of(start()) as door, client_of(start()) as other:
        arrived: list[float] = []
        jobs = other.stream_jobs("q", "w")

        def read() -> None:
            with jobs:
                for job in jobs:
                    arrived.append(job.payload["n"])
                    if len(arrived) == 3:
                        return

        reader = threading.Thread(target=read)
        reader.start()
        for n in range(3):
            door.enqueue("q", {"n": n})
            eventually(lambda n=n: len(arrived) == n + 1, timeout=2)
        reader.join(60)
        assert arrived == [0, 1, 2]


async def test_kill_9_of_a_server_under_load_loses_and_doubles_nothing(
    start: Callable[[], ServerProcess], database: str
) -> None:
    rows = 60_000
    server = start()
    acknowledged = 0

    def note(sent: int, _: int) -> None:
        nonlocal acknowledged
        acknowledged = sent

    with client_of(server) as door:
        found: list[Any] = []
        upload = threading.Thread(
            target=lambda: found.append(
                door.enqueue_batch(table_of(rows), "q", name="b", progress=note)
            )
        )
        upload.start()
        for crash in range(CRASHES):
            mark = (crash + 1) * rows // (CRASHES + 2)
            eventually(lambda mark=mark: acknowledged >= mark, timeout=30)
            server.kill()
            assert upload.is_alive()
            server.restart()
        upload.join(60)
        (batch,) = found
        assert batch.created + batch.duplicates == rows
        assert batch.stats().total == rows
        assert len(set(batch.ledger["job_id"].to_pylist())) == rows
    store = PostgresStore(database, SystemClock())
    await store.open(lambda _: None)
    assert await store.recount() == []
    await store.close()


async def test_a_crash_of_the_database_is_a_pause_to_the_client(
    start: Callable[[], ServerProcess], database: str, cluster: OwnCluster
) -> None:
    """An upload goes on where it was, and work goes on after it."""
    rows = 60_000
    acknowledged = 0

    def note(sent: int, _: int) -> None:
        nonlocal acknowledged
        acknowledged = sent

    with client_of(start()) as door:
        found: list[Any] = []
        upload = threading.Thread(
            target=lambda: found.append(
                door.enqueue_batch(table_of(rows), "q", name="b", progress=note)
            )
        )
        upload.start()
        eventually(lambda: acknowledged > rows // 3, timeout=30)
        cluster.stop_at_once()
        assert upload.is_alive()
        cluster.start()
        upload.join(60)
        (batch,) = found
        assert batch.created + batch.duplicates == batch.stats().total == rows
        assert len(door.dequeue("q", "w", batch_size=100)) == 100
    store = PostgresStore(database, SystemClock())
    await store.open(lambda _: None)
    assert await store.recount() == []
    await store.close()
