"""The threads that read, beside the one that writes."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from spooled_pipelines.server.core.errors import RefusedError

T = TypeVar("T")


class _Request(NamedTuple):
    query: Callable[[], Any]
    answer: asyncio.Future[Any]


class Readers:
    """Runs queries on some threads of its own.

    Not a ThreadPoolExecutor, which takes no work once the interpreter has begun to end, while
    other processes still use the server which that interpreter serves.
    """

    def __init__(self, threads: int, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"spooled-reader-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, query: Callable[[], T]) -> T:
        """Return what the query returns; what it raises is raised here."""
        if self._closed:
            raise RefusedError("UNAVAILABLE", "the store is closed")
        answer: asyncio.Future[T] = self._loop.create_future()
        self._requests.put(_Request(query, answer))
        return await answer

    def close(self) -> None:
        """Answer what was asked, then end the threads."""
        self._closed = True
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            result: Any = None
            failure: BaseException | None = None
            try:
                result = request.query()
            # It is the asker's, who waits for it on the event loop.
            except BaseException as error:  # noqa: BLE001
                failure = error
            self._loop.call_soon_threadsafe(_deliver, request.answer, result, failure)


def _deliver(answer: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if answer.done():
        return
    if failure is None:
        answer.set_result(result)
    else:
        answer.set_exception(failure)
