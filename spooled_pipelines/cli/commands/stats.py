"""`stats QUEUE`: how many jobs of a queue are in which status."""

from __future__ import annotations

from typing import Annotated

import typer

from spooled_pipelines.cli.options import Address, ApiKey, AsJson, Profile, connected
from spooled_pipelines.cli.output import print_json, print_pairs


def stats(
    queue: Annotated[str, typer.Argument(help="The queue's name.")],
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """How many jobs of QUEUE are pending, running, done and dead."""
    import dataclasses

    with connected(address, api_key, profile) as client:
        figures = dataclasses.asdict(client.queue_stats(queue))
    if as_json:
        print_json(figures)
        return
    age = figures.pop("max_age_ms") / 1000
    print_pairs({"queue": figures.pop("queue_name"), **figures, "oldest waiting": f"{age:,.1f} s"})
