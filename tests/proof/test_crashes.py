"""What was acknowledged is there exactly once, and every counter is right, whatever crashes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest

from spooled_pipelines.server.config.settings import DEFAULT_ORGANIZATION
from spooled_pipelines.server.core.batches.records import BatchOpening
from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import BatchJobs
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire.spooled_v1 import (
    CompleteRequest,
    DequeueRequest,
    EnqueueRequest,
    FailRequest,
    GetJobRequest,
)
from spooled_pipelines.wire.well_known import Struct
from tests.support.postgres import OwnCluster, running_cluster
from tests.support.proof.cut_off import health_of
from tests.support.proof.load import QUEUE, Load
from tests.support.raw_calls import Caller
from tests.support.server_process import API_KEY, ServerProcess
from tests.support.store_kit import chunk, struct
from tests.support.waiting import eventually

Serve = Callable[[str], ServerProcess]
NewStore = Callable[[], str]
Size = Callable[[str, int], int]
# The longest pause before a crash: it comes somewhere in the middle of whatever comes next.
PAUSE_SECONDS = 0.1
# Crashes beyond those asked for, until a call was interrupted.
UNFELT_MAX = 10
ROWS = 10_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    """A PostgreSQL of this module's own, which its tests stop."""
    with running_cluster() as cluster:
        yield cluster


def kill_again_and_again(server: ServerProcess, kills: int) -> Load:
    chance = random.Random(kills)
    with Load(server) as load:
        for _ in range(kills):
            load.moves()
            threading.Event().wait(PAUSE_SECONDS * chance.random())
            server.kill()
            server.restart()
        load.moves()
    return load


def stop_the_database_again_and_again(
    server: ServerProcess, cluster: OwnCluster, stops: int
) -> Load:
    chance = random.Random(stops)
    with Load(server) as load:
        # A crash that fell between all calls proves nothing: go on until one was felt.
        for crash in range(stops + UNFELT_MAX):
            if crash >= stops and load.interruptions:
                break
            load.moves()
            threading.Event().wait(PAUSE_SECONDS * chance.random())
            cluster.stop_at_once()
            cluster.start()
        load.moves()
    return load


def is_sound(url: str, load: Load) -> str:
    """The store against what the load was told; returns how much that was."""
    assert load.failures == []
    assert load.interruptions
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.partition(":///")[2])) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    jobs = asyncio.run(jobs_of_keys(url, sorted(load.sent)))
    wrong = [key for key, job_id in load.told.items() if jobs[key].job_id != job_id]
    assert wrong == []
    records = {job.job_id: job for job in jobs.values()}
    for job_id, lease_id in load.completed.items():
        job = records[job_id]
        assert (job.status, job.lease_id) == (Status.COMPLETED, lease_id)
        assert Struct.FromString(job.result or b"")["lease"] == lease_id
    return f"{len(load.told)} jobs and {len(load.completed)} settles acknowledged"


async def jobs_of_keys(url: str, keys: list[str]) -> dict[str, JobRecord]:
    """The job of each key; there are no others, and every counter is right."""
    store = open_store(url, SystemClock())
    await store.open(lambda _: None)
    try:
        assert await store.recount() == []
        before = (await store.queue(DEFAULT_ORGANIZATION, QUEUE)).counts.total
        created = await _gather(store, keys)
        assert await store.recount() == []
        after = (await store.queue(DEFAULT_ORGANIZATION, QUEUE)).counts.total
        # Each key is one job: what was not there is now, and nothing is there besides.
        assert (after, after - before) == (len(keys), created)
        return await _jobs(store)
    finally:
        await store.close()


async def _gather(store: JobStore, keys: list[str]) -> int:
    """Put all keys into one batch, no matter who sent them; return how many were not there."""
    await store.open_batch(DEFAULT_ORGANIZATION, BatchOpening("all", QUEUE, ""))
    created = 0
    for number, start in enumerate(range(0, len(keys), ROWS)):
        some = keys[start : start + ROWS]
        rows = chunk("all", some, number, keys=some)
        stored = await store.add_chunk(DEFAULT_ORGANIZATION, rows)
        created += stored.rows - len(stored.duplicates)
    return created


async def _jobs(store: JobStore) -> dict[str, JobRecord]:
    found: dict[str, JobRecord] = {}
    after: int | None = 0
    while after is not None:
        page = await store.jobs(DEFAULT_ORGANIZATION, BatchJobs("all", (), after, ROWS, True))
        found.update((job.idempotency_key or "", job) for job in page.jobs)
        after = page.after
    return found


