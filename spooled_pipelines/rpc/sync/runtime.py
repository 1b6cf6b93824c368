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
from spooled_pipelines.rpc.channel import (
    CallResult,
    Request,
    channel_credentials,
    channel_options,
    serialized,
)
from spooled_pipelines.rpc.request_iterator import RequestIterator
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.rpc.signals import defer_sigint
from spooled_pipelines.wire.methods import Method

__all__ = [
    "BidiStream",
    "Channel",
    "InFlightCalls",
    "Lock",
    "ServerStream",
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
    """Call the function here, since a blocking caller waits anyway."""
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
        fork_guard.ensure_grpc_usable()
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
        request: Request,
        *,
        timeout: float | None,
        metadata: Metadata,
        wait_for_ready: bool = False,
    ) -> Any:
        """Make one call, which may wait until there is a connection. Raises grpc.RpcError."""
        call = self._unary_of(method)
        return call(request, timeout=timeout, metadata=metadata, wait_for_ready=wait_for_ready)

    def in_flight(self, method: Method) -> InFlightCalls:
        """Return what runs many calls of a method at once."""
        return InFlightCalls(self._unary_of(method))

    def _unary_of(self, method: Method) -> Any:
        call = self._unary.get(method.path)
        if call is None:
            call = self._unary[method.path] = self._channel.unary_unary(
                method.path, serialized, method.response_class.FromString
            )
        return call

    def stream(
        self, method: Method, request: Request, *, metadata: Metadata, explain: Explain
    ) -> ServerStream:
        """Open a call with one request and many responses."""
        make: Any = self._channel.unary_stream(
            method.path, serialized, method.response_class.FromString
        )
        with defer_sigint():
            call = make(request, metadata=metadata)
        return ServerStream(call, explain)

    def bidi_stream(
        self, method: Method, *, metadata: Metadata, explain: Explain, compressed: bool = False
    ) -> BidiStream:
        """Open a call with many requests and many responses."""
        make: Any = self._channel.stream_stream(
            method.path, serialized, method.response_class.FromString
        )
        requests = RequestIterator()
        packed = grpc.Compression.Gzip if compressed else None
        with defer_sigint():
            call = make(requests, metadata=metadata, compression=packed)
        return BidiStream(call, explain, requests)

    def close(self) -> None:
        """End every call on the channel."""
        if self._pid == os.getpid():
            self._channel.close()


class InFlightCalls:
    """Unary calls that are in flight together; nobody waits for a particular one.

    A thread per call would cost more than the call: gRPC's own thread says which have ended.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._running: dict[int, Any] = {}
        self._ended: queue.SimpleQueue[tuple[int, Any, float]] = queue.SimpleQueue()

    def start(self, number: int, request: Request, *, timeout: float, metadata: Metadata) -> None:
        """Start a call identified by `number`."""
        ended = self._ended
        with defer_sigint():
            call = self._running[number] = self._call.future(
                request, timeout=timeout, metadata=metadata
            )
        call.add_done_callback(lambda done: ended.put((number, done, monotonic())))

    def completed(self, timeout: float | None) -> list[CallResult]:
        """Return the calls that have ended: at least one, or none after `timeout` seconds."""
        found = []
        try:
            found.append(self._result(*self._ended.get(timeout=timeout)))
            while True:
                found.append(self._result(*self._ended.get_nowait()))
        except queue.Empty:
            return found

    def cancel(self) -> None:
        """End the calls that are in flight."""
        for call in self._running.values():
            call.cancel()
        self._running.clear()

    def _result(self, number: int, call: Any, at: float) -> CallResult:
        del self._running[number]
        try:
            return CallResult(number, at, call.result(), None)
        except grpc.RpcError as raw:
            return CallResult(number, at, None, raw)


class ServerStream:
    """The responses of one call, as they come; `cancel()` ends it early, without an error."""

    def __init__(self, call: Any, explain: Explain) -> None:
        self._call = call
        self._explain = explain
        self._cancelled = False

    def __iter__(self) -> ServerStream:
        return self

    def __next__(self) -> Any:
        message = self.read()
        if message is None:
            raise StopIteration
        return message

    def read(self) -> Any:
        """Return the next response, or None at the end."""
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
        """Do the same as `cancel()`, for `with closing(...)`."""
        self.cancel()


class BidiStream(ServerStream):
    """A call with requests and responses in any order. One reader, any number of writers."""

    def __init__(self, call: Any, explain: Explain, requests: RequestIterator) -> None:
        super().__init__(call, explain)
        self._requests = requests
        # Once the call has ended nobody reads the requests any more, and writers must not wait.
        if not call.add_callback(requests.close):
            requests.close()

    def write(self, request: Request) -> None:
        """Hand one request to the transport, waiting while it has no room.

        Raises:
            SpooledError: the call has ended; with the error that it ended with.
        """
        if self._requests.ended:
            raise ConflictError("nothing can be written after done_writing()")
        if self._is_cancelled():
            # gRPC closes the iterator only a moment later.
            raise ended_by_caller()
        if not self._requests.put(request):
            raise self._why_ended()

    def done_writing(self) -> None:
        """End the requests; responses go on. May be repeated."""
        self._requests.end()

    def _why_ended(self) -> SpooledError:
        if self._is_cancelled():
            return ended_by_caller()
        if self._call.code() is grpc.StatusCode.OK:
            return ended_by_server()
        return self._explain(self._call)


def ended_by_caller() -> SpooledError:
    return ConflictError("this stream was cancelled, and nothing can be written to it any more")


def ended_by_server() -> SpooledError:
    return UnavailableError(
        "the server ended the stream before everything was written",
        reason="ended_by_server",
    )
