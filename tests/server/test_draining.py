"""SIGTERM under load: nothing new, what runs is committed, streams are told, in the grace time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import grpc

from spooled_pipelines.server.store.administration.backup import find_faults
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.server_process import ServerProcess
from tests.support.wire import method_named, struct

# One that used it up would not end while the test waits.
GRACE = 600.0


def opened(channel: grpc.Channel, server: ServerProcess, name: str, request: Any) -> Any:
    method = method_named(name)
    kind = "stream" if method.client_streaming else "unary"
    kind += "_stream" if method.server_streaming else "_unary"
    call = getattr(channel, kind)(
        method.path, lambda m: m.SerializeToString(), method.response_class.FromString
    )
    return call(request, metadata=(("x-api-key", server.api_key),), timeout=60)


class Worker(threading.Thread):
    """Takes jobs from a stream and settles them, until the server ends the stream."""

    def __init__(self, server: ServerProcess, number: int) -> None:
        super().__init__()
        self.server, self.name = server, f"w{number}"
        self.settled: list[str] = []
        self.ended: grpc.RpcError | None = None
        self.start()

    def run(self) -> None:
        with grpc.insecure_channel(self.server.address) as channel:
            request = spooled.StreamJobsRequest(queue_name="q", worker_id=self.name)
            stream = opened(channel, self.server, "StreamJobs", request)
            try:
                for job in stream:
                    self.settle(channel, job)
            except grpc.RpcError as error:
                self.ended = error

    def settle(self, channel: grpc.Channel, job: Any) -> None:
        request = spooled.CompleteRequest(job_id=job.id, worker_id=self.name, lease_id=job.lease_id)
        # Once it drains, settles are refused as well; the stream then says why.
        with contextlib.suppress(grpc.RpcError):
            opened(channel, self.server, "Complete", request)
            self.settled.append(job.id)


class Producer(threading.Thread):
    """Enqueues until it is refused."""

    def __init__(self, server: ServerProcess, number: int, enough: threading.Event) -> None:
        super().__init__()
        self.server, self.number, self.enough = server, number, enough
        self.acknowledged: list[str] = []
        self.ended: grpc.RpcError | None = None
        self.start()

    def run(self) -> None:
        with grpc.insecure_channel(self.server.address) as channel:
            try:
                while True:
                    request = spooled.EnqueueRequest(queue_name="q", payload=struct(n=1))
                    answer = opened(channel, self.server, "Enqueue", request)
                    self.acknowledged.append(answer.job_id)
                    if len(self.acknowledged) == 50:
                        self.enough.set()
            except grpc.RpcError as error:
                self.ended = error


def test_under_load_it_ends_in_time_and_everything_acknowledged_is_there(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server("--grace-seconds", str(GRACE))
    workers = [Worker(server, number) for number in range(3)]
    events = [threading.Event() for _ in range(3)]
    producers = [Producer(server, number, event) for number, event in enumerate(events)]
    for event in events:
        assert event.wait(30)
    assert server.stop() == 0
    threads: list[Worker | Producer] = [*workers, *producers]
    for thread in threads:
        thread.join(20)
        assert thread.ended is not None
        assert thread.ended.code() == grpc.StatusCode.UNAVAILABLE, thread.ended
    # Everyone was told rather than cut off.
    assert all("stopping" in (worker.ended.details() or "") for worker in workers)
    assert server.complaints() == []
    assert find_faults(f"sqlite:///{server.store}") == []
    server.restart()
    with grpc.insecure_channel(server.address) as channel:
        stats = opened(channel, server, "GetQueueStats", queue_stats())
        acknowledged = {job_id for producer in producers for job_id in producer.acknowledged}
        settled = {job_id for worker in workers for job_id in worker.settled}
        assert stats.total >= len(acknowledged)
        assert stats.completed >= len(settled)
        for job_id in [*sorted(acknowledged)[-50:], *sorted(settled)[-50:]]:
            job = opened(channel, server, "GetJob", spooled.GetJobRequest(job_id=job_id)).job
            assert job_id not in settled or job.status == spooled.JOB_STATUS_COMPLETED


def queue_stats() -> Any:
    return spooled.GetQueueStatsRequest(queue_name="q")


def test_who_does_not_read_holds_it_up_no_longer_than_the_grace(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server("--grace-seconds", "1")
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(30):
            large = struct(text="x" * 200_000)
            request = spooled.EnqueueRequest(queue_name="q", payload=large)
            opened(channel, server, "Enqueue", request)
        watching = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
        # Nobody reads from this stream: the server's writes come to a halt.
        stream = opened(channel, server, "StreamJobs", watching)
        opened(channel, server, "GetQueueStats", queue_stats())
        upload = opened(channel, server, "EnqueueBatch", endless(threading.Event()))
        next(upload)
        # Without the grace it would wait for ever.
        assert server.stop() == 0
        stream.cancel()
        upload.cancel()


def endless(never: threading.Event) -> Any:
    opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id="u")
    yield batch.EnqueueBatchRequest(open=opening)
    never.wait(20)
