"""How a plain server, one without the batch extension, is told what became of a job.

Such a server takes no job back; a job that is returned is left with the shortest lease there is, or
one that ends when it is to run again.
"""

from __future__ import annotations

import math

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.client.aio.process import AsyncProcessStream
from spooled_pipelines.client.process_responses import (
    JobCompleted,
    JobFailed,
    LeaseRenewed,
    RequestRejected,
)
from spooled_pipelines.errors import ServerError, UnavailableError
from spooled_pipelines.types import Job
from spooled_pipelines.wire.limits import LEASE_SECONDS_MAX, LEASE_SECONDS_MIN
from spooled_pipelines.worker.jobs.outcome import Completed, Failed, Outcome


class SettleChannel:
    """A ProcessJobs stream on which each outcome waits for its answer.

    An answer does not name its job; this way there is only one that it can belong to. Some dozens
    of such channels give the server as much to commit together, and settle half as many jobs again
    as the same number of concurrent Complete calls.
    """

    def __init__(self, client: AsyncSpooledClient) -> None:
        self._stream: AsyncProcessStream = client.process_jobs()

    async def settle(self, job: Job, outcome: Outcome) -> bool:
        """Send one outcome; return, once the server has it, whether the job is tried again.

        Raises:
            SpooledError: what the client's calls raise.
        """
        if isinstance(outcome, Completed):
            await self._stream.complete(job, result=outcome.result)
        elif isinstance(outcome, Failed):
            await self._stream.fail(job, outcome.error, retry=outcome.retry)
        else:
            seconds = math.ceil((outcome.after_ms or 0) / 1_000)
            lease = min(max(seconds, LEASE_SECONDS_MIN), LEASE_SECONDS_MAX)
            await self._stream.renew_lease(job, lease_seconds=lease)
        async for answer in self._stream:
            if isinstance(answer, RequestRejected):
                raise answer.error
            if isinstance(answer, JobFailed):
                return answer.will_retry
            if isinstance(answer, JobCompleted | LeaseRenewed):
                return False
            raise ServerError(f"the server sent a {type(answer).__name__} that nobody asked for")
        raise UnavailableError("the server ended the stream before it answered")

    async def close(self) -> None:
        """Close the stream."""
        await self._stream.aclose()
