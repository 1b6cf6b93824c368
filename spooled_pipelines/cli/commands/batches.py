"""`batches list`: the batches of a server, by queue, name and time."""

from __future__ import annotations

from typing import Annotated

import typer

from spooled_pipelines.cli.options import (
    Address,
    ApiKey,
    AsJson,
    Limit,
    OfOrganization,
    OfQueue,
    Profile,
    Since,
    Until,
    connected,
    moment,
)
from spooled_pipelines.cli.output import print_json, say
from spooled_pipelines.cli.text_table import print_rows
from spooled_pipelines.cli.times import age

app = typer.Typer(help="List batches.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep `list` a command of its own."""


@app.command("list")
def list_(
    queue: OfQueue = None,
    name: Annotated[str | None, typer.Option(help="Only those with this text in the name.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 20,
    organization: OfOrganization = None,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """List batches, the newest first; their ids and names are what other commands take."""
    with connected(address, api_key, profile, organization=organization) as client:
        found = client.batches(
            queue, text=name, since=moment("--since", since), until=moment("--until", until),
            limit=limit,
        )  # fmt: skip
    if as_json:
        for stats in found:
            print_json(stats)
        return
    print_rows(
        ("batch", "name", "queue", "state", "done", "total", "failed", "age"),
        [
            (
                stats.batch_id,
                stats.name,
                stats.queue_name,
                "settled" if stats.settled else "open" if stats.sealed else "not sealed",
                stats.total - stats.open,
                stats.total,
                stats.failed,
                age(stats.created_at),
            )
            for stats in found
        ],
        nothing="no such batches"
        if queue or name or since or until
        else "no batches yet; `spooled-pipelines enqueue FILE QUEUE` makes one of a file",
    )
    if len(found) == limit:
        say(f"the newest {limit:,}; --limit shows more")
