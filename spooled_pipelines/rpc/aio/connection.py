"""A connection to one server: opened when first needed, with retries and plain errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc

from spooled_pipelines.errors import (
    ConflictError,
    DeadlineExceededError,
    SpooledError,
    UnavailableError,
)
from spooled_pipelines.rpc import tracing
from spooled_pipelines.rpc.aio.closing import AsyncClosing
from spooled_pipelines.rpc.aio.runtime import (
    AsyncBidiStream,
    AsyncChannel,
    AsyncInFlightCalls,
    AsyncServerStream,
    monotonic,
    sleep,
)
from spooled_pipelines.rpc.channel import (
    Request,
    call_metadata,
    compression_pays,
    warn_of_plaintext,
)
from spooled_pipelines.rpc.error_mapping import Call, error_from_grpc
from spooled_pipelines.rpc.rate_limiter import RateLimiter
from spooled_pipelines.rpc.retry import delay_before_retry
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.wire import methods, spooled_v1
from spooled_pipelines.wire.methods import Method

log = logging.getLogger("spooled_pipelines.rpc")

_PROBE_AGAIN_SECONDS = 0.1
# How long to look for the reason once waiting for an answer was in vain.
_REASON_SECONDS = 1.0


class AsyncConnection(AsyncClosing):
    """A channel to one server and the calls on it, which raise `SpooledError` only.

    The channel is opened by the first call, so that a connection may be created before a fork.
    """

    def __init__(
        self, settings: ConnectionSettings, on_away: Callable[[], None] | None = None
    ) -> None:
        """`on_away` is called when a call finds no server; it must return at once."""
        self.settings = settings
        self._on_away = on_away
        self._metadata = call_metadata(settings)
        self._rate_limiter = RateLimiter(settings.rate_limit)
        self._channel: AsyncChannel | None = None
        self._opening = threading.Lock()
        self._closed = False
        # Of the quickest call, which is closest to the latency of the network.
        self.round_trip: float | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings.name!r})"

    async def unary(
        self,
        method: Method,
        request: Request,
        *,
        timeout: float | None = None,
        repeatable: bool,
        on_retry: Callable[[SpooledError], None] | None = None,
    ) -> Any:
        """Send one request and return its response.

        Args:
            method: from `spooled_pipelines.wire.methods`.
            request: its message, or the bytes of one.
            timeout: seconds for everything, attempts and pauses together; None: the settings'.
            repeatable: the call is idempotent, so that it may be repeated if the connection breaks.
            on_retry: called with each error after which the call is repeated.
        """
        given = self.settings.timeout_seconds if timeout is None else timeout
        # Time spent waiting for the rate limiter does not count against the deadline.
        if turn := self._rate_limiter.acquire():
            await sleep(turn)
        deadline = monotonic() + given
        attempt = 1
        while True:
            try:
                began = monotonic()
                answer = await self._open().unary(
                    method,
                    request,
                    timeout=max(deadline - began, 0.001),
                    metadata=self.metadata(),
                )
            except grpc.RpcError as raw:
                error = self._explain(raw, method, given)
            else:
                self.record_latency(monotonic() - began)
                return answer
            error.details["attempts"] = attempt
            delay = delay_before_retry(
                self.settings.retry,
                error,
                attempt,
                repeatable=repeatable,
                time_left=deadline - monotonic(),
            )
            if delay is None:
                raise error
            if on_retry is not None:
                on_retry(error)
            log.debug(
                "%s at %s: %s, try %d of %d; again in %.2f s",
                method.name,
                self.settings.name,
                error.code,
                attempt,
                self.settings.retry.max_attempts,
                delay,
            )
            await sleep(max(delay, self._rate_limiter.acquire()))
            attempt += 1

    def many(self, method: Method) -> AsyncCallPool:
        """Return a pool for calls of one method, any number of them in flight at once."""
        explain = partial(self._explain, method=method, timeout=self.settings.timeout_seconds)
        return AsyncCallPool(self, self._open().in_flight(method), explain)

    def acquire(self) -> float:
        """Reserve the next call under `rate_limit`; return the seconds to wait before it.

        Raises:
            ConflictError: the client is closed.
        """
        self._open()
        return self._rate_limiter.acquire()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of the next call."""
        return self._metadata + tracing.headers()

    def record_latency(self, seconds: float) -> None:
        """Record how long a call took."""
        known = self.round_trip
        self.round_trip = seconds if known is None else min(seconds, known)

    def stream(self, method: Method, request: Request) -> AsyncServerStream:
        """Send one request (a message, or bytes) and return its stream of responses."""
        self._rate_limiter.acquire()
        return self._open().stream(
            method,
            request,
            metadata=self.metadata(),
            explain=lambda raw: self._explain(raw, method, None),
        )

    def bidi_stream(self, method: Method, *, bulk: bool = False) -> AsyncBidiStream:
        """Open a stream of requests and responses in any order; no deadline.

        `bulk`: a lot is sent, so that it is compressed if that pays.
        """
        self._rate_limiter.acquire()
        near = self.settings.endpoint.is_local
        return self._open().bidi_stream(
            method,
            compressed=bulk and compression_pays(is_local=near, round_trip=self.round_trip),
            metadata=self.metadata(),
            explain=lambda raw: self._explain(raw, method, None),
        )

    async def wait_for_ready(self, timeout: float = 10.0) -> None:
        """Return once a server has responded; the API key's permissions are not checked.

        Raises:
            UnavailableError: none did within `timeout` seconds; the message says why.
        """
        if self._on_away is not None:
            # A call that waits for a connection does not report that there is none.
            self._on_away()
        deadline = monotonic() + timeout
        while (left := deadline - monotonic()) > 0:
            if await self._probe(left, wait_for_ready=True) is None:
                return
            await sleep(min(_PROBE_AGAIN_SECONDS, max(deadline - monotonic(), 0)))
        # Only a call that does not wait for a connection is told why there is none.
        reason = await self._probe(_REASON_SECONDS, wait_for_ready=False)
        if isinstance(reason, UnavailableError):
            raise reason
        if reason is not None:
            raise UnavailableError(
                f"{self.settings.name} did not answer within {timeout:g} s: something there takes "
                "the connection, but does not speak gRPC, or the way is blocked.",
                code="UNAVAILABLE",
                reason="no_answer",
                details={"address": self.settings.name},
            )

    async def _probe(self, timeout: float, *, wait_for_ready: bool) -> SpooledError | None:
        """Return why no server responds; None if one does, whatever it responds."""
        # Every Spooled server refuses an empty name, which costs nothing.
        method, request = methods.QUEUE["GetQueueStats"], spooled_v1.GetQueueStatsRequest()
        try:
            await self._open().unary(
                method,
                request,
                timeout=timeout,
                metadata=self.metadata(),
                wait_for_ready=wait_for_ready,
            )
        except grpc.RpcError as raw:
            error = self._explain(raw, method, timeout)
            return error if isinstance(error, UnavailableError | DeadlineExceededError) else None
        return None

    async def close(self) -> None:
        """End every call and close the channel. May be repeated."""
        self._closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    _close = close

    def _open(self) -> AsyncChannel:
        with self._opening:
            if self._closed:
                raise ConflictError("this client is closed: make a new one with connect()")
            if self._channel is None or not self._channel.usable_here():
                warn_of_plaintext(self.settings)
                self._channel = AsyncChannel(self.settings)
            return self._channel

    def _explain(self, raw: grpc.RpcError, method: Method, timeout: float | None) -> SpooledError:
        error = error_from_grpc(raw, Call(method.name, self.settings, timeout))
        if self._on_away is not None and isinstance(error, UnavailableError) and not self._closed:
            self._on_away()
        return error


