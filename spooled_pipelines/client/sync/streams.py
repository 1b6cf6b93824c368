# Generated from spooled_pipelines/client/aio/streams.py by `make generate`: do not edit.
"""A stream of jobs that the server pushes."""

from __future__ import annotations

from spooled_pipelines.batch.sync.payload_schemas import PayloadSchemas
from spooled_pipelines.rpc.decode import job_from
from spooled_pipelines.rpc.sync.closing import Closing
from spooled_pipelines.rpc.sync.runtime import ServerStream
from spooled_pipelines.types import Job


class JobStream(Closing):
    """The jobs of a queue, claimed for one worker, for as long as it is iterated.

    It ends when it is closed, or with an error if the connection breaks (open a new one then).
    Jobs that were claimed but not settled go back to the queue when their leases run out.
    """

    def __init__(self, responses: ServerStream, schemas: PayloadSchemas) -> None:
        self._responses = responses
        self._schemas = schemas

    def __iter__(self) -> JobStream:
        return self

    def __next__(self) -> Job:
        job = self._responses.__next__()
        return job_from(job, self._schemas.of([job]))

    def close(self) -> None:
        """Claim no more jobs, which ends an iteration that waits. May be repeated."""
        self._responses.cancel()

    _close = close
