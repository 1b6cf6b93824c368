"""The server that a notebook uses if it names none."""

from __future__ import annotations

import atexit
import threading

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.client.settings import default_address

_lock = threading.Lock()
# Connections by address and key; they stay until the kernel ends.
_clients: dict[tuple[str, str | None], SpooledClient] = {}


def client_for(address: str | None, api_key: str | None) -> tuple[SpooledClient, str]:
    """Return a client that lives as long as the kernel, and a sentence if it was chosen here.

    `connect` says where that is without an address.
    """
    note = ""
    if not address:
        address, note = default_address(api_key)
    with _lock:
        client = _clients.get((address, api_key))
        if client is None:
            client = _clients[address, api_key] = connect(address, api_key=api_key)
    return client, note


@atexit.register
def close_all() -> None:
    """Close the clients that notebooks opened, and release the files that they served."""
    with _lock:
        while _clients:
            _clients.popitem()[1].close()