class AsyncCallPool:
    """Calls that are in flight together: each is started without waiting, and attempted once.

    For one thread or task.
    """

    def __init__(
        self,
        calls: AsyncConnection,
        in_flight: AsyncInFlightCalls,
        explain: Callable[[grpc.RpcError], SpooledError],
    ) -> None:
        self._calls = calls
        self._in_flight = in_flight
        self._explain = explain
        self._timeout = calls.settings.timeout_seconds
        self._began: dict[int, float] = {}

    async def start(self, number: int, request: Request) -> None:
        """Send a request (a message, or bytes) as soon as `rate_limit` allows it.

        `number` identifies the call in the results of `completed`.
        """
        if turn := self._calls.acquire():
            await sleep(turn)
        self._began[number] = monotonic()
        metadata = self._calls.metadata()
        self._in_flight.start(number, request, timeout=self._timeout, metadata=metadata)

    async def completed(self, timeout: float | None = None) -> list[tuple[int, float, Any]]:
        """Return number, seconds, and response or SpooledError of the calls that have ended.

        At least one; none if that takes longer than `timeout` seconds.
        """
        found = []
        for number, at, response, error in await self._in_flight.completed(timeout):
            took = at - self._began.pop(number)
            if error is None:
                self._calls.record_latency(took)
                found.append((number, took, response))
            else:
                found.append((number, took, self._explain(error)))
        return found

    def cancel(self) -> None:
        """End the calls that are in flight."""
        self._in_flight.cancel()
        self._began.clear()
