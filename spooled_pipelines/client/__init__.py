"""The front door: `SpooledClient` and `AsyncSpooledClient`, loaded when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spooled_pipelines.client.aio.client import AsyncSpooledClient
    from spooled_pipelines.client.sync.client import SpooledClient

__all__ = ["AsyncSpooledClient", "SpooledClient"]

_HOMES = {
    "AsyncSpooledClient": "spooled_pipelines.client.aio.client",
    "SpooledClient": "spooled_pipelines.client.sync.client",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
