"""`retry BATCH`: put the dead letters of a batch back into the queue."""

from __future__ import annotations

from spooled_pipelines.cli.options import BatchId, ErrorContains, Server, batch_of, for_server
from spooled_pipelines.cli.output import print_json, print_pairs, say


@for_server
def retry(server: Server, batch: BatchId, error_contains: ErrorContains = None) -> None:
    """Put the dead letters of BATCH back into the queue, with all their retries."""
    with server.connect() as client:
        found = batch_of(client, batch)
        retried = found.retry_failed(error_contains)
    if server.as_json:
        print_json({"batch_id": found.id, "retried": retried})
        return
    print_pairs({"batch": found.id, "retried": retried})
    if retried:
        say(f"next: spooled-pipelines watch {found.id}")
