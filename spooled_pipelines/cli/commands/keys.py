"""`keys create|list|revoke`: the API keys of a store, or of the server that has it open."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Annotated, Any, Literal

import typer

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.options import Server, duration, for_server
from spooled_pipelines.cli.output import print_record, say

app = typer.Typer(help="Create, list and revoke API keys.", rich_markup_mode=None)

Store = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///PATH or postgresql://USER@HOST/DATABASE. If a server has the SQLite file "
        "open, or without this option, the server at --address is asked, with an admin key."
    ),
]
Organization = Annotated[
    str | None,
    typer.Option(
        show_default="default, or that of the admin key", help="The organization of the keys."
    ),
]


@app.command("create")
@for_server
def create(
    server: Server,
    role: Annotated[
        Literal["produce", "work", "read", "admin"], typer.Option(help="What the key is for.")
    ],
    name: Annotated[str, typer.Option(help="A name for people.")],
    queue: Annotated[
        list[str] | None,
        typer.Option(
            show_default="all", help="A queue that the key may use; repeat it for several."
        ),
    ] = None,
    expires_in: Annotated[float | None, duration("Such as 90d, 12h, 30m or 60s.", "never")] = None,
    organization: Organization = None,
    store: Store = None,
) -> None:
    """Create a key. It is printed this once and not stored."""
    from spooled_pipelines.cli.key_store import key_dict, open_keys
    from spooled_pipelines.wire.keys_v1 import CreateKeyRequest

    request = CreateKeyRequest(organization=organization or "", name=name, role=role, queues=queue)
    if expires_in is not None:
        request.expires_at.FromDatetime(_expiry(expires_in))
    with open_keys(store, server) as call:
        response = call("CreateKey", request)
    created = key_dict(response.key)
    shown = created if server.as_json else _for_people(created)
    print_record({**shown, "key": response.secret}, server.as_json)


@app.command("list")
@for_server
def list_keys(server: Server, organization: Organization = None, store: Store = None) -> None:
    """List the keys of an organization, oldest first, without the secrets themselves."""
    from spooled_pipelines.cli.key_store import key_dict, open_keys
    from spooled_pipelines.rpc.sync.paging import followed
    from spooled_pipelines.wire.keys_v1 import ListKeysRequest
    from spooled_pipelines.wire.methods import KEYS

    request = ListKeysRequest(organization=organization or "")
    with open_keys(store, server) as call:
        pages = followed(partial(call, "ListKeys"), KEYS["ListKeys"], request, "keys")
        listed = [key_dict(key) for key in pages]
    if not listed and not server.as_json:
        say("there are no keys; `spooled-pipelines keys create` makes one", sys.stderr)
    for number, key in enumerate(listed):
        if number and not server.as_json:
            print()
        print_record(key if server.as_json else _for_people(key), server.as_json)


@app.command("revoke")
@for_server
def revoke(
    server: Server,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")],
    organization: Organization = None,
    store: Store = None,
) -> None:
    """Revoke a key at once, and end the streams that it opened."""
    from spooled_pipelines.cli.key_store import key_dict, open_keys
    from spooled_pipelines.wire.keys_v1 import RevokeKeyRequest

    with open_keys(store, server) as call:
        response = call("RevokeKey", RevokeKeyRequest(organization=organization or "", id=key_id))
    key = key_dict(response.key)
    print_record(key if server.as_json else _for_people(key), server.as_json)


def _expiry(seconds: float) -> datetime:
    try:
        return datetime.now(timezone.utc) + timedelta(seconds=seconds)
    except OverflowError:
        raise UsageError(f"--expires-in is too long: {seconds:,g} s") from None


def _for_people(key: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": key["id"],
        "organization": key["organization"],
        "name": key["name"],
        "role": key["role"],
        "queues": ", ".join(key["queues"]) or "all",
        "created": key["created_at"],
        "expires": key["expires_at"] or "never",
        "revoked": key["revoked_at"] or "no",
        "created by": key["created_by"],
        "last used": key["last_used_at"] or "never",
    }
