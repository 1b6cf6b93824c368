"""Says what `enqueue_batch` would do."""

from __future__ import annotations

import time
from typing import Any

from spooled_pipelines.batch.aio.rpcs import check_extension, newest_generation
from spooled_pipelines.batch.options import OnRerun, check_on_rerun, generation_for
from spooled_pipelines.batch.plan import BatchPlan, Planning
from spooled_pipelines.batch.staging.chunks import Chunk
from spooled_pipelines.batch.staging.prepare import Options, Prepared, prepare
from spooled_pipelines.rpc import methods
from spooled_pipelines.rpc.aio.connection import AsyncCalls
from spooled_pipelines.rpc.aio.runtime import in_thread
from spooled_pipelines.wire import batch_v1


async def plan_batch(
    calls: AsyncCalls, data: Any, queue_name: str, options: Options, on_rerun: OnRerun = "resume"
) -> BatchPlan:
    """What `enqueue_batch` would do with the same arguments; nothing is written.

    Rows that cannot be jobs are counted, not raised. `data` is read to its end: an iterator or a
    cursor has to be made again for the call itself.

    Raises:
        InvalidArgumentError: an argument is wrong, or the data cannot be read or has no rows.
        LossyValueError: a payload cannot hold a value exactly.
        SpooledError: the server cannot be asked.
    """
    check_on_rerun(on_rerun)
    if on_rerun != "resume":
        await check_extension(calls, f'on_rerun="{on_rerun}"')
    began = time.perf_counter()
    prepared = await in_thread(prepare, data, queue_name, options, planning=True)
    try:
        return await planned(calls, prepared, on_rerun, time.perf_counter() - began)
    finally:
        prepared.close()


async def planned(
    calls: AsyncCalls, prepared: Prepared, on_rerun: OnRerun, prepared_in: float
) -> BatchPlan:
    """What would become of a table that is read and encoded, which took `prepared_in` seconds."""
    asks = await calls.speaks_batches()
    generation = 0
    if asks:
        generation = generation_for(on_rerun, await newest_generation(calls, prepared.batch_id))
    planning = Planning(prepared)
    try:
        for chunk in planning.chunks(generation):
            found = await _found(calls, prepared.scope.queue_name, chunk) if asks else []
            planning.add(chunk, found)
        seconds = None
        if calls.rows_per_second is not None:
            seconds = prepared_in + prepared.sendable / calls.rows_per_second
        return planning.plan(asked=asks, seconds=seconds)
    finally:
        planning.close()


async def _found(calls: AsyncCalls, queue_name: str, chunk: Chunk) -> list[int]:
    keys = [key.decode() for key in chunk.keys.to_pylist()]
    request = batch_v1.FindKeysRequest(queue_name=queue_name, idempotency_keys=keys)
    answer = await calls.unary(methods.BATCH["FindKeys"], request, repeatable=True)
    return list(answer.found)
