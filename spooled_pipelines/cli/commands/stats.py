"""`stats QUEUE`: the number of jobs of a queue by status."""

from __future__ import annotations

from spooled_pipelines.cli.options import Address, ApiKey, AsJson, Profile, Queue, connected
from spooled_pipelines.cli.output import print_json, print_pairs


def stats(
    queue: Queue,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Show how many jobs of QUEUE are pending, running, done and dead."""
    import dataclasses

    with connected(address, api_key, profile) as client:
        figures = dataclasses.asdict(client.queue_stats(queue))
    if as_json:
        print_json(figures)
        return
    age = figures.pop("max_age_ms") / 1000
    print_pairs({"queue": figures.pop("queue_name"), **figures, "oldest waiting": f"{age:,.1f} s"})
