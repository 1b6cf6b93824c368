"""The server that a notebook uses if it names none."""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path

from spooled_pipelines import SpooledClient, connect

STORE = "spooled.db"
_lock = threading.Lock()
# Connections by address and key; they stay until the kernel ends.
_clients: dict[tuple[str, str | None], SpooledClient] = {}


def client_for(address: str | None, api_key: str | None) -> tuple[SpooledClient, str]:
    """Return a client that lives as long as the kernel, and a sentence if it was chosen here.

    Without an address and SPOOLED_GRPC_ADDRESS it is for ./spooled.db, served by this kernel or by
    another process of this user that has it open already.
    """
    address = address or os.environ.get("SPOOLED_GRPC_ADDRESS") or None
    note = ""
    if address is None:
        store = Path(STORE).resolve()
        address = f"embedded:{store}"
        note = (
            f"No server was named, so the jobs are kept in {store}; a worker in a terminal finds "
            f"them at --address {address}. To use a server: address=…, or SPOOLED_GRPC_ADDRESS "
            "and SPOOLED_API_KEY."
        )
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
