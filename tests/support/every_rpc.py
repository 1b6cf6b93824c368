"""A request of every RPC, about things that are there, and what a server answers to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from spooled_pipelines.server.auth import QUEUE_OF_REQUEST, QueueSource
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import spooled_v1 as spooled
from spooled_pipelines.wire.methods import Method
from tests.support.wire import READ_SECONDS, WRITE_FAILED, Wire

_CLAIMS = {
    each.DESCRIPTOR.full_name
    for each in (
        spooled.DequeueRequest,
        spooled.StreamJobsRequest,
        spooled.SubscribeRequest,
        batch.ClaimChunksRequest,
    )
}


@dataclass
class Things:
    """One of each kind, all of the queue "q"."""

    job: spooled.Job
    key_id: str

    def value(self, field: Any) -> Any:
        """What a field of a request is set to, so that the request is one that would be done."""
        values = {
            "queue_name": "q",
            "new_name": "q",
            "worker_id": "w",
            "job_id": self.job.id,
            "job_ids": [self.job.id],
            "lease_id": self.job.lease_id,
            "batch_id": "b",
            "batch_ids": ["b"],
            "part_id": "p",
            "upload_id": "u",
            "error": "boom",
            "name": "n",
            "role": "read",
            "schema": b"schema",
            "id": self.key_id,
            "completed": batch.Completion(),
            "requeue": batch.Requeue(),
        }
        if field.name == "worker_id" and field.containing_type.full_name in _CLAIMS:
            # So that what ends what "w" holds, ends nothing that these claim.
            return "claimer"
        return values.get(field.name)

    def request(self, message_class: Any) -> Any:
        """A request of this class."""
        fields = message_class.DESCRIPTOR.fields
        values = {field.name: self.value(field) for field in fields}
        return message_class(**{name: value for name, value in values.items() if value is not None})

    def requests(self, message_class: Any) -> list[Any]:
        """For an envelope, one with each kind of content that can come first; else one request."""
        if QUEUE_OF_REQUEST[message_class.DESCRIPTOR.full_name] is not QueueSource.ENVELOPE:
            return [self.request(message_class)]
        made = []
        for field in message_class.DESCRIPTOR.fields:
            if field.message_type is None or field.message_type.full_name.startswith("google."):
                continue
            if QUEUE_OF_REQUEST[field.message_type.full_name] is not QueueSource.STREAM_OPENED:
                envelope = message_class()
                place = getattr(envelope, field.name)
                place = place.add() if field.is_repeated else place
                place.CopyFrom(self.request(type(place)))
                made.append(envelope)
        return made


async def make_things(wire: Wire) -> Things:
    """Make one of each kind in the default organization."""
    await wire.enqueue()
    job = await wire.claim()
    await wire.call(spooled.RegisterWorkerRequest(queue_name="q", worker_id="w"), "Register")
    async with wire.conversation("EnqueueBatch") as upload:
        opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id="u")
        await upload.write(batch.EnqueueBatchRequest(open=opening))
        assert (await upload.read()).opened.batch_id == "b"
    made = await wire.call(keys.CreateKeyRequest(name="old", role="read"))
    await wire.call(keys.RevokeKeyRequest(id=made.key.id))
    return Things(job, made.key.id)


# How long a stream that has nothing to say is listened to.
QUIET_SECONDS = 0.2


@dataclass(frozen=True)
class Answer:
    """How a server answers: the status' name and message, and what it says first.

    What is answered in band counts as the status. A stream that goes on is OK, and so is one that
    waits for jobs and says nothing meanwhile, unless a refusal has to come.
    """

    code: str
    details: str = ""
    said: Any = None


async def answer(
    wire: Wire, method: Method, request: Any, key: str | None, *, refused: bool = False
) -> Answer:
    """Call the RPC; `refused` says that a refusal has to come."""
    while True:
        answered = await _answer(wire, method, request, key, refused)
        if (answered.code, answered.details) != WRITE_FAILED:
            return answered


def may_say_nothing(request: Any) -> bool:
    """Whether it asks for jobs, of which there are none."""
    if isinstance(request, spooled.ProcessRequest):
        return request.HasField("dequeue") or request.HasField("subscribe")
    return isinstance(request, spooled.StreamJobsRequest)


async def _answer(
    wire: Wire, method: Method, request: Any, key: str | None, refused: bool
) -> Answer:
    patience = QUIET_SECONDS if may_say_nothing(request) and not refused else READ_SECONDS

    async def one() -> AsyncIterator[Any]:
        yield request
        # Left open, as a worker leaves it.
        await asyncio.Event().wait()

    call = wire.open(method, one() if method.client_streaming else request, key=key)
    try:
        if not method.server_streaming:
            said = await call
        else:
            said = await asyncio.wait_for(call.read(), patience)
            if said is grpc.aio.EOF:
                return Answer((await call.code()).name, await call.details())
        refusal = next(_refusals(said), None)
        return Answer("OK", "", said) if refusal is None else Answer(*refusal, said)
    except asyncio.TimeoutError:
        return Answer("OK" if patience == QUIET_SECONDS else "NO ANSWER")
    except grpc.aio.AioRpcError as error:
        return Answer(str(error.code().name), error.details() or "")
    finally:
        call.cancel()


def _refusals(said: Any) -> Iterator[tuple[str, str]]:
    if isinstance(said, batch.ReviseDeadLettersResponse):
        yield from ((each.code, each.message) for each in said.refused)
    elif isinstance(said, spooled.ProcessResponse) and said.HasField("error"):
        yield str(said.error.code), said.error.message
    elif isinstance(said, batch.SettleResponse):
        exceptions = [each.settled for chunk in said.chunks for each in chunk.exceptions]
        yield from ((e.code, e.message) for e in (*said.settled, *exceptions) if e.code)
