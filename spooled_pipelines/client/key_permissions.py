"""What an API key may do, found out without reading or writing anything."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from spooled_pipelines.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError
from spooled_pipelines.wire.methods import Method

if TYPE_CHECKING:
    from spooled_pipelines.client.sync.client import SpooledClient


def check_permission(client: SpooledClient, method: Method, timeout: float | None = None) -> None:
    """Make a call with an empty request: a queue without a name, a job without an id.

    Every server checks the key first and then refuses the request as invalid.

    Raises:
        PermissionDeniedError: the key's role does not allow this method.
        SpooledError: the server could not be asked, or does not know the key.
    """
    with suppress(InvalidArgumentError, NotFoundError):
        try:
            client.connection.unary(
                method, method.request_class(), timeout=timeout, repeatable=True
            )
        except PermissionDeniedError as error:
            # A key for some queues is refused the empty name, which says nothing about its role.
            if error.reason != "queue":
                raise
