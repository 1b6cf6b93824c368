"""Arguments and options that several commands share.

The environment is read by `connect`, so that an error can say where a wrong key came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from spooled_pipelines.cli.profiles import Profile as NamedServer
    from spooled_pipelines.client import SpooledClient


def _profile_names(incomplete: str) -> list[str]:
    """Return the profiles that a shell offers for --profile."""
    from spooled_pipelines.cli.exit_codes import UsageError
    from spooled_pipelines.cli.profiles import load_profiles

    try:
        return [name for name in load_profiles().named if name.startswith(incomplete)]
    except UsageError:
        return []


Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        show_default="SPOOLED_GRPC_ADDRESS, else the profile's, else localhost:50051 with a key, "
        "else embedded:spooled.db",
        help="HOST:PORT, unix:/PATH, or embedded:PATH for that file with no server to start.",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        show_default="the profile's, else SPOOLED_API_KEY",
        help="Better in the environment: other users of this machine can see command lines.",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        show_default="SPOOLED_PROFILE, else the file's default",
        help="A server that the configuration file names; see `profiles`.",
        autocompletion=_profile_names,
    ),
]
RateLimit = Annotated[
    float | None,
    typer.Option("--rate-limit", help="The most calls a second, as the server's plan allows."),
]
Queue = Annotated[str, typer.Argument(help="The queue's name.")]
BatchId = Annotated[str, typer.Argument(help="The batch's id, as `enqueue` printed it.")]
ErrorContains = Annotated[
    str | None,
    typer.Option("--error-contains", help="Only jobs whose error contains this text."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def connected(
    address: str | None,
    api_key: str | None,
    profile: str | None = None,
    *,
    rate_limit: float | None = None,
    creates: bool = False,
) -> SpooledClient:
    """Return a client, to be used in a `with`.

    `creates`: if no server is named, the file ./spooled.db is made where it is missing.
    """
    from spooled_pipelines.cli.profiles import chosen_profile

    named = chosen_profile(profile, address=address or None)
    if named is not None:
        return _client_of(named, api_key or None, rate_limit)
    from spooled_pipelines import connect

    return connect(
        address or _default_address(api_key, creates),
        api_key=api_key or None,
        rate_limit=rate_limit,
    )


def _default_address(api_key: str | None, creates: bool) -> str:
    """Return where a command goes that names no server; say so if it is a file of this folder."""
    from pathlib import Path

    from spooled_pipelines.cli.error_output import print_error
    from spooled_pipelines.cli.exit_codes import UsageError
    from spooled_pipelines.client.settings import DEFAULT_STORE, default_address

    address, note = default_address(api_key)
    if note:
        if not creates and not Path(DEFAULT_STORE).exists():
            raise UsageError(
                f"no server is named, and this folder has no {DEFAULT_STORE}: give --address, or "
                "set SPOOLED_GRPC_ADDRESS and SPOOLED_API_KEY"
            )
        print_error(f"no server is named, so this is about {address.removeprefix('embedded:')}")
    return address


def _client_of(
    profile: NamedServer, api_key: str | None, rate_limit: float | None
) -> SpooledClient:
    """Return the client of a profile, whose errors say where its key is from."""
    from spooled_pipelines import SpooledClient, connect

    key = api_key or profile.api_key()
    if profile.address.startswith("embedded:") or key is None:
        return connect(
            profile.address, api_key=key, tls=profile.tls_settings(), rate_limit=rate_limit
        )
    from spooled_pipelines.rpc.settings import ConnectionSettings

    source = "--api-key" if api_key else profile.api_key_source
    return SpooledClient(
        ConnectionSettings(
            profile.address,
            api_key=key,
            tls=profile.tls_settings(),
            api_key_source=source,
            rate_limit=rate_limit,
        )
    )
