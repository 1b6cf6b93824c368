"""The front door: the clients, and what they are made from, loaded when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled_pipelines._lazy import attach

if TYPE_CHECKING:
    from spooled_pipelines.client.aio.client import AsyncSpooledClient
    from spooled_pipelines.client.sync.client import SpooledClient
    from spooled_pipelines.rpc.retry import RetryPolicy
    from spooled_pipelines.rpc.settings import TLS, ConnectionSettings

__all__ = ["TLS", "AsyncSpooledClient", "ConnectionSettings", "RetryPolicy", "SpooledClient"]

# A type checker would take `__getattr__` for a definition of every name.
if not TYPE_CHECKING:
    __getattr__, __dir__ = attach(
        __name__,
        {
            "client.aio.client": "AsyncSpooledClient",
            "client.sync.client": "SpooledClient",
            "rpc.retry": "RetryPolicy",
            "rpc.settings": "ConnectionSettings TLS",
        },
    )
