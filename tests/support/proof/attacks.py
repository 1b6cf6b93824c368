"""Attacks on a running server, over loopback: what each costs it, and what a good caller waits.

`python -m tests.support.proof.attacks` prints the table of docs/security.md; with a folder of
another version of the package, what that version costs.
"""

from __future__ import annotations

import gzip
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

import grpc

from spooled_pipelines.server.core.protobuf import field
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.proof.canary import Canary
from tests.support.proof.http2_peer import Peer, hpack_integer, literal, message
from tests.support.raw_calls import Caller, named
from tests.support.server_process import API_KEY, ServerProcess

MIB = 1 << 20
_FILES = 1_024
_ENQUEUE = "/spooled.v1.QueueService/Enqueue"
_BATCH = "/spooled_pipelines.v1.BatchService/EnqueueBatch"
_CHECK, _WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
# 14 MB of zeros as the name of a queue, or of a service: 14 KB.
_BOMB = gzip.compress(field(1, bytes(14 * MIB)), 9)


@dataclass
class Target:
    """A server under attack, and keys of one organization of it."""

    server: ServerProcess
    produce: str
    work: str
    # Of what a whole attack does, this share is done.
    scale: float

    def many(self, count: int) -> int:
        return max(2, int(count * self.scale))


class Cost(NamedTuple):
    """What an attack cost: the most memory beyond what the server had, and the longest wait."""

    memory_mib: float
    wait_seconds: float
    failed: list[str]


Attack = Callable[[Target], None]


def _bombs(path: str, count: int) -> Attack:
    def attack(target: Target) -> None:
        calls = target.many(count)
        with Peer(target.server.address) as peer:
            for _ in range(calls):
                peer.call(path, message(_BOMB, packed=True), packed=True)
            peer.run(20, until_ended=calls)

    return attack


def _half_sent(path: str, *, with_key: bool = False) -> Attack:
    def attack(target: Target) -> None:
        body = message(bytes(15 * MIB))[:-1000]
        key = target.produce if with_key else None
        with Peer(target.server.address) as peer:
            for _ in range(target.many(60)):
                peer.call(path, body, key=key, end=False)
            until = time.monotonic() + 15
            while time.monotonic() < until and not (peer.has_sent_all or peer.is_closed):
                peer.run(0.2)
            peer.run(2)

    return attack


def _streams(path: str, count: int, body: bytes) -> Attack:
    def attack(target: Target) -> None:
        with ExitStack() as stack:
            for _ in range(4):
                peer = stack.enter_context(Peer(target.server.address))
                calls = target.many(count) // 4
                for start in range(0, calls, 500):
                    for _ in range(min(500, calls - start)):
                        peer.call(path, message(body), end=False)
                    peer.run(0.5)
            time.sleep(1)

    return attack


def _flood(target: Target) -> None:
    """Calls without a key, two hundred at once, as fast as one connection can."""
    with Peer(target.server.address) as peer:
        until, begun = time.monotonic() + 6 * target.scale, 0
        while time.monotonic() < until and not peer.is_closed:
            while begun - len(peer.ended) < 200:
                peer.call(_ENQUEUE, message(b""))
                begun += 1
            peer.run(1, until_ended=len(peer.ended) + 100)


def _rapid_reset(target: Target) -> None:
    with Peer(target.server.address) as peer:
        until = time.monotonic() + 8 * target.scale
        while time.monotonic() < until and not peer.is_closed:
            for _ in range(50):
                peer.reset(peer.call(_ENQUEUE))
            peer.run(1, until_ended=0)


def _header_bombs(target: Target) -> None:
    """Small names for large headers, and the server's settings never acknowledged."""
    calls, named_again = target.many(300), 3_500
    base = b"".join(
        literal(name, value)
        for name, value in (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", _ENQUEUE),
            (":authority", target.server.address),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        )
    )
    kept = b"\x40" + hpack_integer(3) + b"x-b" + hpack_integer(3_900) + b"b" * 3_900
    with Peer(target.server.address) as peer:
        for call in range(calls):
            stream = peer.begin(base + (b"" if call else kept) + b"\xbe" * named_again)
            peer.send(stream, message(b""), end=True)
        peer.run(20, until_ended=calls)


