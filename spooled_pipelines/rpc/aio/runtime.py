"""What asyncio does differently: channels, streams, waiting, threads. Same names in `sync`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

import grpc
import grpc.aio

from spooled_pipelines.errors import ConflictError, SpooledError, UnavailableError
from spooled_pipelines.rpc import fork_guard
from spooled_pipelines.rpc.channel import (
    CallResult,
    Request,
    channel_credentials,
    channel_options,
    serialized,
)
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.wire.methods import Method

__all__ = [
    "AsyncBidiStream",
    "AsyncChannel",
    "AsyncInFlightCalls",
    "AsyncServerStream",
    "Lock",
    "call_later",
    "in_thread",
    "monotonic",
    "sleep",
    "with_retries",
]

R = TypeVar("R")
Metadata = tuple[tuple[str, str], ...]
Explain = Callable[[grpc.RpcError], SpooledError]

Lock = asyncio.Lock
sleep = asyncio.sleep
in_thread = asyncio.to_thread


def call_later(seconds: float, action: Callable[[], None]) -> asyncio.TimerHandle:
    """Call `action` after a while, unless `cancel()` on the handle comes first."""
    return asyncio.get_running_loop().call_later(seconds, action)


async def with_retries(
    attempt: Callable[[], Awaitable[R]], pause: Callable[[SpooledError], float]
) -> R:
    """Repeat `attempt` until it succeeds.

    `pause` returns the seconds to wait after an error, or raises the error to give up.
    """
    while True:
        try:
            return await attempt()
        except SpooledError as error:
            seconds = pause(error)
        await sleep(seconds)


class AsyncChannel:
    """One gRPC channel, bound to the event loop and the process that it was opened in."""

    def __init__(self, settings: ConnectionSettings) -> None:
        fork_guard.ensure_grpc_usable()
        credentials = channel_credentials(settings)
        options = channel_options(settings)
        target = settings.endpoint.target
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._channel = (
            grpc.aio.insecure_channel(target, options=options)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options=options)
        )
        self._unary: dict[str, Any] = {}
        self._closed = asyncio.Event()

    def usable_here(self) -> bool:
        """Return whether the channel can be used; False if its loop or process is gone.

        Raises:
            ConflictError: it belongs to another event loop that still runs.
        """
        if self._pid != os.getpid() or self._loop.is_closed():
            return False
        if self._loop is not asyncio.get_running_loop():
            raise ConflictError(
                "this asyncio client is in use on another event loop: make one client per loop"
            )
        return True

    async def unary(
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
        try:
            return await call(
                request, timeout=timeout, metadata=metadata, wait_for_ready=wait_for_ready
            )
        except asyncio.CancelledError:
            if self._closed.is_set() and not _task_is_cancelled():
                raise _cut_off() from None
            raise

    def in_flight(self, method: Method) -> AsyncInFlightCalls:
        """Return what runs many calls of a method at once."""
        return AsyncInFlightCalls(self._unary_of(method), self._closed)

    def _unary_of(self, method: Method) -> Any:
        call = self._unary.get(method.path)
        if call is None:
            call = self._unary[method.path] = self._channel.unary_unary(
                method.path, serialized, method.response_class.FromString
            )
        return call

    def stream(
        self, method: Method, request: Request, *, metadata: Metadata, explain: Explain
    ) -> AsyncServerStream:
        """Open a call with one request and many responses."""
        make: Any = self._channel.unary_stream(
            method.path, serialized, method.response_class.FromString
        )
        return AsyncServerStream(make(request, metadata=metadata), explain, self._closed)

    def bidi_stream(
        self, method: Method, *, metadata: Metadata, explain: Explain, compressed: bool = False
    ) -> AsyncBidiStream:
        """Open a call with many requests and many responses."""
        make: Any = self._channel.stream_stream(
            method.path, serialized, method.response_class.FromString
        )
        packed = grpc.Compression.Gzip if compressed else None
        call = make(metadata=metadata, compression=packed)
        return AsyncBidiStream(call, explain, self._closed)

    async def close(self) -> None:
        """End every call on the channel."""
        self._closed.set()
        if self._pid == os.getpid() and not self._loop.is_closed():
            await self._channel.close()


class AsyncInFlightCalls:
    """Unary calls that are in flight together; nobody waits for a particular one."""

    def __init__(self, call: Any, channel_closed: asyncio.Event) -> None:
        self._call = call
        self._channel_closed = channel_closed
        self._loop = asyncio.get_running_loop()
        self._running: dict[int, Any] = {}
        self._ended: list[tuple[int, Any, float]] = []
        self._waiter: asyncio.Future[None] | None = None

    def start(self, number: int, request: Request, *, timeout: float, metadata: Metadata) -> None:
        """Start a call identified by `number`."""
        call = self._running[number] = self._call(request, timeout=timeout, metadata=metadata)
        call.add_done_callback(lambda ended: self._end(number, ended))

    async def completed(self, timeout: float | None) -> list[CallResult]:
        """Return the calls that have ended: at least one, or none after `timeout` seconds."""
        if not self._ended:
            self._waiter = self._loop.create_future()
            if timeout is None:
                await self._waiter
            else:
                await asyncio.wait((self._waiter,), timeout=timeout)
        ended, self._ended = self._ended, []
        return [await self._result(*one) for one in ended]

    def cancel(self) -> None:
        """End the calls that are in flight."""
        for call in self._running.values():
            call.cancel()
        self._running.clear()

    def _end(self, number: int, call: Any) -> None:
        self._ended.append((number, call, monotonic()))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _result(self, number: int, call: Any, at: float) -> CallResult:
        try:
            response = await call
        except grpc.RpcError as raw:
            found = CallResult(number, at, None, raw)
        except asyncio.CancelledError:
            if _task_is_cancelled() or not self._channel_closed.is_set():
                raise
            found = CallResult(number, at, None, _cut_off())
        else:
            found = CallResult(number, at, response, None)
        # Not before: what is cancelled while it is looked at here is on its way still.
        del self._running[number]
        return found


class AsyncServerStream:
    """The responses of one call, as they come; `cancel()` ends it early, without an error."""

    def __init__(self, call: Any, explain: Explain, channel_closed: asyncio.Event) -> None:
        self._call = call
        self._explain = explain
        self._channel_closed = channel_closed
        self._cancelled = False

    def __aiter__(self) -> AsyncServerStream:
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is None:
            raise StopAsyncIteration
        return message

    async def read(self) -> Any:
        """Return the next response, or None at the end."""
        if self._is_cancelled():
            return None
        try:
            message = await self._call.read()
        except grpc.RpcError as raw:
            if self._is_cancelled():
                return None
            raise self._explain(raw) from None
        except asyncio.CancelledError:
            if not _task_is_cancelled():
                if self._is_cancelled():
                    return None
                if self._channel_closed.is_set():
                    raise self._explain(_cut_off()) from None
            self.cancel()
            raise
        return None if message is grpc.aio.EOF else message

    def cancel(self) -> None:
        """End the call, and with it a reader that waits. May be repeated."""
        self._cancelled = True
        self._call.cancel()

    def _is_cancelled(self) -> bool:
        return self._cancelled

    async def aclose(self) -> None:
        """Do the same as `cancel()`, for `async with aclosing(...)`."""
        self.cancel()


class AsyncBidiStream(AsyncServerStream):
    """A call with requests and responses in any order. One reader, any number of writers."""

    def __init__(self, call: Any, explain: Explain, channel_closed: asyncio.Event) -> None:
        super().__init__(call, explain, channel_closed)
        self._writing = asyncio.Lock()
        self._done_writing = False

    async def write(self, request: Request) -> None:
        """Hand one request to the transport, waiting while it has no room.

        Raises:
            SpooledError: the call has ended; with the error that it ended with.
        """
        async with self._writing:
            if self._done_writing:
                raise ConflictError("nothing can be written after done_writing()")
            try:
                await self._call.write(request)
            except grpc.RpcError as raw:
                if self._is_cancelled():
                    raise ended_by_caller() from None
                raise self._explain(raw) from None
            except asyncio.InvalidStateError:
                raise await self._why_ended() from None
            except asyncio.CancelledError:
                if not _task_is_cancelled():
                    if self._is_cancelled():
                        raise ended_by_caller() from None
                    if self._channel_closed.is_set():
                        raise self._explain(_cut_off()) from None
                raise

    async def done_writing(self) -> None:
        """End the requests; responses go on. May be repeated."""
        async with self._writing:
            if self._done_writing:
                return
            self._done_writing = True
            if not self._call.done():
                await self._call.done_writing()

    async def _why_ended(self) -> SpooledError:
        if self._is_cancelled():
            return ended_by_caller()
        code = await self._call.code()
        if code is grpc.StatusCode.OK:
            return ended_by_server()
        return self._explain(
            grpc.aio.AioRpcError(
                code,
                await self._call.initial_metadata(),
                await self._call.trailing_metadata(),
                await self._call.details(),
            )
        )


def ended_by_caller() -> SpooledError:
    return ConflictError("this stream was cancelled, and nothing can be written to it any more")


def ended_by_server() -> SpooledError:
    return UnavailableError(
        "the server ended the stream before everything was written",
        reason="ended_by_server",
    )


def _cut_off() -> grpc.aio.AioRpcError:
    # Closing a channel cancels its calls, which asyncio would take for a cancelled task.
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, nothing, nothing, "Channel closed!")


def _task_is_cancelled() -> bool:
    # Python 3.10 cannot tell; there the end of a cancelled stream wins.
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    return bool(cancelling and cancelling())
