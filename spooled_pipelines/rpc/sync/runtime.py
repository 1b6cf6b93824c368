"""What blocking calls do differently: channels, streams, waiting, threads. Same names in `aio`."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from threading import Lock, Timer
from time import monotonic, sleep
from typing import Any, ParamSpec, TypeVar

import grpc

from spooled_pipelines.errors import ConflictError, SpooledError, UnavailableError
from spooled_pipelines.rpc import fork_guard
from spooled_pipelines.rpc.arrivals import Arrival
from spooled_pipelines.rpc.channel import channel_credentials, channel_options
from spooled_pipelines.rpc.request_iterator import Feed
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.rpc.signals import begun_whole
from spooled_pipelines.rpc.wirebytes import serialized
from spooled_pipelines.wire.methods import Method

__all__ = [
    "Channel",
    "Conversation",
    "Departures",
    "Lock",
    "ResponseStream",
    "call_later",
    "in_thread",
    "monotonic",
    "sleep",
    "with_retries",
]

P = ParamSpec("P")
R = TypeVar("R")
Metadata = tuple[tuple[str, str], ...]
Explain = Callable[[grpc.RpcError], SpooledError]


def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls it here: a blocking caller waits anyway."""
    return function(*args, **kwargs)


def call_later(seconds: float, action: Callable[[], None]) -> Timer:
    """Call `action` after a while, unless `cancel()` on the handle comes first."""
    timer = Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


def with_retries(attempt: Callable[[], R], pause: Callable[[SpooledError], float]) -> R:
    """Repeat `attempt` until it succeeds.

    `pause` returns the seconds to wait after an error, or raises the error to give up.
    """
    while True:
        try:
            return attempt()
        except SpooledError as error:
            seconds = pause(error)
        sleep(seconds)


class Channel:
    """One gRPC channel, for any number of threads of the process that it was opened in."""

    def __init__(self, settings: ConnectionSettings) -> None:
        fork_guard.about_to_use_grpc()
        credentials = channel_credentials(settings)
        options = channel_options(settings)
        target = settings.endpoint.target
        self._pid = os.getpid()
        self._channel = (
            grpc.insecure_channel(target, options=options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options=options)
        )
        self._unary: dict[str, Any] = {}

    def usable_here(self) -> bool:
        """Whether it can be used now; False: it belongs to the process that forked this one."""
        return self._pid == os.getpid()

    def unary(
        self,
        method: Method,
        request: Any,
        *,
        timeout: float | None,
        metadata: Metadata,
        wait_for_ready: bool = False,
    ) -> Any:
        """One call, which may wait until there is a connection. Raises grpc.RpcError."""
        call = self._unary_of(method)
        return call(request, timeout=timeout, metadata=metadata, wait_for_ready=wait_for_ready)

    def departures(self, method: Method) -> Departures:
        """For many calls at once."""
        return Departures(self._unary_of(method))

    def _unary_of(self, method: Method) -> Any:
        call = self._unary.get(method.path)
        if call is None:
            call = self._unary[method.path] = self._channel.unary_unary(
                method.path, serialized, method.response_class.FromString
            )
        return call

    def stream(
        self, method: Method, request: Any, *, metadata: Metadata, explain: Explain
    ) -> ResponseStream:
        """One request, many responses."""
        make: Any = self._channel.unary_stream(
            method.path, serialized, method.response_class.FromString
        )
        with begun_whole():
            call = make(request, metadata=metadata)
        return ResponseStream(call, explain)

    def conversation(
        self, method: Method, *, metadata: Metadata, explain: Explain, compressed: bool = False
    ) -> Conversation:
        """Many requests, many responses."""
        make: Any = self._channel.stream_stream(
            method.path, serialized, method.response_class.FromString
        )
        feed = Feed()
        packed = grpc.Compression.Gzip if compressed else None
        with begun_whole():
            call = make(feed, metadata=metadata, compression=packed)
        return Conversation(call, explain, feed)

    def close(self) -> None:
        """Ends every call on it."""
        if self._pid == os.getpid():
            self._channel.close()


