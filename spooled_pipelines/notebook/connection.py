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

    Without an address and without SPOOLED_GRPC_ADDRESS: ./spooled.db, served by this kernel or
    whoever of this user has it open already.
    """
    address = address or os.environ.get("SPOOLED_GRPC_ADDRESS") or None
    note = ""
    if address is None:
        store = Path(STORE).resolve()
        address = f"embedded:{store}"
        note = (
            f"No server named, so the jobs are kept in {store}; a worker in a terminal finds them "
            f"at --address {address}. To use a server: address=…, or SPOOLED_GRPC_ADDRESS and "
            "SPOOLED_API_KEY."
        )
    with _lock:
        client = _clients.get((address, api_key))
        if client is None:
            client = _clients[address, api_key] = connect(address, api_key=api_key)
    return client, note


@atexit.register
def close_all() -> None:
    """Close what notebooks opened; a file that was served here is let go of."""
    with _lock:
        while _clients:
            _clients.popitem()[1].close()
