"""EnqueueBatch: chunks in, outcomes out in the same order, each after its commit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from google.protobuf.message import DecodeError

from spooled_pipelines.server.auth import Caller, authorize_queues
from spooled_pipelines.server.core.batches.records import BatchOpening, ChunkStored
from spooled_pipelines.server.core.errors import RefusedError, conflict, invalid
from spooled_pipelines.server.core.limits.in_flight import Received
from spooled_pipelines.server.services.context import KEY_ELSEWHERE, ServiceContext
from spooled_pipelines.server.services.encoding import batch_stats, chunk_outcome
from spooled_pipelines.server.services.validation.chunks import (
    RowsChecked,
    Upload,
    checked_chunk,
    checked_upload,
    takes_long,
)
from spooled_pipelines.wire import batch_v1

# Chunks of one upload that are stored at the same time, so that one sync serves several.
_IN_FLIGHT = 8
# How often it is noted that an upload goes on; see UPLOAD_GONE_MS.
_HEARD_SECONDS = 30.0

# Nothing of the rows themselves: the answer may wait long for the client to read it.
_Stored = tuple[RowsChecked, "asyncio.Future[ChunkStored]"]


async def enqueue_batch(
    context: ServiceContext, caller: Caller, requests: AsyncIterator[Received]
) -> AsyncIterator[bytes]:
    """Yield the answers of one EnqueueBatch; a RefusedError follows the outcomes before it."""
    opening = await _open(context, caller, requests)
    batch = (opening.batch_id, opening.queue_name, opening.name, opening.generation)
    upload = (opening.part_id, opening.cancels_older, opening.rows_id, opening.made_by)
    asked = BatchOpening(
        *batch,
        *upload,
        schema=opening.schema,
        weight=opening.weight,
        limit_by=opening.limit_by,
        limit_per_key=opening.limit_per_key,
        key_name=opening.key_name,
    )
    record = await context.store.open_batch(caller.organization, asked)
    has_consumer = context.has_consumer(caller.organization, record.queue_name)
    stats = batch_stats(record, context.clock.now(), has_consumer)
    there = await context.store.stored_chunks(
        caller.organization, opening.batch_id, opening.upload_id
    )
    ranges = [batch_v1.ChunkRange(first=first, last=last) for first, last in there]
    yield batch_v1.EnqueueBatchResponse(opened=stats, stored=ranges).SerializeToString()
    stored: asyncio.Queue[_Stored | Exception | None] = asyncio.Queue(_IN_FLIGHT)
    reading = asyncio.ensure_future(_read(context, caller, opening, requests, stored))
    hearing = asyncio.ensure_future(_hear(context, caller, opening))
    try:
        prefix = context.store.job_ids_prefix()
        while (item := await stored.get()) is not None:
            if isinstance(item, Exception):
                raise item
            found, storing = item
            yield chunk_outcome(prefix, found, await storing)
    finally:
        reading.cancel()
        hearing.cancel()
        await asyncio.gather(reading, hearing, return_exceptions=True)


async def _hear(context: ServiceContext, caller: Caller, opening: Upload) -> None:
    """Note again and again that the upload goes on, as long as its stream is open."""
    while opening.rows_id:
        await asyncio.sleep(_HEARD_SECONDS)
        with contextlib.suppress(RefusedError):
            await context.store.hear_upload(
                caller.organization, opening.batch_id, opening.part_id, opening.rows_id
            )


async def _open(
    context: ServiceContext, caller: Caller, requests: AsyncIterator[Received]
) -> Upload:
    async for received in requests:
        request = _parse(received.data)
        if request.WhichOneof("request") != "open":
            raise conflict("the first message of EnqueueBatch must be `open`")
        if not request.open.key_name:
            # As the client calls the queue, before its present name is put in.
            request.open.key_name = request.open.queue_name
        await authorize_queues(context.store, caller, request.open)
        return checked_upload(request.open)
    raise conflict("EnqueueBatch ended before its first message, which must be `open`")


async def _read(
    context: ServiceContext,
    caller: Caller,
    opening: Upload,
    requests: AsyncIterator[Received],
    stored: asyncio.Queue[_Stored | Exception | None],
) -> None:
    try:
        async for received in requests:
            data = received.data
            chunk = _chunk(data)
            places = await context.keys_elsewhere(caller, chunk.idempotency_keys)
            elsewhere = dict.fromkeys(places, KEY_ELSEWHERE)
            check = partial(checked_chunk, opening, data, chunk, elsewhere)
            if takes_long(data, chunk):
                checked = await context.large.check(caller.organization, check)
            else:
                checked = check()
            storing = asyncio.ensure_future(
                context.store.add_chunk(caller.organization, checked.chunk)
            )
            # Nobody asks for the outcome of an upload that was cut, not even for a failure.
            storing.add_done_callback(partial(_stored, received))
            found = checked.found
            # Until the next one comes, nothing of this one is kept here.
            del checked, received, data, check, chunk
            await stored.put((found, storing))
    except Exception as error:  # noqa: BLE001  # handed to the one who answers, who raises it
        await stored.put(error)
    else:
        await stored.put(None)


def _stored(received: Received, storing: asyncio.Future[ChunkStored]) -> None:
    received.release()
    if not storing.cancelled():
        storing.exception()


def _chunk(data: bytes) -> batch_v1.JobChunk:
    request = _parse(data)
    if request.WhichOneof("request") != "chunk":
        raise conflict("after `open`, every message of EnqueueBatch must be `chunk`")
    return request.chunk


def _parse(data: bytes) -> batch_v1.EnqueueBatchRequest:
    try:
        return batch_v1.EnqueueBatchRequest.FromString(data)
    except DecodeError:
        raise invalid("the message is not a valid EnqueueBatchRequest") from None
