"""The front door: the clients, and what they are made from, loaded when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spooled_pipelines.client.aio.client import AsyncSpooledClient
    from spooled_pipelines.client.sync.client import SpooledClient
    from spooled_pipelines.rpc.retry import RetryPolicy
    from spooled_pipelines.rpc.settings import TLS, ConnectionSettings

__all__ = ["TLS", "AsyncSpooledClient", "ConnectionSettings", "RetryPolicy", "SpooledClient"]

_HOMES = {
    "AsyncSpooledClient": "spooled_pipelines.client.aio.client",
    "ConnectionSettings": "spooled_pipelines.rpc.settings",
    "RetryPolicy": "spooled_pipelines.rpc.retry",
    "SpooledClient": "spooled_pipelines.client.sync.client",
    "TLS": "spooled_pipelines.rpc.settings",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
