"""`cancel BATCH`: cancel the jobs of a batch that have not started."""

from __future__ import annotations

import dataclasses

from spooled_pipelines.cli.options import BatchId, Server, batch_of, for_server
from spooled_pipelines.cli.output import print_record


@for_server
def cancel(server: Server, batch: BatchId) -> None:
    """Cancel the jobs of BATCH that have not started; running jobs go on."""
    with server.connect() as client:
        found = batch_of(client, batch)
        cancelled = dataclasses.asdict(found.cancel())
    print_record(cancelled if server.as_json else {"batch": found.id, **cancelled}, server.as_json)
