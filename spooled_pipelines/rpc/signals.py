"""Ctrl-C waits while gRPC begins a call."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class begun_whole:  # noqa: N801 - reads as the context manager that it is
    """SIGINT is handled at the end of the `with`, as whoever runs this process handles it.

    gRPC hands a call to its core first and then sees to somebody who takes its events. A
    KeyboardInterrupt between the two leaves a call that closing the channel waits for without end.
    Python runs handlers in the main thread alone, so that others have nothing to wait for.
    """

    def __enter__(self) -> Self:
        self._came: FrameType | None = None
        self._interrupted = False
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            # Of one that is not Python's, or none, nothing is raised here.
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
