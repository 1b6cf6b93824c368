# Generated from spooled_pipelines/client/aio/streams.py by `make generate`: do not edit.
"""A stream of jobs that the server pushes."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from spooled_pipelines.rpc.decode import job_from
from spooled_pipelines.rpc.sync.runtime import ServerStream
from spooled_pipelines.types import Job

if TYPE_CHECKING:
    from typing_extensions import Self


class JobStream:
    """The jobs of a queue, claimed for one worker, for as long as it is iterated.

    It ends when it is closed, or with an error if the connection breaks (open a new one then).
    Jobs that were claimed but not settled go back to the queue when their leases run out.
    """

    def __init__(self, responses: ServerStream) -> None:
        self._responses = responses

    def __iter__(self) -> JobStream:
        return self

    def __next__(self) -> Job:
        return job_from(self._responses.__next__())

    def close(self) -> None:
        """Claim no more jobs, which ends an iteration that waits. May be repeated."""
        self._responses.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
