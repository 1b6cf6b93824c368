"""`backup FILE`: copy the store of a server, whether it runs or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spooled_pipelines.cli.options import AsJson
from spooled_pipelines.cli.output import print_json, say
from spooled_pipelines.cli.store_access import StoreUrl, usage_error_if_unavailable


def backup(
    destination: Annotated[Path, typer.Argument(help="Where to write the copy: a new file.")],
    store: StoreUrl = "sqlite:///spooled.db",
    as_json: AsJson = False,
) -> None:
    """Copy a SQLite store as it is at one moment, also while the server runs."""
    from spooled_pipelines.server.store.administration.backup import back_up

    with usage_error_if_unavailable():
        size = back_up(store, destination)
    if as_json:
        print_json({"path": str(destination), "bytes": size})
        return
    say(f"{destination}: {size:,} bytes")
