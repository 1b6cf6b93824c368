"""A store is copied and checked while its server runs; whatever differs is one line."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.store.administration.backup import back_up, find_faults
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support import forked
from tests.support.server_process import ServerProcess
from tests.support.store_kit import ORGANIZATION, StoreKit, new_job
from tests.support.wire import method_named


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spooled_pipelines.cli.main", *arguments]
    return forked.run(command, timeout=60)


def keys_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT idempotency_key FROM jobs")}


class Load(threading.Thread):
    """Enqueues until it is told to end; notes the keys that were acknowledged."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self.server = server
        self.acknowledged: set[str] = set()
        self.enough = threading.Event()
        self.end = threading.Event()
        self.start()

    def run(self) -> None:
        method = method_named("Enqueue")
        with grpc.insecure_channel(self.server.address) as channel:
            enqueue = channel.unary_unary(
                method.path, lambda m: m.SerializeToString(), method.response_class.FromString
            )
            metadata = (("x-api-key", self.server.api_key),)
            while not self.end.is_set():
                key = f"k-{len(self.acknowledged)}"
                request = spooled.EnqueueRequest(queue_name="q", idempotency_key=key)
                enqueue(request, metadata=metadata, timeout=10)
                self.acknowledged.add(key)
                if len(self.acknowledged) >= 100:
                    self.enough.set()


def test_backup_under_load_has_all_that_was_acknowledged_before_it(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = start_server()
    load = Load(server)
    try:
        assert load.enough.wait(30)
        before = set(load.acknowledged)
        copied = run("backup", "--store", f"sqlite:///{server.store}", str(tmp_path / "copy.db"))
        assert copied.returncode == 0, copied.stderr
        checked = run("check", "--store", f"sqlite:///{server.store}")
        assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout
    finally:
        load.end.set()
        load.join(20)
    assert before <= keys_of(tmp_path / "copy.db") <= keys_of(server.store)
    assert find_faults(f"sqlite:///{tmp_path / 'copy.db'}") == []
    # The copy is a store like any other.
    assert server.stop() == 0
    with ServerProcess(tmp_path / "copy.db") as copy:
        assert copy.running
    assert not list(tmp_path.glob("*.part"))


def store_with_a_job(path: Path) -> str:
    async def make() -> None:
        kit = StoreKit(lambda clock: open_store(f"sqlite:///{path}", clock))
        await kit.open()
        await kit.store.enqueue(ORGANIZATION, new_job())
        await kit.store.close()

    asyncio.run(make())
    return f"sqlite:///{path}"


def test_backup_overwrites_nothing_and_names_what_is_wrong(tmp_path: Path) -> None:
    url = store_with_a_job(tmp_path / "jobs.db")
    taken = tmp_path / "taken.db"
    taken.write_text("mine")
    with pytest.raises(FileExistsError, match="choose another name"):
        back_up(url, taken)
    assert taken.read_text() == "mine"
    with pytest.raises(StoreUnavailableError, match=r"there is no store at .*nothing"):
        back_up(f"sqlite:///{tmp_path / 'nothing.db'}", tmp_path / "copy.db")
    with pytest.raises(StoreUnavailableError, match="pg_dump"):
        back_up("postgresql://host/database", tmp_path / "copy.db")
    with pytest.raises(FileNotFoundError, match="no-folder"):
        back_up(url, tmp_path / "no-folder" / "copy.db")
    assert not (tmp_path / "nothing.db").exists()
    assert not (tmp_path / "copy.db").exists()


def test_check_says_each_counter_that_is_wrong(tmp_path: Path) -> None:
    url = store_with_a_job(tmp_path / "jobs.db")
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        connection.execute("UPDATE queues SET pending = 7, completed = 1")
        connection.commit()
    checked = run("check", "--store", url)
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == [
        "queue acme/q: pending is kept as 7, and counted as 1",
        "queue acme/q: completed is kept as 1, and counted as 0",
    ]


def test_check_finds_damage_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    url = store_with_a_job(path)
    with closing(sqlite3.connect(path)) as connection:
        page_size = connection.execute("PRAGMA page_size").fetchone()[0]
        page = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'jobs_ready'"
        ).fetchone()[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * page_size)
        file.write(b"\xff" * 64)
    checked = run("check", "--store", url)
    assert checked.returncode == 1, checked
    assert all(line.startswith("file: ") for line in checked.stdout.splitlines())


def test_check_refuses_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    for name in ("notes.txt", "nothing.db"):
        checked = run("check", "--store", f"sqlite:///{tmp_path / name}")
        assert checked.returncode == 2
        assert name in checked.stderr
        assert len(checked.stderr.splitlines()) == 1


def test_check_recounts_each_kind_of_store(store_url: str) -> None:
    async def make() -> None:
        kit = StoreKit(lambda clock: open_store(store_url, clock))
        await kit.open()
        await kit.enqueue()
        await kit.store.close()

    asyncio.run(make())
    assert find_faults(store_url) == []
