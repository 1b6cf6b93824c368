"""What the commands share that open a server's store themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer

from spooled_pipelines.cli.exit_codes import UsageError

StoreUrl = Annotated[
    str,
    typer.Option(
        "--store", help="The store of the server: sqlite:///PATH, or postgresql://HOST/NAME."
    ),
]


@contextlib.contextmanager
def usage_error_if_unavailable() -> Iterator[None]:
    """Turn a store that cannot be opened into a usage error."""
    from spooled_pipelines.server.core.errors import StoreUnavailableError

    try:
        yield
    except StoreUnavailableError as error:
        raise UsageError(str(error)) from error
