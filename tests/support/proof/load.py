"""A load that goes on whatever dies, and remembers what it was told."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc

from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire.spooled_v1 import CompleteRequest, DequeueRequest, EnqueueRequest, Job
from spooled_pipelines.wire.well_known import Struct
from tests.support.raw_calls import Caller
from tests.support.server_process import ServerProcess
from tests.support.store_kit import struct
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from typing_extensions import Self

QUEUE = "q"
_CHUNK_ROWS = 50
_CHUNKS_UNANSWERED = 3
# So long that none runs out while something is down.
_LEASE_SECONDS = 600
_PAUSE_SECONDS = 0.05
_PATIENCE_SECONDS = 60.0
_COMPLETED_BEFORE = "Job is already completed"
_HANDS = ("enqueue", "enqueue", "upload", "upload", "work", "work", "chunks", "chunks")


class Load:
    """Threads that enqueue, upload and work until `stop`; what fails is asked for again.

    Nothing but UNAVAILABLE may come of a crash; anything else is in `failures`.
    """

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.sent: set[str] = set()
        # The id that was told for each key, and the lease with which each job was completed.
        self.told: dict[str, str] = {}
        self.completed: dict[str, str] = {}
        self.failures: list[str] = []
        self.interruptions = 0
        self._done = [0] * len(_HANDS)
        self._threads = [
            threading.Thread(target=self._go_on, args=(number, getattr(self, f"_{name}")))
            for number, name in enumerate(_HANDS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS)
            assert not thread.is_alive(), "a call never ended"

    def moves(self, steps: int = 5) -> None:
        """Until each hand has got `steps` further; then at some moment of its next one."""
        before = list(self._done)
        eventually(
            lambda: (
                self.failures
                or all(now >= then + steps for now, then in zip(self._done, before, strict=True))
            ),
            _PATIENCE_SECONDS,
        )
        assert self.failures == []

    def _go_on(self, number: int, work: Callable[[Caller, int], Iterator[None]]) -> None:
        try:
            with Caller(self._server.address, self._server.api_key) as caller:
                for _ in work(caller, number):
                    self._done[number] += 1
                    if self._stopping.is_set():
                        return
        # The boundary of a thread: the test sees it in `failures`.
        except Exception as error:  # noqa: BLE001
            self.failures.append(repr(error))

    def _answer(self, call: Callable[[], Any]) -> Any:
        """What the call returns, made again while nobody is there; None when it is time to stop."""
        while not self._stopping.is_set():
            with self._interruptible():
                return call()
        return None

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            self._interrupted(error)

    def _interrupted(self, error: Any) -> None:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise error
        self.interruptions += 1
        self._stopping.wait(_PAUSE_SECONDS)

    def _tell(self, key: str, job_id: str) -> None:
        with self._lock:
            before = self.told.setdefault(key, job_id)
        assert before == job_id, f"{key} was job {before} and is {job_id} now"

    def _enqueue(self, caller: Caller, number: int) -> Iterator[None]:
        for count in itertools.count():
            key = f"single-{number}-{count}"
            self.sent.add(key)
            request = EnqueueRequest(queue_name=QUEUE, idempotency_key=key)
            answer = self._answer(lambda request=request: caller.call(request))
            if answer is not None:
                self._tell(key, answer.job_id)
            yield

    def _upload(self, caller: Caller, number: int) -> Iterator[None]:
        """Chunks that were not answered are sent again under their numbers."""
        answered = 0
        opening = batch.OpenBatch(batch_id="b", queue_name=QUEUE, upload_id=f"u{number}")
        while not self._stopping.is_set():
            room = threading.Semaphore(_CHUNKS_UNANSWERED)
            over = threading.Event()

            def requests(
                first: int = answered,
                room: threading.Semaphore = room,
                over: threading.Event = over,
            ) -> Iterator[batch.EnqueueBatchRequest]:
                yield batch.EnqueueBatchRequest(open=opening)
                for place in itertools.count(first):
                    while not room.acquire(timeout=_PAUSE_SECONDS):
                        if over.is_set() or self._stopping.is_set():
                            return
                    self.sent.update(_keys(number, place))
                    yield batch.EnqueueBatchRequest(chunk=_chunk(number, place))

            try:
                for answer in caller.converse("EnqueueBatch", requests()):
                    if not answer.HasField("outcome"):
                        continue
                    outcome = answer.outcome
                    assert outcome.number == answered
                    for key, job_id in zip(_keys(number, answered), outcome.job_ids, strict=True):
                        self._tell(key, job_id)
                    answered += 1
                    room.release()
                    yield
            except grpc.RpcError as error:
                self._interrupted(error)
            finally:
                over.set()

    def _work(self, caller: Caller, number: int) -> Iterator[None]:
        claim = DequeueRequest(
            queue_name=QUEUE,
            worker_id=f"w{number}",
            lease_duration_secs=_LEASE_SECONDS,
            batch_size=10,
        )
        while not self._stopping.is_set():
            answer = self._answer(lambda: caller.call(claim))
            for job in answer.jobs if answer is not None else ():
                if self._answer(lambda job=job: self._complete(caller, job)):
                    self.completed[job.id] = job.lease_id
                yield

    def _complete(self, caller: Caller, job: Job) -> bool:
        result = Struct()
        result["lease"] = job.lease_id
        request = CompleteRequest(job_id=job.id, lease_id=job.lease_id, result=result)
        try:
            caller.call(request)
        except grpc.RpcError as error:
            # An earlier try that was not answered.
            if error.details() != _COMPLETED_BEFORE:
                raise
        return True

    def _chunks(self, caller: Caller, number: int) -> Iterator[None]:
        worker = f"w{number}"
        claim = batch.ClaimChunksRequest(
            queue_name=QUEUE, worker_id=worker, lease_duration_secs=_LEASE_SECONDS, max_jobs=10
        )
        while not self._stopping.is_set():
            answer = self._answer(lambda: caller.call(claim))
            for chunk in answer.chunks if answer is not None else ():
                if self._answer(lambda chunk=chunk: self._settle(caller, worker, chunk)):
                    self.completed.update(dict.fromkeys(chunk.job_ids, chunk.lease_id))
                yield

    def _settle(self, caller: Caller, worker: str, chunk: batch.LeasedChunk) -> bool:
        result = struct(lease=chunk.lease_id)
        outcomes = batch.ChunkOutcomes(
            queue_name=QUEUE,
            worker_id=worker,
            lease_id=chunk.lease_id,
            job_ids=chunk.job_ids,
            results=[result] * len(chunk.job_ids),
        )
        request = batch.SettleRequest(chunks=[outcomes])
        (settled,) = next(caller.converse("Settle", [request])).chunks
        refusals = {exception.settled.message for exception in settled.exceptions}
        # An earlier try that was not answered.
        assert refusals <= {_COMPLETED_BEFORE}, refusals
        return True


def _keys(number: int, place: int) -> list[str]:
    """Of a chunk. The last one is also in the next chunk."""
    start = place * (_CHUNK_ROWS - 1)
    return [f"row-{number}-{row}" for row in range(start, start + _CHUNK_ROWS)]


def _chunk(number: int, place: int) -> batch.JobChunk:
    keys = _keys(number, place)
    return batch.JobChunk(
        number=place, idempotency_keys=keys, payloads=[struct(key=key) for key in keys]
    )
