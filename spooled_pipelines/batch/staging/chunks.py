"""Chunks: runs of staged rows, as the messages that carry them.

Both ways to the server are made from the same bytes: `Chunk.message()` for the batch extension,
`Chunk.requests()` for a server that only knows Enqueue.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import pyarrow as pa

from spooled_pipelines.batch.encoding import protobuf_wire
from spooled_pipelines.batch.encoding.column_mapping import Constants
from spooled_pipelines.wire import batch_v1, spooled_v1
from spooled_pipelines.wire.limits import CHUNK_ROWS_MAX, CHUNK_TARGET_BYTES

# Chunks that are smaller than the limit, so that some are done while others are on their way.
_CHUNKS_IN_LIMIT = 4


@dataclass(frozen=True)
class Chunk:
    """A run of rows that travels together.

    Attributes:
        number: counts from 0 within an upload.
        rows: each row's number in the input.
        keys: each row's key, as on the wire.
        encoded_rows: each row's wire bytes, key included.
        has_row_tags: whether the rows bring tags, which a JobChunk and an EnqueueRequest have in
            other forms; the encoded rows have the JobChunk's.
    """

    number: int
    rows: pa.Int64Array
    keys: pa.BinaryArray
    encoded_rows: pa.BinaryArray
    has_row_tags: bool = False

    def slice(self, start: int, rows: int) -> Chunk:
        """Return the chunk of some of its rows, with the same number."""
        return replace(
            self,
            rows=self.rows.slice(start, rows),
            keys=self.keys.slice(start, rows),
            encoded_rows=self.encoded_rows.slice(start, rows),
        )

    def message(self) -> bytes:
        """Return an EnqueueBatchRequest."""
        offsets = _offsets(self.encoded_rows)
        data = memoryview(self.encoded_rows.buffers()[2])[offsets[0] : offsets[-1]]
        number = protobuf_wire.CHUNK_NUMBER + protobuf_wire.varint(self.number)
        head = protobuf_wire.REQUEST_CHUNK + protobuf_wire.varint(len(data) + len(number))
        return b"".join((head, data, number))

    def payloads(self) -> list[bytes]:
        """Return each row's payload, serialized."""
        chunk = batch_v1.EnqueueBatchRequest.FromString(self.message()).chunk
        return list(chunk.payloads)

    def requests(self, shared: bytes) -> Iterator[bytes]:
        """Return an EnqueueRequest per row; `shared` is the fields that they have in common."""
        encoded_rows = self.encoded_rows.to_pylist()
        return (shared + (_as_request(row) if self.has_row_tags else row) for row in encoded_rows)


def _as_request(encoded_row: bytes) -> bytes:
    """Return a row of a JobChunk as the fields of an EnqueueRequest."""
    row = batch_v1.JobChunk.FromString(encoded_row)
    tags = spooled_v1.EnqueueRequest(tags=dict(row.tags[0].tags))
    row.ClearField("tags")
    return row.SerializeToString() + tags.SerializeToString()


def cut_into_chunks(
    rows: pa.Int64Array,
    keys: pa.BinaryArray,
    encoded_rows: pa.BinaryArray,
    number: int,
    *,
    has_row_tags: bool,
) -> Iterator[Chunk]:
    """Yield chunks of about 1 MiB; the first has `number`."""
    for start, stop in _cuts(_offsets(encoded_rows)):
        chunk = Chunk(number, rows, keys, encoded_rows, has_row_tags)
        yield chunk.slice(start, stop - start)
        number += 1


def rechunk(chunks: Iterator[Chunk], max_outstanding: int | None) -> Iterator[Chunk]:
    """Yield the same rows in chunks that are small beside the limit on unsettled jobs."""
    if max_outstanding is None:
        yield from chunks
        return
    longest = max(1, max_outstanding // _CHUNKS_IN_LIMIT)
    numbers = count()
    for chunk in chunks:
        for start in range(0, len(chunk.rows), longest):
            yield replace(chunk.slice(start, longest), number=next(numbers))


def open_message(
    batch_id: str,
    queue_name: str,
    name: str | None,
    upload_id: str,
    constants: Constants,
    generation: int = 0,
    part_id: str | None = None,
    *,
    cancels_older: bool = False,
    rows_id: str = "",
    on_changed: batch_v1.OnChanged = batch_v1.ON_CHANGED_KEEP,
    made_by: str = "",
    payload_schema: bytes = b"",
    key_name: str | None = None,
) -> bytes:
    """Return the EnqueueBatchRequest that opens an upload."""
    opening = batch_v1.OpenBatch(
        batch_id=batch_id,
        queue_name=queue_name,
        name=name or "",
        upload_id=upload_id,
        priority=constants.priority,
        max_retries=constants.max_retries,
        timeout_seconds=constants.timeout_seconds,
        retry_backoff=constants.retry_backoff,
        weight=constants.weight,
        fair_by=constants.fair_by,
        expires_at=constants.expires_at,
        limit_by=constants.limit_by,
        limit_per_key=constants.limit_per_key,
        tags=dict(constants.tags),
        generation=generation,
        part_id=part_id or "",
        cancel_older=cancels_older and generation > 0,
        rows_id=rows_id,
        on_changed=on_changed,
        made_by=made_by,
        payload_schema=payload_schema,
        key_name=key_name or "",
    )
    return batch_v1.EnqueueBatchRequest(open=opening).SerializeToString()


def shared_fields(queue_name: str, constants: Constants) -> bytes:
    """Return the fields of an EnqueueRequest that all rows share."""
    return spooled_v1.EnqueueRequest(
        queue_name=queue_name,
        priority=constants.priority,
        max_retries=constants.max_retries,
        timeout_seconds=constants.timeout_seconds,
        tags=dict(constants.tags),
    ).SerializeToString()


def _cuts(offsets: memoryview) -> Iterator[tuple[int, int]]:
    """Yield runs of rows that are about a chunk's size; a larger row is a chunk of its own."""
    rows = len(offsets) - 1
    start = 0
    while start < rows:
        end = offsets[start] + CHUNK_TARGET_BYTES
        fitting = bisect_right(offsets, end, start + 1, rows + 1) - 1
        stop = min(max(fitting, start + 1), start + CHUNK_ROWS_MAX)
        yield start, stop
        start = stop


def _offsets(array: pa.BinaryArray) -> memoryview:
    """Return where each entry begins in the array's data, and where the last one ends."""
    numbers = memoryview(array.buffers()[1]).cast("B").cast("i")
    return numbers[array.offset : array.offset + len(array) + 1]
