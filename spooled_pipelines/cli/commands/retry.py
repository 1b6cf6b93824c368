"""`retry BATCH`: put the dead letters of a batch back into the queue."""

from __future__ import annotations

from spooled_pipelines.cli.options import (
    Address,
    ApiKey,
    AsJson,
    BatchId,
    ErrorContains,
    Profile,
    batch_of,
    connected,
)
from spooled_pipelines.cli.output import print_json, print_pairs, say


def retry(
    batch: BatchId,
    error_contains: ErrorContains = None,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Put the dead letters of BATCH back into the queue, with all their retries."""
    with connected(address, api_key, profile) as client:
        found = batch_of(client, batch)
        retried = found.retry_failed(error_contains)
    if as_json:
        print_json({"batch_id": found.id, "retried": retried})
        return
    print_pairs({"batch": found.id, "retried": retried})
    if retried:
        say(f"next: spooled-pipelines watch {found.id}")
