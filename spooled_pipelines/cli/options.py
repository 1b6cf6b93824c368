"""Options that several commands share.

The environment is read by `connect`, so that an error can say where a wrong key came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from spooled_pipelines.client import SpooledClient

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        show_default="SPOOLED_GRPC_ADDRESS, else localhost:50051",
        help="HOST:PORT, unix:/PATH, or embedded:PATH for that file with no server to start.",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        show_default="SPOOLED_API_KEY",
        help="Better in the environment: other users of this machine can see command lines.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def connected(address: str | None, api_key: str | None) -> SpooledClient:
    """A client, to be used in a `with`."""
    from spooled_pipelines import connect

    return connect(address or None, api_key=api_key or None)
