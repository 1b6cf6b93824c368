"""The client's methods for workers: registration and heartbeats."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

from spooled_pipelines.errors import NotFoundError
from spooled_pipelines.rpc import decode, requests
from spooled_pipelines.rpc.aio.connection import AsyncConnection
from spooled_pipelines.text import shorten
from spooled_pipelines.types import HeartbeatResult, WorkerRegistration
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.limits import ERROR_MAX
from spooled_pipelines.wire.methods import BATCH, WORKER


class AsyncWorkerCalls:
    """The methods of a client for the worker process that uses it."""

    _connection: AsyncConnection

    async def register_worker(
        self,
        queue_name: str,
        *,
        worker_id: str | None = None,
        hostname: str | None = None,
        worker_type: str = "python",
        max_concurrency: int = 5,
        version: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> WorkerRegistration:
        """Register a worker, or update the one with this `worker_id`.

        `hostname` defaults to this machine's, `version` to this package's.

        Raises:
            ConflictError: the id belongs to another organization's worker.
        """
        request = requests.register_worker(
            queue_name,
            worker_id=worker_id,
            hostname=socket.gethostname() if hostname is None else hostname,
            worker_type=worker_type,
            max_concurrency=max_concurrency,
            version=version,
            metadata=metadata,
        )
        # Without an id of ours, doing it twice would make two workers.
        response = await self._connection.unary(
            WORKER["Register"], request, repeatable=worker_id is not None
        )
        return decode.registration_from(response)

    async def heartbeat(
        self,
        worker_id: str,
        *,
        current_jobs: int = 0,
        status: str = "healthy",
        metadata: Mapping[str, str] | None = None,
    ) -> HeartbeatResult:
        """Report that the worker is alive; return whether it should take no more jobs.

        Raises:
            NotFoundError: the server does not know the worker: register again.
        """
        request = requests.heartbeat(
            worker_id, current_jobs=current_jobs, status=status, metadata=metadata
        )
        response = await self._connection.unary(WORKER["Heartbeat"], request, repeatable=True)
        return decode.heartbeat_result_from(response)

    async def report_worker_death(
        self,
        worker_id: str,
        exit_code: int,
        error: str,
        *,
        running_job_ids: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> int:
        """End the leases of a worker whose process died; return how many jobs it held.

        `exit_code` is below 0 for a signal. `running_job_ids` are the jobs that it ran, any of
        which may have killed it; None: that is not known. What else it held goes back. A server
        without the batch extension takes them back when their leases run out, and the call raises
        ServerError.
        """
        request = batch_v1.ReportWorkerDeathRequest(
            worker_id=worker_id, exit_code=exit_code, error=shorten(error, ERROR_MAX)
        )
        if running_job_ids is not None:
            request.running.job_ids.extend(running_job_ids)
            request.running.SetInParent()
        method = BATCH["ReportWorkerDeath"]
        response: batch_v1.ReportWorkerDeathResponse = await self._connection.unary(
            method, request, timeout=timeout, repeatable=True
        )
        return response.jobs

    async def deregister_worker(self, worker_id: str) -> None:
        """Deregister a worker; one that is not registered is ignored."""
        request = requests.deregister_worker(worker_id)
        with suppress(NotFoundError):
            await self._connection.unary(WORKER["Deregister"], request, repeatable=True)
