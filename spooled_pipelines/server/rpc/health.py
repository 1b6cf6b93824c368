"""Health and reflection, which every gRPC server is expected to have. Neither needs a key.

So whatever they take in is bounded: how many of their messages are read at once, how large those
are, and how many streams stand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from spooled_pipelines.server.auth import peer_host
from spooled_pipelines.server.core.errors import RefusedError, invalid
from spooled_pipelines.server.rpc.connections import ConnectionGuard
from spooled_pipelines.server.rpc.intake import Context, read_within
from spooled_pipelines.wire.pool import POOL

# Messages of each kind that are read at once: each may have the size that gRPC lets through.
_READ_AT_ONCE = 2
_MESSAGE_MAX_BYTES = 4 << 10
_READ_SECONDS = 2.0
# A client of reflection asks, and is gone.
_IDLE_SECONDS = 5.0
# Streams at once, and of one address.
_WATCHES = (1_000, 250)
_REFLECTIONS = (16, 8)


class Health:
    """grpc.health.v1: SERVING for the server as a whole and for each service, until it is not."""

    def __init__(self, services: Sequence[str], guard: ConnectionGuard) -> None:
        from grpc_health.v1 import health_pb2

        self._names = frozenset(("", *services))
        self._messages = health_pb2
        self._reader = _Reader()
        self._serving = True
        self._guard = guard
        self._changed = asyncio.Event()
        self._watches = _Places("watches of health", *_WATCHES)

    def set_serving(self, serving: bool) -> None:
        """Answer SERVING or NOT_SERVING from now on, and tell those who watch."""
        if serving != self._serving:
            self._serving = serving
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def drain(self) -> None:
        """Answer NOT_SERVING from now on, and tell those who watch."""
        self.set_serving(False)

    async def check(self, _: object, context: Context) -> bytes:
        """Answer Check."""
        name = ""
        async with _refusing(context, self._guard):
            name = await self._asked(context)
            if name not in self._names:
                raise RefusedError("NOT_FOUND", "this server has no such service")
        return self._answer(name)

    async def watch(self, _: object, context: Context) -> None:
        """Answer Watch."""
        async with _refusing(context, self._guard):
            # To a client that spreads its calls, any other refusal is a server that is not healthy.
            with self._watches.taken(context, "UNIMPLEMENTED"):
                name = await self._asked(context)
                while True:
                    changed = self._changed
                    await context.write(self._answer(name))
                    await changed.wait()

    async def _asked(self, context: Context) -> str:
        """Return the service that is asked about."""
        if self._reader.is_busy:
            # Many ask at once: all are told of the server as a whole, and none is read.
            return ""
        request = await self._reader.read(context, self._messages.HealthCheckRequest, _READ_SECONDS)
        return str(request.service) if request is not None else ""

    def _answer(self, name: str) -> bytes:
        response = self._messages.HealthCheckResponse
        status = response.SERVING if self._serving else response.NOT_SERVING
        known = name in self._names
        answer: bytes = response(
            status=status if known else response.SERVICE_UNKNOWN
        ).SerializeToString()
        return answer


async def add_standard_services(
    server: grpc.aio.Server, services: Sequence[str], guard: ConnectionGuard
) -> Health | None:
    """Add both for these services; return None where the extra `server` is not installed."""
    try:
        from grpc_health.v1 import health_pb2
        from grpc_reflection.v1alpha import reflection, reflection_pb2
    except ImportError:
        # A server inside a program, which has only its own client.
        return None
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection_name = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
    pool = _pool_of(
        [
            *(POOL.FindServiceByName(name).file for name in services),
            health_pb2.DESCRIPTOR,
            reflection_pb2.DESCRIPTOR,
        ]
    )
    health = Health((*services, health_name), guard)
    reader = _Reader()
    names = (*services, health_name, reflection_name)
    servicer: Any = reflection.aio.ReflectionServicer(names, pool)
    places = _Places("calls of reflection", *_REFLECTIONS)

    async def reflect(_: object, context: Context) -> None:
        async with _refusing(context, guard):
            with places.taken(context):
                questions = reader.each(context, reflection_pb2.ServerReflectionRequest)
                async for answer in servicer.ServerReflectionInfo(questions, context):
                    await context.write(answer.SerializeToString())

    stream, unary = grpc.stream_stream_rpc_method_handler, grpc.stream_unary_rpc_method_handler
    handlers: dict[str, dict[str, Any]] = {
        health_name: {"Check": unary(health.check), "Watch": stream(health.watch)},
        reflection_name: {"ServerReflectionInfo": stream(reflect)},
    }
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(name, of) for name, of in handlers.items())
    )
    return health


class _Reader:
    """Reads small messages of callers without a key, few at once."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_READ_AT_ONCE)

    @property
    def is_busy(self) -> bool:
        """Whether there is no turn right now."""
        return self._turns.locked()

    async def read(self, context: Context, kind: Any, seconds: float) -> Any | None:
        """Return the next message, None at the end; RefusedError where no turn is free."""
        if self.is_busy:
            raise RefusedError("RESOURCE_EXHAUSTED", "too many calls without a key")
        async with self._turns:
            data = await read_within(seconds, context)
        if data is None:
            return None
        if len(data) > _MESSAGE_MAX_BYTES:
            message = f"Received message larger than max ({len(data)} vs. {_MESSAGE_MAX_BYTES})"
            raise RefusedError("RESOURCE_EXHAUSTED", message)
        try:
            return kind.FromString(data)
        except DecodeError:
            name = kind.DESCRIPTOR.name
            raise invalid(f"the message is not a valid {name}, or it is compressed") from None

    async def each(self, context: Context, kind: Any) -> AsyncIterator[Any]:
        """Yield the messages of a stream; it ends where the next does not come soon."""
        while (found := await self.read(context, kind, _IDLE_SECONDS)) is not None:
            yield found


class _Places:
    """Streams without a key: so many at once, and so many of one address."""

    def __init__(self, what: str, in_all: int, of_one: int) -> None:
        self._what = what
        self._in_all = in_all
        self._of_one = of_one
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def taken(self, context: Context, code: str = "RESOURCE_EXHAUSTED") -> Iterator[None]:
        """Have one of them; RefusedError with this code where none is free."""
        host = peer_host(context.peer())
        if self._taken.total() >= self._in_all or self._taken[host] >= self._of_one:
            raise RefusedError(code, f"there are too many {self._what} already")
        self._taken[host] += 1
        try:
            yield
        finally:
            self._taken[host] -= 1
            if not self._taken[host]:
                del self._taken[host]


@contextlib.asynccontextmanager
async def _refusing(context: Context, guard: ConnectionGuard) -> AsyncIterator[None]:
    """Count a call without a key, and turn a refusal into its status."""
    guard.stranger(context.peer(), refused=False)
    try:
        yield
    except RefusedError as refusal:
        with contextlib.suppress(grpc.aio.InternalError):
            await context.abort(grpc.StatusCode[refusal.code], refusal.message)
        # The client went away before it was told.
        raise asyncio.CancelledError from None
    except grpc.aio.InternalError:
        # The client went away during a write.
        raise asyncio.CancelledError from None


def _pool_of(files: Sequence[Any]) -> DescriptorPool:
    """Return a pool of all these files: ours live in a pool of their own, gRPC's in protobuf's."""
    pool = DescriptorPool()

    def add(file: Any) -> None:
        for needed in file.dependencies:
            add(needed)
        pool.AddSerializedFile(file.serialized_pb)

    for file in files:
        add(file)
    return pool
