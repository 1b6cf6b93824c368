"""The interceptor: what no service should do by itself, for all RPCs.

Authentication, authorization, the rate limit, how many bytes wait to be read, and the end of
streams whose key ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import Message

from spooled_pipelines.server.auth import (
    ACTS,
    LOOKS,
    ROLES,
    ApiKeys,
    Audit,
    Caller,
    Metadata,
    RateLimiter,
    authorize_queues,
    peer_host,
)
from spooled_pipelines.server.config.settings import ConnectionLimits
from spooled_pipelines.server.core.errors import RefusedError, stopping
from spooled_pipelines.server.core.limits.in_flight import (
    ANSWER_BYTES,
    ByteBudget,
    HeldAnswer,
    Received,
    Share,
)
from spooled_pipelines.server.core.validation import bind_request_id
from spooled_pipelines.server.rpc.connections import ConnectionGuard
from spooled_pipelines.server.rpc.intake import Intake
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.telemetry import rpc_call
from spooled_pipelines.wire.methods import Method, every_method

_log = logging.getLogger(__name__)
_QUIET_SECONDS = 0.05
# How long a client may leave an answer of a stream unread before the stream ends.
_UNREAD_SECONDS = 300.0
# Answers that are smaller are not counted.
_COUNTED_BYTES = 4 << 10
# Headers this many times as large as they may be are not sent by mistake.
_HEADER_BOMB_TIMES = 16
Context = grpc.aio.ServicerContext[Any, Any]
# What a service returns: a message, or the bytes of one.
Answer: TypeAlias = Message | bytes
# What may be large, and is made at once: room for it is taken before.
_LARGE = {
    method.path
    for method in every_method()
    if method.name.startswith(("List", "Find"))
    or method.name in ("Dequeue", "ClaimChunks", "GetJob", "GetPayloadSchema", "GetResultSchema")
}
_LARGE_PAGES = {method.path for method in every_method() if method.name == "ListBatchJobs"}


@dataclass(eq=False)
class _Stream:
    """A stream that is being answered; `end` says why it has to end, once it has to."""

    caller: Caller
    task: asyncio.Task[Any]
    # Since when an answer waits for the client to read it.
    writing_since: float | None = None
    end: RefusedError | None = None
    timer: asyncio.TimerHandle | None = None

    def terminate(self, refusal: RefusedError) -> None:
        """End it at once, even while it writes; the client is told behind what was written."""
        if self.end is None:
            self.end = refusal
            self.task.cancel()

    def watch_reader(self) -> None:
        """End it once the client has not read for too long."""
        loop, left = self.task.get_loop(), _UNREAD_SECONDS
        if self.writing_since is not None:
            left -= loop.time() - self.writing_since
        if left <= 0:
            message = f"an answer of this stream was not read for {_UNREAD_SECONDS:g} s"
            self.terminate(RefusedError("UNAVAILABLE", message))
        else:
            self.timer = loop.call_later(left, self.watch_reader)


class Interceptor:
    """Authenticates and authorizes calls, and ends them; `running` of them are being answered."""

    def __init__(
        self,
        keys: ApiKeys,
        rate: RateLimiter,
        store: JobStore,
        observers: Sequence[rpc_call.Observer] = (rpc_call.log_call,),
        *,
        connections: ConnectionLimits,
        guard: ConnectionGuard,
        audit: Audit,
        unread: ByteBudget,
    ) -> None:
        self._observers = observers
        self._keys = keys
        self._rate = rate
        self._store = store
        self._stopping = False
        self._streams: set[_Stream] = set()
        self.intake = Intake(guard.was_read, connections.max_message_bytes)
        self._max_metadata_bytes = connections.max_metadata_bytes
        self.guard = guard
        self._audit = audit
        self._unread = unread
        self._admitted = 0
        self.running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def authenticate(self, method: Method, metadata: Metadata, peer: str) -> Caller:
        """Return whose call it is; RefusedError where the call may not go on."""
        caller = self.recognize(metadata, peer)
        self.authorize(caller, method)
        return caller

    def recognize(self, metadata: Metadata, peer: str) -> Caller:
        """Return whose call it is; RefusedError where its key is not good."""
        try:
            size = self._checked_size(metadata, peer)
            caller = self._keys.authenticate(metadata, peer_host(peer))
        except RefusedError as refusal:
            if refusal.code != "PERMISSION_DENIED":
                self.guard.stranger(peer)
            raise
        self.guard.knows(peer, caller.organization, size)
        return caller

    def _checked_size(self, metadata: Metadata, peer: str) -> int:
        # gRPC holds clients to its bound only once they have acknowledged it.
        size = sum(len(name) + len(value) for name, value in metadata)
        if size > self._max_metadata_bytes:
            if size > _HEADER_BOMB_TIMES * self._max_metadata_bytes:
                self.guard.cut(peer)
            raise RefusedError(
                "RESOURCE_EXHAUSTED", f"received metadata size exceeds limit: {size}"
            )
        return size

    def authorize(self, caller: Caller, method: Method) -> None:
        """Raise RefusedError where the caller may not make this call, or not now."""
        if caller.role not in ROLES[method.path]:
            self._audit.denied(caller, method)
            raise RefusedError(
                "PERMISSION_DENIED",
                f"this API key is for {caller.role.value!r}, and {method.name} needs one for "
                + " or ".join(sorted(role.value for role in ROLES[method.path])),
                reason="role",
            )
        if caller.only_looks and method.path not in LOOKS:
            self._audit.denied(caller, method)
            raise RefusedError(
                "PERMISSION_DENIED",
                f"this API key only looks at the organization {caller.organization!r}, and "
                f"{method.name} changes something: make a key of that organization for it",
                reason="organization",
            )
        if self._stopping:
            raise stopping()
        self.count(caller)

    def count(self, caller: Caller) -> None:
        """Count one request; RefusedError RESOURCE_EXHAUSTED beyond the rate limit."""
        self._rate.admit(caller.organization)

    async def answer(
        self, caller: Caller, method: Method, function: Callable[..., Any], request: Message
    ) -> Any:
        """Return the answer of a service that may be asked; what it does is audited."""
        try:
            bind_request_id(request)
            await self.authorize_queues(caller, request)
            answer = await function(caller, request)
        except RefusedError as refusal:
            if method.path in ACTS:
                await self._audit.acted(caller, method, request, outcome=refusal.code)
            raise
        if method.path in ACTS:
            await self._audit.acted(caller, method, request, answer)
        return answer

    async def authorize_queues(self, caller: Caller, request: Message) -> None:
        """Raise RefusedError where the request is about a queue that the key may not touch."""
        await authorize_queues(self._store, caller, request)

    def tell_observers(self, call: rpc_call.RpcCall) -> None:
        """Tell the observers of a call that is over; what they fail with is logged."""
        for observe in self._observers:
            try:
                observe(call)
            # Whatever it is: the call was made, and its caller must be answered.
            except Exception:  # noqa: BLE001, PERF203
                _log.exception("an observer of calls failed")

    @contextlib.contextmanager
    def track(self) -> Iterator[None]:
        """Let `stop` wait for the call that runs within."""
        self._admitted += 1
        self.running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.running -= 1
            if not self.running:
                self._idle.set()

    async def messages(
        self, caller: Caller, context: Context, method: Method
    ) -> AsyncIterator[Received]:
        """Yield the messages of a client's stream, as fast as the rate limit lets them in."""
        async for received in self.intake.messages(caller, context, method):
            yield received
            del received
            await self._rate.turn(caller.organization)

    async def respond(
        self,
        caller: Caller,
        context: Context,
        method: Method,
        answers: AsyncGenerator[Answer | HeldAnswer, None],
    ) -> None:
        """Write a stream's answers until it ends, its key does, or the server stops."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream runs outside of a task")
        stream, now = _Stream(caller, task), task.get_loop().time
        stream.watch_reader()
        self._streams.add(stream)
        try:
            # Closed at once where the stream ends during a write: nothing more is read for it.
            async with contextlib.aclosing(answers):
                while True:
                    room = await self._room(caller, method.path in _LARGE_PAGES)
                    answer = await anext(answers, None)
                    if answer is None:
                        room.release()
                        return
                    stream.writing_since = now()
                    data, share = await self._held(caller, answer, room)
                    del answer
                    await _write(context, data)
                    share.release()
                    stream.writing_since = None
        except asyncio.CancelledError:
            # Cancelled by `terminate`, or by gRPC because the client is gone.
            if stream.end is not None:
                raise stream.end from None
            raise
        finally:
            if stream.timer is not None:
                stream.timer.cancel()
            self._streams.discard(stream)

    async def until_read(
        self,
        caller: Caller,
        context: Context,
        method: Method,
        answering: Callable[[], Awaitable[Answer]],
    ) -> bytes:
        """Return the one answer of a call, which counts until it is read.

        One that may be large is not made before there is room for it.
        """
        room = await self._room(caller, method.path in _LARGE)
        try:
            data, share = await self._held(caller, await answering(), room)
        except BaseException:
            room.release()
            raise
        if share.counts:
            # Its stubs promise more than it passes on.
            context.add_done_callback(lambda _: share.release())  # type: ignore[arg-type]
        return data

    async def _room(self, caller: Caller, is_large: bool) -> Share:
        return await self._unread.take(caller.organization, ANSWER_BYTES if is_large else 0)

    async def _held(self, caller: Caller, answer: Answer | HeldAnswer, room: Share) -> HeldAnswer:
        """Return an answer as bytes and its share, for which `room` is enough where it counts."""
        if isinstance(answer, HeldAnswer):
            return answer
        data = answer if isinstance(answer, bytes) else answer.SerializeToString()
        size = len(data) if len(data) > _COUNTED_BYTES else 0
        if room.counts:
            room.resize(size)
            return HeldAnswer(data, room)
        return HeldAnswer(data, await self._unread.take(caller.organization, size))

    def end_invalid_streams(self) -> None:
        """End the streams whose key is no longer good."""
        for stream in tuple(self._streams):
            end = self._keys.why_invalid(stream.caller)
            if end is not None:
                stream.terminate(end)

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls and end streams with UNAVAILABLE; return once no call runs."""
        self._stopping = True
        for stream in tuple(self._streams):
            stream.terminate(stopping())
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._quiet(), grace_seconds)

    async def _quiet(self) -> None:
        # Calls that were on their way are told as well; gRPC itself would cancel them.
        while True:
            await self._idle.wait()
            admitted = self._admitted
            await asyncio.sleep(_QUIET_SECONDS)
            if self._idle.is_set() and self._admitted == admitted:
                return


async def _write(context: Context, answer: bytes) -> None:
    try:
        await context.write(answer)
    except grpc.aio.InternalError:
        # The client went away during the write: the task will be cancelled a moment later.
        raise asyncio.CancelledError from None
