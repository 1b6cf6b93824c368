"""Jobs claimed and settled over one bidirectional stream."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from spooled_pipelines.batch.aio.payload_schemas import AsyncPayloadSchemas
from spooled_pipelines.client.job_ref import job_ref
from spooled_pipelines.client.process_responses import Answer, Kind, PendingRequests
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.rpc import requests
from spooled_pipelines.rpc.aio.closing import AsyncClosing
from spooled_pipelines.rpc.aio.runtime import AsyncBidiStream, Lock
from spooled_pipelines.rpc.error_mapping import Call, refusal_in_stream
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.types import Job
from spooled_pipelines.wire import spooled_v1

log = logging.getLogger("spooled_pipelines.client")


class AsyncProcessStream(AsyncClosing):
    """A bidirectional stream: ask for jobs, settle them, and iterate over what comes back.

    Iterating gives a `Job`; or a `JobCompleted`, `JobFailed`, `LeaseRenewed` or `RequestRejected`
    as the response to an earlier request. Other threads or tasks may write while one iterates.
    Closing cuts the stream off: to have every response first, call `done_writing()` and iterate
    to the end.
    """

    def __init__(
        self,
        conversation: AsyncBidiStream,
        settings: ConnectionSettings,
        schemas: AsyncPayloadSchemas,
    ) -> None:
        self._conversation = conversation
        self._schemas = schemas
        self._call = Call("ProcessJobs", settings)
        self._unanswered = PendingRequests()
        # Requests must be recorded and written in the same order.
        self._writing = Lock()

    @property
    def unanswered(self) -> int:
        """The number of settling requests that have no response yet."""
        return len(self._unanswered)

    async def dequeue(
        self, queue_name: str, worker_id: str, *, batch_size: int = 1, lease_seconds: int = 30
    ) -> None:
        """Ask for up to `batch_size` jobs, each of which comes as a `Job`.

        A server may go on sending as jobs fall due until it has sent that many; asking again for
        the same queue and worker then replaces what is still open.
        """
        message = requests.dequeue(
            queue_name, worker_id, batch_size=batch_size, lease_seconds=lease_seconds
        )
        await self.ask_for_jobs(message)

    async def ask_for_jobs(self, message: spooled_v1.DequeueRequest) -> None:
        """Ask as this message says."""
        await self._ask("dequeue", None, spooled_v1.ProcessRequest(dequeue=message))

    async def complete(
        self,
        job: Job | str,
        worker_id: str | None = None,
        result: Mapping[str, Any] | str | None = None,
        *,
        lease_id: str | None = None,
    ) -> None:
        """Complete a job; the response is a `JobCompleted` or a `RequestRejected`."""
        held = job_ref(job, worker_id, lease_id)
        message = requests.complete(held.job_id, held.worker_id, result, held.lease_id)
        await self._ask("complete", held.job_id, spooled_v1.ProcessRequest(complete=message))

    async def fail(
        self,
        job: Job | str,
        error: str,
        worker_id: str | None = None,
        *,
        retry: bool = True,
        lease_id: str | None = None,
    ) -> None:
        """Fail a job; the response is a `JobFailed` or a `RequestRejected`."""
        held = job_ref(job, worker_id, lease_id)
        message = requests.fail(
            held.job_id, held.worker_id, error, retry=retry, lease_id=held.lease_id
        )
        await self._ask("fail", held.job_id, spooled_v1.ProcessRequest(fail=message))

    async def renew_lease(
        self,
        job: Job | str,
        worker_id: str | None = None,
        *,
        lease_seconds: int = 30,
        lease_id: str | None = None,
    ) -> None:
        """Ask for a longer lease; the response is a `LeaseRenewed` or a `RequestRejected`."""
        held = job_ref(job, worker_id, lease_id)
        message = requests.renew_lease(
            held.job_id, held.worker_id, lease_seconds=lease_seconds, lease_id=held.lease_id
        )
        await self._ask("renew_lease", held.job_id, spooled_v1.ProcessRequest(renew_lease=message))

    async def done_writing(self) -> None:
        """End the requests; the iteration ends after the last response."""
        await self._conversation.done_writing()

    def __aiter__(self) -> AsyncProcessStream:
        return self

    async def __anext__(self) -> Job | Answer:
        while True:
            message = await self._conversation.__anext__()
            schemas = await self._schemas.of([message.job])
            value = self._unanswered.take(message, self._explain, schemas)
            if value is not None:
                return value
            log.warning("ProcessJobs: skipped a response of a kind that this version does not know")

    async def aclose(self) -> None:
        """Cut the stream off, which ends an iteration that waits. May be repeated."""
        self._conversation.cancel()

    _close = aclose

    async def _ask(
        self, kind: Kind, job_id: str | None, message: spooled_v1.ProcessRequest
    ) -> None:
        async with self._writing:
            self._unanswered.ask(kind, job_id)
            await self._conversation.write(message)

    def _explain(self, code: str, text: str) -> SpooledError:
        return refusal_in_stream(code, text, self._call)
