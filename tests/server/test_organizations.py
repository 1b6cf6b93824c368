"""`spooled-pipelines organizations`: list, export, and delete so that nothing is left."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest

from spooled_pipelines.server.core.batches.records import BatchOpening
from spooled_pipelines.server.core.jobs.settlements import Failure
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.administration.backup import find_faults
from spooled_pipelines.server.store.open import open_store
from tests.support import forked
from tests.support.cli import Done, command
from tests.support.store_kit import StoreKit, chunk, holder, new_job, settle_one, struct
from tests.support.waiting import eventually

_SECRET = "the-secret-of-acme"


async def run(*arguments: str) -> Done:
    done = await asyncio.to_thread(command, "organizations", *arguments)
    assert done.code == 0, done.stderr
    return done


@pytest.fixture
async def two(store_url: str) -> str:
    """A store with the organizations acme and other, with the same names within."""
    kit = StoreKit(lambda clock: open_store(store_url, clock))
    await kit.open()
    for organization, secret in (("acme", _SECRET), ("other", "kept")):
        await kit.store.open_batch(organization, BatchOpening("b", "q", "nightly"))
        await kit.store.add_chunk(
            organization, chunk("b", ["x", "y"], payloads=[struct(secret=secret)] * 2)
        )
        await kit.store.enqueue(organization, new_job("alone", payload=struct(secret=secret)))
    dead, _ = await kit.claim(2)
    await settle_one(kit.store, "acme", holder(dead), Failure(f"no {_SECRET}", False))
    assert await kit.store.recount() == []
    await kit.store.close()
    return store_url


def files_of(url: str) -> list[Path]:
    """The files that a store is in, as they are when the database has written everything."""
    if url.startswith("sqlite:"):
        return [*Path(url.removeprefix("sqlite:///")).parent.glob("*")]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        row = connection.execute(
            "SELECT current_setting('data_directory'), oid FROM pg_database "
            "WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return [*Path(row[0], "base", str(row[1])).iterdir()]


def holds_the_secret(url: str) -> bool:
    found = [path for path in files_of(url) if path.is_file()]
    assert found
    return any(_SECRET.encode() in path.read_bytes() for path in found)


async def test_an_organization_is_deleted_and_nothing_is_left_of_it(two: str) -> None:
    assert holds_the_secret(two)
    listed = [*map(json.loads, (await run("list", "--store", two, "--json")).stdout.splitlines())]
    each = {"queues": 2, "batches": 1, "jobs": 3, "keys": 0}
    assert listed == [{"name": "acme", **each}, {"name": "other", **each}]
    refused = await asyncio.to_thread(command, "organizations", "delete", "acme", "--store", two)
    assert (refused.code, "--yes is needed" in refused.stderr) == (2, True)
    done = await run("delete", "acme", "--yes", "--store", two)
    assert "acme: deleted with 3 jobs" in done.stdout
    assert not holds_the_secret(two)
    left = json.loads((await run("list", "--store", two, "--json")).stdout)
    assert left == {"name": "other", **each}
    # What the others have is whole.
    assert await asyncio.to_thread(find_faults, two) == []


# Dies when the rows are gone, and the files still hold them.
_DYING = """
import os, signal, sys
from spooled_pipelines.server.store.administration.organizations import delete

def progress(doing):
    if doing.startswith("writing"):
        os.kill(os.getpid(), signal.SIGKILL)

delete(sys.argv[1], "acme", progress)
"""


async def test_a_deletion_that_is_killed_is_ended_by_the_next(two: str) -> None:
    ended = await asyncio.to_thread(forked.run, [sys.executable, "-c", _DYING, two])
    assert ended.returncode == -signal.SIGKILL
    assert holds_the_secret(two)
    await run("delete", "acme", "--yes", "--store", two)
    assert not holds_the_secret(two)


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
async def test_a_vacuum_that_the_database_began_is_waited_for(two: str) -> None:
    waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND mode = 'ShareLock'"
    with psycopg.connect(two) as vacuum, psycopg.connect(two, autocommit=True) as looking:
        vacuum.execute("LOCK TABLE spooled.jobs IN SHARE UPDATE EXCLUSIVE MODE")
        deletion = asyncio.create_task(run("delete", "acme", "--yes", "--store", two))
        await asyncio.to_thread(
            eventually, lambda: deletion.done() or looking.execute(waiting).fetchone() == (True,)
        )
        vacuum.rollback()
        assert "acme: deleted with 3 jobs" in (await deletion).stdout


async def test_a_store_in_use_and_one_that_is_not_there(two: str, tmp_path: Path) -> None:
    served = open_store(two, SystemClock())
    await served.open(lambda _: None)
    arguments = ("organizations", "delete", "acme", "--yes", "--store")
    refused = await asyncio.to_thread(command, *arguments, two)
    assert refused.code == 2, refused.stderr
    # What only reads does not need it for itself.
    await run("list", "--store", two)
    await served.close()
    none = tmp_path / "none.db"
    refused = await asyncio.to_thread(command, *arguments, f"sqlite:///{none}")
    assert (refused.code, "there is no store at" in refused.stderr) == (2, True)
    assert not none.exists()


async def test_an_export_has_what_an_organization_has(two: str, tmp_path: Path) -> None:
    lines, table = tmp_path / "acme.jsonl", tmp_path / "acme.parquet"
    await run("export", "acme", "--output", str(lines), "--store", two)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    kinds = [row["kind"] for row in rows]
    assert kinds == ["queue"] * 2 + ["batch"] + ["job"] * 3 + ["attempt"]
    jobs = [row for row in rows if row["kind"] == "job"]
    assert [job["payload"] for job in jobs] == [{"secret": _SECRET}] * 3
    assert [job["status"] for job in jobs] == ["deadletter", "processing", "pending"]
    assert [job["batch"] for job in jobs] == ["b", "b", None]
    assert rows[-1]["job"] == jobs[0]["id"]
    await run("export", "acme", "--output", str(table), "--store", two)
    read = pq.read_table(table).to_pylist()
    assert [row["id"] for row in read] == [job["id"] for job in jobs]
    assert json.loads(read[0]["payload"]) == {"secret": _SECRET}
    unknown = await asyncio.to_thread(
        command, "organizations", "export", "nobody", "--output", "x.jsonl", "--store", two
    )
    assert (unknown.code, "there is no organization 'nobody'" in unknown.stderr) == (2, True)
