"""The second pass: what was put aside, as the messages that carry it.

Both ways to the server are made from the same bytes: `Chunk.message()` for the batch extension,
`Chunk.requests()` for a server that only knows Enqueue.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pyarrow.compute as pc

from spooled_pipelines.batch.encoding import protobuf_wire
from spooled_pipelines.batch.encoding.column_mapping import Constants
from spooled_pipelines.batch.encoding.columns import join
from spooled_pipelines.batch.spill import Spool
from spooled_pipelines.batch.staging.duplicates import Occurrences
from spooled_pipelines.batch.staging.idempotency import KEY_CHARACTERS, key_texts, row_hashes
from spooled_pipelines.batch.staging.schedule import Spreading
from spooled_pipelines.wire import batch_v1, spooled_v1
from spooled_pipelines.wire.limits import CHUNK_ROWS_MAX, CHUNK_TARGET_BYTES

# Chunks that are smaller than the limit, so that some are done while others are on their way.
_CHUNKS_IN_LIMIT = 4


@dataclass(frozen=True)
class Chunk:
    """A run of rows that travels together.

    Attributes:
        number: counts from 0 within an upload.
        rows: each row's number in the input (int64).
        keys: each row's key, as on the wire (binary).
        pieces: each row's wire bytes, key included (binary).
        tagged: whether the rows bring tags, which a JobChunk and an EnqueueRequest have in other
            forms; the pieces have the JobChunk's.
    """

    number: int
    rows: Any
    keys: Any
    pieces: Any
    tagged: bool = False

    def first(self, count: int) -> Chunk:
        """Only its first `count` rows."""
        return Chunk(
            self.number,
            self.rows.slice(0, count),
            self.keys.slice(0, count),
            self.pieces.slice(0, count),
            self.tagged,
        )

    def message(self) -> bytes:
        """An EnqueueBatchRequest."""
        offsets = _offsets(self.pieces)
        data = memoryview(self.pieces.buffers()[2])[offsets[0] : offsets[-1]]
        number = protobuf_wire.CHUNK_NUMBER + protobuf_wire.varint(self.number)
        head = protobuf_wire.REQUEST_CHUNK + protobuf_wire.varint(len(data) + len(number))
        return b"".join((head, data, number))

    def requests(self, shared: bytes) -> Iterator[bytes]:
        """An EnqueueRequest per row; `shared` is what they have in common."""
        pieces = self.pieces.to_pylist()
        return (shared + (_untagged(piece) if self.tagged else piece) for piece in pieces)


def _untagged(piece: bytes) -> bytes:
    """A row of a JobChunk as the fields of an EnqueueRequest."""
    row = batch_v1.JobChunk.FromString(piece)
    tags = spooled_v1.EnqueueRequest(tags=dict(row.tags[0].tags))
    row.ClearField("tags")
    return row.SerializeToString() + tags.SerializeToString()


def chunks(
    pieces: Spool,
    hashes: Spool,
    occurrences: Occurrences | None,
    constants: Constants,
    generation_seed: bytes | None = None,
    spreading: Spreading | None = None,
    tagged: bool = False,
) -> Iterator[Chunk]:
    """Every row that can be sent, in order, in chunks of about 1 MiB.

    `generation_seed` makes the keys of a later generation of the same rows; `spreading` says when
    each row is due, where it does not say so itself; `tagged`, that the pieces have tags.
    """
    # A JobChunk has no default for this one, so every row says it.
    due = b""
    if constants.scheduled_at is not None:
        due = protobuf_wire.with_length(
            protobuf_wire.SCHEDULED_AT, constants.scheduled_at.SerializeToString()
        )
    key_head = due + protobuf_wire.IDEMPOTENCY_KEY + protobuf_wire.varint(KEY_CHARACTERS)
    number = 0
    first = 0
    for batch, hashed in zip(pieces.batches(), hashes.batches(), strict=True):
        numbered = hashed.column("hash")
        if occurrences is not None:
            numbered = occurrences.numbered(numbered, first)
        if generation_seed is not None:
            numbered = row_hashes(numbered, generation_seed)
        keys = key_texts(numbered)
        rows = batch.column("row")
        parts = [batch.column("piece"), key_head, keys]
        if spreading is not None:
            parts.append(spreading.due(numbered, first))
        whole = join(parts, batch.num_rows)
        for start, stop in _cuts(_offsets(whole)):
            length = stop - start
            yield Chunk(
                number,
                rows.slice(start, length),
                keys.slice(start, length),
                whole.slice(start, length),
                tagged,
            )
            number += 1
        first += batch.num_rows


def rechunk(chunks: Iterator[Chunk], max_outstanding: int | None) -> Iterator[Chunk]:
    """Yield the same rows in chunks that are small beside the limit on unsettled jobs."""
    if max_outstanding is None:
        yield from chunks
        return
    longest = max(1, max_outstanding // _CHUNKS_IN_LIMIT)
    numbers = count()
    for chunk in chunks:
        for start in range(0, len(chunk.rows), longest):
            yield replace(
                chunk,
                number=next(numbers),
                rows=chunk.rows.slice(start, longest),
                keys=chunk.keys.slice(start, longest),
                pieces=chunk.pieces.slice(start, longest),
            )


def open_message(
    batch_id: str,
    queue_name: str,
    name: str | None,
    upload_id: str,
    constants: Constants,
    generation: int = 0,
    part_id: str | None = None,
) -> bytes:
    """The EnqueueBatchRequest that opens an upload."""
    opening = batch_v1.OpenBatch(
        batch_id=batch_id,
        queue_name=queue_name,
        name=name or "",
        upload_id=upload_id,
        priority=constants.priority,
        max_retries=constants.max_retries,
        timeout_seconds=constants.timeout_seconds,
        tags=dict(constants.tags),
        generation=generation,
        part_id=part_id or "",
    )
    return batch_v1.EnqueueBatchRequest(open=opening).SerializeToString()


def shared_fields(queue_name: str, constants: Constants) -> bytes:
    """The fields of an EnqueueRequest that all rows share."""
    return spooled_v1.EnqueueRequest(
        queue_name=queue_name,
        priority=constants.priority,
        max_retries=constants.max_retries,
        timeout_seconds=constants.timeout_seconds,
        tags=dict(constants.tags),
    ).SerializeToString()


def _cuts(offsets: memoryview) -> Iterator[tuple[int, int]]:
    """Runs of rows that are about a chunk's size; a larger row is a chunk of its own."""
    rows = len(offsets) - 1
    start = 0
    while start < rows:
        end = offsets[start] + CHUNK_TARGET_BYTES
        fitting = bisect_right(offsets, end, start + 1, rows + 1) - 1
        stop = min(max(fitting, start + 1), start + CHUNK_ROWS_MAX)
        yield start, stop
        start = stop


def _offsets(array: Any) -> memoryview:
    """Where each entry of a binary array begins in its data, and where the last one ends."""
    numbers = memoryview(array.buffers()[1]).cast("B").cast("i")
    return numbers[array.offset : array.offset + len(array) + 1]


def key_column(keys: Any) -> Any:
    """Keys as text, for people."""
    return pc.cast(keys, "string")
