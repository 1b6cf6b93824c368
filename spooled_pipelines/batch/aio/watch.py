"""A batch's statistics as they change: pushed by the server, or polled."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from spooled_pipelines.batch.aio.backend import AsyncBatchBackend
from spooled_pipelines.batch.flow_control import OutstandingLimit, RetryBudget
from spooled_pipelines.batch.record import BatchRecord
from spooled_pipelines.errors import DeadlineExceededError, SpooledError
from spooled_pipelines.rpc.aio.connection import AsyncConnection
from spooled_pipelines.rpc.aio.runtime import call_later, monotonic, sleep
from spooled_pipelines.rpc.decode import batch_stats_from
from spooled_pipelines.types import BatchStats
from spooled_pipelines.wire import batch_v1, methods

# How long watching without a deadline goes on while the server is away.
_AWAY_SECONDS = 300.0
# Between two polls: short at first, then longer.
_POLL_FIRST_SECONDS, _POLL_SECONDS, _POLL_GROWTH = 0.1, 1.0, 1.5
_RESPONSE_SECONDS = 30.0


async def watch_stream(
    connection: AsyncConnection, batch_id: str, deadline: float | None
) -> AsyncGenerator[BatchStats, None]:
    """Yield the statistics of a batch as the server sends them, until the deadline.

    The stream does not end by itself; stop reading once `settled` is true.
    """
    budget = _budget(connection, deadline)
    request = batch_v1.WatchBatchRequest(batch_ids=[batch_id])
    while deadline is None or monotonic() < deadline:
        stream = connection.stream(methods.BATCH["WatchBatch"], request)
        timer = None
        if deadline is not None:
            timer = call_later(max(0.0, deadline - monotonic()), stream.cancel)
        pause = _POLL_FIRST_SECONDS
        try:
            async for message in stream:
                budget.reset()
                yield batch_stats_from(message)
        except SpooledError as error:
            pause = budget.pause(error)
        finally:
            if timer is not None:
                timer.cancel()
            stream.cancel()
        await sleep(_until(deadline, pause))


async def watch_many(
    connection: AsyncConnection, batch_ids: Sequence[str]
) -> AsyncGenerator[BatchStats, None]:
    """Yield what the server says about several batches, until the stream ends or breaks."""
    request = batch_v1.WatchBatchRequest(batch_ids=batch_ids, milestones=True)
    stream = connection.stream(methods.BATCH["WatchBatch"], request)
    async with aclosing(stream):
        async for message in stream:
            yield batch_stats_from(message)


async def wait_for_capacity(
    connection: AsyncConnection, batch_id: str, limit: OutstandingLimit, rows: int
) -> None:
    """Return once the server's statistics leave room for this many rows."""
    async with aclosing(watch_stream(connection, batch_id, None)) as changes:
        async for stats in changes:
            limit.learned(stats.open)
            if limit.admits(rows):
                return


async def poll(
    backend: AsyncBatchBackend, record: BatchRecord, deadline: float | None
) -> AsyncGenerator[BatchStats, None]:
    """Yield the statistics of a batch whenever they change, by asking for them again and again."""
    budget = _budget(backend.connection, deadline)
    last = None
    usual = _POLL_FIRST_SECONDS
    while deadline is None or monotonic() < deadline:
        started = monotonic()
        try:
            stats = await backend.stats(record, _until(deadline, _RESPONSE_SECONDS))
        except SpooledError as error:
            late = isinstance(error, DeadlineExceededError)
            if late and deadline is not None and monotonic() >= deadline:
                # The end of the wait cut it short, which says nothing about the server.
                return
            pause = budget.pause(error)
        else:
            budget.reset()
            if stats != last:
                yield stats
            last = stats
            # Polling must not become most of what the server does.
            pause = max(usual, 2 * (monotonic() - started))
            usual = min(_POLL_GROWTH * usual, _POLL_SECONDS)
        await sleep(_until(deadline, pause))


def _budget(connection: AsyncConnection, deadline: float | None) -> RetryBudget:
    seconds = _AWAY_SECONDS if deadline is None else max(0.0, deadline - monotonic())
    return RetryBudget(connection.settings.retry, seconds)


def _until(deadline: float | None, seconds: float) -> float:
    """Return `seconds`, or what is left of them until the deadline."""
    return seconds if deadline is None else min(seconds, max(0.0, deadline - monotonic()))