def test_kill_9_of_the_server_loses_and_doubles_nothing(serve: Serve, new_store: NewStore) -> None:
    url = new_store()
    server = serve(url)
    load = kill_again_and_again(server, 3)
    # Nobody has repaired anything yet.
    server.kill()
    is_sound(url, load)
    assert "Traceback" not in server.log.read_text()


def test_a_crash_of_the_database_loses_and_doubles_nothing(
    serve: Serve, cluster: OwnCluster
) -> None:
    url = cluster.database()
    server = serve(url)
    load = stop_the_database_again_and_again(server, cluster, 2)
    assert server.stop() == 0
    is_sound(url, load)
    assert "Traceback" not in server.log.read_text()


def _last_acts(caller: Caller) -> Iterator[tuple[str, int]]:
    """Do one thing after another; yield a job's id and what it must be after a crash."""
    opening = batch.OpenBatch(batch_id="b", queue_name=QUEUE, upload_id="u")
    keys = ["one", "two"]
    rows = batch.JobChunk(payloads=[struct(key=key) for key in keys], idempotency_keys=keys)
    requests = [batch.EnqueueBatchRequest(open=opening), batch.EnqueueBatchRequest(chunk=rows)]
    outcomes = [answer.outcome for answer in caller.converse("EnqueueBatch", iter(requests))]
    yield outcomes[-1].job_ids[0], Status.PENDING
    single = caller.call(EnqueueRequest(queue_name=QUEUE, priority=1)).job_id
    yield single, Status.PENDING
    (claimed,) = caller.call(DequeueRequest(queue_name=QUEUE, worker_id="w")).jobs
    yield single, Status.PROCESSING
    caller.call(CompleteRequest(job_id=single, worker_id="w", lease_id=claimed.lease_id))
    yield single, Status.COMPLETED
    held: dict[str, Any] = {"queue_name": QUEUE, "worker_id": "w"}
    (leased,) = caller.call(batch.ClaimChunksRequest(max_jobs=2, **held)).chunks
    yield leased.job_ids[0], Status.PROCESSING
    held |= {"lease_id": leased.lease_id, "job_ids": leased.job_ids[:1]}
    list(caller.converse("Settle", [batch.SettleRequest(chunks=[batch.ChunkOutcomes(**held)])]))
    yield leased.job_ids[0], Status.COMPLETED
    failed = leased.job_ids[1]
    failure = {"worker_id": "w", "lease_id": leased.lease_id, "error": "e", "retry": False}
    caller.call(FailRequest(job_id=failed, **failure))
    yield failed, Status.DEADLETTER


def _status(caller: Caller, job_id: str) -> int:
    """Of a job, once the server has found its database again."""
    found: list[int] = []

    def is_told() -> bool:
        with contextlib.suppress(grpc.RpcError):
            found.append(caller.call(GetJobRequest(job_id=job_id)).job.status)
        return bool(found)

    eventually(is_told, 60)
    return found[0]


def test_what_was_acknowledged_last_outlasts_a_crash_of_the_database(
    serve: Serve, cluster: OwnCluster
) -> None:
    """Nothing comes after it that would take it to the disk."""
    cluster.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    cluster.execute("SELECT pg_reload_conf()")
    url = cluster.database()
    server = serve(url)
    with Caller(server.address, API_KEY) as caller:
        for job_id, status in _last_acts(caller):
            cluster.stop_at_once()
            cluster.start()
            assert _status(caller, job_id) == status
            # And it says that it serves, however often that was: balancers pass over it else.
            eventually(lambda: health_of(server) == "SERVING")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_kill_9_of_the_server_loses_and_doubles_nothing_however_often(
    serve: Serve, new_store: NewStore, size: Size
) -> None:
    url, kills = new_store(), size("kills", 50)
    server = serve(url)
    load = kill_again_and_again(server, kills)
    server.kill()
    print(f"\n{url.partition(':')[0]}, server killed {kills} times: {is_sound(url, load)}")
    assert "Traceback" not in server.log.read_text()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_crash_of_the_database_loses_and_doubles_nothing_however_often(
    serve: Serve, cluster: OwnCluster, size: Size
) -> None:
    url, stops = cluster.database(), size("stops", 10)
    server = serve(url)
    load = stop_the_database_again_and_again(server, cluster, stops)
    assert server.stop() == 0
    print(f"\nPostgreSQL stopped {stops} times: {is_sound(url, load)}")
    assert "Traceback" not in server.log.read_text()
