"""The official SDK's way: one call per row."""

from __future__ import annotations

from typing import Any

import pandas as pd
from spooled.grpc.client import SpooledGrpcClient

from benchmarks.servers import API_KEY


def sdk_client(address: str) -> Any:
    return SpooledGrpcClient(address=address, api_key=API_KEY, use_tls=False)


def sdk_loop(client: Any, frame: pd.DataFrame, queue: str) -> None:
    """Enqueue as people do today."""
    for row in frame.to_dict("records"):
        client.queue.enqueue(queue, {str(name): value for name, value in row.items()})
