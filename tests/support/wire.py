"""A real server in this process, called over a real socket as any client would."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from spooled_pipelines.server.config.settings import OrganizationKey, ServerSettings
from spooled_pipelines.server.server import Server
from spooled_pipelines.server.store.postgres.store import PostgresStore
from spooled_pipelines.server.store.sqlite.store import SqliteStore
from spooled_pipelines.wire.methods import Method, every_method
from spooled_pipelines.wire.spooled_v1 import DequeueRequest, EnqueueRequest, Job
from spooled_pipelines.wire.well_known import Struct
from tests.support.manual_clock import ManualClock
from tests.support.waiting import DEADLINE_SECONDS

if TYPE_CHECKING:
    from typing_extensions import Self

KEY = "sp_test_of_the_default_organization"
OTHER_KEY = "sp_test_of_another_organization"
METHODS = every_method()
READ_SECONDS = DEADLINE_SECONDS


def method_named(name: str, service: str | None = None) -> Method:
    """The RPC of this name; of ProcessJobs, QueueService's unless another is named."""
    return next(m for m in METHODS if m.name == name and service in (None, m.service))


def struct(**fields: Any) -> Struct:
    message = Struct()
    message.update(fields)
    return message


class Counting:
    """Over a real store: counts how often it is asked."""

    claims = 0
    reads = 0

    async def claim(self, *arguments: Any) -> Any:
        self.claims += 1
        return await super().claim(*arguments)

    async def batches(self, *arguments: Any) -> Any:
        self.reads += 1
        return await super().batches(*arguments)


class CountingSqlite(Counting, SqliteStore):
    pass


class CountingPostgres(Counting, PostgresStore):
    pass


class Wire:
    """The server, its clock, and calls with either key."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = ManualClock()
        options: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "store": f"sqlite:///{folder / 'jobs.db'}",
        }
        options["api_keys"] = (KEY, OrganizationKey("other", OTHER_KEY))
        # Tests of every RPC with a wrong key come from one peer.
        options["wrong_keys_per_minute"] = 10_000
        self.settings = ServerSettings(**{**options, **settings})
        kind = CountingSqlite if self.settings.store.startswith("sqlite") else CountingPostgres
        given = self.settings
        self.store = kind(given.store, self.clock, given.retention, given.quotas)
        self.server = Server(self.settings, clock=self.clock, store=self.store)

    async def __aenter__(self) -> Self:
        await self.server.start()
        self.address = self.server.address
        self.channel = grpc.aio.insecure_channel(
            self.address, options=[("grpc.max_receive_message_length", 32 << 20)]
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.stop()

    def open(
        self,
        method: Method,
        request: Any,
        *,
        metadata: Iterable[tuple[str, str]] | None = None,
        key: str | None = KEY,
    ) -> Any:
        """The call as grpc.aio has it; `request` is a message, bytes, or an iterator of them."""
        if metadata is None:
            metadata = (("x-api-key", key),) if key else ()
        kind = f"{_kind(method.client_streaming)}_{_kind(method.server_streaming)}"
        call = getattr(self.channel, kind)(
            method.path,
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=method.response_class.FromString,
        )
        return call(request, metadata=tuple(metadata))

    async def call(self, request: Any, name: str | None = None, *, key: str | None = KEY) -> Any:
        """A unary call; its name follows from the request's."""
        name = name or type(request).__name__.removesuffix("Request")
        return await self.open(method_named(name), request, key=key)

    @contextlib.asynccontextmanager
    async def stream(self, request: Any, name: str, *, key: str = KEY) -> AsyncIterator[Stream]:
        call = self.open(method_named(name), request, key=key)
        try:
            yield Stream(call)
        finally:
            call.cancel()

    @contextlib.asynccontextmanager
    async def conversation(
        self, name: str, service: str | None = None, *, key: str = KEY
    ) -> AsyncIterator[Stream]:
        call = self.open(method_named(name, service), None, key=key)
        try:
            yield Stream(call)
        finally:
            call.cancel()

    async def enqueue(self, queue_name: str = "q", *, key: str = KEY, **fields: Any) -> str:
        response = await self.call(EnqueueRequest(queue_name=queue_name, **fields), key=key)
        return str(response.job_id)

    async def claim(self, queue_name: str = "q", worker_id: str = "w", **fields: Any) -> Job:
        request = DequeueRequest(queue_name=queue_name, worker_id=worker_id, **fields)
        (job,) = (await self.call(request)).jobs
        return job


class Stream:
    """One stream's messages, each awaited with a deadline."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def read(self) -> Any:
        """The next message; None at the end, whatever the status is then."""
        try:
            message = await asyncio.wait_for(self.call.read(), READ_SECONDS)
        except grpc.aio.AioRpcError:
            return None
        return None if message is grpc.aio.EOF else message

    async def write(self, message: Any) -> None:
        """Send a message; what an ended stream has to say comes from `status`."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self.call.write(message)

    async def done_writing(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self.call.done_writing()

    async def status(self) -> tuple[str, str]:
        """How it ends: the status' name and message.

        What is still unread is read first: gRPC gives no status before the last message is taken.
        """
        while await self.read() is not None:
            pass
        code = await asyncio.wait_for(self.call.code(), READ_SECONDS)
        return code.name, await self.call.details()


# grpc.aio may put this in place of the status that a call ended with, where a message was on its
# way to it just then (grpc/grpc issue 36066). Nothing of ours says so: asked again, it will tell.
WRITE_FAILED = ("INTERNAL", "Internal error from Core")


@contextlib.contextmanager
def answered(code: str, text: str = "") -> Iterator[None]:
    """The call ends with this status, and this text in its message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    error = caught.value
    assert error.code().name == code, f"{error.code().name}: {error.details()}"
    assert text in (error.details() or ""), error.details()


def _kind(streaming: bool) -> str:
    return "stream" if streaming else "unary"
