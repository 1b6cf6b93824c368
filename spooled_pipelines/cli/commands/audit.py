"""`audit`: who did what with which key, and which keys were refused."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from spooled_pipelines.cli.commands.keys import Organization, Store
from spooled_pipelines.cli.options import Server, for_server
from spooled_pipelines.cli.output import print_json, say


@for_server
def audit(
    server: Server,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, from the newest on.")] = 50,
    organization: Organization = None,
    store: Store = None,
) -> None:
    """List who did what with which key, and which keys were refused, newest first.

    A key that the server was started with sees all organizations unless it names one.
    """
    from spooled_pipelines.cli.key_store import audit_dict, open_keys
    from spooled_pipelines.wire.keys_v1 import ListAuditRequest

    request = ListAuditRequest(organization=organization or "", page_size=limit)
    with open_keys(store, server) as call:
        response = call("ListAudit", request)
    for entry in map(audit_dict, response.entries):
        if server.as_json:
            print_json(entry)
        else:
            say(_line(entry))
    if not response.entries and not server.as_json:
        print("nothing was done yet that is audited")


def _line(entry: dict[str, Any]) -> str:
    named = f"{entry['key_name']!r}" if entry["key_name"] else ""
    who = " ".join(filter(None, (entry["key_id"], named))) or "an unknown key"
    what = " ".join(filter(None, (entry["action"], entry["target"])))
    often = f" ({entry['times']:,} times)" if entry["times"] > 1 else ""
    of = f" of {entry['organization']}" if entry["organization"] else ""
    return f"{entry['at']}  {what}: {entry['outcome']}{often}\n    by {who}{of} at {entry['peer']}"
