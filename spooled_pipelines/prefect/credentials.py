"""The block that holds where a Spooled server is, and the key for it."""

from __future__ import annotations

from typing import Any, Literal

from prefect.blocks.abstract import CredentialsBlock
from pydantic import Field, SecretStr

from spooled_pipelines.client.aio.client import AsyncSpooledClient
from spooled_pipelines.client.sync.client import SpooledClient
from spooled_pipelines.orchestration.server_settings import server_settings
from spooled_pipelines.rpc.settings import ConnectionSettings


class SpooledCredentials(CredentialsBlock):
    """Where a Spooled server is, and the API key for it.

        SpooledCredentials(host="jobs.example.com", api_key="sp_live_...").save("production")

    Attributes:
        host, port: of the server.
        api_key: the API key.
        tls: ``"auto"`` encrypts except to this machine.
        ca, client_certificate, client_key: PEM texts, or paths of PEM files where flows run.
        server_name: the name in the server's certificate, if it is not the host.
        organization: the organization that the key has to be for.
        page: the address of the server's status page, for links.
    """

    _block_type_name = "Spooled Credentials"
    _block_type_slug = "spooled-credentials"
    _description = "Where a Spooled server is, and the API key for it."

    host: str = Field(default="localhost", description="The server's name or IP address.")
    port: int = Field(default=50051, ge=1, le=65535, description="The server's gRPC port.")
    api_key: SecretStr = Field(description="The API key, such as sp_live_...", title="API key")
    tls: Literal["auto", "on", "off"] = Field(
        default="auto", description="Encryption; auto: on, except to this machine.", title="TLS"
    )
    ca: str | None = Field(
        default=None, description="Certificates to trust: PEM, or the path of a file.", title="CA"
    )
    client_certificate: str | None = Field(
        default=None, description="For mutual TLS: PEM, or the path of a file."
    )
    client_key: SecretStr | None = Field(
        default=None, description="The certificate's key: PEM, or the path of a file."
    )
    server_name: str | None = Field(
        default=None, description="The name in the server's certificate, if it is not the host."
    )
    organization: str | None = Field(
        default=None, description="The organization that the key has to be for."
    )
    page: str | None = Field(
        default=None, description="The address of the server's status page, for links."
    )

    def settings(self, **options: Any) -> ConnectionSettings:
        """Return the settings of a connection; `options` are further fields of them.

        Raises:
            InvalidArgumentError: a field makes no sense; the message says which and why.
        """
        key = self.client_key
        return server_settings(
            self.host,
            self.port,
            api_key=self.api_key.get_secret_value(),
            api_key_source="the block's api_key",
            address_source="the block's host and port",
            tls=self.tls,
            certificates={
                "ca": self.ca,
                "client_certificate": self.client_certificate,
                "client_key": None if key is None else key.get_secret_value(),
                "server_name": self.server_name,
            },
            organization=self.organization,
            **options,
        )

    def get_client(self, **options: Any) -> SpooledClient:
        """Return a client; use it in a `with`, or close it."""
        return SpooledClient(self.settings(**options))

    def get_async_client(self, **options: Any) -> AsyncSpooledClient:
        """Return an asyncio client; use it in an `async with`, or close it."""
        return AsyncSpooledClient(self.settings(**options))


def load_credentials(name: str) -> SpooledCredentials:
    """Return the block of this name, also from code that an async flow calls.

    Raises:
        ValueError: there is no such block.
    """
    # Prefect's annotations leave `_sync` out.
    loaded: SpooledCredentials = SpooledCredentials.load(name, _sync=True)  # type: ignore[call-arg, assignment]
    return loaded
