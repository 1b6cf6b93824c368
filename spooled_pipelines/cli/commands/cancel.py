"""`cancel BATCH`: cancel the jobs of a batch that have not started."""

from __future__ import annotations

import dataclasses

from spooled_pipelines.cli.options import (
    Address,
    ApiKey,
    AsJson,
    BatchId,
    Profile,
    batch_of,
    connected,
)
from spooled_pipelines.cli.output import print_record


def cancel(
    batch: BatchId,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Cancel the jobs of BATCH that have not started; running jobs go on."""
    with connected(address, api_key, profile) as client:
        found = batch_of(client, batch)
        cancelled = dataclasses.asdict(found.cancel())
    print_record(cancelled if as_json else {"batch": found.id, **cancelled}, as_json)
