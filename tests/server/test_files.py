"""Files, keys and warnings: what others of the machine or the network could use."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from spooled_pipelines.batch.outcome.writers import write_stream
from spooled_pipelines.rpc.channel import warn_of_plaintext
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.server.config.loading import ConfigError, load
from spooled_pipelines.server.config.settings import is_local, shown_store
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.sqlite.connections.filelock import FileLock
from spooled_pipelines.server.store.sqlite.store import SqliteStore
from spooled_pipelines.server.store.sqlite.upkeep.backup import back_up
from spooled_pipelines.worker.health.health_file import HealthFile
from tests.support.server_process import API_KEY
from tests.support.wire import Wire


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def test_store_log_lock_and_backup_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = SqliteStore(f"sqlite:///{path}", SystemClock())
    await store.open(lambda _: None)
    back_up(path, tmp_path / "backup.db")
    made = files(tmp_path)
    assert {"jobs.db", "jobs.db-wal", "jobs.db-shm", "backup.db"} <= {each.name for each in made}
    assert {each.name: oct(mode(each)) for each in made if mode(each) != 0o600} == {}
    await store.close()


def test_a_lock_is_not_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("dear")
    (tmp_path / "jobs.db.lock").symlink_to(victim)
    with pytest.raises(StoreUnavailableError, match="is a link, which is not followed"):
        FileLock(tmp_path / "jobs.db").take()
    assert victim.read_text() == "dear"


def test_a_health_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("dear")
    for name in (f".health.{os.getpid()}", "health"):
        (tmp_path / name).symlink_to(victim)
    HealthFile(tmp_path / "health")._write("ready")
    assert victim.read_text() == "dear"
    assert (tmp_path / "health").read_text() == "ready\n"


def test_results_leave_the_umask_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    with monkeypatch.context() as patch:
        patch.delattr(os, "umask")
        write_stream(pa.table({"a": [1]}).to_reader(), tmp_path / "results.csv")
    assert mode(tmp_path / "results.csv") == mode(ordinary)
    assert {each.name for each in tmp_path.iterdir()} == {"ordinary", "results.csv"}


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("a", "has 1 characters"),
        ("REPLACE-ME", "placeholder"),
        ("sp_live_change_me_please", "placeholder"),
        ("<your-admin-key-here>", "placeholder"),
        ("fifteen_letters", "has 15 characters"),
    ],
)
def test_keys_that_can_be_guessed_are_refused(tmp_path: Path, key: str, reason: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{API_KEY}\n{key}\n")
    for flags, environment in (
        ({"api_key": [key]}, {}),
        ({"api_key_file": str(file)}, {}),
        ({}, {"SPOOLED_API_KEY": key}),
    ):
        with pytest.raises(ConfigError, match=reason) as caught:
            load(flags, environment)
        assert key == "a" or key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["host=h password=SECRET", "host=h password=SECRET:1", "postgresql://u:SECRET@h/d", "SECRET"],
)
def test_a_stores_password_is_not_shown(url: str) -> None:
    assert "SECRET" not in shown_store(url)


def test_which_addresses_are_local() -> None:
    assert all(map(is_local, ("localhost:1", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "unix:a")))
    assert not any(map(is_local, ("0.0.0.0:1", "[::]:1", "example.org:1", ":1")))


async def test_a_server_without_tls_says_who_can_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Wire(tmp_path):
        assert "without TLS" not in caplog.text
    async with Wire(tmp_path, listen="0.0.0.0:0"):
        assert "listen 0.0.0.0:0 is open to other machines without TLS" in caplog.text


def test_a_client_without_tls_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "spooled_pipelines.rpc"):
        warn_of_plaintext(ConnectionSettings("localhost:1", api_key=API_KEY))
        warn_of_plaintext(ConnectionSettings("plain.example.org:1", api_key=API_KEY))
        assert caplog.text == ""
        for _ in range(2):
            settings = ConnectionSettings("plain.example.org:1", api_key=API_KEY, tls=False)
            warn_of_plaintext(settings)
    assert caplog.text.count("plain.example.org:1 is without TLS") == 1
    assert API_KEY not in caplog.text
