"""The messages of a call: read once its key is known, unpacked here, and bounded.

gRPC is told to leave messages packed (`grpc.per_message_decompression`): it would unpack before
anybody has looked at a key, and as many at once as a client likes.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio

from spooled_pipelines.server.auth import Caller
from spooled_pipelines.server.core.errors import NoMessageError, RefusedError, invalid
from spooled_pipelines.server.core.limits.in_flight import ByteBudget, Received
from spooled_pipelines.wire import limits
from spooled_pipelines.wire.methods import Method

# Unpacked messages of one organization that are held at once.
_IN_FLIGHT_BYTES = 128 << 20
# Calls of one organization whose only message is on its way, and uploads that are read.
_CALLS_AT_ONCE, _UPLOADS_AT_ONCE = 32, 64
# How long the only message of a call may be on its way.
_BODY_SECONDS = 60.0
# Smaller ones are not counted, so that they cost nothing.
_COUNTED_BYTES = 4 << 10
# A message counts as what becomes of it: protobuf makes up to sixty bytes of one, but rarely; the
# rows of a chunk stay bytes, and are there twice.
_GROWTH, _GROWTH_OF_CHUNKS = 8, 2
# By this begins what gzip made, and no message of protobuf: there is no wire type 7.
_GZIP = b"\x1f\x8b"
_GZIP_RATIO = 1032
# What may come of it is unpacked where it is read; the rest in a thread.
_QUICKLY_UNPACKED_BYTES = 256 << 10
_GZIP_WINDOW = 31

# The largest message of each call. The others name things only.
_SMALL = 256 << 10
_JOB = 8 << 20
_LARGEST = {
    "Enqueue": _JOB,
    "EnqueueJob": _JOB,
    "Complete": _JOB,
    "ProcessJobs": _JOB,
    # As many ids as a chunk has.
    "RenewChunk": _JOB,
}
# What is sent in bulk: as much as the server's setting says.
_BULK = ("EnqueueBatch", "Settle", "ReviseDeadLetters", "FindKeys", "SealBatch")

Context = grpc.aio.ServicerContext[Any, Any]


class Intake:
    """Reads the messages of calls whose key is known."""

    def __init__(
        self,
        was_read: Callable[[str, int], None],
        max_message_bytes: int = limits.MESSAGE_MAX_BYTES,
    ) -> None:
        """`was_read` is told of each message, its peer and its size, once there is room for it."""
        self._was_read = was_read
        self._bulk = max_message_bytes
        self._budget = ByteBudget(_IN_FLIGHT_BYTES)
        self._unpacking = ByteBudget(1)
        # Of calls and uploads, which count as one each.
        self._reading, self._uploads = ByteBudget(_CALLS_AT_ONCE), ByteBudget(_UPLOADS_AT_ONCE)

    async def only_message(self, caller: Caller, context: Context, method: Method) -> Received:
        """Return the one message of a call; RefusedError where there is none, or it is too large.

        It has to come within a minute.
        """
        turn = await self._reading.take(caller.organization, 1)
        try:
            data = await read_within(_BODY_SECONDS, context)
        finally:
            turn.release()
        if data is None:
            raise NoMessageError("INVALID_ARGUMENT", "the call ended before its message")
        return await self._unpacked(caller.organization, context.peer(), data, method)

    async def messages(
        self, caller: Caller, context: Context, method: Method
    ) -> AsyncIterator[Received]:
        """Yield the messages of a stream; few uploads of an organization are read at once."""
        turn = await self._uploads.take(caller.organization, int(method.name == "EnqueueBatch"))
        peer = context.peer()
        try:
            while (received := await self._next(caller, peer, context, method)) is not None:
                yield received
                # While the next is on its way, nothing of this one is kept.
                del received
        finally:
            turn.release()

    async def _next(
        self, caller: Caller, peer: str, context: Context, method: Method
    ) -> Received | None:
        data = await _read(context)
        if data is None:
            return None
        return await self._unpacked(caller.organization, peer, data, method)

    async def _unpacked(
        self, organization: str, peer: str, data: bytes, method: Method
    ) -> Received:
        most = self._bulk if method.name in _BULK else _LARGEST.get(method.name, _SMALL)
        packed = data.startswith(_GZIP)
        if not packed:
            if len(data) > most:
                self._was_read(peer, len(data))
                raise _too_large(method, len(data), most)
            if len(data) <= _COUNTED_BYTES:
                self._was_read(peer, len(data))
                return Received(data, None)
        size = min(len(data) * _GZIP_RATIO, most) if packed else len(data)
        growth = _GROWTH_OF_CHUNKS if method.name == "EnqueueBatch" else _GROWTH
        share = await self._budget.take(organization, size * growth)
        self._was_read(peer, len(data))
        if packed and size > _QUICKLY_UNPACKED_BYTES:
            # One at a time of each organization, so that none keeps the threads from others.
            turn = await self._unpacking.take(organization, 1)
            try:
                data = await asyncio.to_thread(_unpack, data, method, most)
            finally:
                turn.release()
        elif packed:
            data = _unpack(data, method, most)
        share.resize(len(data) * growth)
        return Received(data, share)


def _unpack(data: bytes, method: Method, most: int) -> bytes:
    unpacking = zlib.decompressobj(_GZIP_WINDOW)
    try:
        message = unpacking.decompress(data, most + 1)
    except zlib.error:
        raise invalid("the message is not valid gzip") from None
    if len(message) > most:
        raise _too_large(method, None, most)
    if not unpacking.eof:
        raise invalid("the message is not valid gzip: it ends early")
    return message


def _too_large(method: Method, size: int | None, most: int) -> RefusedError:
    found = f"more than {most}" if size is None else str(size)
    return RefusedError(
        "RESOURCE_EXHAUSTED",
        f"Received message larger than max ({found} vs. {most} bytes for {method.name})",
    )


async def _read(context: Context) -> bytes | None:
    data = await context.read()
    return None if data is grpc.aio.EOF else data


async def read_within(seconds: float, context: Context) -> bytes | None:
    """Return the next message, None at the end; RefusedError DEADLINE_EXCEEDED if it is late."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a call runs outside of a task")
    late = False

    def cut() -> None:
        nonlocal late
        late = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, cut)
    try:
        return await _read(context)
    except asyncio.CancelledError:
        if late:
            message = f"the message of the call did not come within {seconds:g} s"
            raise RefusedError("DEADLINE_EXCEEDED", message) from None
        raise
    finally:
        timer.cancel()
