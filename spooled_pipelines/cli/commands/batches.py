"""`batches list`: the batches of a server, by queue, name and time."""

from __future__ import annotations

from typing import Annotated

import typer

from spooled_pipelines.cli.options import (
    Limit,
    OfOrganization,
    OfQueue,
    Server,
    Since,
    Until,
    for_server,
)
from spooled_pipelines.cli.text_table import print_list
from spooled_pipelines.cli.times import age, moment_of

app = typer.Typer(help="List batches.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep `list` a command of its own."""


@app.command("list")
@for_server
def list_(
    server: Server,
    queue: OfQueue = None,
    name: Annotated[str | None, typer.Option(help="Only those with this text in the name.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 20,
    organization: OfOrganization = None,
) -> None:
    """List batches, the newest first; their ids and names are what other commands take."""
    with server.connect(organization=organization) as client:
        found = client.batches(
            queue, text=name, since=moment_of("--since", since), until=moment_of("--until", until),
            limit=limit,
        )  # fmt: skip
    print_list(
        found,
        {
            "batch": "batch_id",
            "name": "name",
            "queue": "queue_name",
            "state": lambda stats: (
                "settled" if stats.settled else "open" if stats.sealed else "not sealed"
            ),
            "done": lambda stats: stats.total - stats.open,
            "total": "total",
            "failed": "failed",
            "age": lambda stats: age(stats.created_at),
        },
        as_json=server.as_json,
        nothing="no such batches"
        if queue or name or since or until
        else "no batches yet; `spooled-pipelines enqueue FILE QUEUE` makes one of a file",
        limit=limit,
    )
