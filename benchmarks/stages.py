"""Where a batch's time goes: each stage alone, through the very functions that do it.

The client's first stages are before anything is sent. From then on client, wire, the server's loop
and the thread that writes work side by side, so that those stages hide behind the slowest of them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from spooled_pipelines.batch.encoding.column_mapping import map_columns
from spooled_pipelines.batch.encoding.rows import encode_rows
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.outcome.ledger import ChunkResult, Ledger
from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.staging.chunks import Chunk
from spooled_pipelines.batch.staging.idempotency import hash_sum, row_hashes
from spooled_pipelines.batch.staging.prepare import prepare
from spooled_pipelines.server.core.batches.records import ChunkStored
from spooled_pipelines.server.core.jobs.turns import Rounds, length
from spooled_pipelines.server.services.encoding import chunk_outcome
from spooled_pipelines.server.services.validation.chunks import (
    CheckedChunk,
    checked_chunk,
    checked_upload,
)
from spooled_pipelines.server.store.sqlite.connections.database import open_writer
from spooled_pipelines.server.store.sqlite.transactions.bulk_insert import insert_rows
from spooled_pipelines.wire.batch_v1 import EnqueueBatchRequest, EnqueueBatchResponse, OpenBatch

_UPLOAD = checked_upload(OpenBatch(batch_id="b", queue_name="q", key_name="q", upload_id="u"))
# As the store's numbers, in a database of its own.
_ONE, _PENDING = 1, 1


class Stages:
    """Seconds by stage, in the order in which a row passes them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def stages_of(frame: Any) -> tuple[dict[str, float], int]:
    """Seconds of each stage of enqueueing `frame`, and how many bytes travel."""
    made = Stages()
    _before_sending(frame, made)
    prepared = prepare(frame, "q", RowOptions())
    with made.stage("client: pack into chunks, from the spill buffer"):
        chunks = list(prepared.chunks())
        messages = [chunk.message() for chunk in chunks]
    with made.stage("server: parse and check"):
        checked = [_checked(message) for message in messages]
    answers = _stored(checked, made)
    with made.stage("client: read the answers, keep the ledger"):
        _kept(chunks, answers)
    prepared.close()
    return made.seconds, sum(map(len, messages))


def _before_sending(frame: Any, made: Stages) -> None:
    whole = time.perf_counter()
    with made.stage("client: read the source"):
        source = open_source(frame)
        batches = list(source.batches)
    mapping = map_columns(source.schema, RowOptions())
    row, total = 0, 0
    for batch in batches:
        with made.stage("client: check and encode"):
            rows = encode_rows(batch, mapping, row)
        with made.stage("client: hash for the keys"):
            total += hash_sum(row_hashes(rows.identity, b"s" * 16))
        row += batch.num_rows
    alone = time.perf_counter() - whole
    whole = time.perf_counter()
    prepare(frame, "q", RowOptions()).close()
    # What the function takes beyond those.
    spooled = max(time.perf_counter() - whole - alone, 0.0)
    made.seconds["client: put aside, look for rows that come twice"] = spooled


def _checked(message: bytes) -> CheckedChunk:
    return checked_chunk(_UPLOAD, message, EnqueueBatchRequest.FromString(message).chunk)


def _stored(checked: list[CheckedChunk], made: Stages) -> list[bytes]:
    """Yield the responses to chunks that are stored as the server stores them."""
    answers: list[bytes] = []
    with (
        tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder,
        closing(open_writer(Path(folder) / "jobs.db")) as connection,
    ):
        first = 1
        for one in checked:
            with made.stage("server: insert"):
                connection.execute("BEGIN IMMEDIATE")
                insert_rows(connection, _columns(one, first))
            with made.stage("server: commit to the disk"):
                connection.execute("COMMIT")
            with made.stage("server: answer"):
                answers.append(
                    chunk_outcome("0" * 24, one.found, ChunkStored(one.found.rows, first, (), ()))
                )
            first += one.found.rows
    return answers


def _columns(one: CheckedChunk, first: int) -> dict[str, Any]:
    chunk = one.chunk
    return {
        "seq": range(first, first + one.found.rows),
        "organization": _ONE,
        "queue": _ONE,
        "status": _PENDING,
        "priority": chunk.priorities,
        "due_at": None,
        "round": Rounds(first * length(1), length(1), one.found.rows),
        "batch": _ONE,
        "max_retries": chunk.max_retries,
        "timeout_seconds": chunk.timeout_seconds,
        "created_at": 10**12,
        "scheduled_at": None,
        "idempotency_key": [bytes.fromhex(key) for key in chunk.keys],
        "tags": None,
        "payload": chunk.payloads,
    }


def _kept(chunks: list[Chunk], answers: list[bytes]) -> None:
    ledger = Ledger()
    for chunk, answer in zip(chunks, answers, strict=True):
        outcome = EnqueueBatchResponse.FromString(answer).outcome
        ledger.add(
            chunk.rows, chunk.keys, ChunkResult(list(outcome.job_ids), list(outcome.duplicate_rows))
        )
    ledger.close()
