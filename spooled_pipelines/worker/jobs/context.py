"""What a handler can ask about its own run."""

from __future__ import annotations

from spooled_pipelines.rpc.struct import to_struct
from spooled_pipelines.types import Job, RowSchema


class JobContext:
    """One run of a job. A handler gets it by a parameter with this annotation.

        def handler(job: Job, context: JobContext):
            for chunk in chunks_of(job.payload):
                if context.cancelled:
                    return None
                work_on(chunk)

    Attributes:
        job: the job that is run.
    """

    __slots__ = ("_cancelled", "_job")

    def __init__(self, job: Job) -> None:
        self._job: Job | None = job
        self._cancelled = False

    @property
    def job(self) -> Job:
        """The job that is run."""
        if self._job is None:
            raise RuntimeError("this run has no job")
        return self._job

    @property
    def run_id(self) -> tuple[str, str | None]:
        """What names this run of this job, and no other."""
        return self.job.id, self.job.lease_id

    @property
    def payload_bytes(self) -> bytes:
        """The payload as a serialized Struct."""
        return to_struct(self.job.payload).SerializeToString()

    @property
    def schema(self) -> RowSchema | None:
        """The types of the table that the job came from, as far as they are known."""
        return self.job.schema

    @property
    def keeps_types(self) -> bool:
        """Whether the batch keeps the types of results that come as Arrow."""
        return self.schema is not None and self.schema.number > 0

    @property
    def cancelled(self) -> bool:
        """Whether the handler should end: its result is no longer wanted.

        The job's lease is lost, its time is over, or the worker ends. An async handler is
        cancelled and a process ended as well; a plain handler on a thread looks here.
        """
        return self._cancelled

    def cancel(self) -> None:
        """Tell the handler to end; the worker does so."""
        self._cancelled = True
