"""An upload that meets a day's quota: how far it came, and how it goes on."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from spooled_pipelines import AsyncSpooledClient, errors
from tests.support.server_process import ServerProcess

ROWS = 2_500


@pytest.mark.parametrize("extension", [True, False], ids=["batches", "plain"])
async def test_the_error_says_how_far_it_came_and_the_same_call_goes_on(
    open_client: Callable[..., AsyncSpooledClient],
    start_server: Callable[..., ServerProcess],
    queue: str,
    extension: bool,
) -> None:
    rows, quota = (ROWS, 1_500) if extension else (60, 40)
    switches = () if extension else ("--no-batch-extension",)
    server = start_server("--daily-quota", str(quota), *switches)
    client = open_client(server)
    table = pa.table({"n": range(rows), "text": ["x" * 3_000] * rows})
    with pytest.raises(errors.QuotaExceededError) as caught:
        await client.enqueue_batch(table, queue, name="b")
    message, done = caught.value.message, caught.value.details["acknowledged"]
    assert "limit reached (" in message
    assert f"/{quota})" in message
    assert f"{done} of {rows} rows were acknowledged" in message
    assert "Repeat the same call to resume" in message
    stored = (await client.queue_stats(queue)).total
    assert 0 < done <= stored <= quota
    # Waiting does not help, and neither does asking again.
    with pytest.raises(errors.QuotaExceededError):
        await client.enqueue_batch(table, queue, name="b")
    server.stop()
    server.arguments = switches
    server.restart()
    batch = await client.enqueue_batch(table, queue, name="b")
    assert batch.created + batch.duplicates == rows
    assert (await client.queue_stats(queue)).total == rows
