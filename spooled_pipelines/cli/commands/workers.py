"""`workers list`: the workers that a server has heard of."""

from __future__ import annotations

import typer

from spooled_pipelines.cli.options import Limit, OfOrganization, OfQueue, Server, for_server
from spooled_pipelines.cli.text_table import print_list
from spooled_pipelines.cli.times import age

app = typer.Typer(help="List workers.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep `list` a command of its own."""


@app.command("list")
@for_server
def list_(
    server: Server, queue: OfQueue = None, limit: Limit = 100, organization: OfOrganization = None
) -> None:
    """List workers, those that were heard of last first; `offline` missed two heartbeats."""
    with server.connect(organization=organization) as client:
        found = client.workers(queue, limit=limit)
    print_list(
        found,
        {
            "worker": "worker_id",
            "queue": "queue_name",
            "state": lambda worker: "offline" if worker.offline else worker.status,
            "jobs": "current_jobs",
            "slots": "max_concurrency",
            "host": "hostname",
            "seen": lambda worker: age(worker.seen_at),
        },
        as_json=server.as_json,
        nothing="no workers; `spooled-pipelines work QUEUE MODULE:FUNCTION` starts one",
    )
