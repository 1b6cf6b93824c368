"""A full disk, a read-only or damaged file: said by name, and no acknowledged job is lost."""

from __future__ import annotations

import asyncio
import logging
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.errors import UnavailableError
from spooled_pipelines.server.core.errors import (
    CorruptStoreError,
    DiskFullError,
    LockedStoreError,
    ReadOnlyStoreError,
    StoreFaultError,
)
from spooled_pipelines.server.store.administration.backup import find_faults
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.sqlite.connections.disk_errors import FaultLog
from tests.support.logged import records_of_ours
from tests.support.server_process import ServerProcess
from tests.support.store_kit import ORGANIZATION, StoreKit, new_job, struct

LARGE = struct(text="x" * 50_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def sqlite(path: Path) -> AsyncIterator[StoreKit]:
    kit = StoreKit(lambda clock: open_store(f"sqlite:///{path}", clock))
    await kit.open()
    yield kit
    await kit.store.close()


def writer(kit: StoreKit) -> sqlite3.Connection:
    return cast("Any", kit.store)._connections[0]


async def test_a_full_disk_refuses_whole_groups_and_everyone_gets_an_answer(
    sqlite: StoreKit, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connection = writer(sqlite)
    before = await sqlite.enqueue(idempotency_key="before")
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 40}")
    calls = [
        sqlite.store.enqueue(ORGANIZATION, new_job(idempotency_key=f"k{n}", payload=LARGE))
        for n in range(40)
    ]
    # Those that came together are one commit; the answers say which of them are there.
    outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
    full = [outcome for outcome in outcomes if isinstance(outcome, DiskFullError)]
    assert full
    assert (full[0].code, "disk" in full[0].message) == ("UNAVAILABLE", True)
    kept = {outcome.job_id for outcome in outcomes if not isinstance(outcome, Exception)} | {before}
    counts = await sqlite.queue_counts()
    assert counts == {"pending": len(kept)}
    assert len(kept) + len(full) == 41
    lines = [record.message for record in records_of_ours(caplog) if str(path) in record.message]
    assert len(lines) == 1
    caplog.clear()
    # Somebody made room.
    connection.execute("PRAGMA max_page_count = 1000000")
    for n in range(40):
        await sqlite.enqueue(idempotency_key=f"k{n}", payload=LARGE)
    assert await sqlite.queue_counts() == {"pending": 41}
    assert await sqlite.store.recount() == []
    assert [record.levelno for record in records_of_ours(caplog)] == [logging.WARNING]


async def test_a_file_that_became_read_only_says_so(
    sqlite: StoreKit, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await sqlite.enqueue()
    writer(sqlite).execute("PRAGMA query_only = ON")
    with pytest.raises(ReadOnlyStoreError, match="read-only"):
        await sqlite.enqueue()
    assert str(path) in caplog.text
    assert (await sqlite.job(job_id)).job_id == job_id
    writer(sqlite).execute("PRAGMA query_only = OFF")
    await sqlite.enqueue()
    assert await sqlite.queue_counts() == {"pending": 2}


async def test_a_damaged_file_says_so_and_keeps_what_is_readable(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kit = StoreKit(lambda clock: open_store(f"sqlite:///{path}", clock))
    await kit.open()
    job_id = await kit.enqueue(idempotency_key="k")
    await kit.store.close()
    with closing(sqlite3.connect(path)) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        query = "SELECT rootpage FROM sqlite_schema WHERE name = 'jobs_ready'"
        page = connection.execute(query).fetchone()[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 64)
    await kit.open()
    for call in (kit.enqueue(), kit.claim()):
        with pytest.raises(CorruptStoreError, match="damaged"):
            await call
    assert str(path) in caplog.text
    assert (await kit.job(job_id)).job_id == job_id
    await kit.store.close()


async def test_what_fails_by_itself_fails_nobody_else(sqlite: StoreKit) -> None:
    good = [sqlite.store.enqueue(ORGANIZATION, new_job()) for _ in range(3)]
    bad = sqlite.store.enqueue(ORGANIZATION, new_job(payload=None))
    outcomes = await asyncio.gather(*good, bad, return_exceptions=True)
    assert isinstance(outcomes[-1], sqlite3.IntegrityError)
    assert not isinstance(outcomes[-1], StoreFaultError)
    assert await sqlite.queue_counts() == {"pending": 3}


def fill(client: SpooledClient, acknowledged: list[str]) -> None:
    for n in range(100):
        payload = {"text": "x" * 20_000}
        acknowledged.append(client.enqueue("q", payload, idempotency_key=f"k{n}").job_id)


def test_a_disk_that_is_now_full_and_now_not_is_said_once_a_minute(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    log = FaultLog(path, lambda: now)
    full = sqlite3.OperationalError("database or disk is full")
    for _ in range(20):
        assert log.refusal(full).code == "UNAVAILABLE"
        log.works()
    assert [record.levelname for record in records_of_ours(caplog)] == ["ERROR", "WARNING"]
    caplog.clear()
    # It stays full: what the log says has to be true again after a minute.
    log.refusal(full)
    now = 61.0
    log.refusal(full)
    log.refusal(full)
    assert [record.levelname for record in records_of_ours(caplog)] == ["ERROR"]
    log.works()
    assert [record.levelname for record in records_of_ours(caplog)] == ["ERROR", "WARNING"]


def test_a_server_on_a_full_disk_answers_with_a_sentence_and_goes_on_after_it(
    start_server: Callable[..., ServerProcess], path: Path
) -> None:
    server = start_server()
    # Like a disk that is full: no file may grow beyond this.
    size = max(file.stat().st_size for file in server.store.parent.glob(server.store.name + "*"))
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    acknowledged: list[str] = []
    with connect(server.address, api_key=server.api_key, timeout_seconds=3) as client:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size + 200_000, hard))
        with pytest.raises(UnavailableError, match="store"):
            fill(client, acknowledged)
        assert acknowledged
        assert client.queue_stats("q").pending == len(acknowledged)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))
        client.enqueue("q", {"n": 1})
        for job_id in acknowledged:
            assert client.get_job(job_id).id == job_id
    assert server.stop() == 0
    log = server.log.read_text()
    assert str(server.store) in log
    assert "Traceback" not in log
    assert find_faults(f"sqlite:///{server.store}") == []


async def test_a_file_that_another_program_has_locked_is_unavailable_and_the_log_names_it(
    sqlite: StoreKit, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer(sqlite).execute("PRAGMA busy_timeout = 10")
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    code += "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    program = [sys.executable, "-c", code, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(program, text=True, **pipes) as other:  # type: ignore[call-overload]  # noqa: ASYNC220
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(LockedStoreError, match="another program has locked the file"):
            await sqlite.enqueue()
        assert f"process {other.pid} (python" in caplog.text
        other.stdin.close()
    assert await sqlite.enqueue()
