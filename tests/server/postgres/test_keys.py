"""A key that ends on one server has ended on all of them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.waiting import aeventually
from tests.support.wire import Wire, answered, method_named

STATS = spooled.GetQueueStatsRequest(queue_name="q")


async def lets_in(wire: Wire, key: str) -> bool:
    call = wire.open(method_named("GetQueueStats"), STATS, key=key)
    return await call.code() is grpc.StatusCode.OK


async def known(wire: Wire, key: str) -> None:
    """Until the server lets the key in."""
    await aeventually(lambda: lets_in(wire, key))


async def test_a_key_revoked_on_one_server_is_out_on_another(database: str, tmp_path: Path) -> None:
    take = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(Wire(tmp_path, store=database))
        there = await stack.enter_async_context(Wire(tmp_path, store=database))
        made = await here.call(keys.CreateKeyRequest(name="n", role="work"))
        await known(there, made.secret)
        await here.enqueue()
        async with there.stream(take, "StreamJobs", key=made.secret) as jobs:
            assert await jobs.read() is not None
            await here.call(keys.RevokeKeyRequest(id=made.key.id))
            assert await jobs.status() == ("UNAUTHENTICATED", "the API key was revoked")
        with answered("UNAUTHENTICATED", "was revoked"):
            await there.call(STATS, key=made.secret)
