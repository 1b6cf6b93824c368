"""`migrate`: make or update the schema of a store, as `serve` does unless it is told not to."""

from __future__ import annotations

from typing import Annotated

import typer

from spooled_pipelines.cli.options import AsJson
from spooled_pipelines.cli.output import print_json
from spooled_pipelines.cli.store_access import StoreUrl, usage_error_if_unavailable


def migrate(
    store: StoreUrl = "sqlite:///spooled.db",
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the SQL that would be run, and change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the schema of a store, or bring it up to date; what is there already stays.

    `serve` does so when it starts, unless it has --migrate refuse.
    """
    from spooled_pipelines.server.store.administration import migrate as migrating
    from spooled_pipelines.server.telemetry.logs import configure_logging

    configure_logging()
    with usage_error_if_unavailable():
        steps = migrating.missing_migrations(store) if plan else migrating.migrate(store)
    if as_json:
        about = [{"name": step.name, "checksum": step.checksum} for step in steps]
        print_json({"planned" if plan else "applied": about})
    elif plan:
        for step in steps:
            how = "statement by statement" if step.is_concurrent else "in one transaction"
            print(f"-- {step.name} (checksum {step.checksum}), {how}\n\n{step.statements}")
    if not as_json and not steps:
        print("nothing to do: the store has every migration")
