# Generated from spooled_pipelines/rpc/aio/connection.py by `make generate`: do not edit.
"""Calls on one server: made when first needed, repeated where that is safe, in plain errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from spooled_pipelines.errors import (
    ConflictError,
    DeadlineExceededError,
    SpooledError,
    UnavailableError,
)
from spooled_pipelines.rpc import compression, methods, tracing
from spooled_pipelines.rpc.channel import call_metadata
from spooled_pipelines.rpc.error_mapping import Call, error_from_grpc
from spooled_pipelines.rpc.rate_limiter import Pacer
from spooled_pipelines.rpc.retry import delay_before_retry
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.rpc.sync.runtime import (
    Channel,
    Conversation,
    Departures,
    ResponseStream,
    monotonic,
    sleep,
)
from spooled_pipelines.wire import spooled_v1
from spooled_pipelines.wire.methods import Method

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger("spooled_pipelines.rpc")

_KNOCK_AGAIN_SECONDS = 0.1
# How long to look for the reason once waiting for an answer was in vain.
_REASON_SECONDS = 1.0


class Calls:
    """A channel to one server and the calls on it. Everything raises `SpooledError` only.

    The channel is opened by the first call, so that it may be made before a fork.
    """

    def __init__(
        self, settings: ConnectionSettings, on_away: Callable[[], None] | None = None
    ) -> None:
        """`on_away` is told, and must return at once, where a call finds no server."""
        self.settings = settings
        self._on_away = on_away
        self._metadata = call_metadata(settings)
        self._pacer = Pacer(settings.rate_limit)
        self._channel: Channel | None = None
        self._opening = threading.Lock()
        self._closed = False
        # Of the quickest call, which is the nearest to what the way to the server takes.
        self.round_trip: float | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings.name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def unary(
        self,
        method: Method,
        request: Any,
        *,
        timeout: float | None = None,
        repeatable: bool,
        on_retry: Callable[[SpooledError], None] | None = None,
    ) -> Any:
        """One request, one response.

        Args:
            method: from `spooled_pipelines.rpc.methods`.
            request: its message, or the bytes of one.
            timeout: seconds for all of it, tries and waits together; None: the settings'.
            repeatable: doing it twice is the same as doing it once, so that it may be repeated
                where the connection broke under it.
            on_retry: told of each error after which it is tried again.
        """
        given = self.settings.timeout_seconds if timeout is None else timeout
        # Whoever waits for his turn has not begun yet.
        if turn := self._pacer.delay():
            sleep(turn)
        deadline = monotonic() + given
        attempt = 1
        while True:
            try:
                began = monotonic()
                answer = self._open().unary(
                    method,
                    request,
                    timeout=max(deadline - began, 0.001),
                    metadata=self.metadata(),
                )
            except grpc.RpcError as raw:
                error = self._explain(raw, method, given)
            else:
                self.took(monotonic() - began)
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
            log.info(
                "%s at %s: %s, try %d of %d; again in %.2f s",
                method.name,
                self.settings.name,
                error.code,
                attempt,
                self.settings.retry.max_attempts,
                delay,
            )
            sleep(max(delay, self._pacer.delay()))
            attempt += 1

    def many(self, method: Method) -> ManyCalls:
        """Requests of one method, any number of them on their way at once."""
        explain = partial(self._explain, method=method, timeout=self.settings.timeout_seconds)
        return ManyCalls(self, self._open().departures(method), explain)

    def turn(self) -> float:
        """Take the next call's turn: how many seconds it is away (`rate_limit`).

        Raises:
            ConflictError: the client is closed.
        """
        self._open()
        return self._pacer.delay()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return self._metadata + tracing.headers()

    def took(self, seconds: float) -> None:
        """A call was answered after so long."""
        known = self.round_trip
        self.round_trip = seconds if known is None else min(seconds, known)

    def stream(self, method: Method, request: Any) -> ResponseStream:
        """One request (a message, or bytes), many responses, without a deadline."""
        self._pacer.delay()
        return self._open().stream(
            method,
            request,
            metadata=self.metadata(),
            explain=lambda raw: self._explain(raw, method, None),
        )

    def conversation(self, method: Method, *, bulk: bool = False) -> Conversation:
        """Requests and responses in any order, without a deadline.

        `bulk`: much is sent, so that it is compressed where that pays.
        """
        self._pacer.delay()
        near = self.settings.endpoint.is_local
        return self._open().conversation(
            method,
            compressed=bulk and compression.pays(is_local=near, round_trip=self.round_trip),
            metadata=self.metadata(),
            explain=lambda raw: self._explain(raw, method, None),
        )

    def wait_for_ready(self, timeout: float = 10.0) -> None:
        """Returns once a server has answered; what the key may do is not looked at.

        Raises:
            UnavailableError: none did within `timeout` seconds; the message says why.
        """
        if self._on_away is not None:
            # A call that waits for a connection does not come back to say that there is none.
            self._on_away()
        deadline = monotonic() + timeout
        while (left := deadline - monotonic()) > 0:
            if self._knock(left, wait_for_ready=True) is None:
                return
            sleep(min(_KNOCK_AGAIN_SECONDS, max(deadline - monotonic(), 0)))
        # A call that waits for a connection is not told why there is none; one that does not, is.
        reason = self._knock(_REASON_SECONDS, wait_for_ready=False)
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

    def _knock(self, timeout: float, *, wait_for_ready: bool) -> SpooledError | None:
        """Why nobody answers; None where somebody does, whatever the answer."""
        # An empty name is refused by whoever speaks Spooled: an answer that costs nothing.
        method, request = methods.QUEUE["GetQueueStats"], spooled_v1.GetQueueStatsRequest()
        try:
            self._open().unary(
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

    def close(self) -> None:
        """Ends every call and lets the connection go. May be repeated."""
        self._closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _open(self) -> Channel:
        with self._opening:
            if self._closed:
                raise ConflictError("this client is closed: make a new one with connect()")
            if self._channel is None or not self._channel.usable_here():
                self._channel = Channel(self.settings)
            return self._channel

    def _explain(self, raw: grpc.RpcError, method: Method, timeout: float | None) -> SpooledError:
        error = error_from_grpc(raw, Call(method.name, self.settings, timeout))
        if self._on_away is not None and isinstance(error, UnavailableError) and not self._closed:
            self._on_away()
        return error


class ManyCalls:
    """Calls that are on their way together: each is started without waiting, and tried once.

    For one thread or task.
    """

    def __init__(
        self,
        calls: Calls,
        departures: Departures,
        explain: Callable[[grpc.RpcError], SpooledError],
    ) -> None:
        self._calls = calls
        self._departures = departures
        self._explain = explain
        self._timeout = calls.settings.timeout_seconds
        self._began: dict[int, float] = {}

    def start(self, number: int, request: Any) -> None:
        """Send a request (a message, or bytes), once it is its turn (`rate_limit`).

        `number` is by what `ended` speaks of it, until it has ended.
        """
        if turn := self._calls.turn():
            sleep(turn)
        self._began[number] = monotonic()
        metadata = self._calls.metadata()
        self._departures.start(number, request, timeout=self._timeout, metadata=metadata)

    def ended(self, timeout: float | None = None) -> list[tuple[int, float, Any]]:
        """Number, seconds, and response or SpooledError of those that have ended.

        At least one; none where that takes longer than `timeout` seconds.
        """
        found = []
        for number, at, response, error in self._departures.ended(timeout):
            took = at - self._began.pop(number)
            if error is None:
                self._calls.took(took)
                found.append((number, took, response))
            else:
                found.append((number, took, self._explain(error)))
        return found

    def cancel(self) -> None:
        """Ends those that are on their way."""
        self._departures.cancel()
        self._began.clear()
