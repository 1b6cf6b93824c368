"""A server within this process: this user alone finds its socket and its key, beside the file."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.embedded.embedded_server import EmbeddedServer
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.logged import records_of_ours
from tests.support.wire import method_named


def enqueue(server: EmbeddedServer, key: str | None = None) -> spooled.EnqueueResponse:
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(
            method_named("Enqueue").path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=spooled.EnqueueResponse.FromString,
        )
        request = spooled.EnqueueRequest(queue_name="q", idempotency_key="k")
        return call(request, metadata=(("x-api-key", key or server.api_key),), timeout=10)


def test_it_serves_until_it_is_stopped_and_keeps_the_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    server = EmbeddedServer.start(path)
    assert enqueue(server).created
    server.stop()
    server.stop()
    assert not Path(server.address.removeprefix("unix:")).exists()
    again = EmbeddedServer.start(path)
    # Those who know the one before go on with this one.
    assert (again.address, again.api_key) == (server.address, server.api_key)
    assert not enqueue(again).created
    again.stop()


def test_only_its_own_key_and_user_reach_it(tmp_path: Path) -> None:
    server = EmbeddedServer.start(tmp_path / "jobs.db")
    with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
        enqueue(server, "sp_test_guess")
    assert server.api_key not in repr(server)
    folder = Path(server.address.removeprefix("unix:")).parent
    assert folder.stat().st_mode & 0o077 == 0
    server.stop()


def test_a_second_one_on_the_file_says_who_has_it(tmp_path: Path) -> None:
    server = EmbeddedServer.start(tmp_path / "jobs.db")
    with pytest.raises(StoreUnavailableError, match=f"process {os.getpid()} has .*jobs.db open"):
        EmbeddedServer.start(tmp_path / "jobs.db")
    assert enqueue(server).created
    server.stop()


def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=str(tmp_path)):
        EmbeddedServer.start(tmp_path)


def test_stopping_ends_an_open_stream(tmp_path: Path) -> None:
    server = EmbeddedServer.start(tmp_path / "jobs.db")
    with grpc.insecure_channel(server.address) as channel:
        call: Any = channel.unary_stream(
            method_named("StreamJobs").path,
            request_serializer=spooled.StreamJobsRequest.SerializeToString,
            response_deserializer=spooled.Job.FromString,
        )(
            spooled.StreamJobsRequest(queue_name="q", worker_id="w"),
            metadata=(("x-api-key", server.api_key),),
        )
        enqueue(server)
        assert next(call).id
        server.stop()
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            next(call)


async def test_a_client_on_another_loop_of_the_process_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = EmbeddedServer.start(tmp_path / "jobs.db")
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = channel.unary_unary(
            method_named("Enqueue").path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=spooled.EnqueueResponse.FromString,
        )
        request = spooled.EnqueueRequest(queue_name="q")
        metadata = (("x-api-key", server.api_key),)
        for _ in range(5):
            answers = await asyncio.gather(*(call(request, metadata=metadata) for _ in range(50)))
            assert all(answer.created for answer in answers)
    await asyncio.to_thread(server.stop)
    assert [r for r in records_of_ours(caplog) if r.levelno >= logging.WARNING] == []


def test_a_process_that_forgets_to_stop_it_ends_all_the_same(tmp_path: Path) -> None:
    script = (
        "import sys; from spooled_pipelines.server.embedded.embedded_server import EmbeddedServer; "
        "EmbeddedServer.start(sys.argv[1])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "jobs.db")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
