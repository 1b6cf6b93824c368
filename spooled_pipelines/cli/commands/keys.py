"""`keys create`, `keys list` and `keys revoke`: in a store, or through the server that has it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Annotated, Any

import typer

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.options import Address, ApiKey, AsJson, Profile
from spooled_pipelines.cli.output import print_json, print_pairs

app = typer.Typer(help="Make, list and revoke API keys.", rich_markup_mode=None)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class RoleName(str, Enum):
    """What a key is for."""

    produce = "produce"
    work = "work"
    read = "read"
    admin = "admin"


Store = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///PATH or postgresql://USER@HOST/DATABASE. Where a server has the SQLite "
        "file open, or without this option, the server at --address is asked, with an admin key."
    ),
]
Organization = Annotated[
    str | None,
    typer.Option(show_default="default, or that of the admin key", help="Whose keys they are."),
]


@app.command("create")
def create(
    role: Annotated[RoleName, typer.Option(help="What the key is for.")],
    name: Annotated[str, typer.Option(help="What people call it.")],
    queue: Annotated[
        list[str] | None,
        typer.Option(show_default="all", help="A queue that it may use; repeat it for several."),
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option(show_default="never", help="Such as 90d, 12h, 30m or 60s.")
    ] = None,
    organization: Organization = None,
    store: Store = None,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed this once, and kept nowhere."""
    from spooled_pipelines.cli.key_store import opened

    expires_at = _expiry(expires_in)
    with opened(store, address, api_key, profile) as keys:
        made, secret = keys.create(organization, name, role.value, queue or [], expires_at)
    if as_json:
        print_json({**made, "key": secret})
        return
    print_pairs({**_shown(made), "key": secret})


@app.command("list")
def list_keys(
    organization: Organization = None,
    store: Store = None,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Every key of an organization, oldest first; never the keys themselves."""
    from spooled_pipelines.cli.key_store import opened

    with opened(store, address, api_key, profile) as keys:
        found = keys.list(organization)
    if as_json:
        print_json(found)
        return
    for number, key in enumerate(found):
        if number:
            print()
        print_pairs(_shown(key))


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")],
    organization: Organization = None,
    store: Store = None,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """End a key at once, together with the streams that it opened."""
    from spooled_pipelines.cli.key_store import opened

    with opened(store, address, api_key, profile) as keys:
        key = keys.revoke(organization, key_id)
    if as_json:
        print_json(key)
        return
    print_pairs(_shown(key))


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,7})([smhd])", text)
    if match is None:
        raise UsageError(f"--expires-in {text!r} is not of the form 90d, 12h, 30m or 60s")
    length = timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        return datetime.now(timezone.utc) + length
    except OverflowError:
        raise UsageError(f"--expires-in {text!r} is beyond every calendar") from None


def _shown(key: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": key["id"],
        "organization": key["organization"],
        "name": key["name"],
        "role": key["role"],
        "queues": ", ".join(key["queues"]) or "all",
        "created": key["created_at"],
        "expires": key["expires_at"] or "never",
        "revoked": key["revoked_at"] or "no",
    }