class Departures:
    """Unary calls that are on their way together; nobody waits for one in particular.

    A thread per call would cost more than the call: gRPC's own thread says which have ended.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._running: dict[int, Any] = {}
        self._arrived: queue.SimpleQueue[tuple[int, Any, float]] = queue.SimpleQueue()

    def start(self, number: int, request: Any, *, timeout: float, metadata: Metadata) -> None:
        """Send one; `number` is by what it is known, until it has ended."""
        arrived = self._arrived
        with begun_whole():
            call = self._running[number] = self._call.future(
                request, timeout=timeout, metadata=metadata
            )
        call.add_done_callback(lambda ended: arrived.put((number, ended, monotonic())))

    def ended(self, timeout: float | None) -> list[Arrival]:
        """Those that have ended, at least one; none if that takes longer than `timeout` seconds."""
        found = []
        try:
            found.append(self._arrival(*self._arrived.get(timeout=timeout)))
            while True:
                found.append(self._arrival(*self._arrived.get_nowait()))
        except queue.Empty:
            return found

    def cancel(self) -> None:
        """Ends those that are on their way."""
        for call in self._running.values():
            call.cancel()
        self._running.clear()

    def _arrival(self, number: int, call: Any, at: float) -> Arrival:
        del self._running[number]
        try:
            return Arrival(number, at, call.result(), None)
        except grpc.RpcError as raw:
            return Arrival(number, at, None, raw)


class ResponseStream:
    """The responses of one call, as they come; ends early, without an error, on `cancel()`."""

    def __init__(self, call: Any, explain: Explain) -> None:
        self._call = call
        self._explain = explain
        self._cancelled = False

    def __iter__(self) -> ResponseStream:
        return self

    def __next__(self) -> Any:
        message = self.read()
        if message is None:
            raise StopIteration
        return message

    def read(self) -> Any:
        """The next response, or None at the end."""
        if self._is_cancelled():
            return None
        try:
            return next(self._call, None)
        except grpc.RpcError as raw:
            if self._is_cancelled():
                return None
            raise self._explain(raw) from None

    def cancel(self) -> None:
        """Ends the call; a reader that waits gets the end. May be repeated, from any thread."""
        self._cancelled = True
        self._call.cancel()

    def _is_cancelled(self) -> bool:
        return self._cancelled

    def close(self) -> None:
        """The same as `cancel()`, for `with closing(...)`."""
        self.cancel()


class Conversation(ResponseStream):
    """A call with requests and responses in any order. One reader, any number of writers."""

    def __init__(self, call: Any, explain: Explain, feed: Feed) -> None:
        super().__init__(call, explain)
        self._feed = feed
        # Nobody reads the feed any more once the call has ended; its writers must not wait.
        if not call.add_callback(feed.abandon):
            feed.abandon()

    def write(self, request: Any) -> None:
        """Hands one request to the transport; waits while it has no room.

        Raises:
            SpooledError: the call has ended; with the error that it ended with.
        """
        if self._feed.ended:
            raise ConflictError("nothing can be written after done_writing()")
        if self._is_cancelled():
            # gRPC tells the feed only a moment later.
            raise ended_by_caller()
        if not self._feed.put(request):
            raise self._why_ended()

    def done_writing(self) -> None:
        """Says that no more requests come; responses go on. May be repeated."""
        self._feed.end()

    def _why_ended(self) -> SpooledError:
        if self._is_cancelled():
            return ended_by_caller()
        if self._call.code() is grpc.StatusCode.OK:
            return ended_by_server()
        return self._explain(self._call)


def ended_by_caller() -> SpooledError:
    return ConflictError("this conversation was cancelled: nothing can be written to it any more")


def ended_by_server() -> SpooledError:
    return UnavailableError(
        "the server ended the conversation before everything was written",
        reason="ended_by_server",
    )
