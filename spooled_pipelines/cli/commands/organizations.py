"""`organizations list|export|delete`: whole organizations, for who runs the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.live_line import LiveLine
from spooled_pipelines.cli.options import AsJson
from spooled_pipelines.cli.output import print_json, print_record
from spooled_pipelines.cli.store_access import StoreUrl, usage_error_if_unavailable
from spooled_pipelines.cli.text_table import print_rows

app = typer.Typer(
    help="List the organizations of a store; export one, or delete it for good.",
    rich_markup_mode=None,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The organization, as `list` shows it.")]


@app.command("list")
def list_(store: StoreUrl = "sqlite:///spooled.db", as_json: AsJson = False) -> None:
    """List the organizations of a store with what they have; its server may run."""
    from spooled_pipelines.server.store.administration import organizations

    with usage_error_if_unavailable():
        found = organizations.organizations(store)
    if as_json:
        for each in found:
            print_json(each._asdict())
        return
    print_rows(
        organizations.Organization._fields,
        found,
        nothing="no organizations yet; one begins with its first key or job",
    )


@app.command("export")
def export(
    name: Name,
    output: Annotated[
        Path,
        typer.Option(
            help="A new file: NAME.parquet has the jobs, any other JSON lines of all there is."
        ),
    ],
    store: StoreUrl = "sqlite:///spooled.db",
    as_json: AsJson = False,
) -> None:
    """Write what an organization has to a file; its server may run."""
    from spooled_pipelines.server.store.administration import organizations

    with usage_error_if_unavailable():
        jobs = organizations.export(store, name, output)
    print_record({"organization": name, "jobs": jobs, "path": str(output)}, as_json)


@app.command("delete")
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it; there is no way back.")] = False,
    store: StoreUrl = "sqlite:///spooled.db",
    as_json: AsJson = False,
) -> None:
    """Delete an organization with its jobs, batches, queues and keys from a stopped store.

    When it ends, the files of the store hold nothing of it; if it is killed, run it again. Its
    audit stays, and so do backups, copies, and the log files that PostgreSQL keeps.
    """
    from spooled_pipelines.server.store.administration import organizations

    if not yes:
        raise UsageError(f"--yes is needed to delete the organization {name!r} for good")
    with usage_error_if_unavailable(), LiveLine() as line:
        jobs = organizations.delete(store, name, line.show)
    if as_json:
        print_json({"organization": name, "jobs": jobs})
        return
    print(f"{name}: deleted with {jobs:,} jobs; the files of the store hold nothing of them now.")
    if store.startswith("sqlite:"):
        print("Backups and copies of the file still have them.")
    else:
        print("Backups, replicas and archived WAL have them until they are removed; the database's")
        print("own WAL until its files are used again, after the next checkpoints.")
