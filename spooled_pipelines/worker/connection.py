"""A connection of the worker's own, made from what the caller has."""

from __future__ import annotations

from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient, SpooledClient


def connection_of(
    client_or_address: SpooledClient | AsyncSpooledClient | str | None, api_key: str | None
) -> Callable[[], AsyncSpooledClient]:
    """Makes the worker's client, in the worker's event loop; an asyncio client belongs to one."""
    if isinstance(client_or_address, SpooledClient | AsyncSpooledClient):
        if api_key is not None:
            raise TypeError("the client brings its key: leave api_key out")
        settings = client_or_address.settings
        return lambda: AsyncSpooledClient(settings)
    address = client_or_address
    return lambda: AsyncSpooledClient(address, api_key=api_key)
