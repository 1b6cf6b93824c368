# Made from spooled_pipelines/batch/aio/listing.py by `make proto`: change that, not this.
"""Every job of a batch, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from spooled_pipelines.batch.patience import Patience
from spooled_pipelines.errors import InvalidArgumentError, SpooledError
from spooled_pipelines.rpc import decode, methods, validation
from spooled_pipelines.rpc.sync.connection import Calls
from spooled_pipelines.rpc.sync.runtime import sleep
from spooled_pipelines.types import Job, JobStatus
from spooled_pipelines.wire import batch_v1, spooled_v1
from spooled_pipelines.wire.limits import PAGE_JOBS_MAX


class Finder(Protocol):
    """What is told of each job, as it is on the wire."""

    def add(self, job: spooled_v1.Job, /) -> object: ...


def list_jobs(
    calls: Calls,
    batch_id: str,
    found: Finder,
    statuses: Sequence[spooled_v1.JobStatus] = (),
    *,
    omit_payload: bool = True,
) -> None:
    """Tell `found` of every job, going on behind the last page where the connection breaks."""
    patience = Patience(calls.settings.retry)
    token = ""
    while True:
        request = batch_v1.ListBatchJobsRequest(
            batch_id=batch_id, statuses=statuses, page_token=token, omit_payload=omit_payload
        )
        stream = calls.stream(methods.BATCH["ListBatchJobs"], request)
        try:
            for page in stream:
                for job in page.jobs:
                    found.add(job)
                token = page.next_page_token
                patience.moved()
        except SpooledError as error:
            delay = patience.delay(error)
            if delay is None:
                raise
            sleep(delay)
        else:
            return
        finally:
            stream.cancel()


def find_jobs(
    calls: Calls, batch_id: str, text: str, statuses: Iterable[str], limit: int
) -> list[Job]:
    """The first `limit` jobs with this text, of these statuses, over as many calls as it takes."""
    validation.limit(limit)
    names = [_name_of(status) for status in statuses]
    found: list[Job] = []
    token = ""
    while len(found) < limit:
        request = batch_v1.FindBatchJobsRequest(
            batch_id=batch_id,
            statuses=names,
            text=text,
            page_size=min(limit - len(found), PAGE_JOBS_MAX),
            page_token=token,
        )
        page = calls.unary(methods.BATCH["FindBatchJobs"], request, repeatable=True)
        found += [decode.job_from(job) for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    return found


def _name_of(status: str) -> str:
    """The wire's name of a status, which messages take as well as its number."""
    known = [one.value for one in JobStatus if one is not JobStatus.UNSPECIFIED]
    if status not in known:
        raise InvalidArgumentError(f"status is {str(status)!r}, and must be of {', '.join(known)}")
    return f"JOB_STATUS_{JobStatus(status).name}"
