"""The SQLite file: one server at a time, ours alone, no newer than the server, found by index."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from spooled_pipelines.server.core.clock import SystemClock
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.store.sqlite.database import APPLICATION_ID, SCHEMA_VERSION
from spooled_pipelines.server.store.sqlite.queries import MIGRATIONS, SQL
from spooled_pipelines.server.store.sqlite.store import SqliteStore
from tests.support.store_kit import ORGANIZATION, new_job


def store_at(path: Path) -> SqliteStore:
    return SqliteStore(f"sqlite:///{path}", SystemClock())


async def open_and_close(path: Path) -> None:
    store = store_at(path)
    await store.open(lambda _: None)
    await store.close()


async def refusal(path: Path) -> str:
    with pytest.raises(StoreUnavailableError) as caught:
        await open_and_close(path)
    return str(caught.value)


async def test_a_second_server_on_the_file_says_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    first = store_at(path)
    await first.open(lambda _: None)
    message = await refusal(path)
    assert f"(process {os.getpid()})" in message
    assert str(path) in message
    await first.enqueue(ORGANIZATION, new_job())
    await first.close()
    await open_and_close(path)


def test_a_second_server_process_stops_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    command = [
        sys.executable,
        "-m",
        "spooled_pipelines.cli.main",
        "serve",
        "--listen",
        "127.0.0.1:0",
    ]
    command += ["--store", f"sqlite:///{path}", "--api-key", "sp_test_k"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline().startswith("listening on ")
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        first.terminate()
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert first.returncode == 0


async def test_a_newer_file_is_refused_by_its_version(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await open_and_close(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    message = await refusal(path)
    assert f"schema version {SCHEMA_VERSION + 1}" in message
    assert f"up to {SCHEMA_VERSION}" in message


async def test_someone_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    assert "something else" in await refusal(path)
    assert path.read_bytes() == before


async def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be taken for one\n" * 100)
    before = path.read_bytes()
    assert str(path) in await refusal(path)
    assert path.read_bytes() == before


async def test_a_path_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file" / "jobs.db") in await refusal(tmp_path / "file" / "jobs.db")


@pytest.mark.parametrize("url", ["sqlite:jobs.db", "sqlite:///", "mysql:///x", "jobs.db"])
def test_a_store_that_is_not_understood_is_named(url: str) -> None:
    with pytest.raises(StoreUnavailableError, match=url):
        SqliteStore(url, SystemClock())


async def test_folders_are_made(tmp_path: Path) -> None:
    await open_and_close(tmp_path / "a" / "b" / "jobs.db")
    assert (tmp_path / "a" / "b" / "jobs.db").exists()


async def test_acknowledged_means_synced(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = store_at(path)
    await store.open(lambda _: None)
    (writer,) = store._connections
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await store.close()


@pytest.mark.parametrize("name", sorted(set(SQL) - {"queue_recount", "batch_recount", "all_keys"}))
def test_every_statement_finds_its_rows_by_index(name: str) -> None:
    connection = sqlite3.connect(":memory:")
    for _, statements in MIGRATIONS:
        connection.executescript(statements)
    numbered = [int(number) for number in re.findall(r"\?(\d)", SQL[name])]
    parameters = [None] * (max(numbered) if numbered else SQL[name].count("?"))
    plan = connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", parameters).fetchall()
    steps = [row[3] for row in plan]
    connection.close()
    allowed = ("SCAN CONSTANT ROW", "SCAN priorities")
    slow = [s for s in steps if (s.startswith("SCAN") and s not in allowed) or "TEMP B-TREE" in s]
    assert not slow, steps


async def test_a_file_of_the_first_schema_is_migrated_with_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    connection = sqlite3.connect(path)
    connection.executescript(MIGRATIONS[0][1])
    connection.executescript(
        f"""
        PRAGMA application_id = {APPLICATION_ID};
        PRAGMA user_version = 1;
        INSERT INTO meta VALUES ('id_prefix', '0192f0c0-0000-7000-8000-'), ('next_seq', 3);
        INSERT INTO organizations VALUES (1, '{ORGANIZATION}');
        INSERT INTO queues (id, organization, name, pending, deadletter) VALUES (1, 1, 'q', 1, 1);
        INSERT INTO batches (id, organization, batch_id, queue, name, sealed, pending, deadletter,
            created_at, changed_at) VALUES (7, 1, 'b', 1, 'flights', 1, 1, 1, 5, 6);
        INSERT INTO batch_errors VALUES (7, 'boom', 1);
        INSERT INTO jobs (seq, organization, queue, status, priority, batch, max_retries,
            timeout_seconds, created_at, last_error, payload)
        VALUES (1, 1, 1, 1, 0, 7, 3, 300, 5, NULL, x''), (2, 1, 1, 6, 0, 7, 3, 300, 5, 'boom', x'');
        """
    )
    connection.close()
    store = store_at(path)
    await store.open(lambda _: None)
    (batch,) = await store.batches(ORGANIZATION, ["b"])
    assert (batch.name, batch.sealed, batch.generation) == ("flights", True, 0)
    assert (batch.counts.pending, batch.counts.deadletter) == (1, 1)
    assert batch.top_errors == (("boom", 1),)
    assert await store.retry_batch(ORGANIZATION, "b", "") == 1
    assert len(await store.claim(ORGANIZATION, "q", "w", 30_000, 10)) == 2
    assert await store.recount() == []
    await store.close()
    # And once it is, it stays as it is.
    await open_and_close(path)


def _schema(path: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
    connection.close()
    return found


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_a_file_of_any_version_becomes_what_a_fresh_one_is(
    tmp_path: Path, version: int
) -> None:
    for name, numbers in (("old.db", version), ("new.db", 0)):
        connection = sqlite3.connect(tmp_path / name)
        for number, statements in MIGRATIONS[:numbers]:
            connection.executescript(statements)
            connection.execute(f"PRAGMA user_version = {number}")
        if numbers:
            connection.executescript(
                f"PRAGMA application_id = {APPLICATION_ID};"
                "INSERT INTO meta VALUES ('id_prefix', 'x'), ('next_seq', 1);"
            )
        connection.close()
        await open_and_close(tmp_path / name)
    assert _schema(tmp_path / "old.db") == _schema(tmp_path / "new.db")
