"""The server as a process: signals, kill -9 under load, TLS, and what it prints."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from spooled_pipelines.server.store.sqlite.reads import reading
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support import forked
from tests.support.certificates import make_certificate
from tests.support.server_process import API_KEY, ServerProcess
from tests.support.wire import method_named, struct

ROWS = 100
CRASHES = 4


def call(channel: grpc.Channel, name: str, request: Any, key: str) -> Any:
    method = method_named(name)
    invoke = channel.unary_unary(
        method.path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=method.response_class.FromString,
    )
    return invoke(request, metadata=(("x-api-key", key),), timeout=10)


class Producer(threading.Thread):
    """Enqueues, one by one or in batches, until the server is gone; notes what was answered."""

    def __init__(self, server: ServerProcess, number: int, enough: threading.Event) -> None:
        super().__init__()
        self.server = server
        self.number = number
        self.enough = enough
        self.acknowledged: dict[str, str] = {}
        self.start()

    def run(self) -> None:
        with grpc.insecure_channel(self.server.address) as channel:
            work = self.upload if self.number % 2 else self.enqueue
            # Until the server is gone.
            with contextlib.suppress(grpc.RpcError):
                while True:
                    work(channel)

    def enqueue(self, channel: grpc.Channel) -> None:
        key = f"single-{self.number}-{len(self.acknowledged)}"
        request = spooled.EnqueueRequest(queue_name="q", idempotency_key=key)
        self.acknowledged[key] = call(channel, "Enqueue", request, self.server.api_key).job_id
        if len(self.acknowledged) == 20:
            self.enough.set()

    def upload(self, channel: grpc.Channel) -> None:
        method = method_named("EnqueueBatch")
        sent: list[list[str]] = []
        window = threading.Semaphore(3)

        def requests() -> Any:
            opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id=f"u{self.number}")
            yield batch.EnqueueBatchRequest(open=opening)
            while window.acquire():
                place = len(sent)
                keys = [f"row-{self.number}-{place}-{n}" for n in range(ROWS)]
                sent.append(keys)
                payloads = [struct(n=n).SerializeToString() for n in range(ROWS)]
                chunk = batch.JobChunk(payloads=payloads, idempotency_keys=keys, number=place)
                yield batch.EnqueueBatchRequest(chunk=chunk)

        answers = channel.stream_stream(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response_class.FromString,
        )(requests(), metadata=(("x-api-key", self.server.api_key),))
        for answer in answers:
            if answer.HasField("outcome"):
                outcome = answer.outcome
                keys = sent[outcome.number]
                self.acknowledged.update(zip(keys, outcome.job_ids, strict=True))
                self.enough.set()
                window.release()


def test_every_acknowledged_job_survives_kill_9_exactly_once(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server()
    acknowledged: dict[str, str] = {}
    chance = random.Random(1)
    for crash in range(CRASHES):
        events = [threading.Event() for _ in range(4)]
        producers = [Producer(server, crash * 4 + n, event) for n, event in enumerate(events)]
        for event in events:
            assert event.wait(20)
        # Somewhere in the middle of whatever comes next.
        threading.Event().wait(chance.random() / 10)
        server.kill()
        for producer in producers:
            producer.join(20)
            assert not producer.is_alive()
            acknowledged.update(producer.acknowledged)
        if crash == 0:
            # Nobody has repaired anything yet.
            assert_sound(server.store, acknowledged)
        server.restart()
    with grpc.insecure_channel(server.address) as channel:
        key, job_id = next(iter(acknowledged.items()))
        request = spooled.EnqueueRequest(queue_name="q", idempotency_key=key)
        answer = call(channel, "Enqueue", request, server.api_key)
        assert (answer.created, answer.job_id) == (False, job_id)
    assert server.stop() == 0
    assert_sound(server.store, acknowledged)


def assert_sound(path: Path, acknowledged: dict[str, str]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert reading.recount(connection) == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT idempotency_key, seq FROM jobs").fetchall()
    stored = dict(rows)
    assert len(stored) == len(rows)
    # The number is the id's end.
    wrong = [k for k, job_id in acknowledged.items() if stored.get(k) != int(job_id[-12:], 16)]
    assert acknowledged
    assert not wrong


def test_sigterm_ends_it_with_code_0_and_nothing_in_the_log(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server()
    with grpc.insecure_channel(server.address) as channel:
        request = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
        stream: Any = channel.unary_stream(
            method_named("StreamJobs").path,
            request_serializer=spooled.StreamJobsRequest.SerializeToString,
            response_deserializer=spooled.Job.FromString,
        )(request, metadata=(("x-api-key", server.api_key),))
        call(channel, "Enqueue", spooled.EnqueueRequest(queue_name="q"), server.api_key)
        assert next(stream).id
        assert server.stop() == 0
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            next(stream)
    assert server.complaints() == []


def test_keys_of_several_organizations_can_be_given(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server()
    with grpc.insecure_channel(server.address) as channel:
        request = spooled.EnqueueRequest(queue_name="q", idempotency_key="k")
        mine = call(channel, "Enqueue", request, server.api_key)
        key = keys.CreateKeyRequest(organization="acme", name="acme", role="admin")
        secret = call(channel, "CreateKey", key, server.api_key).secret
        theirs = call(channel, "Enqueue", request, secret)
    assert mine.created
    assert theirs.created


def run_server(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spooled_pipelines.cli.main", "serve", *arguments]
    return forked.run(command, timeout=30)


def test_what_cannot_be_served_is_one_line(tmp_path: Path) -> None:
    store = ("--store", f"sqlite:///{tmp_path / 'jobs.db'}")
    for arguments, text in (
        (store, "the server needs an API key"),
        ((*store, "--api-key", API_KEY, "--rate-limit", "0"), "--rate-limit must be"),
        ((*store, "--api-key", API_KEY, "--tls-cert", "x"), "tls_cert and tls_key"),
        (("--store", "mysql:///x", "--api-key", API_KEY), "mysql:///x"),
        ((*store, "--api-key", API_KEY, "--listen", "nowhere.invalid:1"), "nowhere.invalid:1"),
        (
            (*store, "--api-key", API_KEY, "--tls-cert", "no-file", "--tls-key", "no-file"),
            "no-file",
        ),
    ):
        ended = run_server(*arguments)
        assert ended.returncode == 2, ended
        last = ended.stderr.splitlines()[-1]
        assert last.startswith("spooled-pipelines: ")
        assert text in last
        assert "Traceback" not in ended.stderr


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost: (certificate, key)."""
    paths = (tmp_path / "cert.pem", tmp_path / "key.pem")
    make_certificate().write(*paths)
    return paths


@pytest.mark.parametrize("mutual", [False, True])
def test_tls_and_mutual_tls(
    start_server: Callable[..., ServerProcess], certificate: tuple[Path, Path], mutual: bool
) -> None:
    cert, key = certificate
    arguments = ["--tls-cert", str(cert), "--tls-key", str(key)]
    if mutual:
        arguments += ["--tls-client-ca", str(cert)]
    server = start_server(*arguments, host="localhost")
    authority = cert.read_bytes()
    anonymous = grpc.ssl_channel_credentials(authority)
    known = grpc.ssl_channel_credentials(authority, key.read_bytes(), cert.read_bytes())
    request = spooled.EnqueueRequest(queue_name="q")
    with grpc.secure_channel(server.address, known) as channel:
        assert call(channel, "Enqueue", request, server.api_key).created
    with grpc.secure_channel(server.address, anonymous) as channel:
        if mutual:
            with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
                call(channel, "Enqueue", request, server.api_key)
        else:
            assert call(channel, "Enqueue", request, server.api_key).created
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError):
        call(channel, "Enqueue", request, server.api_key)