def _silent(target: Target) -> None:
    """More connections than the server may have files; this process may have more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * _FILES), most))
    with ExitStack() as stack:
        for _ in range(target.many(1_124)):
            with suppress(OSError):
                peer = stack.enter_context(Peer(target.server.address))
                peer.run(0.0)
        time.sleep(3)


def _silent_pages(target: Target) -> None:
    """Connections to the page that say nothing, while a probe asks whether the server is ready."""
    page = urlsplit(target.server.page)
    with ExitStack() as stack:
        for _ in range(target.many(512)):
            with suppress(OSError):
                stack.enter_context(socket.create_connection((page.hostname, page.port or 80)))
        for _ in range(30):
            with urlopen(f"http://{page.netloc}/readyz", timeout=5) as answer:
                assert answer.status == HTTPStatus.OK


def _wrong_keys(target: Target) -> None:
    with Caller(target.server.address, "sp_wrong") as caller:
        until = time.monotonic() + 5 * target.scale
        while time.monotonic() < until:
            with suppress(grpc.RpcError):
                caller.call(spooled.GetQueueStatsRequest(queue_name="q"))


def _packed_once(name: str, request: Callable[[], bytes], *, work: bool = False) -> Attack:
    """One legal message, packed."""

    def attack(target: Target) -> None:
        body = message(gzip.compress(request(), 1), packed=True)
        key = target.work if work else target.produce
        with Peer(target.server.address) as peer:
            peer.call(named(name).path, body, key=key, packed=True)
            peer.run(60, until_ended=1)

    return attack


def _entries(number: int, size: int) -> bytes:
    """So many bytes of different entries of a map from text to text."""
    parts, length, count = [], 0, 0
    while length < size:
        entry = field(number, field(1, b"%07d" % count) + field(2, b""))
        parts.append(entry)
        length, count = length + len(entry), count + 1
    return b"".join(parts)


def _list_of(value: bytes, size: int) -> bytes:
    """A payload whose one field is a list of this value."""
    one = field(1, value)
    listed = one * (size // len(one))
    return field(1, field(1, b"a") + field(2, field(6, listed)))


_EMPTY_OBJECT = field(5, b"")


def _open(number: int) -> bytes:
    opening = batch.OpenBatch(batch_id=f"b{number}", queue_name="q", upload_id="u")
    return batch.EnqueueBatchRequest(open=opening).SerializeToString()


def _chunk(payloads: list[bytes], number: int = 0) -> bytes:
    ids = [f"{number}-{row}" for row in range(len(payloads))]
    chunk = batch.JobChunk(payloads=payloads, idempotency_keys=ids, number=number)
    return batch.EnqueueBatchRequest(chunk=chunk).SerializeToString()


def _chunk_of_lists(target: Target) -> None:
    rows = _chunk([_list_of(_EMPTY_OBJECT, MIB)] * 15)
    with Peer(target.server.address) as peer:
        body = message(_open(0)) + message(gzip.compress(rows, 1), packed=True)
        peer.call(_BATCH, body, key=target.produce, packed=True)
        peer.run(60, until_ended=1)


def _unread(target: Target) -> None:
    """Uploads whose answers nobody reads, the same chunk again and again."""
    large = field(1, field(1, b"a") + field(2, field(3, bytes(100_000))))
    packed = message(gzip.compress(_chunk([large] * 150), 1), packed=True)
    with Peer(target.server.address, window=420) as peer:
        for number in range(target.many(10)):
            body = message(_open(number)) + packed * target.many(30)
            peer.call(_BATCH, body, key=target.produce, packed=True, end=False)
        until = time.monotonic() + 20
        while time.monotonic() < until and not (peer.has_sent_all or peer.is_closed):
            peer.run(0.5)
        peer.run(2)


def _unread_jobs(target: Target) -> None:
    """Calls for one large job whose answers nobody reads."""
    with Caller(target.server.address, target.produce) as caller:
        job = spooled.EnqueueRequest(queue_name="q", payload={"a": "x" * 900_000})
        job_id = caller.call(job).job_id
    body = message(spooled.GetJobRequest(job_id=job_id).SerializeToString())
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(target.server.address, window=1)) for _ in range(4)]
        for peer in peers:
            peer.run(0.2)
            for _ in range(target.many(300)):
                peer.call(named("GetJob").path, body, key=target.produce)
        until = time.monotonic() + 8 * target.scale
        while time.monotonic() < until:
            for peer in peers:
                peer.run(0.1)


def _columns() -> bytes:
    return field(2, field(2, b"") * 4_000_000)


def _keyed_bombs(target: Target) -> None:
    calls = target.many(200)
    with Peer(target.server.address) as peer:
        for _ in range(calls):
            body = message(_BOMB, packed=True)
            peer.call(_ENQUEUE, body, key=target.produce, packed=True)
        peer.run(60, until_ended=calls)


WITHOUT_KEY: dict[str, Attack] = {
    "nothing, for 5 s": lambda target: time.sleep(5 * target.scale),
    "400 packed messages of 14 MB to Enqueue": _bombs(_ENQUEUE, 400),
    "200 of them to reflection": _bombs(_REFLECTION, 200),
    "200 of them to Health.Watch": _bombs(_WATCH, 200),
    "200 of them to Health.Check": _bombs(_CHECK, 200),
    "60 calls of Enqueue, 15 MB each, that do not end": _half_sent(_ENQUEUE),
    "60 calls of Health.Check, 15 MB each, that do not end": _half_sent(_CHECK),
    "20,000 watches of health": _streams(_WATCH, 20_000, b""),
    "5,000 streams of reflection": _streams(_REFLECTION, 5_000, field(7, b"")),
    "calls as fast as a connection can, for 6 s": _flood,
    "calls that are reset at once, for 8 s": _rapid_reset,
    "300 calls with 13 MB of headers, packed": _header_bombs,
    "1,124 connections that do nothing": _silent,
    "512 connections to the page that say nothing": _silent_pages,
    "wrong keys as fast as one caller can, for 5 s": _wrong_keys,
}
WITH_KEY: dict[str, Attack] = {
    "200 packed messages of 14 MB": _keyed_bombs,
    "60 calls of 15 MB each, that do not end": _half_sent(_ENQUEUE, with_key=True),
    "60 uploads whose first message of 15 MB does not end": _half_sent(_BATCH, with_key=True),
    "Enqueue with 13 MB of tags": _packed_once("Enqueue", lambda: _entries(8, 13 * MIB)),
    "Enqueue with a list of 16 MB of empty objects": _packed_once(
        "Enqueue", lambda: field(1, b"q") + field(2, _list_of(_EMPTY_OBJECT, 15 * MIB))
    ),
    "Enqueue with a list of 16 MB of nothing": _packed_once(
        "Enqueue", lambda: field(1, b"q") + field(2, _list_of(b"", 15 * MIB))
    ),
    "Register with 6 MB of metadata": _packed_once(
        "Register", lambda: field(2, b"q") + _entries(7, 6 * MIB), work=True
    ),
    "a chunk of 15 rows, each a list of 1 MB": _chunk_of_lists,
    "a chunk of four million empty rows": _packed_once("EnqueueBatch", _columns),
    "10 uploads whose answers nobody reads": _unread,
    "1,200 calls of GetJob, 0.9 MB each, whose answers nobody reads": _unread_jobs,
}


def cost(attack: Attack, store: Path, scale: float = 1.0, version: Path | None = None) -> Cost:
    """Start a server over a new file, attack it, and say what it cost."""
    server = ServerProcess(store, "--http", "127.0.0.1:0")
    server.version = version
    # What the server may have open; it inherits this.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _FILES), most))
    with server:
        with Caller(server.address, API_KEY) as operator:
            made = [
                operator.call(keys.CreateKeyRequest(organization=name, name="x", role=role)).secret
                for name, role in (("evil", "produce"), ("evil", "work"), ("good", "admin"))
            ]
        before = _memory(server.pid, "VmRSS")
        with Canary(server.address, made[2]) as canary:
            attack(Target(server, made[0], made[1], scale))
        return Cost(_memory(server.pid, "VmHWM") - before, canary.longest_wait, canary.failed)


def _memory(pid: int, name: str) -> float:
    """In MiB, of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def _table(version: Path | None, wanted: str) -> Iterator[str]:
    for title, attacks in (("Without a key", WITHOUT_KEY), ("With a key", WITH_KEY)):
        yield f"| {title} | peak memory | longest wait |\n| --- | --- | --- |"
        for name, attack in attacks.items():
            if wanted in name:
                with tempfile.TemporaryDirectory() as folder:
                    seen = cost(attack, Path(folder) / "jobs.db", version=version)
                failed = f" ({len(seen.failed)} failed: {seen.failed[0]})" if seen.failed else ""
                memory, wait = round(seen.memory_mib), seen.wait_seconds
                yield f"| {name} | {memory} MB | {wait:.2f} s{failed} |"


def main(version: str = "", wanted: str = "") -> None:
    for line in _table(Path(version) if version else None, wanted):
        print(line, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
