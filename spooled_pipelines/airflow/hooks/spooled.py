"""SpooledHook and SpooledAsyncHook: from an Airflow connection to a client."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from spooled_pipelines.airflow.hooks.connection import CONNECTION_TYPE, page_url, settings_of
from spooled_pipelines.errors import InvalidArgumentError, SpooledError
from spooled_pipelines.rpc.settings import TLS

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from spooled_pipelines.client.aio.client import AsyncSpooledClient
    from spooled_pipelines.client.sync.client import SpooledClient
    from spooled_pipelines.rpc.settings import ConnectionSettings

DEFAULT_CONNECTION = "spooled_default"


class SpooledHook(BaseHook):
    """Makes clients from an Airflow connection of type ``spooled``.

    Args:
        spooled_conn_id: the connection's id.
    """

    conn_name_attr = "spooled_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = CONNECTION_TYPE
    hook_name = "Spooled"

    def __init__(self, spooled_conn_id: str = DEFAULT_CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spooled_conn_id = spooled_conn_id

    def get_conn(self) -> SpooledClient:
        """A new client; close it, or use it in a `with`.

        Its channel is opened at its first call, so it may be made before a fork.

        Raises:
            InvalidArgumentError: the connection is not there or makes no sense; the message says
                which field.
            AuthenticationError: it has no API key.
        """
        from spooled_pipelines.client.sync.client import SpooledClient

        return SpooledClient(_masked(settings_of(self._connection())))

    async def aget_conn(self) -> AsyncSpooledClient:
        """The same for asyncio; see `SpooledAsyncHook`."""
        return await SpooledAsyncHook(self.spooled_conn_id).get_conn()

    def page_url(self, *path: str) -> str:
        """Where the server's status page shows something: ``page_url("batches", batch_id)``.

        Empty where the connection's extra names no ``page``.
        """
        return page_url(self._connection(), *path)

    def test_connection(self) -> tuple[bool, str]:
        """Whether the server can be used, and a sentence for people; at most 5 s, no secrets."""
        from spooled_pipelines.airflow.hooks.connection_test import probe

        try:
            return probe(_masked(settings_of(self._connection())))
        except SpooledError as error:
            return False, error.message

    def _connection(self) -> Connection:
        try:
            return self.get_connection(self.spooled_conn_id)
        except AirflowNotFoundException as error:
            raise _not_there(self.spooled_conn_id) from error


class SpooledAsyncHook(BaseHook):
    """Makes asyncio clients, without ever blocking the event loop: for triggers.

    Args:
        spooled_conn_id: the connection's id.
    """

    conn_name_attr = "spooled_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = CONNECTION_TYPE
    hook_name = "Spooled"

    def __init__(self, spooled_conn_id: str = DEFAULT_CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spooled_conn_id = spooled_conn_id

    async def get_conn(self) -> AsyncSpooledClient:
        """A new client; close it, or use it in an `async with`.

        Raises:
            InvalidArgumentError, AuthenticationError: as `SpooledHook.get_conn`.
        """
        return await self.client_of(await self.settings())

    async def settings(self) -> ConnectionSettings:
        """What the connection says. The same for the same connection, so that it can be shared.

        Raises:
            InvalidArgumentError, AuthenticationError: as `SpooledHook.get_conn`.
        """
        try:
            connection = await self.aget_connection(self.spooled_conn_id)
        except AirflowNotFoundException as error:
            raise _not_there(self.spooled_conn_id) from error
        return settings_of(connection)

    async def client_of(self, settings: ConnectionSettings) -> AsyncSpooledClient:
        """The client of these settings, whose secrets are masked from now on."""
        # Loading gRPC takes longer than an event loop may be held up, and telling the supervisor
        # what to mask waits for its answer.
        module = await asyncio.to_thread(import_module, "spooled_pipelines.client.aio.client")
        await asyncio.to_thread(_masked, settings)
        client: AsyncSpooledClient = module.AsyncSpooledClient(settings)
        return client


def _masked(settings: ConnectionSettings) -> ConnectionSettings:
    # Airflow masks a connection's password by itself, but not what we made of it.
    mask_secret(settings.api_key)
    if isinstance(settings.tls, TLS) and "-----BEGIN" in str(settings.tls.client_key):
        mask_secret(str(settings.tls.client_key))
    return settings


def _not_there(conn_id: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"there is no Airflow connection {conn_id!r}: add it (Admin, Connections, type Spooled), "
        "or name another one with spooled_conn_id="
    )
