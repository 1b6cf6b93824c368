"""`spooled-pipelines copy`: a store becomes one of the other kind, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines.server.core.batches.records import BatchOpening
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.jobs.settlements import Failure, GiveBack
from spooled_pipelines.server.core.limits.queue_limits import QueueLimits
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.administration.backup import back_up, find_faults
from spooled_pipelines.server.store.administration.copying import Copied, copy
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import BatchSelector, ControlChange
from spooled_pipelines.server.store.sqlite.upkeep.copying import tables
from tests.support import forked
from tests.support.postgres import Cluster
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, settle_one

# Copies in pages of three rows, and dies by SIGKILL after so many of them.
_DYING = """
import os, signal, sys
from spooled_pipelines.server.store.administration.copying import copy

left = int(sys.argv[3])

def progress(table, there, total):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

copy(sys.argv[1], sys.argv[2], progress, page_rows=3)
"""


async def quietly(source: str, target: str) -> list[Copied]:
    return await asyncio.to_thread(copy, source, target, lambda *_: None, page_rows=3)


async def killed_after(pages: int, source: str, target: str) -> None:
    """Copy in another process until it is killed."""
    command = [sys.executable, "-c", _DYING, source, target, str(pages)]
    ended = await asyncio.to_thread(forked.run, command)
    assert ended.returncode == -signal.SIGKILL


@pytest.fixture
async def full(tmp_path: Path) -> str:
    """A store in SQLite with jobs in every state, and rows in each of its tables."""
    url = f"sqlite:///{tmp_path / 'full.db'}"
    kit = StoreKit(lambda clock: open_store(url, clock))
    await kit.open()
    later = kit.clock.now() + 60_000
    await kit.open_batch("b")
    await kit.add("b", *(f"name-{number}" for number in range(12)), tags=b'{"a": "b"}')
    await kit.add("b", "name-3", "due", number=1, scheduled_at=[None, later])
    await kit.enqueue(priority=-5, idempotency_key="free text \x00 ü")
    running, dead, waiting, given_back, done, left = await kit.claim(6)
    await settle_one(kit.store, ORGANIZATION, holder(dead), Failure("no \x00 such ü", False))
    await settle_one(kit.store, ORGANIZATION, holder(waiting), Failure("later", True))
    await settle_one(kit.store, ORGANIZATION, holder(given_back), GiveBack(begun=True))
    await kit.complete(done)
    limits = QueueLimits(2.5, burst=3, max_in_flight=90)
    await kit.store.set_control(ORGANIZATION, "q", ControlChange(limits=limits))
    await kit.open_batch("gone", "other")
    await kit.add("gone", "x")
    await kit.store.cancel(ORGANIZATION, BatchSelector("gone", None))
    await kit.store.open_batch(ORGANIZATION, BatchOpening("sealed", "other", "näme"))
    await kit.store.close()
    del running, left
    with closing(sqlite3.connect(tmp_path / "full.db")) as connection, connection:
        for table in tables():
            if not connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]:
                marks = ", ".join("?" for _ in table.columns)
                row = [_value(name, kind) for name, kind in table.types.items()]
                connection.execute(f"INSERT INTO {table.name} VALUES ({marks})", row)
    return url


def _value(name: str, kind: str) -> Any:
    """What fits any column of this type, and those that are yes or no in PostgreSQL."""
    texts = {"TEXT": f"{name} ü", "BLOB": b"\x01\x00\x00\x00\x02\x00\x00\x00"}
    return 1 if kind == "INTEGER" else texts[kind]


def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of a store in SQLite."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        found = {
            table.name: sorted(connection.execute(f"SELECT * FROM {table.name}"), key=repr)
            for table in tables()
        }
        found["prefix"] = connection.execute(
            "SELECT value FROM meta WHERE name = 'id_prefix'"
        ).fetchall()
    return found


@pytest.fixture
def database(cluster: Cluster) -> str:
    return cluster.empty_database()


@pytest.fixture
def back(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'back.db'}"


async def test_there_and_back_every_table_is_the_same(full: str, database: str, back: str) -> None:
    copied = await quietly(full, database)
    assert all(each.source_rows == each.target_rows > 0 for each in copied)
    assert {each.table for each in copied} == {table.name for table in tables()}
    await quietly(database, back)
    assert contents(back) == contents(full)


async def test_a_copy_that_is_killed_goes_on_where_it_was(
    full: str, database: str, back: str
) -> None:
    for source, target in ((full, database), (database, back)):
        await killed_after(4, source, target)
        # Neither a server nor a backup takes the half for the whole.
        store = open_store(target, SystemClock())
        with pytest.raises(StoreUnavailableError, match="a copy that is not complete"):
            await store.open(lambda _: None)
        with pytest.raises(StoreUnavailableError, match="a copy that is not complete"):
            await asyncio.to_thread(find_faults, target)
        await killed_after(5, source, target)
        await quietly(source, target)
    assert contents(back) == contents(full)


async def test_a_server_goes_on_with_the_copy(full: str, database: str) -> None:
    path = Path(full.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as connection:
        (last,) = connection.execute("SELECT max(seq) FROM jobs").fetchone()
    await quietly(full, database)
    kit = StoreKit(lambda clock: open_store(database, clock))
    await kit.open()
    assert (await kit.job(kit.job_id(last))).job_id == kit.job_id(last)
    made = await kit.enqueue("new")
    assert made > kit.job_id(last), "no id comes again"
    await kit.open_batch("new", "new")
    assert await kit.add("new", "new") == (1, [])
    # The key of a row that was there before finds its job.
    assert await kit.add("b", "name-1", number=7, upload_id="again") == (0, [0])
    assert len(await kit.claim(20)) == 3, "the queue's limit came along"
    await kit.store.close()


async def test_what_may_not_be_copied(full: str, database: str, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="the same store"):
        await quietly(full, full)
    with pytest.raises(StoreUnavailableError, match="there is no store at"):
        await quietly(f"sqlite:///{tmp_path}/none.db", database)
    served = open_store(full, SystemClock())
    await served.open(lambda _: None)
    with pytest.raises(StoreUnavailableError, match="open"):
        await quietly(full, database)
    await served.close()
    await killed_after(2, full, database)
    changed = open_store(full, SystemClock())
    await changed.open(lambda _: None)
    await changed.close()
    with pytest.raises(StoreUnavailableError, match="FROM has changed since"):
        await quietly(full, database)
    copy_of_it = f"sqlite:///{tmp_path / 'backup.db'}"
    back_up(full, tmp_path / "backup.db")
    with pytest.raises(StoreUnavailableError, match="is not empty"):
        await quietly(full, copy_of_it)


async def test_a_database_that_a_server_uses(full: str, database: str, back: str) -> None:
    served = open_store(database, SystemClock())
    await served.open(lambda _: None)
    for source, target in ((full, database), (database, back)):
        with pytest.raises(StoreUnavailableError, match="a server or a command uses"):
            await quietly(source, target)
    await served.close()


# Says how many jobs are there, and copies on while its parent reads that.
_COPYING = """
import sys
from spooled_pipelines.server.store.administration.copying import copy

