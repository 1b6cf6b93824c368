"""Where the examples find a server: SPOOLED_GRPC_ADDRESS, or one of their own that they need."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def example_address() -> Iterator[str]:
    """Yield an address for `connect`: SPOOLED_GRPC_ADDRESS, or that of a temporary server."""
    given = os.environ.get("SPOOLED_GRPC_ADDRESS")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="spooled-example-") as folder:
        yield f"embedded:{Path(folder) / 'jobs.db'}"
