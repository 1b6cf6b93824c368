"""The page shows and does what the key may see and do, and nothing else."""

from __future__ import annotations

import pytest

from spooled_pipelines.wire import queue_admin_v1 as queue_admin
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.paged_wire import PagedWire, read
from tests.support.wire import KEY, OTHER_KEY, struct

FORMS = {
    "/queues/q/pause": {"admin"},
    "/queues/q/resume": {"admin"},
    "/queues/q/dead-letters/retry": {"admin"},
    "/batches/b-1/cancel": {"admin", "produce"},
    "/batches/b-1/retry": {"admin", "produce"},
}


async def fill(wire: PagedWire) -> str:
    """A batch of queue q with one dead letter; its id."""
    await wire.fill_batch("b-1", "one", "two", name="nightly")
    worker = spooled.RegisterWorkerRequest(queue_name="q", worker_id="w-of-mine")
    await wire.call(worker, "Register")
    return await wire.kill_one("boom")


@pytest.mark.parametrize("role", ["admin", "produce", "read", "work"])
async def test_a_role_is_offered_what_it_may_do(paged: PagedWire, role: str) -> None:
    job_id = await fill(paged)
    key = await paged.new_key(role)
    async with paged.visitor(key.secret) as visitor:
        queue = await visitor.page("/queues/q")
        assert ("/queues/q/pause" in queue) == (role == "admin")
        assert ('href="/batches' in queue) == (role != "work")
        batch = await visitor.get("/batches/b-1")
        assert batch.status_code == (403 if role == "work" else 200)
        assert ("/batches/b-1/cancel" in batch.text) == (role in ("admin", "produce"))
        for path, roles in FORMS.items():
            answer = await visitor.act(path)
            assert answer.status_code == (303 if role in roles else 403), path
            if role not in roles:
                assert f"this API key is for '{role}'" in read(answer.text)
        contents = await visitor.get(f"/jobs/{job_id}/contents")
        if role == "read":
            assert contents.status_code == 403
            assert "Hidden" in await visitor.page(f"/jobs/{job_id}")
        else:
            assert '"name": "one"' in read(contents.text)


async def test_a_key_of_some_queues_sees_these(wire: PagedWire) -> None:
    await fill(wire)
    await wire.fill_batch("b-2", "mail", queue_name="mails", name="welcome")
    key = await wire.new_key("admin", "mails")
    async with wire.visitor(key.secret) as visitor:
        assert "mails" in await visitor.page("/queues")
        assert 'href="/queues/q"' not in await visitor.page("/queues")
        batches = read(await visitor.page("/batches"))
        assert ("welcome" in batches, "nightly" in batches) == (True, False)
        for path in ("/queues/q", "/batches/b-1", "/batches?queue=q", "/queues/q/dead-letters"):
            assert (await visitor.get(path)).status_code == 403, path
        assert (await visitor.act("/queues/q/pause")).status_code == 403
        assert "w-of-mine" not in await visitor.page("/workers")


async def test_organizations_do_not_see_each_other(wire: PagedWire) -> None:
    job_id = await fill(wire)
    await wire.enqueue("only-mine", payload=struct(n=1))
    async with wire.visitor(OTHER_KEY) as theirs, wire.visitor(KEY) as mine:
        assert "other" in read(await theirs.page("/queues"))
        for path in ("/queues", "/batches", "/workers"):
            page = read(await theirs.page(path))
            for word in ("only-mine", "nightly", "w-of-mine", " q "):
                assert word not in page, path
        paths = ("/queues/q", "/batches/b-1", f"/jobs/{job_id}", f"/jobs/{job_id}/contents")
        for path in paths:
            answer = await theirs.get(path)
            assert (answer.status_code, "boom" in answer.text) == (404, False), path
            assert (await mine.get(path)).status_code == 200
        # Whatever they do, it is to queues of their own.
        for path in FORMS:
            assert (await theirs.act(path)).status_code in (303, 404)
        stats = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
        assert (stats.pending, stats.deadletter) == (1, 1)
        control = await wire.call(queue_admin.GetQueueLimitsRequest(queue_name="q"))
        assert not control.paused
        # The metrics of all organizations are for who runs the server.
        for key, status in ((KEY, 200), (OTHER_KEY, 403), (None, 401)):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            answer = await mine.client.get("/metrics", headers=headers)
            assert (answer.status_code, "only-mine" in answer.text) == (status, status == 200)


async def test_pages_count_as_calls_of_the_organization(paged: PagedWire) -> None:
    async with paged.visitor() as visitor:
        await visitor.page("/queues")
        metrics = await visitor.client.get("/metrics", headers={"x-api-key": KEY})
    line = 'spooled_rpc_seconds_count{code="OK",method="/spooled_pipelines.v1.QueueAdminService/'
    assert line + 'ListQueues"} 1.0' in metrics.text
