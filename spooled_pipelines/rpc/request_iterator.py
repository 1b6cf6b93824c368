"""Requests on their way from the threads that write them to the one in which gRPC sends them."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import Any

# gRPC takes the next request only when the one before is on its way: this is what may wait.
_ROOM = 4


class Feed:
    """An iterator for gRPC, filled by `put` from any thread, with little room on purpose."""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._changed = Condition()
        self._abandoned = False
        self.ended = False

    def put(self, request: Any) -> bool:
        """Adds a request, waiting for room; False: the call has ended, nobody will take it."""
        with self._changed:
            while len(self._waiting) >= _ROOM and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                return False
            self._waiting.append(request)
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """No more requests come; those that wait are still sent."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """The call is over: writers are let go, the sending thread ends."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Any:
        with self._changed:
            while not (self._waiting or self.ended or self._abandoned):
                self._changed.wait()
            if self._abandoned or not self._waiting:
                raise StopIteration
            request = self._waiting.popleft()
            self._changed.notify_all()
            return request
