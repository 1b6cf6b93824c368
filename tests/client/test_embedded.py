"""connect("embedded:PATH"): a server that lives as long as the clients of its process."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import SpooledClient, connect, errors
from spooled_pipelines.server.store.sqlite.connections.filelock import FileLock
from tests.support.types import OpenClient

WORKER = "worker-1"


async def test_an_embedded_server_does_the_whole_round(
    open_client: OpenClient, tmp_path: Path
) -> None:
    client = open_client(address=f"embedded:{tmp_path / 'jobs.db'}")
    sent = await client.enqueue("q", {"n": 2})
    (job,) = await client.dequeue("q", WORKER)
    await client.complete(job, result={"doubled": 4})
    assert (await client.get_job(sent.job_id)).result == {"doubled": 4}


def test_what_was_enqueued_is_there_the_next_time(tmp_path: Path) -> None:
    path = f"embedded:{tmp_path / 'jobs.db'}"
    with connect(path) as client:
        sent = client.enqueue("q", {"n": 1})
    with connect(path) as client:
        assert client.get_job(sent.job_id).payload == {"n": 1}


def test_closing_the_last_client_ends_the_server(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    client, another = (connect(f"embedded:{tmp_path / 'jobs.db'}") for _ in range(2))
    client.enqueue("q", {})
    client.close()
    client.close()
    assert another.queue_stats("q").total == 1
    another.close()
    left = {t.name for t in set(threading.enumerate()) - before if "spooled" in t.name.lower()}
    assert not left
    # Nobody serves it, so it is free for anyone who wants it.
    FileLock(tmp_path / "jobs.db").take()


def test_settings_of_a_file_find_the_process_that_serves_it(tmp_path: Path) -> None:
    with connect(f"embedded:{tmp_path / 'jobs.db'}") as client:
        client.enqueue("q", {})
        settings = client.settings
    assert str(tmp_path / "jobs.db") in settings.name
    with SpooledClient(settings) as later:
        assert later.queue_stats("q").total == 1
    wrong = replace(settings, api_key="sp_test_wrong")
    with SpooledClient(wrong) as stranger, pytest.raises(errors.AuthenticationError):
        stranger.queue_stats("q")
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(errors.UnavailableError, match="no such file"):
        SpooledClient(settings)


def test_the_environment_does_not_reach_into_an_embedded_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLED_API_KEY", "sp_live_of_another_server")
    with connect(f"embedded:{tmp_path / 'jobs.db'}") as client:
        assert client.queue_stats("q").total == 0


def test_an_address_from_the_environment_may_be_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLED_GRPC_ADDRESS", f"embedded:{tmp_path / 'jobs.db'}")
    with connect() as client:
        assert client.queue_stats("q").total == 0


def test_its_key_is_not_shown(tmp_path: Path) -> None:
    with connect(f"embedded:{tmp_path / 'jobs.db'}") as client:
        key = client.settings.api_key
        assert key not in repr(client) + repr(client.settings) + repr(client.connection)


@pytest.mark.parametrize(
    ("address", "settings"),
    [
        ("embedded:", {}),
        ("embedded:jobs.db", {"api_key": "sp_test_x"}),
        ("embedded:jobs.db", {"tls": True}),
    ],
)
def test_what_makes_no_sense_for_it_is_refused(address: str, settings: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        connect(address, **settings)


async def test_clients_of_one_process_share_its_server(
    open_client: OpenClient, tmp_path: Path
) -> None:
    path = f"embedded:{tmp_path / 'jobs.db'}"
    client = open_client(address=path)
    await client.enqueue("q", {})
    with connect(path) as another:
        assert another.settings.address == client.settings.address
        assert another.queue_stats("q").total == 1
    assert (await client.queue_stats("q")).total == 1


def test_a_file_that_a_server_of_its_own_has_is_refused_with_its_name(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "jobs.db")
    lock.take()
    with pytest.raises(errors.UnavailableError, match="another server") as caught:
        connect(f"embedded:{tmp_path / 'jobs.db'}")
    assert str(os.getpid()) in caught.value.message
    lock.release()
    with connect(f"embedded:{tmp_path / 'jobs.db'}") as client:
        assert client.queue_stats("q").total == 0


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database\n" * 100)
    with pytest.raises(errors.UnavailableError) as caught:
        connect(f"embedded:{path}")
    assert str(path) in caught.value.message
    assert path.read_text() == "not a database\n" * 100


def test_a_client_closed_while_the_interpreter_ends_lets_go_in_good_order(tmp_path: Path) -> None:
    program = """
import atexit, sys
from spooled_pipelines import connect

client = connect(sys.argv[1])
client.enqueue("q", {"n": 1}, idempotency_key="k")
atexit.register(client.close)
"""
    path = f"embedded:{tmp_path / 'jobs.db'}"
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "jobs.db-wal").exists()
    with connect(path) as client:
        assert not client.enqueue("q", {"n": 1}, idempotency_key="k").created
