"""The database: made by whoever comes first, refused where it does not fit, back after a crash."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import psycopg
import pytest

from spooled_pipelines.server.core.clock import SystemClock
from spooled_pipelines.server.core.errors import RefusedError, StoreUnavailableError
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.postgres import schema
from spooled_pipelines.server.store.postgres.database import connect
from spooled_pipelines.server.store.postgres.queries import MIGRATIONS
from spooled_pipelines.server.store.postgres.schema import SCHEMA_VERSION
from spooled_pipelines.server.store.postgres.store import PostgresStore
from tests.support.postgres import OwnCluster, running_cluster
from tests.support.replica import Replica
from tests.support.store_kit import ORGANIZATION, new_job
from tests.support.waiting import aeventually

Replicas = Callable[[int], "Awaitable[list[Replica]]"]
RESTART_SECONDS = 15.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    """A PostgreSQL of this module's own, which its tests stop."""
    with running_cluster() as cluster:
        yield cluster


async def open_and_close(url: str) -> str:
    """What the ids of the store begin with."""
    store = PostgresStore(url, SystemClock())
    await store.open(lambda _: None)
    await store.close()
    return store.job_ids_prefix()


async def refusal(url: str) -> str:
    with pytest.raises(StoreUnavailableError) as caught:
        await open_and_close(url)
    return str(caught.value)


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


async def test_many_servers_make_the_schema_together(cluster: OwnCluster) -> None:
    url = cluster.empty_database()
    prefixes = await asyncio.gather(*(open_and_close(url) for _ in range(6)))
    assert len(set(prefixes)) == 1


async def test_a_newer_schema_is_refused_by_its_number(database: str) -> None:
    newer = SCHEMA_VERSION + 1
    execute(database, f"INSERT INTO spooled.migrations (number) VALUES ({newer})")
    message = await refusal(database)
    assert f"schema version {newer}, and this server knows up to {SCHEMA_VERSION}" in message


async def old_schema(url: str, monkeypatch: pytest.MonkeyPatch, version: int = 1) -> None:
    """What this version made of a database."""
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", MIGRATIONS[:version])
        patched.setattr(schema, "SCHEMA_VERSION", version)
        async with await connect(url) as connection:
            await schema.prepare(connection, url)


