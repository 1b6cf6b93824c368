"""SpooledHook: from an Airflow connection to a client."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk.log import mask_secret

from spooled_pipelines.airflow.hooks.connection import CONNECTION_TYPE, page_url, settings_of
from spooled_pipelines.airflow.platform.versions import (
    AirflowNotFoundException,
    BaseHook,
    connection_of,
    run_in_thread,
)
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

    def get_conn(self, made_by: str = "") -> SpooledClient:
        """Return a new client; close it, or use it in a `with`.

        Its channel is opened at its first call, so it may be made before a fork. The batches that
        it makes keep who made them, for people.

        Raises:
            InvalidArgumentError: there is no such connection, or a field of it makes no sense; the
                message says which.
            AuthenticationError: it has no API key.
        """
        from spooled_pipelines.client.sync.client import SpooledClient

        settings = replace(settings_of(self._connection()), made_by=made_by)
        return SpooledClient(_masked(settings))

    async def get_async_conn(self) -> AsyncSpooledClient:
        """Return a new asyncio client, without blocking the event loop: for triggers.

        Raises:
            InvalidArgumentError, AuthenticationError: as `get_conn`.
        """
        return await self.async_client_of(await self.async_settings())

    async def async_settings(self) -> ConnectionSettings:
        """Return what the connection says; equal settings may share a client.

        Raises:
            InvalidArgumentError, AuthenticationError: as `get_conn`.
        """
        try:
            connection = await connection_of(self, self.spooled_conn_id)
        except AirflowNotFoundException as error:
            raise _not_found(self.spooled_conn_id) from error
        return settings_of(connection)

    async def async_client_of(self, settings: ConnectionSettings) -> AsyncSpooledClient:
        """Return a client with these settings, whose secrets are masked from now on."""
        # Loading gRPC takes longer than an event loop may be held up, and telling the supervisor
        # what to mask waits for its answer.
        client_class = await run_in_thread(_load_async_client)
        return client_class(await run_in_thread(_masked, settings))

    def page_url(self, *path: str) -> str:
        """Return the address of something on the server's status page.

        For a batch: ``page_url("batches", batch_id)``. Empty where the connection's extra names
        no ``page``.
        """
        return page_url(self._connection(), *path)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the server can be used, and why not; within 5 s, without secrets."""
        from spooled_pipelines.airflow.hooks.connection_test import check_settings

        try:
            # Airflow's form tests a connection under an id that nobody has given it.
            settings = settings_of(self._connection(), "this connection")
            return check_settings(_masked(settings))
        except SpooledError as error:
            return False, error.message

    def _connection(self) -> Connection:
        try:
            return self.get_connection(self.spooled_conn_id)
        except AirflowNotFoundException as error:
            raise _not_found(self.spooled_conn_id) from error


class WithHook:
    """Gives an operator `hook`, that of its connection."""

    spooled_conn_id: str

    @cached_property
    def hook(self) -> SpooledHook:
        """The hook of `spooled_conn_id`."""
        return SpooledHook(self.spooled_conn_id)


def server_of(conn_id: str) -> str:
    """Return what to call the server of a connection, at the beginning of a message."""
    return f"The server of the Airflow connection {conn_id!r}"


def _load_async_client() -> type[AsyncSpooledClient]:
    # Otherwise the client's first call about a batch would load it, on the event loop.
    import spooled_pipelines.batch.aio.batch  # noqa: F401
    from spooled_pipelines.client.aio.client import AsyncSpooledClient

    return AsyncSpooledClient


def _masked(settings: ConnectionSettings) -> ConnectionSettings:
    # Airflow masks a connection's password by itself, but not what we made of it.
    mask_secret(settings.api_key)
    if isinstance(settings.tls, TLS) and settings.tls.inline_client_key is not None:
        mask_secret(str(settings.tls.inline_client_key))
    return settings


def _not_found(conn_id: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"there is no Airflow connection {conn_id!r}: add it (Admin, Connections, type Spooled), "
        "or name another one with spooled_conn_id="
    )