copy(sys.argv[1], sys.argv[2], lambda table, there, _: print(table, there, flush=True))
"""
_JOBS, _CHUNK = 500_000, 5_000


async def killed_with(jobs: int, source: str, target: str) -> None:
    """Kill a copy when so many jobs are there, wherever it is by then."""

    def run() -> None:
        command = [sys.executable, "-c", _COPYING, source, target]
        with forked.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                table, there = line.split()
                if table == "jobs" and int(there) >= jobs:
                    process.kill()
            assert process.wait() == -signal.SIGKILL

    await asyncio.to_thread(run)


@pytest.mark.long
async def test_half_a_million_jobs_there_and_back_with_two_kills_each(
    tmp_path: Path, database: str, back: str
) -> None:
    path = tmp_path / "many.db"
    source = f"sqlite:///{path}"
    kit = StoreKit(lambda clock: open_store(source, clock))
    await kit.open()
    await kit.open_batch("b")
    for number in range(_JOBS // _CHUNK):
        names = [str(name) for name in range(number * _CHUNK, (number + 1) * _CHUNK)]
        await kit.add("b", *names, number=number)
    await kit.store.close()
    sides = ((source, database), (database, back))
    for one, other in sides:
        began = time.monotonic()
        for killed_at in (_JOBS // 3, 2 * _JOBS // 3):
            await killed_with(killed_at, one, other)
            print(f"{other.partition(':')[0]}: killed with {killed_at:,} jobs", end=", ")
        await asyncio.to_thread(copy, one, other, lambda *_: None)
        print(f"complete after {time.monotonic() - began:.1f} s")
    assert contents(back) == contents(source)
