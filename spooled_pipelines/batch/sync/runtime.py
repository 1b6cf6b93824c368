"""What blocking calls do differently for batches. Same names in `aio`."""

from __future__ import annotations

import threading
from collections.abc import Callable


def call_later(seconds: float, action: Callable[[], None]) -> threading.Timer:
    """Calls `action` after a while, unless the handle's `cancel()` comes first."""
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer
