"""One file has one server, by whatever name, and is served only while it is where it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from spooled_pipelines.server.core.errors import MovedStoreError, StoreUnavailableError
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.sqlite.connections import file_identity
from spooled_pipelines.server.store.sqlite.connections.filelock import FileLock
from spooled_pipelines.server.store.sqlite.store import SqliteStore
from tests.support.store_kit import ORGANIZATION, new_job


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder / "jobs.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{path}", SystemClock())
    await store.open(lambda _: None)
    yield store
    await store.close()


def deleted(path: Path) -> None:
    for file in path.parent.glob("jobs.db*"):
        file.unlink()


def log_deleted(path: Path) -> None:
    path.with_name("jobs.db-wal").unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def replaced(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.db"))
    path.with_name("copy.db").replace(path)


def folder_deleted(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("done", [deleted, log_deleted, moved, replaced, folder_deleted])
async def test_nothing_is_acknowledged_once_the_file_is_another(
    store: SqliteStore, path: Path, done: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    await store.enqueue(ORGANIZATION, new_job())
    done(path)
    for call in (store.enqueue(ORGANIZATION, new_job()), store.queue(ORGANIZATION, "q")):
        with pytest.raises(MovedStoreError, match=r"jobs\.db.*moved, deleted or replaced"):
            await call
    assert str(path) in caplog.text
    # A reader leaves no empty file behind.
    assert os.path.exists(path) == (done in (replaced, log_deleted))  # noqa: ASYNC240, PTH110


async def test_a_file_that_is_put_back_is_served_again(store: SqliteStore, path: Path) -> None:
    moved(path)
    with pytest.raises(MovedStoreError):
        await store.enqueue(ORGANIZATION, new_job())
    path.with_name("moved.db").rename(path)
    assert (await store.enqueue(ORGANIZATION, new_job())).created


async def test_a_file_with_two_names_is_refused(store: SqliteStore, path: Path) -> None:
    other = path.with_name("other.db")
    os.link(path, other)
    with pytest.raises(StoreUnavailableError, match=r"has 2 names \(hard links\)"):
        FileLock(other).take()


def test_the_lock_meets_the_file_under_another_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As through a mount, of which the name alone says nothing."""
    monkeypatch.setattr(
        "spooled_pipelines.server.store.sqlite.connections.filelock.refuse_aliases", print
    )
    path.touch()
    other = path.with_name("other.db")
    os.link(path, other)
    lock = FileLock(path)
    lock.take()
    with pytest.raises(StoreUnavailableError, match="under another name"):
        FileLock(other).take()
    code = (
        "import sys; from pathlib import Path\n"
        "from spooled_pipelines.server.store.sqlite.connections import filelock\n"
        "filelock.refuse_aliases = print\n"
        "filelock.FileLock(Path(sys.argv[1])).take()\n"
    )
    program = [sys.executable, "-c", code, str(other)]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert "under another name, or through a mount" in ended.stderr
    # Nor does it help to delete the file that says who has it.
    path.with_name("jobs.db.lock").unlink()
    assert subprocess.run([*program[:-1], str(path)], capture_output=True, check=False).returncode
    lock.release()
    FileLock(other).take()


def test_a_file_that_is_a_mount_of_its_own_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = path.with_name("mountinfo")
    mounts.write_text(f"36 35 98:0 /jobs.db {path} rw,noatime - ext4 /dev/root rw\n")
    monkeypatch.setattr(file_identity, "_MOUNTS", mounts)
    with pytest.raises(StoreUnavailableError, match=f"Mount the folder, {path.parent}, instead"):
        FileLock(path).take()
