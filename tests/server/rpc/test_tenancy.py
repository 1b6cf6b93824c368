"""What a key learns of another organization, and can do to it: nothing, by any RPC.

Two servers are asked the same by keys of one organization: in one of them another organization has
a job, a batch, a worker and a key, and in the other it has nothing. All answers have to be equal.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from spooled_pipelines.server.auth import Role
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import queue_admin_v1 as queue_admin
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.every_rpc import Answer, Things, answer, make_things, may_say_nothing
from tests.support.postgres import empty_store
from tests.support.wire import METHODS, OTHER_KEY, Wire

# Four roles, each for all queues and for "q" alone, which is the queue of the things, too.
KINDS = [(role.value, queues) for role in Role for queues in ((), ("q",))]
# What no two servers have in common: the ids of jobs, leases and keys, the keys themselves, and, as
# any of the jobs that wait is handed out, the moments of that job.
NEW = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}|key_[0-9a-f]+"
    r"|sp_[a-z]+_[A-Za-z0-9_-]+|(seconds|nanos): \d+\s*"
)


@pytest.fixture
async def other_wire(
    store_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Wire]:
    """A second server, over an empty store of the same kind."""
    folder = tmp_path / "other"
    folder.mkdir()
    kind = "sqlite" if store_url.startswith("sqlite") else "postgresql"
    with empty_store(kind, folder) as url:
        if kind == "postgresql":
            # Copies of one store would give their first jobs the same id.
            with psycopg.connect(url) as connection:
                connection.execute("UPDATE spooled.store SET first_place = 1000000")
        async with Wire(folder, store=url) as wire:
            yield wire


def readable(answered: Answer) -> tuple[str, str, str]:
    return (
        answered.code,
        NEW.sub("<new>", answered.details),
        NEW.sub("<new>", str(answered.said)),
    )


async def what_is_there(wire: Wire, things: Things) -> list[Any]:
    """All that an admin of the other organization can see of it."""
    requests: list[Any] = [
        spooled.GetJobRequest(job_id=things.job.id),
        spooled.GetQueueStatsRequest(queue_name="q"),
        queue_admin.ListQueuesRequest(),
        queue_admin.ListWorkersRequest(),
        queue_admin.GetQueueLimitsRequest(queue_name="q"),
        batch.GetBatchStatsRequest(batch_ids=["b"]),
        keys.ListKeysRequest(),
    ]
    return [await wire.call(request) for request in requests]


async def new_keys(wire: Wire) -> list[str]:
    made = []
    for role, queues in KINDS:
        # Lists are in the order of their times.
        wire.clock.advance(1)
        request = keys.CreateKeyRequest(organization="other", name="k", role=role, queues=queues)
        made.append((await wire.call(request)).secret)
    return made


async def test_no_key_learns_of_another_organization_or_changes_it(
    wire: Wire, other_wire: Wire
) -> None:
    things = await make_things(wire)
    before = await what_is_there(wire, things)
    differences, calls = [], 0
    pairs = zip(await new_keys(wire), await new_keys(other_wire), strict=True)
    for kind, (key, other_key) in zip(KINDS, pairs, strict=True):
        for method in METHODS:
            for request in things.requests(method.request_class):
                calls += 1
                wire.clock.advance(0.001)
                other_wire.clock.advance(0.001)
                if may_say_nothing(request):
                    # There is a job to hand out, and an answer is awaited as long as it takes.
                    for one in (wire, other_wire):
                        await one.enqueue("q", key=OTHER_KEY)
                both = await asyncio.gather(
                    answer(wire, method, request, key, refused=True),
                    answer(other_wire, method, request, other_key, refused=True),
                )
                first, second = map(readable, both)
                if first != second:
                    differences.append((kind, method.path, first, second))
    assert differences == []
    assert calls >= len(KINDS) * len(METHODS)
    assert await what_is_there(wire, things) == before
