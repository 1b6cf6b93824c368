"""Servers that differ from ours: the worker relies on the contract alone.

The server here is a real one over gRPC, small, and says what the tests tell it to say.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.errors import AuthenticationError, SpooledError
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.testing.clock import MovableClock
from spooled_pipelines.wire import methods, spooled_v1
from spooled_pipelines.worker import Worker, WorkerReport
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually
from tests.support.without import Without

Answer = Callable[[Any, grpc.ServicerContext], Any]


class SmallServer:
    """Answers each method with what `answers` holds for it; anything else is UNIMPLEMENTED."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.jobs: deque[spooled_v1.Job] = deque()
        self.heartbeat: spooled_v1.HeartbeatResponse | None = spooled_v1.HeartbeatResponse(
            acknowledged=True
        )
        # Ways to end a Dequeue that come first, each once.
        self.troubles: deque[Callable[[grpc.ServicerContext], Any]] = deque()
        self.completed = threading.Event()
        # Each conversation has a thread for as long as it is open.
        self._server = grpc.server(ThreadPoolExecutor(80))
        self._server.add_generic_rpc_handlers(
            (
                self._handlers(
                    methods.QUEUE_SERVICE, Dequeue=self._dequeue, ProcessJobs=self._process
                ),
                self._handlers(
                    methods.WORKER_SERVICE,
                    Register=lambda *_: spooled_v1.RegisterWorkerResponse(
                        worker_id="w", lease_duration_secs=30, heartbeat_interval_secs=1
                    ),
                    Heartbeat=self._heartbeat,
                    Deregister=lambda *_: spooled_v1.DeregisterResponse(success=True),
                ),
            )
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _handlers(self, service: str, **answers: Answer) -> grpc.GenericRpcHandler:
        def counted(name: str) -> Answer:
            def answer(request: Any, context: grpc.ServicerContext) -> Any:
                self.calls[name] += 1
                return answers[name](request, context)

            return answer

        known = methods.methods_of(service)

        def kind(name: str) -> Callable[..., grpc.RpcMethodHandler[Any, Any]]:
            if name == "ProcessJobs":
                return grpc.stream_stream_rpc_method_handler
            return grpc.unary_unary_rpc_method_handler

        return grpc.method_handlers_generic_handler(
            service,
            {
                name: kind(name)(
                    counted(name),
                    known[name].request_class.FromString,
                    known[name].response_class.SerializeToString,
                )
                for name in answers
            },
        )

    def _dequeue(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.troubles:
            self.troubles.popleft()(context)
        ready = [self.jobs.popleft() for _ in range(min(len(self.jobs), request.batch_size))]
        return spooled_v1.DequeueResponse(jobs=ready)

    def _process(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        """Answers Complete; a request for jobs is as good as lost."""
        for request in requests:
            if request.HasField("complete"):
                assert request.complete.lease_id == "lease"
                self.completed.set()
                yield spooled_v1.ProcessResponse(complete=spooled_v1.CompleteResponse(success=True))

    def _heartbeat(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.heartbeat is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such worker")
        return self.heartbeat


def job(number: int) -> spooled_v1.Job:
    return spooled_v1.Job(
        id=f"job-{number}",
        queue_name="q",
        status=spooled_v1.JOB_STATUS_PROCESSING,
        assigned_worker_id="w",
        lease_id="lease",
    )


@pytest.fixture
def small() -> Iterator[SmallServer]:
    server = SmallServer()
    yield server
    server.stop()


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def worker(small: SmallServer, clock: MovableClock) -> Iterator[Worker]:
    with connect(small.address, api_key="sp_test_any", retry=RetryPolicy(max_attempts=1)) as client:
        made = Worker(client, "q", lambda job: None, worker_id="w", idle_seconds=0.1, clock=clock)
        yield made
        made.stop()


def eventually_as_time_passes(clock: MovableClock, condition: Callable[[], bool]) -> None:
    """Each look at the condition is a second after the last, for the worker."""

    def a_second_later() -> bool:
        clock.advance(1)
        return condition()

    eventually(a_second_later)


def test_jobs_are_found_where_the_server_keeps_no_standing_request(
    small: SmallServer, worker: Worker
) -> None:
    worker.start()
    eventually(lambda: small.calls["Dequeue"] > 3)
    small.jobs.append(job(1))
    assert small.completed.wait(60)


def test_a_server_that_asks_to_drain_ends_the_worker_after_its_jobs(
    small: SmallServer, worker: Worker, clock: MovableClock
) -> None:
    small.jobs.extend(job(number) for number in range(3))
    small.heartbeat = spooled_v1.HeartbeatResponse(acknowledged=True, should_drain=True)
    worker.start()
    eventually(lambda: not small.jobs)
    eventually_as_time_passes(clock, lambda: small.calls["Heartbeat"] > 0)
    assert worker.join(60) == WorkerReport(completed=3)
    assert small.calls["Deregister"] == 1


def test_a_server_that_forgot_the_worker_gets_to_know_it_again(
    small: SmallServer, worker: Worker, clock: MovableClock
) -> None:
    small.heartbeat = None
    worker.start()
    eventually_as_time_passes(clock, lambda: small.calls["Register"] > 1)


def test_a_rate_limit_is_waited_out(
    small: SmallServer, worker: Worker, clock: MovableClock
) -> None:
    def limited(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("retry-after", "60"),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests")

    small.troubles.append(limited)
    small.jobs.append(job(1))
    worker.start()
    eventually(lambda: small.calls["Dequeue"])
    assert not small.completed.wait(0.3)
    clock.advance(50)
    assert not small.completed.wait(0.1)
    eventually_as_time_passes(clock, lambda: small.calls["Dequeue"] > 1)
    assert small.completed.wait(60)


def test_that_the_server_answers_again_is_a_line(
    small: SmallServer, worker: Worker, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "spooled_pipelines.worker")
    small.troubles.append(lambda context: context.abort(grpc.StatusCode.UNAVAILABLE, "away"))
    small.jobs.append(job(1))
    worker.start()
    eventually_as_time_passes(clock, small.completed.is_set)
    text = caplog.text
    assert 0 < text.index("no jobs from the server") < text.index("the server answers again")


def test_a_key_that_is_revoked_meanwhile_ends_the_worker_with_that_error(
    small: SmallServer, worker: Worker
) -> None:
    worker.start()
    small.troubles.append(
        lambda context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "the key was revoked")
    )
    with pytest.raises(AuthenticationError):
        worker.join(timeout=60)


def test_results_arrive_over_conversations_where_the_server_takes_no_groups(
    small: SmallServer, worker: Worker
) -> None:
    small.jobs.extend(job(number) for number in range(50))
    worker.start()
    eventually(lambda: worker.report == WorkerReport(completed=50))


def test_each_job_runs_once_where_the_server_takes_no_groups(
    server: ServerProcess,
    client: SpooledClient,
    queue: str,
    fill: Callable[..., list[str]],
    drained: Callable[..., None],
) -> None:
    """Each once, those that were there and those that come later."""
    fill(250)
    runs: Counter[str] = Counter()
    with (
        Without(server.address, "Settle") as less,
        connect(less.address, api_key=server.api_key) as to_less,
        Worker(to_less, queue, lambda job: runs.update([job.id]), lease_seconds=5) as worker,
    ):
        drained(250)
        fill(1)
        drained(251)
        fill(120)
        drained(371)
        # The server counts first, and then it answers.
        eventually(lambda: worker.report == WorkerReport(completed=371))
    assert (len(runs), set(runs.values())) == (371, {1})
    # What is not there is asked for once.
    assert less.calls["Settle"] == 1


def test_jobs_come_one_by_one_where_the_server_has_no_chunks(
    server: ServerProcess, queue: str, fill: Callable[..., list[str]]
) -> None:
    ids = fill(250)
    ran: Counter[str] = Counter()
    with (
        Without(server.address, "ClaimChunks") as less,
        connect(less.address, api_key=server.api_key) as client,
    ):
        handler = lambda job: ran.update([job.id])  # noqa: E731
        report = Worker(client, queue, handler, stop_when_empty=True).run()
    assert report == WorkerReport(completed=250)
    assert ran == Counter(ids)
    # What is not there is asked for once.
    assert less.calls["ClaimChunks"] == 1
    assert less.calls["Dequeue"] > 1


def test_a_server_that_hands_out_no_jobs_ends_the_worker_with_an_error_that_says_so(
    server: ServerProcess, queue: str
) -> None:
    with (
        Without(server.address, "Dequeue", "ClaimChunks") as less,
        connect(less.address, api_key=server.api_key) as client,
        pytest.raises(SpooledError, match="Dequeue"),
    ):
        Worker(client, queue, lambda job: None).run()
