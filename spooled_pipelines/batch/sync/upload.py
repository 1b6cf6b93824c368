# Generated from spooled_pipelines/batch/aio/upload.py by `make generate`: do not edit.
"""Send a staged batch: acknowledged means stored, and nothing is lost if the connection breaks."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from spooled_pipelines.batch.encoding.column_mapping import Constants
from spooled_pipelines.batch.flow_control import (
    AdaptiveLimit,
    OutstandingLimit,
    RetryBudget,
    limit_of_calls,
)
from spooled_pipelines.batch.options.row_options import OnChanged, OnRerun
from spooled_pipelines.batch.outcome.ledger import ChunkResult, Ledger, RejectedRows, write_ledger
from spooled_pipelines.batch.staging.chunks import Chunk, open_message, rechunk, shared_fields
from spooled_pipelines.batch.staging.staged_batch import StagedBatch
from spooled_pipelines.batch.sync.backend import BatchBackend, Upload, Uploader
from spooled_pipelines.batch.sync.pipelining import pipelined
from spooled_pipelines.batch.sync.v1_jobs import V1Backpressure
from spooled_pipelines.batch.sync.watch import wait_for_capacity
from spooled_pipelines.errors import (
    InvalidArgumentError,
    RowsRejectedError,
    ServerError,
    SpooledError,
)
from spooled_pipelines.rpc import tracing
from spooled_pipelines.rpc.decode import batch_stats_from
from spooled_pipelines.rpc.sync.connection import Connection
from spooled_pipelines.rpc.sync.runtime import (
    BidiStream,
    in_thread,
    monotonic,
    with_retries,
)
from spooled_pipelines.wire import batch_v1, methods

if TYPE_CHECKING:
    from spooled_pipelines.batch.staging.idempotency import KeyScope

# Chunks on their way at once: as many as a server stores at once. Answers keep the chunks' order,
# so with fewer it has nothing to do where one takes longer; fewer if the server is busy.
_CHUNKS_LEAST, _CHUNKS_MOST = 2, 8
_CHANGED = "the key is that of a job with another payload"


def upload(backend: BatchBackend, sending: Upload) -> float:
    """Send every row, and return the rows per second; the ledger then has rejected rows, too.

    Raises:
        RowsRejectedError: the server refused rows, and `on_rejected` is "raise"; or rows have
            another payload than their job, and `on_changed` is.
    """
    staged, ledger = sending.staged, sending.ledger
    uploader = backend.uploader(sending)
    began = time.perf_counter()
    try:
        uploader.run()
        rows_per_second = staged.sendable / (time.perf_counter() - began)
    except BaseException as error:
        # Also if a user interrupts it: what is there so far, and how to go on, is worth a line.
        _add_resume_note(error, staged, ledger)
        ledger.close()
        raise
    finally:
        sending.progress.close()
    if ledger.rejected and not staged.skips_rejected:
        raise _refused_by_server(staged, ledger)
    if ledger.changed and staged.on_changed == "raise":
        others = ledger.acknowledged - ledger.changed - ledger.rejected
        changed = RejectedRows(staged.ledger)
        for rows in ledger.changed_rows():
            changed.add([(row, _CHANGED) for row in rows])
        ledger.close()
        outcome = f"The other {others} are jobs; batch {staged.batch_id} is not sealed."
        raise _changed_error(staged, changed, outcome)
    ledger.add_rejected(staged.rejected)
    if staged.ledger is not None:
        in_thread(write_ledger, ledger.reader(), staged.ledger)
    return rows_per_second


def with_trace_context(staged: StagedBatch) -> StagedBatch:
    """Return a copy whose job tags carry the current trace context."""
    # After the keys were made: the same rows with another trace are the same jobs.
    tags = tracing.with_context(staged.constants.tags)
    constants = dataclasses.replace(staged.constants, tags=tags)
    return dataclasses.replace(staged, constants=constants)


def _refused_by_server(staged: StagedBatch, ledger: Ledger) -> RowsRejectedError:
    count, acknowledged = ledger.rejected, ledger.acknowledged
    staged.rejected.add(list(ledger.rejected_rows()))
    ledger.close()
    return staged.rejected.error(
        f"the server refused {count} of {acknowledged} rows",
        f"The other {acknowledged - count} are jobs; batch {staged.batch_id} is not sealed.",
        'Correct these rows and call again, or pass on_rejected="skip".',
    )


def refuse_changed(backend: BatchBackend, staged: StagedBatch, generation: int) -> None:
    """Raise RowsRejectedError if rows have another payload than their job, before one is sent."""
    changed = RejectedRows(staged.ledger)
    for chunk in staged.chunks(generation):
        existing = backend.existing(staged.scope.queue_name, chunk)
        if existing is not None:
            changed.add([(chunk.rows[row].as_py(), _CHANGED) for row in existing.changed])
    if changed.count:
        raise _changed_error(staged, changed, "Nothing was sent.")
    changed.close()


def _changed_error(staged: StagedBatch, changed: RejectedRows, outcome: str) -> RowsRejectedError:
    error = changed.error(
        f"{changed.count} of {staged.sendable} rows have changed",
        outcome,
        'Pass on_changed="replace" to give jobs that have not started the new payload, or '
        '"keep" to leave all as they are.',
    )
    error.reason = "changed"
    return error


def _add_resume_note(error: BaseException, staged: StagedBatch, ledger: Ledger) -> None:
    """Add to `error` how many rows were acknowledged, and how to go on."""
    part_id = staged.scope.part_id
    state = f"batch {staged.batch_id} is not sealed"
    if part_id is not None:
        state = f"part {part_id!r} of batch {staged.batch_id} is not finished"
    # The table may have a newer version by then.
    read = staged.table_version
    version = "" if read is None else f" with table_version={read}"
    text = (
        f"{ledger.acknowledged} of {staged.sendable} rows were acknowledged; {state}, so it does "
        f"not count as complete. Repeat the same call{version} to resume; no row is enqueued twice."
    )
    if isinstance(error, SpooledError):
        error.problem = f"{error.problem.rstrip()} {text}"
        error.details.update(batch_id=staged.batch_id, acknowledged=ledger.acknowledged)
    elif hasattr(error, "add_note"):
        error.add_note(text)
    elif not error.args:
        # Python 3.10 has no notes; what has no text of its own (KeyboardInterrupt) gets this one.
        error.args = (text,)


class StreamUploader(Uploader):
    """Sends chunks through the batch extension: one stream, opened again whenever it breaks.

    After a break the chunks that were not acknowledged are sent again under their numbers, and the
    server repeats its response to those that it had stored already.
    """

    def __init__(self, backend: BatchBackend, upload: Upload) -> None:
        self._backend = backend
        self._connection = backend.connection
        self._staged = staged = upload.staged
        self._ledger = upload.ledger
        self._progress = upload.progress
        self._generation = generation = upload.generation
        scope, max_outstanding = staged.scope, upload.max_outstanding
        self._opening = open_message(
            staged.batch_id,
            scope.queue_name,
            scope.name,
            uuid.uuid4().hex,
            staged.constants,
            generation,
            scope.part_id,
            cancels_older=upload.on_rerun == "fresh",
            rows_id=staged.rows_id,
            on_changed=_wire_on_changed(staged.on_changed, upload.on_rerun),
            made_by=backend.connection.settings.made_by,
            payload_schema=staged.payload_schema,
            key_name=scope.key_name,
        )
        self._outstanding = None if max_outstanding is None else OutstandingLimit(max_outstanding)
        self._chunks: Iterator[Chunk] = rechunk(staged.chunks(generation), max_outstanding)
        self._next: Chunk | None = None
        self._limit = AdaptiveLimit(_CHUNKS_MOST, _CHUNKS_MOST, _CHUNKS_LEAST)
        # Chunks on their way, and when each of them was written.
        self._in_flight: deque[Chunk] = deque()
        self._written_at: deque[float] = deque()
        self._budget = RetryBudget(self._connection.settings.retry)

    def run(self) -> None:
        """Send every row, then seal the batch or finish the part, unless rows were refused."""
        with_retries(self._attempt, self._budget.pause)

    def _attempt(self) -> None:
        self._converse()
        refused = self._ledger.rejected and not self._staged.skips_rejected
        raises = self._ledger.changed and self._staged.on_changed == "raise"
        if not refused and not raises:
            self._end()

    def _converse(self) -> None:
        stream = self._connection.bidi_stream(methods.BATCH["EnqueueBatch"], bulk=True)
        try:
            stream.write(self._opening)
            # Before anything large goes out, so that a refusal is read and not written into.
            opened = _answer(stream, "opened")
            if self._outstanding is not None:
                self._outstanding.learned(batch_stats_from(opened).open)
            self._written_at.clear()
            for chunk in self._in_flight:
                self._write(stream, chunk)
            while self._fill(stream):
                outcome = _answer(stream, "outcome")
                self._acknowledged(outcome)
            stream.done_writing()
            stream.read()
        finally:
            stream.cancel()

    def _fill(self, stream: BidiStream) -> bool:
        """Send chunks up to the limit; return False once none is on its way any more."""
        while len(self._in_flight) < self._limit.limit:
            chunk = self._next = self._next or next(self._chunks, None)
            if chunk is None:
                break
            rows = len(chunk.rows)
            limit = self._outstanding
            if limit is not None and not limit.admits(rows):
                if self._in_flight:
                    # First what is on its way: the server's numbers are to include it.
                    break
                wait_for_capacity(self._connection, self._staged.batch_id, limit, rows)
            # Before it is written: what breaks in between has to be sent again.
            self._in_flight.append(chunk)
            self._next = None
            self._write(stream, chunk)
        return bool(self._in_flight)

    def _write(self, stream: BidiStream, chunk: Chunk) -> None:
        if self._outstanding is not None:
            self._outstanding.sent(len(chunk.rows))
        self._written_at.append(monotonic())
        stream.write(chunk.message())

    def _acknowledged(self, outcome: batch_v1.ChunkOutcome) -> None:
        chunk = self._in_flight[0]
        if outcome.number != chunk.number or len(outcome.job_ids) != len(chunk.rows):
            raise ServerError(
                f"the server answered chunk {outcome.number} with {len(outcome.job_ids)} jobs "
                f"where chunk {chunk.number} with {len(chunk.rows)} was next"
            )
        answers = ChunkResult(
            list(outcome.job_ids),
            list(outcome.duplicate_rows),
            list(outcome.changed_rows),
            list(outcome.replaced_rows),
            [(refused.row, refused.message) for refused in outcome.rejected],
        )
        self._ledger.add(chunk.rows, chunk.keys, answers)
        self._in_flight.popleft()
        self._limit.answered(monotonic() - self._written_at.popleft())
        self._budget.reset()
        self._progress.update(self._ledger.acknowledged)

    def _end(self) -> None:
        staged, generation = self._staged, self._generation
        part_id = staged.scope.part_id
        if part_id is None:
            self._backend.seal(staged.batch_id, generation, rows_id=staged.rows_id)
        else:
            self._backend.finish_part(
                staged.batch_id, generation, part_id, staged.rows, staged.rows_id
            )


class UnaryUploader(Uploader):
    """Sends each row by an Enqueue call of its own, many at once; repeatable by their keys.

    A call that is repeated because its response was lost counts as a duplicate: the server cannot
    tell it from one that comes a second time.
    """

    def __init__(self, connection: Connection, upload: Upload) -> None:
        self._connection = connection
        self._staged = upload.staged
        self._ledger = upload.ledger
        self._progress = upload.progress
        queue_name = upload.staged.scope.queue_name
        self._shared = shared_fields(queue_name, upload.staged.constants)
        self._limit = limit_of_calls()
        self._max_outstanding = upload.max_outstanding
        self._backpressure: V1Backpressure | None = None
        if upload.max_outstanding is not None:
            self._backpressure = V1Backpressure(connection, queue_name, upload.max_outstanding)

    def run(self) -> None:
        """Send every row."""
        for chunk in rechunk(self._staged.chunks(), self._max_outstanding):
            if self._backpressure is not None:
                self._backpressure.wait_for_capacity(len(chunk.rows))
            self._send(chunk)

    def _send(self, chunk: Chunk) -> None:
        answers = ChunkResult([])
        requests = chunk.requests(self._shared)
        responses = pipelined(
            self._connection, methods.QUEUE["Enqueue"], requests, self._limit, InvalidArgumentError
        )
        try:
            with closing(responses):
                for response in responses:
                    index = len(answers.job_ids)
                    if isinstance(response, InvalidArgumentError):
                        answers.job_ids.append("")
                        answers.rejected.append((index, response.message))
                    else:
                        answers.job_ids.append(response.job_id)
                        if not response.created:
                            answers.duplicates.append(index)
                    if index % 100 == 0:
                        self._progress.update(self._ledger.acknowledged + index)
        finally:
            # What broke off in the middle of a chunk was acknowledged up to here.
            done = len(answers.job_ids)
            self._ledger.add(chunk.rows.slice(0, done), chunk.keys.slice(0, done), answers)
            if self._backpressure is not None:
                self._backpressure.sent(answers.job_ids)
        self._progress.update(self._ledger.acknowledged)


def _wire_on_changed(on_changed: OnChanged, on_rerun: OnRerun) -> batch_v1.OnChanged:
    if on_changed != "replace":
        return batch_v1.ON_CHANGED_KEEP
    if on_rerun == "retry_failed":
        # What goes back into the queue goes there as the table says.
        return batch_v1.ON_CHANGED_REPLACE_RETRIABLE
    return batch_v1.ON_CHANGED_REPLACE


def open_upload(
    connection: Connection,
    batch_id: str,
    scope: KeyScope,
    generation: int,
    *,
    cancels_older: bool,
) -> None:
    """Create a batch, or find it, without sending a row."""
    opening = open_message(
        batch_id,
        scope.queue_name,
        scope.name,
        uuid.uuid4().hex,
        Constants(),
        generation,
        cancels_older=cancels_older,
        made_by=connection.settings.made_by,
        key_name=scope.key_name,
    )

    def attempt() -> None:
        stream = connection.bidi_stream(methods.BATCH["EnqueueBatch"])
        try:
            stream.write(opening)
            _answer(stream, "opened")
            stream.done_writing()
            stream.read()
        finally:
            stream.cancel()

    with_retries(attempt, RetryBudget(connection.settings.retry).pause)


def _answer(stream: BidiStream, kind: str) -> Any:
    response = stream.read()
    if response is None or response.WhichOneof("response") != kind:
        what = "nothing more" if response is None else response.WhichOneof("response")
        raise ServerError(f"the server answered {what!r} where {kind!r} was next")
    return getattr(response, kind)
