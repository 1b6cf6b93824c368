"""Every RPC, found by reflection, with every kind of key that may not call it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from spooled_pipelines.server.auth import QUEUE_OF_REQUEST, ROLES, QueueSource, Role, check_tables
from spooled_pipelines.server.services.encoding import timestamp
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import queue_admin_v1 as queue_admin
from spooled_pipelines.wire import spooled_v1 as spooled
from spooled_pipelines.wire.methods import Method
from tests.support.wire import KEY, METHODS, OTHER_KEY, READ_SECONDS, WRITE_FAILED, Wire

MINUTE_MS = 60_000


@dataclass
class Things:
    """One of each kind, all of the queue "q"."""

    job: spooled.Job
    key_id: str

    def value(self, field: Any) -> Any:
        """What a field of a request is set to, so that the request is one that would be done."""
        values = {
            "queue_name": "q",
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
            "id": self.key_id,
            "completed": batch.Completion(),
            "requeue": batch.Requeue(),
        }
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
            if QUEUE_OF_REQUEST[field.message_type.full_name] is not QueueSource.STREAM_OPENED:
                envelope = message_class()
                place = getattr(envelope, field.name)
                place = place.add() if field.is_repeated else place
                place.CopyFrom(self.request(type(place)))
                made.append(envelope)
        return made


@pytest.fixture
async def things(wire: Wire) -> Things:
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


async def new_key(wire: Wire, role: str, *queues: str, minutes: int = 0) -> keys.CreateKeyResponse:
    request = keys.CreateKeyRequest(name="test", role=role, queues=queues)
    if minutes:
        request.expires_at.CopyFrom(timestamp(wire.clock.now() + minutes * MINUTE_MS))
    return await wire.call(request)


# How long a stream that has nothing to say is listened to.
QUIET_SECONDS = 0.2


async def outcome(
    wire: Wire, method: Method, request: Any, key: str | None, *, refused: bool = False
) -> str:
    """The status' name; what is answered in band counts as the status.

    A stream that goes on is OK, and so is one that waits for jobs and says nothing meanwhile,
    unless a refusal has to come.
    """
    while True:
        code, details = await _ended(wire, method, request, key, refused)
        if (code, details) != WRITE_FAILED:
            return code


def may_say_nothing(request: Any) -> bool:
    """Whether it asks for jobs, of which there are none."""
    if isinstance(request, spooled.ProcessRequest):
        return request.HasField("dequeue") or request.HasField("subscribe")
    return isinstance(request, spooled.StreamJobsRequest)


async def _ended(
    wire: Wire, method: Method, request: Any, key: str | None, refused: bool
) -> tuple[str, str]:
    patience = READ_SECONDS if refused else QUIET_SECONDS

    async def one() -> AsyncIterator[Any]:
        yield request
        # Left open, as a worker leaves it.
        await asyncio.Event().wait()

    call = wire.open(method, one() if method.client_streaming else request, key=key)
    try:
        if not method.server_streaming:
            done = await call
            if isinstance(done, batch.ReviseDeadLettersResponse) and done.refused:
                return done.refused[0].code, done.refused[0].message
            return "OK", ""
        answer = await asyncio.wait_for(call.read(), patience)
        if isinstance(answer, spooled.ProcessResponse) and answer.HasField("error"):
            return str(answer.error.code), answer.error.message
        if isinstance(answer, batch.SettleResponse):
            exceptions = [each.settled for chunk in answer.chunks for each in chunk.exceptions]
            for settled in (*answer.settled, *exceptions):
                if settled.code:
                    return settled.code, settled.message
        if answer is not grpc.aio.EOF:
            return "OK", ""
        return (await call.code()).name, await call.details()
    except asyncio.TimeoutError:
        return ("NO ANSWER" if refused or not may_say_nothing(request) else "OK"), ""
    except grpc.aio.AioRpcError as error:
        return str(error.code().name), error.details() or ""
    finally:
        call.cancel()


async def outcomes(
    wire: Wire, things: Things, key: str | None, refused: Callable[[Method], bool]
) -> dict[str, set[str]]:
    """What every RPC answers, by its path; `refused` says which have to be."""

    async def of(method: Method) -> set[str]:
        must = refused(method)
        requests = things.requests(method.request_class)
        return {await outcome(wire, method, request, key, refused=must) for request in requests}

    return {method.path: await of(method) for method in METHODS}


def every(_: Method) -> bool:
    return True


def all_are(code: str) -> dict[str, set[str]]:
    return {method.path: {code} for method in METHODS}


async def test_nobody_gets_in_without_a_key_or_with_one_that_ended(
    wire: Wire, things: Things
) -> None:
    revoked = await new_key(wire, "admin")
    await wire.call(keys.RevokeKeyRequest(id=revoked.key.id))
    expired = await new_key(wire, "admin", minutes=1)
    stats = spooled.GetQueueStatsRequest(queue_name="q")
    await wire.call(stats, key=expired.secret)
    wire.clock.advance(60)
    for key in (None, "sp_live_wrong", revoked.secret, expired.secret):
        assert await outcomes(wire, things, key, every) == all_are("UNAUTHENTICATED")


@pytest.mark.parametrize("role", [role.value for role in Role])
async def test_a_role_may_do_what_the_table_says_and_nothing_else(
    wire: Wire, things: Things, role: str
) -> None:
    key = await new_key(wire, role)
    found = await outcomes(wire, things, key.secret, lambda m: Role(role) not in ROLES[m.path])
    for path, codes in found.items():
        if Role(role) in ROLES[path]:
            assert not codes & {"PERMISSION_DENIED", "UNAUTHENTICATED", "INTERNAL"}, path
        else:
            assert codes == {"PERMISSION_DENIED"}, path


async def test_a_key_of_another_queue_touches_nothing_of_this_one(
    wire: Wire, things: Things
) -> None:
    key = await new_key(wire, "admin", "elsewhere")
    assert await outcomes(wire, things, key.secret, every) == all_are("PERMISSION_DENIED")


async def test_a_key_of_this_queue_may_use_it(wire: Wire, things: Things) -> None:
    key = await new_key(wire, "admin", "elsewhere", "q")

    def of_no_queue(method: Method) -> bool:
        return (
            QUEUE_OF_REQUEST[method.request_class.DESCRIPTOR.full_name] is QueueSource.ORGANIZATION
        )

    found = await outcomes(wire, things, key.secret, of_no_queue)
    for method in METHODS:
        denied = "PERMISSION_DENIED" in found[method.path]
        assert denied == of_no_queue(method), method.path


async def test_what_another_organization_has_is_not_there(wire: Wire, things: Things) -> None:
    seen = (
        "spooled.v1.HeartbeatRequest",
        "spooled_pipelines.v1.RevokeKeyRequest",
        # Its jobs are named by id as well.
        "spooled_pipelines.v1.ChunkOutcomes",
    )
    # Last what makes a batch and a worker of theirs that have the same ids.
    makes = ("EnqueueBatch", "Register")
    for method in sorted(METHODS, key=lambda method: method.name in makes):
        for request in things.requests(method.request_class):
            inside = request
            if QUEUE_OF_REQUEST[request.DESCRIPTOR.full_name] is QueueSource.ENVELOPE:
                field, inside = request.ListFields()[0]
                inside = inside[0] if field.is_repeated else inside
            name = inside.DESCRIPTOR.full_name
            by_id = QUEUE_OF_REQUEST[name] in (QueueSource.JOB, QueueSource.BATCH) or name in seen
            code = await outcome(wire, method, request, OTHER_KEY, refused=by_id)
            assert code == ("NOT_FOUND" if by_id else "OK"), (method.path, name)
    # Whatever went through was theirs: what is mine is as it was.
    job = (await wire.call(spooled.GetJobRequest(job_id=things.job.id))).job
    assert (job.status, job.lease_id) == (things.job.status, things.job.lease_id)
    stats = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
    assert (stats.total, stats.processing) == (1, 1)
    await wire.call(spooled.HeartbeatRequest(worker_id="w"))
    workers = (await wire.call(queue_admin.ListWorkersRequest())).workers
    assert [worker.worker_id for worker in workers] == ["w"]
    mine = await wire.call(keys.ListKeysRequest())
    assert [key.id for key in mine.keys] == [things.key_id]


async def test_only_an_operator_names_another_organization(wire: Wire, things: Things) -> None:
    admin = (await new_key(wire, "admin")).secret
    for request in (
        keys.CreateKeyRequest(organization="other", name="n", role="read"),
        keys.ListKeysRequest(organization="other"),
        keys.RevokeKeyRequest(organization="other", id=things.key_id),
    ):
        name = type(request).__name__.removesuffix("Request")
        method = next(m for m in METHODS if m.name == name)
        for key in (admin, OTHER_KEY):
            request.organization = "default" if key == OTHER_KEY else "other"
            assert await outcome(wire, method, request, key, refused=True) == "PERMISSION_DENIED"
    made = await wire.call(keys.CreateKeyRequest(organization="other", name="n", role="read"))
    listed = await wire.call(keys.ListKeysRequest(), key=OTHER_KEY)
    assert [key.id for key in listed.keys] == [made.key.id]
    assert KEY not in str(listed)


def test_the_tables_know_every_rpc_and_nothing_else() -> None:
    check_tables(METHODS)
    assert set(ROLES) == {method.path for method in METHODS}


def test_a_new_rpc_must_say_who_may_use_it() -> None:
    class Unknown:
        full_name = "spooled.v1.PurgeEverythingRequest"
        fields = ()

    class Request:
        DESCRIPTOR = Unknown

    known = METHODS[0]
    new = Method(known.service, "PurgeEverything", Request, known.response_class, False, False)
    with pytest.raises(RuntimeError) as caught:
        check_tables([known, new])
    assert f"/{known.service}/PurgeEverything" in str(caught.value)
    assert "spooled.v1.PurgeEverythingRequest" in str(caught.value)
    assert known.path not in str(caught.value).split(", ")
