"""Server processes over PostgreSQL, end to end with the client; kill -9 under load."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest

from spooled_pipelines import Batch, SpooledClient, connect
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.postgres.store import PostgresStore
from tests.support.postgres import OwnCluster, running_cluster
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

StartServer = Callable[..., ServerProcess]
CRASHES, ROWS = 3, 60_000


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
            # Long before anybody looks without having been told.
            eventually(lambda n=n: len(arrived) == n + 1, timeout=20)
        reader.join(60)
        assert arrived == [0, 1, 2]


class AtMarks:
    """A progress callback: in the midst of an upload something happens, once at each mark."""

    def __init__(self, happens: Callable[[], object], *marks: int) -> None:
        self._happens, self.marks = happens, list(marks)

    def __call__(self, acknowledged: int, total: int) -> None:
        if self.marks and acknowledged >= self.marks[0]:
            assert acknowledged < total, "the upload was over before"
            del self.marks[0]
            self._happens()


async def upload_and_look(door: SpooledClient, database: str, at_marks: AtMarks) -> Batch:
    """Upload a table, then compare what is counted with what is there."""
    batch = await asyncio.to_thread(
        door.enqueue_batch, table_of(ROWS), "q", name="b", progress=at_marks
    )
    assert at_marks.marks == []
    assert batch.created + batch.duplicates == batch.stats().total == ROWS
    store = PostgresStore(database, SystemClock())
    await store.open(lambda _: None)
    assert await store.recount() == []
    await store.close()
    return batch


async def test_kill_9_of_a_server_under_load_loses_and_doubles_nothing(
    start: Callable[[], ServerProcess], database: str
) -> None:
    server = start()

    def crash() -> None:
        server.kill()
        server.restart()

    marks = [(number + 1) * ROWS // (CRASHES + 2) for number in range(CRASHES)]
    with client_of(server) as door:
        batch = await upload_and_look(door, database, AtMarks(crash, *marks))
        assert len(set(batch.ledger["job_id"].to_pylist())) == ROWS


async def test_a_crash_of_the_database_is_a_pause_to_the_client(
    start: Callable[[], ServerProcess], database: str, cluster: OwnCluster
) -> None:
    """An upload goes on where it was, and work goes on after it."""

    def crash() -> None:
        cluster.stop_at_once()
        cluster.start()

    with client_of(start()) as door:
        await upload_and_look(door, database, AtMarks(crash, ROWS // 3))
        assert len(door.dequeue("q", "w", batch_size=100)) == 100
