# Made from spooled_pipelines/batch/aio/listing.py by `make proto`: change that, not this.
"""Every job of a batch, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spooled_pipelines.batch.patience import Patience
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.rpc import methods
from spooled_pipelines.rpc.sync.calls import Calls
from spooled_pipelines.rpc.sync.runtime import sleep
from spooled_pipelines.wire import batch_v1, spooled_v1


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
