"""The SQLite file: one server at a time, ours alone, no newer than the server, found by index."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.jobs.payloads import payload_digest
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.server.store.sql import Migration
from spooled_pipelines.server.store.sqlite.connections import database
from spooled_pipelines.server.store.sqlite.queries import MIGRATIONS, SQL
from spooled_pipelines.server.store.sqlite.store import SqliteStore
from tests.support import forked
from tests.support.store_kit import ORGANIZATION, new_job

KNOWN = MIGRATIONS[-1].name


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
    command += ["--store", f"sqlite:///{path}", "--api-key", "sp_test_of_16_more"]
    with forked.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline().startswith("listening on ")
        second = forked.run(command, timeout=30)
        first.terminate()
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert first.returncode == 0


async def test_a_newer_file_is_refused_by_its_version(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await open_and_close(path)
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO migrations VALUES ('9999_newer', 'x', 9999, '')")
    connection.commit()
    connection.close()
    assert f"9999_newer, and this program knows up to {KNOWN}" in await refusal(path)


async def test_someone_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    assert "another program" in await refusal(path)
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


# These read all that there is, which is what they are for: when a store is opened, or its keys are
# listed or it was restored, and which queues metrics name or are slowed.
READ_ALL = {
    *("read_highest_place", "go_on_from"),
    *("list_queues", "list_earlier_names", "list_throttled"),
    *("list_keys", "recount_queues", "recount_batches"),
}

# These number, sum or sort what an index and a limit let through.
FEW = {
    "claim_jobs": {"jobs_ready"},
    "list_attempts": {"attempts"},
    "list_places": {"jobs_held", "jobs_let_out", "key_limits"},
}


@pytest.mark.parametrize("name", sorted(set(SQL) - READ_ALL))
def test_every_statement_finds_its_rows_by_index(name: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.create_function("digest_of_payload", 1, payload_digest)
    for migration in MIGRATIONS:
        connection.executescript(migration.statements)
    parameters = [None] * len(set(re.findall(r"\?\d+", SQL[name])))
    plan = connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", parameters).fetchall()
    steps = [row[3] for row in plan]
    connection.close()
    # A list that the statement is given is read from its beginning to its end.
    steps = [step for step in steps if "VIRTUAL TABLE" not in step]
    allowed = ("SCAN CONSTANT ROW", "SCAN priorities")
    slow = [s for s in steps if (s.startswith("SCAN") and s not in allowed) or "TEMP B-TREE" in s]
    if name in FEW:
        assert FEW[name] <= {index for step in steps for index in step.split()}
        slow = [step for step in slow if re.match(r"SCAN (jobs|attempts|key_limits)\b", step)]
    assert not slow, steps


def newer(monkeypatch: pytest.MonkeyPatch, compatible_from: int) -> None:
    """From here on a server knows one more migration."""
    added = Migration("0099_note", "ALTER TABLE jobs ADD COLUMN note BLOB;", compatible_from, False)
    monkeypatch.setattr(database, "MIGRATIONS", [*MIGRATIONS, added])


@pytest.mark.parametrize("compatible_from", [1, 99])
async def test_a_file_is_migrated_with_what_is_in_it_and_the_older_server_may_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compatible_from: int
) -> None:
    path = tmp_path / "jobs.db"
    store = store_at(path)
    await store.open(lambda _: None)
    await store.enqueue(ORGANIZATION, new_job())
    await store.close()
    with monkeypatch.context() as patched:
        newer(patched, compatible_from)
        await open_and_close(path)
        # And once it is, it stays as it is.
        await open_and_close(path)
    if compatible_from > 1:
        assert f"up to {KNOWN}" in await refusal(path)
        return
    store = store_at(path)
    await store.open(lambda _: None)
    assert len(await store.claim(ORGANIZATION, ClaimRequest("q", "w", 30_000, 10))) == 1
    assert await store.recount() == []
    await store.close()
