"""Naming what blocks the worker's event loop."""

from __future__ import annotations

import asyncio
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from spooled_pipelines.worker.handlers.thread_frames import frame_of
from spooled_pipelines.worker.log import logger

# An async handler that does not await for so long keeps every other one waiting.
_BLOCKED_SECONDS = 2.0
_PAUSE_SECONDS = 0.5
_PYTHON = (sysconfig.get_path("stdlib"), str(Path(__file__).parents[2]), "<frozen ")
_INSTALLED = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))


@contextmanager
def blocked_loop_logged() -> Iterator[None]:
    """Log, from a thread of its own, where the running loop is when it is blocked for 2 seconds."""
    loop, thread = asyncio.get_running_loop(), threading.get_ident()
    ended = threading.Event()
    monitor = threading.Thread(
        target=_monitor, args=(loop, thread, ended), name="spooled-loop-monitor", daemon=True
    )
    monitor.start()
    try:
        yield
    finally:
        ended.set()


def _monitor(loop: asyncio.AbstractEventLoop, thread: int, ended: threading.Event) -> None:
    # The loop may be closed meanwhile.
    with suppress(RuntimeError):
        while not ended.wait(_PAUSE_SECONDS):
            answered = threading.Event()
            loop.call_soon_threadsafe(answered.set)
            if answered.wait(_BLOCKED_SECONDS):
                continue
            place = _place(frame_of(thread))
            if place:
                logger.error(
                    "the event loop is blocked at %s: an async handler must await what takes "
                    "long; a handler that cannot should be a plain function",
                    place,
                )
            while not answered.wait(_PAUSE_SECONDS):
                if ended.is_set():
                    return


def _place(frame: FrameType | None) -> str:
    """Return the innermost line of somebody's code, in a library only where there is no other."""
    found = ""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_INSTALLED) or not code.co_filename.startswith(_PYTHON):
            place = f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"
            if not code.co_filename.startswith(_INSTALLED):
                return place
            found = found or place
        frame = frame.f_back
    return found