async def test_a_database_of_the_first_schema_is_migrated_with_what_is_in_it(
    cluster: OwnCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cluster.empty_database()
    await old_schema(url, monkeypatch)
    execute(
        url,
        f"""
        SET search_path = spooled;
        INSERT INTO organizations (name) VALUES ('{ORGANIZATION}');
        INSERT INTO queues (organization, name) VALUES (1, 'q');
        INSERT INTO queue_counters VALUES (1, 0, 1, 0, 0, 0, 0, 0, 1, 0);
        INSERT INTO batches (organization, queue, sealed, created_at, changed_at, batch_id, name)
        VALUES (1, 1, true, 5, 6, 'b', 'flights');
        INSERT INTO batch_counters VALUES (1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 6);
        INSERT INTO batch_errors VALUES (1, 1, 'boom');
        UPDATE store SET next_seq = 3;
        INSERT INTO jobs (seq, batch, created_at, organization, queue, timeout_seconds, status,
            priority, max_retries, last_error, payload)
        VALUES (1, 1, 5, 1, 1, 300, 1, 0, 3, NULL, ''), (2, 1, 5, 1, 1, 300, 6, 0, 3, 'boom', '');
        """,
    )
    store = PostgresStore(url, SystemClock())
    await store.open(lambda _: None)
    (batch,) = await store.batches(ORGANIZATION, ["b"])
    assert (batch.name, batch.sealed, batch.generation) == ("flights", True, 0)
    assert (batch.counts.pending, batch.counts.deadletter) == (1, 1)
    assert batch.top_errors == (("boom", 1),)
    assert await store.retry_batch(ORGANIZATION, "b", "") == 1
    assert len(await store.claim(ORGANIZATION, "q", "w", 30_000, 10)) == 2
    assert await store.recount() == []
    await store.close()


def shape(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every column, index and constraint."""
    with psycopg.connect(url) as connection:
        return {
            "columns": connection.execute(
                "SELECT table_name, column_name, data_type, is_nullable, column_default, "
                "identity_generation FROM information_schema.columns "
                "WHERE table_schema = 'spooled' ORDER BY table_name, column_name"
            ).fetchall(),
            "indexes": connection.execute(
                "SELECT indexdef FROM pg_indexes WHERE schemaname = 'spooled' ORDER BY 1"
            ).fetchall(),
            "constraints": connection.execute(
                "SELECT conrelid::regclass::text, contype::text, pg_get_constraintdef(oid) "
                "FROM pg_constraint WHERE connamespace = 'spooled'::regnamespace ORDER BY 1, 2, 3"
            ).fetchall(),
        }


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_a_database_of_any_version_becomes_what_a_fresh_one_is(
    cluster: OwnCluster, database: str, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    url = cluster.empty_database()
    await old_schema(url, monkeypatch, version)
    store = PostgresStore(url, SystemClock())
    await store.open(lambda _: None)
    await store.close()
    assert shape(url) == shape(database)


async def test_nothing_is_made_outside_its_own_schema(database: str) -> None:
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        ).fetchone()
    assert found == (0,)


async def test_a_database_of_another_encoding_is_refused(cluster: OwnCluster) -> None:
    cluster.execute("CREATE DATABASE bytes TEMPLATE template0 ENCODING SQL_ASCII LOCALE 'C'")
    assert "is encoded in SQL_ASCII; it must be UTF8" in await refusal(cluster.url("bytes"))


async def test_a_database_that_is_not_there_is_named_without_its_password(
    cluster: OwnCluster,
) -> None:
    url = cluster.url("nowhere").replace("postgres:@", "postgres:secret@")
    message = await refusal(url)
    assert "nowhere" in message
    assert "secret" not in message
    assert "\n" not in message
    with pytest.raises(StoreUnavailableError) as caught:
        open_store("mysql://someone:secret@host/x", SystemClock())
    assert "secret" not in str(caught.value)


async def test_after_a_crash_of_the_database_everything_goes_on(
    cluster: OwnCluster, replicas: Replicas
) -> None:
    here, there = await replicas(2)
    await here.open_batch()
    await here.add("b", "x", "y", "z")
    held = await here.claim_one()
    settled = await here.claim_one()
    answers: list[str] = []
    codes: set[str] = set()
    stop = asyncio.Event()

    async def produce(replica: Replica, number: int) -> None:
        while not stop.is_set():
            job = new_job(idempotency_key=f"{number}-{len(answers)}")
            try:
                answers.append((await replica.store.enqueue(ORGANIZATION, job)).job_id)
            except RefusedError as refusal:
                codes.add(refusal.code)

    producing = [asyncio.create_task(produce(r, n)) for n, r in enumerate((here, there) * 2)]
    try:
        await aeventually(lambda: len(answers) > 20)
        await asyncio.to_thread(cluster.stop_at_once)
        here.changed()
        there.changed()
        with pytest.raises(RefusedError) as caught:
            await there.complete(settled)
        assert caught.value.code == "UNAVAILABLE"
        await asyncio.to_thread(cluster.start)
        before = len(answers)
        await aeventually(lambda: len(answers) > before + 20, RESTART_SECONDS)
    finally:
        stop.set()
        await asyncio.gather(*producing)
    assert codes <= {"UNAVAILABLE"}
    # Notices may have been missed: everyone is woken, and looks.
    for replica in (here, there):
        await replica.hears(lambda changes: changes.everything, RESTART_SECONDS)
    for job_id in answers:
        assert (await there.job(job_id)).job_id == job_id
    await there.complete(held)
    await here.hears(lambda changes: held.job_id in changes.released_jobs)


async def test_the_first_call_after_an_outage_is_answered(
    cluster: OwnCluster, replicas: Replicas
) -> None:
    """The pauses between two attempts to connect do not grow with the outage."""
    (here,) = await replicas(1)
    await here.enqueue()
    await asyncio.to_thread(cluster.stop_at_once)
    try:
        with pytest.raises(RefusedError, match="the database of the store is away"):
            await here.enqueue()
    finally:
        await asyncio.to_thread(cluster.start)
    await here.enqueue()


@pytest.mark.parametrize("way", ["enqueue", "chunk"])
async def test_numbers_that_a_crash_forgot_are_used_once(
    database: str, replicas: Replicas, way: str
) -> None:
    """Numbers of jobs are taken without waiting for the disk, so a crash may give them again."""
    (here,) = await replicas(1)
    await here.enqueue()
    await here.open_batch()
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("LOCK TABLE spooled.jobs")
        storing = asyncio.create_task(here.enqueue() if way == "enqueue" else here.add("b", "x"))
        waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

        async def held_up() -> int | None:
            row = await (await other.execute(waits.encode())).fetchone()
            return None if row is None else int(row[0])

        pid = await aeventually(held_up)
        # What a crash does to it, and to what was not on the disk yet.
        await other.execute("LOCK TABLE spooled.store")
        await other.execute("SELECT pg_terminate_backend(%s)", [pid])
        await other.execute("UPDATE spooled.store SET next_seq = 2")
    await asyncio.gather(storing, here.enqueue())
    assert await here.queue_counts() == {"pending": 3}


async def test_a_refusal_that_nobody_waits_for_any_more_is_not_logged(
    replicas: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    (here,) = await replicas(1)
    await here.open_batch("b", "q")
    asking = asyncio.create_task(here.open_batch("b", "r"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    del asking
    await cast("Any", here.store)._background.drain()
    gc.collect()
    assert caplog.text == ""


async def test_what_was_missed_while_not_listening_is_made_up_for(replicas: Replicas) -> None:
    here, there = await replicas(2)
    await here.enqueue()
    job = await here.claim_one()
    here.changed()
    async with cast("Any", here.store)._pool.connection() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
    await there.complete(job)
    await here.hears(
        lambda changes: changes.everything and job.job_id in changes.released_jobs,
        RESTART_SECONDS,
    )
    await there.hears(lambda changes: changes.everything, RESTART_SECONDS)
    await there.enqueue()
    await here.hears(lambda changes: (ORGANIZATION, "q") in changes.ready_queues)
