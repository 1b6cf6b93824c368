"""`keys`: in a store that nobody has open, and through the server that has it."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import connect
from spooled_pipelines.errors import AuthenticationError, PermissionDeniedError
from tests.support.server_process import ServerProcess


@pytest.fixture
def store(folder: Path) -> str:
    return f"sqlite:///{folder / 'jobs.db'}"


def created(spooled: Any, *arguments: str, **environment: str) -> dict[str, Any]:
    done = spooled("keys", "create", "--json", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_key_made_in_a_store_opens_its_server(spooled: Any, folder: Path, store: str) -> None:
    about = ("--role", "produce", "--name", "airflow", "--queue", "q", "--expires-in", "1d 30m")
    made = created(spooled, "--store", store, *about)
    began, ends = (datetime.fromisoformat(made[name]) for name in ("created_at", "expires_at"))
    assert abs(ends - began - timedelta(days=1, minutes=30)) < timedelta(minutes=1)
    assert (made["role"], made["queues"], made["organization"]) == ("produce", ["q"], "default")
    with (
        ServerProcess(folder / "jobs.db") as server,
        connect(server.address, api_key=made["key"]) as client,
    ):
        assert client.enqueue("q", {"n": 1}).created
        with pytest.raises(PermissionDeniedError, match="other queues"):
            client.enqueue("another", {"n": 1})
        with pytest.raises(PermissionDeniedError, match="'produce'"):
            client.dequeue("q", "w")


def test_the_server_that_has_the_store_is_asked_instead(
    spooled: Any, folder: Path, store: str
) -> None:
    with ServerProcess(folder / "jobs.db") as server:
        told = {"SPOOLED_GRPC_ADDRESS": server.address, "SPOOLED_API_KEY": server.api_key}
        made = created(spooled, "--store", store, "--role", "work", "--name", "w", **told)
        ended = threading.Event()
        failures: list[Exception] = []

        def follow() -> None:
            try:
                with client.stream_jobs("q", "w") as jobs:
                    for _ in jobs:
                        pass
            except AuthenticationError as error:
                failures.append(error)
            ended.set()

        with connect(server.address, api_key=made["key"]) as client:
            follower = threading.Thread(target=follow)
            client.queue_stats("q")
            follower.start()
            done = spooled("keys", "revoke", made["id"], "--store", store, "--json", **told)
            assert done.returncode == 0, done.stderr
            assert f"asking the server at {server.address}" in done.stderr
            assert json.loads(done.stdout)["revoked_at"]
            assert ended.wait(60)
            follower.join()
        assert "revoked" in str(failures[0])
        listed = spooled("keys", "list", **told)
        assert made["id"] in listed.stdout
        assert made["key"] not in listed.stdout
        # Keys of another organization are an operator's to make, and nobody else's to see.
        theirs = created(
            spooled, "--role", "admin", "--name", "a", "--organization", "acme", **told
        )
        told["SPOOLED_API_KEY"] = theirs["key"]
        (listed,) = spooled("keys", "list", "--json", **told).stdout.splitlines()
        assert json.loads(listed)["id"] == theirs["id"]
        denied = spooled("keys", "list", "--organization", "default", **told)
        assert denied.returncode == 4
    # The server is gone: the store itself again.
    none = spooled("keys", "list", "--store", store, "--organization", "nobody")
    assert (none.returncode, none.stdout) == (0, "")
    assert "there are no keys" in none.stderr
    (listed,) = map(
        json.loads, spooled("keys", "list", "--store", store, "--json").stdout.splitlines()
    )
    assert (listed["id"], bool(listed["revoked_at"])) == (made["id"], True)


def test_no_other_file_is_taken_for_the_one_that_a_server_has(
    spooled: Any, folder: Path, store: str
) -> None:
    about = ("--role", "read", "--name", "x", "--json")
    assert spooled("keys", "create", "--store", "sqlite:///spooled.db", *about).returncode == 0
    with ServerProcess(folder / "jobs.db"):
        # Nothing is named, so that the shell goes to the file of this folder.
        done = spooled("keys", "create", "--store", store, *about)
    assert (done.returncode, done.stdout) == (2, "")
    assert "jobs.db open: name that server with --address" in done.stderr
    listed = spooled("keys", "list", "--store", "sqlite:///spooled.db", "--json").stdout
    assert len(listed.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("create", "--role", "read", "--name", "n", "--expires-in", "soon"), "--expires-in"),
        (("create", "--role", "read", "--name", ""), "name has 0 characters"),
        (("create", "--role", "read", "--name", "n", "--queue", "a b"), "queue_name"),
        (("revoke", "nonsense"), "there is no key 'nonsense'"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    spooled: Any, store: str, arguments: tuple[str, ...], text: str
) -> None:
    created(spooled, "--store", store, "--role", "read", "--name", "n")
    done = spooled("keys", *arguments, "--store", store)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert text in done.stderr
