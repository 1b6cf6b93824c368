"""`cancel BATCH` and `retry BATCH`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from spooled_pipelines.cli.options import Address, ApiKey, AsJson, Profile, connected
from spooled_pipelines.cli.output import print_json, print_one, print_pairs

BatchId = Annotated[str, typer.Argument(help="The batch's id, as `enqueue` printed it.")]


def cancel(
    batch: BatchId,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Cancel what has not started of BATCH; what runs goes on."""
    with connected(address, api_key, profile) as client:
        found = dataclasses.asdict(client.batch(batch).cancel())
    print_one(found if as_json else {"batch": batch, **found}, as_json)


def retry(
    batch: BatchId,
    where: Annotated[
        str | None, typer.Option(help="Only dead letters whose error has this text in it.")
    ] = None,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Put the dead letters of BATCH back into the queue, with all their retries."""
    with connected(address, api_key, profile) as client:
        retried = client.batch(batch).retry_failed(where)
    if as_json:
        print_json({"batch_id": batch, "retried": retried})
        return
    print_pairs({"batch": batch, "retried": retried})
    if retried:
        print(f"go on with: spooled-pipelines watch {batch}")
