"""Hand requests from the threads that write them to the thread in which gRPC sends them."""

from __future__ import annotations

from collections import deque
from threading import Condition

from spooled_pipelines.rpc.channel import Request

# gRPC takes the next request once the one before is on its way: this many may wait.
_ROOM = 4


class RequestIterator:
    """An iterator for gRPC, filled by `put` from any thread, with a small buffer on purpose."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self._changed = Condition()
        self._closed = False
        self.ended = False

    def put(self, request: Request) -> bool:
        """Add a request, waiting for room; return False if the call has ended."""
        with self._changed:
            while len(self._waiting) >= _ROOM and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._waiting.append(request)
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """End the requests; those that wait are still sent."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Release the writers and end the sending thread, since the call is over."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> RequestIterator:
        return self

    def __next__(self) -> Request:
        with self._changed:
            while not (self._waiting or self.ended or self._closed):
                self._changed.wait()
            if self._closed or not self._waiting:
                raise StopIteration
            request = self._waiting.popleft()
            self._changed.notify_all()
            return request
