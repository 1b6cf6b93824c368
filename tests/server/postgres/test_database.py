"""The database: made by the first server, refused where it does not fit, back after a crash."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, cast

import psycopg
import pytest

from spooled_pipelines.server.core.errors import RefusedError, StoreUnavailableError
from spooled_pipelines.server.core.jobs.settlements import Completion, Settlement
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.postgres.connections import schema
from spooled_pipelines.server.store.postgres.connections.database import connect
from spooled_pipelines.server.store.postgres.queries import MIGRATIONS
from spooled_pipelines.server.store.postgres.store import PostgresStore
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.server.store.sql import Migration
from spooled_pipelines.server.store.sqlite.queries import MIGRATIONS as SQLITE_MIGRATIONS
from tests.support.postgres import OwnCluster, running_cluster
from tests.support.replica import Replica
from tests.support.store_kit import ORGANIZATION, holder, new_job
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


async def test_a_newer_schema_that_asks_for_newer_servers_is_refused(database: str) -> None:
    execute(
        database,
        "INSERT INTO spooled.migrations (name, checksum, compatible_from) "
        "VALUES ('9999_newer', 'x', 9999)",
    )
    known = MIGRATIONS[-1].name
    assert f"9999_newer, and this program knows up to {known}" in await refusal(database)


def newer(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """From here on servers know these migrations as well, which older servers put up with."""
    more = [
        Migration(f"{9000 + place}_more", text, 1, "CONCURRENTLY" in text)
        for place, text in enumerate(texts)
    ]
    monkeypatch.setattr(schema, "MIGRATIONS", [*MIGRATIONS, *more])


ADDED = (
    "ALTER TABLE jobs ADD COLUMN note bytea;\n",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_noted ON jobs (seq) WHERE note IS NOT NULL;\n",
)


async def test_older_servers_go_on_and_start_on_what_newer_ones_added(
    cluster: OwnCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cluster.empty_database()
    older = PostgresStore(url, SystemClock())
    await older.open(lambda _: None)
    for number in range(5):
        await older.enqueue(ORGANIZATION, new_job(idempotency_key=str(number)))
    with monkeypatch.context() as patched:
        newer(patched, *ADDED)
        await asyncio.gather(*(open_and_close(url) for _ in range(4)))
    assert "jobs_noted" in str(shape(url)["indexes"])
    for store in (older, PostgresStore(url, SystemClock())):
        if store is not older:
            await store.open(lambda _: None)
        await store.enqueue(ORGANIZATION, new_job())
        (job,) = await store.claim(ORGANIZATION, ClaimRequest("q", "w", 30_000, 1))
        await store.settle(ORGANIZATION, [Settlement(holder(job), Completion(None))])
        assert await store.recount() == []
        await store.close()


async def test_a_migration_that_waits_for_a_table_lets_the_others_through(
    cluster: OwnCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cluster.empty_database()
    older = PostgresStore(url, SystemClock())
    await older.open(lambda _: None)
    monkeypatch.setattr(schema, "_TABLE_LOCK_TIMEOUT", "100ms")
    newer(monkeypatch, ADDED[0])
    async with await connect(url) as reader, reader.transaction():
        await reader.execute("SELECT FROM jobs")
        migrating = asyncio.create_task(open_and_close(url))
        for _ in range(20):
            await older.enqueue(ORGANIZATION, new_job())
        assert not migrating.done()
    await migrating
    await older.close()


async def test_what_a_failed_index_left_behind_is_made_again(
    cluster: OwnCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cluster.empty_database()
    store = PostgresStore(url, SystemClock())
    await store.open(lambda _: None)
    for _ in range(2):
        await store.enqueue(ORGANIZATION, new_job())
    await store.close()
    newer(monkeypatch, "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS odd ON jobs (priority);\n")
    assert "cannot be used as a store" in await refusal(url)
    execute(url, "UPDATE spooled.jobs SET priority = seq")
    await open_and_close(url)
    with psycopg.connect(url) as connection:
        query = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        assert connection.execute(query).fetchone() == (0,)


def shape(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every column and index."""
    with psycopg.connect(url) as connection:
        return {
            "columns": connection.execute(
                "SELECT table_name, column_name FROM information_schema.columns "
                "WHERE table_schema = 'spooled' ORDER BY table_name, column_name"
            ).fetchall(),
            "indexes": connection.execute(
                "SELECT indexname FROM pg_indexes WHERE schemaname = 'spooled' ORDER BY 1"
            ).fetchall(),
        }


COUNTERS = {"pending", "waiting", "scheduled", "processing", "completed", "failed", "deadletter"}
COUNTERS |= {"cancelled", "expired"}


def columns(rows: Iterable[tuple[object, ...]]) -> dict[object, set[object]]:
    found: dict[object, set[object]] = {}
    for table, column in rows:
        found.setdefault(table, set()).add(column)
    return found


def test_both_stores_have_the_same_tables_and_columns(database: str) -> None:
    """But for where counters are, and for what a store knows of itself."""
    ours = columns(shape(database)["columns"])
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in SQLITE_MIGRATIONS:
            connection.executescript(migration.statements)
        query = "SELECT t.name, c.name FROM pragma_table_list t, pragma_table_info(t.name) c "
        theirs = columns(connection.execute(query + "WHERE t.name NOT LIKE 'sqlite_%'"))
    for own in ("store", "migrations", "queue_counters", "batch_counters", "leases", "settlements"):
        del ours[own]
    # What its indexes go by.
    ours["jobs"] -= {"phase", "starts_by", "placed_key", "running_key", "alone_since"}
    del theirs["meta"]
    theirs["queues"] -= {*COUNTERS, "lease_expired_at"}
    theirs["batches"] -= {*COUNTERS, "changed", "replaced"}
    ours["rounds_served"] -= {"shard"}
    # Kept by hand, since the counters are in shards.
    ours["batches"] -= {"settled_at", "has_dead"}
    assert ours == theirs


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
        await other.execute("LOCK TABLE spooled.job_places")
        await other.execute("SELECT pg_terminate_backend(%s)", [pid])
        await other.execute("UPDATE spooled.job_places SET following = 2")
    await asyncio.gather(storing, here.enqueue())
    assert await here.queue_counts() == {"pending": 3}


async def test_a_refusal_that_nobody_waits_for_any_more_is_not_logged(
    replicas: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    (here,) = await replicas(1)
    await here.open_batch("b", "q")
    # What earlier tests left is said now.
    gc.collect()
    caplog.clear()
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
