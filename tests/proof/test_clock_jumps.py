"""The clock of a server's machine is set by hours while leases are held: they last as they were.

libfaketime (Debian: faketime) moves the wall clock of the server's process alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from spooled_pipelines import SpooledClient, connect
from tests.support import programs
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

pytestmark = pytest.mark.long

LEASE_SECONDS = 6
LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


@pytest.fixture
def offset(tmp_path: Path) -> Path:
    """Holds by how much the server's clock is wrong."""
    file = tmp_path / "offset"
    file.write_text("+0")
    return file


@pytest.fixture
def client(
    new_store: Callable[[], str],
    offset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SpooledClient]:
    if LIBRARY is None:
        pytest.skip("cannot be here: libfaketime is not installed")
    server = ServerProcess(tmp_path / "server", "--store", new_store())
    # A process of its own: one that is forked has loaded its libraries.
    server.version = programs.ROOT
    with monkeypatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(LIBRARY))
        environment.setenv("FAKETIME_TIMESTAMP_FILE", str(offset))
        environment.setenv("FAKETIME_NO_CACHE", "1")
        # Nobody sets the monotonic clock.
        environment.setenv("DONT_FAKE_MONOTONIC", "1")
        server.start()
    with ExitStack() as stack:
        stack.callback(server.kill)
        yield stack.enter_context(connect(server.address, api_key=server.api_key))


@pytest.mark.parametrize("hours", [2, -2])
def test_leases_last_as_long_as_they_were_given_for(
    client: SpooledClient, offset: Path, hours: int, request: pytest.FixtureRequest
) -> None:
    ids = [client.enqueue("q", {"n": n}).job_id for n in range(3)]
    claimed_at = time.monotonic()
    done, renewed, dead = client.dequeue("q", "w", batch_size=3, lease_seconds=LEASE_SECONDS)
    offset.write_text(f"{hours:+d}h")
    client.complete(done)
    made_at = client.get_job(client.enqueue("x", {}).job_id).created_at
    assert made_at is not None
    # Servers of one PostgreSQL follow its clock, which is as it was.
    is_set = abs(made_at - datetime.now(timezone.utc)) > timedelta(hours=1)
    assert is_set == ("sqlite" in request.node.name)
    again_at = []

    def is_handed_out_again() -> bool:
        client.renew_lease(renewed, lease_seconds=LEASE_SECONDS)
        if client.dequeue("q", "other"):
            again_at.append(time.monotonic())
        return bool(again_at)

    eventually(is_handed_out_again)
    assert again_at[0] - claimed_at >= LEASE_SECONDS
    client.complete(renewed)
    states = [client.get_job(job_id).status for job_id in ids]
    assert states == ["completed", "completed", "processing"]
    assert dead.id == ids[2]
