"""Which server a notebook talks to, when it does not say so."""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path

from spooled_pipelines import SpooledClient, connect

STORE = "spooled.db"
_lock = threading.Lock()
# Cells come and go, their connection stays until the kernel ends: by address and key.
_clients: dict[tuple[str, str | None], SpooledClient] = {}


def client_for(address: str | None, api_key: str | None) -> tuple[SpooledClient, str]:
    """A client that lives as long as the kernel, and a sentence on where it leads, or ``""``.

    Without an address and without SPOOLED_GRPC_ADDRESS: a private server over ./spooled.db.
    """
    address = address or os.environ.get("SPOOLED_GRPC_ADDRESS") or None
    note = ""
    if address is None:
        store = Path(STORE).resolve()
        address = f"embedded:{store}"
        note = (
            f"No server named, so a private one inside this kernel keeps the jobs in {store}. "
            "To use another: address=…, or SPOOLED_GRPC_ADDRESS and SPOOLED_API_KEY."
        )
    with _lock:
        client = _clients.get((address, api_key))
        if client is None:
            client = _clients[address, api_key] = connect(address, api_key=api_key)
    return client, note


@atexit.register
def close_all() -> None:
    """Close what notebooks opened; an embedded server commits and ends with its client."""
    with _lock:
        while _clients:
            _clients.popitem()[1].close()
