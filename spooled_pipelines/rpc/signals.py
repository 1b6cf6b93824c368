"""Ctrl-C that waits while gRPC begins a call."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class defer_sigint:  # noqa: N801 - reads as the context manager that it is
    """Defer SIGINT to the end of the block, then call the original handler.

    gRPC hands a call to its core first, and then provides a reader for its events. A
    KeyboardInterrupt between the two leaves a call that closing the channel waits for without end.
    Python runs handlers in the main thread only, so other threads have nothing to defer.
    """

    def __enter__(self) -> Self:
        self._came: FrameType | None = None
        self._interrupted = False
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            # A handler that is not Python's raises nothing here.
            if callable(handler):
                self._before = handler
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            if self._interrupted:
                self._before(signal.SIGINT, self._came)

    def _note(self, _: int, frame: FrameType | None) -> None:
        self._interrupted, self._came = True, frame
