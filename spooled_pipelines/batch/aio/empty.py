"""A batch without rows: who waits for it passes at once, and a later call may fill it."""

from __future__ import annotations

import uuid

from spooled_pipelines.batch.aio.batch import AsyncBatch
from spooled_pipelines.batch.aio.control import newest_generation
from spooled_pipelines.batch.chunks import open_message
from spooled_pipelines.batch.identity import Scope, batch_id
from spooled_pipelines.batch.mapping import Constants
from spooled_pipelines.rpc import check, methods
from spooled_pipelines.rpc.aio.calls import AsyncCalls
from spooled_pipelines.wire import batch_v1


async def enqueue_nothing(calls: AsyncCalls, queue_name: str, name: str) -> AsyncBatch:
    """Make the batch of this name and seal it; one that is there stays as it is."""
    scope = Scope(check.queue_name(queue_name), name)
    made = batch_id(scope, 0, 0)
    extension = await calls.speaks_batches()
    generation: int | None = None
    if extension:
        found = await newest_generation(calls, made)
        generation = found.generation if found is not None else 0
        opening = open_message(made, queue_name, name, uuid.uuid4().hex, Constants(), generation)
        conversation = calls.conversation(methods.BATCH["EnqueueBatch"])
        try:
            await conversation.write(opening)
            await conversation.done_writing()
            while await conversation.read() is not None:
                pass
        finally:
            conversation.cancel()
        request = batch_v1.SealBatchRequest(batch_id=made, generation=generation)
        await calls.unary(methods.BATCH["SealBatch"], request, repeatable=True)
    return AsyncBatch(
        calls,
        made,
        queue_name=queue_name,
        name=name,
        rows=0,
        created=0,
        duplicates=0,
        rejected=0,
        generation=generation,
        extension=extension,
    )
