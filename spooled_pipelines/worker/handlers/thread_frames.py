"""Where in the code another thread is."""

from __future__ import annotations

import gc
import sys
import threading
from types import FrameType

_looking = threading.Lock()


def frame_of(thread: int) -> FrameType | None:
    """Return the innermost frame of a thread, by its identifier; None where it has ended."""
    # In Python 3.10, and before 3.11.9, the process can stand still for good if garbage is
    # collected meanwhile: a finalizer lets another thread run, which ends and waits for a lock that
    # is held here (python/cpython#106883).
    with _looking:
        is_enabled = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to another thread's stack
        finally:
            if is_enabled:
                gc.enable()
