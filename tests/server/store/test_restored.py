"""After a restore no id comes again that was handed out since the backup."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.sqlite.upkeep.backup import back_up
from tests.support.postgres import Cluster
from tests.support.store_kit import ORGANIZATION, new_job


async def enqueue(url: str, count: int = 1, who: str = ORGANIZATION) -> list[str]:
    store = open_store(url, SystemClock())
    await store.open(lambda _: None)
    made = [(await store.enqueue(who, new_job())).job_id for _ in range(count)]
    await store.close()
    return made


async def test_a_file_that_was_copied_back(tmp_path: Path) -> None:
    path, copy = tmp_path / "jobs.db", tmp_path / "copy.db"
    url = f"sqlite:///{path}"
    before = await enqueue(url)
    shutil.copy(path, copy)
    lost = await enqueue(url, 3)
    # Of an organization that the backup does not know.
    unknown = await enqueue(url, 3, "new")
    shutil.copy(copy, path)
    after = await enqueue(url, 3)
    assert not set(await enqueue(url, 3, "newer")) & {*before, *lost, *unknown}
    assert not set(after) & {*before, *lost}
    # An id sorts by age.
    assert sorted([*after, *before]) == [*before, *after]
    shutil.copy(copy, path)
    assert not set(await enqueue(url, 3)) & {*before, *lost, *after}


async def test_a_backup_that_was_taken_while_the_server_ran(tmp_path: Path) -> None:
    path, copy = tmp_path / "jobs.db", tmp_path / "copy.db"
    url = f"sqlite:///{path}"
    store = open_store(url, SystemClock())
    await store.open(lambda _: None)
    back_up(path, copy)
    lost = [(await store.enqueue(ORGANIZATION, new_job())).job_id for _ in range(3)]
    await store.close()
    path.unlink()
    assert not set(await enqueue(f"sqlite:///{copy}", 3)) & set(lost)


async def test_a_store_that_is_only_opened_again_counts_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    (first,), (second,) = await enqueue(url), await enqueue(url)
    assert int(second[-12:], 16) == int(first[-12:], 16) + 1


async def test_a_database_that_was_copied(cluster: Cluster) -> None:
    url = cluster.empty_database()
    before = await enqueue(url)
    name, copy = url.split("/")[3].split("?")[0], "restored"
    cluster.execute(f"CREATE DATABASE {copy} TEMPLATE {name}")
    lost = await enqueue(url, 3)
    unknown = await enqueue(url, 3, "new")
    after = await enqueue(cluster.url(copy), 3)
    assert not set(await enqueue(cluster.url(copy), 3, "newer")) & {*before, *lost, *unknown}
    assert not set(after) & {*before, *lost}
    (first,), (second,) = await enqueue(url), await enqueue(url)
    assert int(second[-12:], 16) == int(first[-12:], 16) + 1
    with psycopg.connect(cluster.url(copy)) as connection:
        connection.execute("SET ROLE pg_database_owner")
        # A role that may not ask about the cluster is not kept from serving.
        connection.execute("SELECT system_identifier FROM pg_control_system()")


def test_numbers_never_run_out() -> None:
    following = 2
    for _ in range(200):
        following = ids.place_after_restore(following)
    assert following < len(ids.numbers_of(1))
