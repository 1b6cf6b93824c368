"""Every RPC, found by reflection, with every kind of key that may not call it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spooled_pipelines.server.auth import QUEUE_OF_REQUEST, ROLES, QueueSource, Role, check_tables
from spooled_pipelines.server.services.encoding import timestamp
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import queue_admin_v1 as queue_admin
from spooled_pipelines.wire import spooled_v1 as spooled
from spooled_pipelines.wire.methods import Method
from tests.support.every_rpc import Things, answer, make_things
from tests.support.wire import KEY, METHODS, OTHER_KEY, Wire

MINUTE_MS = 60_000


@pytest.fixture
async def things(wire: Wire) -> Things:
    return await make_things(wire)


async def new_key(wire: Wire, role: str, *queues: str, minutes: int = 0) -> keys.CreateKeyResponse:
    request = keys.CreateKeyRequest(name="test", role=role, queues=queues)
    if minutes:
        request.expires_at.CopyFrom(timestamp(wire.clock.now() + minutes * MINUTE_MS))
    return await wire.call(request)


async def outcomes(
    wire: Wire, things: Things, key: str | None, refused: Callable[[Method], bool]
) -> dict[str, set[str]]:
    """What every RPC answers, by its path; `refused` says which have to be."""

    async def of(method: Method) -> set[str]:
        must = refused(method)
        requests = things.requests(method.request_class)
        return {
            (await answer(wire, method, request, key, refused=must)).code for request in requests
        }

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


@pytest.mark.parametrize("queues", [(), ("elsewhere", "q")], ids=["all queues", "some"])
@pytest.mark.parametrize("role", [role.value for role in Role])
async def test_a_key_may_do_what_the_tables_say_and_nothing_else(
    wire: Wire, things: Things, role: str, queues: tuple[str, ...]
) -> None:
    key = await new_key(wire, role, *queues)

    def is_refused(method: Method) -> bool:
        source = QUEUE_OF_REQUEST[method.request_class.DESCRIPTOR.full_name]
        of_all_queues = source is QueueSource.ORGANIZATION
        return Role(role) not in ROLES[method.path] or bool(queues and of_all_queues)

    found = await outcomes(wire, things, key.secret, is_refused)
    for method in METHODS:
        codes = found[method.path]
        if is_refused(method):
            assert codes == {"PERMISSION_DENIED"}, method.path
        else:
            assert not codes & {"PERMISSION_DENIED", "UNAUTHENTICATED", "INTERNAL"}, method.path


async def test_a_key_of_another_queue_touches_nothing_of_this_one(
    wire: Wire, things: Things
) -> None:
    key = await new_key(wire, "admin", "elsewhere")
    assert await outcomes(wire, things, key.secret, every) == all_are("PERMISSION_DENIED")


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
            code = (await answer(wire, method, request, OTHER_KEY, refused=by_id)).code
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
            answered = await answer(wire, method, request, key, refused=True)
            assert answered.code == "PERMISSION_DENIED"
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
