"""`workers list`: the workers that a server has heard of."""

from __future__ import annotations

import typer

from spooled_pipelines.cli.options import (
    Address,
    ApiKey,
    AsJson,
    Limit,
    OfOrganization,
    OfQueue,
    Profile,
    connected,
)
from spooled_pipelines.cli.output import print_json
from spooled_pipelines.cli.text_table import print_rows
from spooled_pipelines.cli.times import age

app = typer.Typer(help="List workers.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep `list` a command of its own."""


@app.command("list")
def list_(
    queue: OfQueue = None,
    limit: Limit = 100,
    organization: OfOrganization = None,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """List workers, those that were heard of last first; `offline` missed two heartbeats."""
    with connected(address, api_key, profile, organization=organization) as client:
        found = client.workers(queue, limit=limit)
    if as_json:
        for worker in found:
            print_json(worker)
        return
    print_rows(
        ("worker", "queue", "state", "jobs", "slots", "host", "seen"),
        [
            (
                worker.worker_id,
                worker.queue_name,
                "offline" if worker.offline else worker.status,
                worker.current_jobs,
                worker.max_concurrency,
                worker.hostname,
                age(worker.seen_at),
            )
            for worker in found
        ],
        nothing="no workers; `spooled-pipelines work QUEUE MODULE:FUNCTION` starts one",
    )
