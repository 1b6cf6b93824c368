"""A stream of jobs that the server pushes."""

from __future__ import annotations

from spooled_pipelines.batch.aio.payload_schemas import AsyncPayloadSchemas
from spooled_pipelines.rpc.aio.closing import AsyncClosing
from spooled_pipelines.rpc.aio.runtime import AsyncServerStream
from spooled_pipelines.rpc.decode import job_from
from spooled_pipelines.types import Job


class AsyncJobStream(AsyncClosing):
    """The jobs of a queue, claimed for one worker, for as long as it is iterated.

    It ends when it is closed, or with an error if the connection breaks (open a new one then).
    Jobs that were claimed but not settled go back to the queue when their leases run out.
    """

    def __init__(self, responses: AsyncServerStream, schemas: AsyncPayloadSchemas) -> None:
        self._responses = responses
        self._schemas = schemas

    def __aiter__(self) -> AsyncJobStream:
        return self

    async def __anext__(self) -> Job:
        job = await self._responses.__anext__()
        return job_from(job, await self._schemas.of([job]))

    async def aclose(self) -> None:
        """Claim no more jobs, which ends an iteration that waits. May be repeated."""
        self._responses.cancel()

    _close = aclose
