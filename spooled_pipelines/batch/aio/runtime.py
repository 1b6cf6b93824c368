"""What asyncio does differently for batches. Same names in `sync`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def call_later(seconds: float, action: Callable[[], None]) -> asyncio.TimerHandle:
    """Calls `action` after a while, unless the handle's `cancel()` comes first."""
    return asyncio.get_running_loop().call_later(seconds, action)
