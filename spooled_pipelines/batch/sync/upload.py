# Made from spooled_pipelines/batch/aio/upload.py by `make proto`: change that, not this.
"""Sends a prepared table: acknowledged means stored, and a cut in between loses nothing."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from spooled_pipelines.batch.ledger import Answers, Ledger
from spooled_pipelines.batch.outstanding import Outstanding, within
from spooled_pipelines.batch.patience import Patience
from spooled_pipelines.batch.progress import Progress
from spooled_pipelines.batch.staging.chunks import Chunk, open_message, shared_fields
from spooled_pipelines.batch.staging.prepare import Prepared
from spooled_pipelines.batch.sync.pipelining import pipelined
from spooled_pipelines.batch.sync.room import QueueRoom, wait_for_room
from spooled_pipelines.batch.sync.rpcs import cancel_batch, finish_part, seal_batch
from spooled_pipelines.batch.window import Window, window_of_calls
from spooled_pipelines.errors import InvalidArgumentError, ServerError, SpooledError
from spooled_pipelines.rpc import methods
from spooled_pipelines.rpc.decode import batch_stats_from
from spooled_pipelines.rpc.sync.connection import Calls
from spooled_pipelines.rpc.sync.runtime import Conversation, monotonic, sleep
from spooled_pipelines.wire import batch_v1

# Chunks on their way at once: one is stored while the next is on the wire and a third is made. More
# where they are answered in time, fewer where the server is busy; at most what it stores at once.
_WINDOW, _WINDOW_LEAST, _WINDOW_MOST = 4, 2, 8


class ChunkUpload:
    """Through the batch extension: one conversation, opened again wherever it breaks.

    After a cut the chunks that were not acknowledged go again under their numbers, and the
    server answers those that it had stored already as it did the first time.
    """

    def __init__(
        self,
        calls: Calls,
        prepared: Prepared,
        ledger: Ledger,
        progress: Progress,
        generation: int,
        *,
        cancels_older: bool,
        max_outstanding: int | None = None,
    ) -> None:
        self._calls = calls
        self._prepared = prepared
        self._ledger = ledger
        self._progress = progress
        self._generation = generation
        self._cancels_older = cancels_older and generation > 0
        self._opening = open_message(
            prepared.batch_id,
            prepared.scope.queue_name,
            prepared.scope.name,
            uuid.uuid4().hex,
            prepared.constants,
            generation,
            prepared.scope.part_id,
        )
        self._room = None if max_outstanding is None else Outstanding(max_outstanding)
        self._source: Iterator[Chunk] = within(max_outstanding, prepared.chunks(generation))
        self._next: Chunk | None = None
        self._window = Window(_WINDOW, _WINDOW_MOST, _WINDOW_LEAST)
        # When each of those that wait was written.
        self._written: deque[float] = deque()
        self._waiting: deque[Chunk] = deque()
        self._patience = Patience(calls.settings.retry)

    def run(self) -> None:
        """Send every row, then say that it was the last (unless the server refused some)."""
        while (error := self._cut_short()) is not None:
            delay = self._patience.delay(error)
            if delay is None:
                raise error
            sleep(delay)

    def _cut_short(self) -> SpooledError | None:
        """Go as far as it goes; None: to the end."""
        try:
            self._converse()
            if self._ledger.rejected == 0 or self._prepared.skips_rejected:
                self._end()
        except SpooledError as error:
            return error
        return None

    def _converse(self) -> None:
        conversation = self._calls.conversation(methods.BATCH["EnqueueBatch"], bulk=True)
        try:
            conversation.write(self._opening)
            # Before anything large goes out, so that a refusal is read and not written into.
            opened = _answer(conversation, "opened")
            if self._room is not None:
                self._room.learned(batch_stats_from(opened).open)
            if self._cancels_older:
                # Now that no upload can add to it any more.
                before = self._generation - 1
                cancel_batch(self._calls, self._prepared.batch_id, before)
                self._cancels_older = False
            self._written.clear()
            for chunk in self._waiting:
                self._write(conversation, chunk)
            while self._fill(conversation):
                outcome = _answer(conversation, "outcome")
                self._acknowledged(outcome)
            conversation.done_writing()
            conversation.read()
        finally:
            conversation.cancel()

    def _fill(self, conversation: Conversation) -> bool:
        """Keep the window full; False when nothing is on its way any more."""
        while len(self._waiting) < self._window.limit:
            chunk = self._next = self._next or next(self._source, None)
            if chunk is None:
                break
            rows = len(chunk.rows)
            if self._room is not None and not self._room.admits(rows):
                if self._waiting:
                    # First what is on its way: the server's numbers are to include it.
                    break
                wait_for_room(self._calls, self._prepared.batch_id, self._room, rows)
            # Before it is written: what breaks in between has to be sent again.
            self._waiting.append(chunk)
            self._next = None
            self._write(conversation, chunk)
        return bool(self._waiting)

    def _write(self, conversation: Conversation, chunk: Chunk) -> None:
        if self._room is not None:
            self._room.sent(len(chunk.rows))
        self._written.append(monotonic())
        conversation.write(chunk.message())

    def _acknowledged(self, outcome: batch_v1.ChunkOutcome) -> None:
        chunk = self._waiting[0]
        if outcome.number != chunk.number or len(outcome.job_ids) != len(chunk.rows):
            raise ServerError(
                f"the server answered chunk {outcome.number} with {len(outcome.job_ids)} jobs "
                f"where chunk {chunk.number} with {len(chunk.rows)} was next"
            )
        answers = Answers(
            list(outcome.job_ids),
            list(outcome.duplicate_rows),
            [(refused.row, refused.message) for refused in outcome.rejected],
        )
        self._ledger.add(chunk, answers)
        self._waiting.popleft()
        self._window.answered(monotonic() - self._written.popleft())
        self._patience.moved()
        self._progress.at(self._ledger.acknowledged)

    def _end(self) -> None:
        batch_id, part_id = self._prepared.batch_id, self._prepared.scope.part_id
        if part_id is None:
            seal_batch(self._calls, batch_id, self._generation)
        else:
            finish_part(self._calls, batch_id, self._generation, part_id, self._prepared.rows)


class SingleUpload:
    """Without the extension: many Enqueue calls at once, each with its key, so repeatable.

    A call that is repeated because its answer was lost counts as a duplicate: the server cannot
    tell it from one that comes a second time.
    """

    def __init__(
        self,
        calls: Calls,
        prepared: Prepared,
        ledger: Ledger,
        progress: Progress,
        max_outstanding: int | None = None,
    ) -> None:
        self._calls = calls
        self._prepared = prepared
        self._ledger = ledger
        self._progress = progress
        self._shared = shared_fields(prepared.scope.queue_name, prepared.constants)
        self._window = window_of_calls()
        self._limit = max_outstanding
        self._room: QueueRoom | None = None
        if max_outstanding is not None:
            self._room = QueueRoom(calls, prepared.scope.queue_name, max_outstanding)

    def run(self) -> None:
        """Send every row."""
        for chunk in within(self._limit, self._prepared.chunks()):
            if self._room is not None:
                self._room.wait_for(len(chunk.rows))
            self._send(chunk)

    def _send(self, chunk: Chunk) -> None:
        answers = Answers([])
        requests = chunk.requests(self._shared)
        responses = pipelined(
            self._calls, methods.QUEUE["Enqueue"], requests, self._window, InvalidArgumentError
        )
        try:
            with closing(responses):
                for response in responses:
                    place = len(answers.job_ids)
                    if isinstance(response, InvalidArgumentError):
                        answers.job_ids.append("")
                        answers.rejected.append((place, response.message))
                    else:
                        answers.job_ids.append(response.job_id)
                        if not response.created:
                            answers.duplicates.append(place)
                    if place % 100 == 0:
                        self._progress.at(self._ledger.acknowledged + place)
        finally:
            # What broke off in the middle of a chunk was acknowledged up to here.
            done = len(answers.job_ids)
            self._ledger.add(chunk.first(done), answers)
            if self._room is not None:
                self._room.sent(answers.job_ids)
        self._progress.at(self._ledger.acknowledged)


def open_upload(calls: Calls, opening: bytes) -> None:
    """Make a batch, or find it, without any row."""
    patience = Patience(calls.settings.retry)
    while (error := _opened(calls, opening)) is not None:
        delay = patience.delay(error)
        if delay is None:
            raise error
        sleep(delay)


def _opened(calls: Calls, opening: bytes) -> SpooledError | None:
    conversation = calls.conversation(methods.BATCH["EnqueueBatch"])
    try:
        conversation.write(opening)
        _answer(conversation, "opened")
        conversation.done_writing()
        conversation.read()
    except SpooledError as error:
        return error
    finally:
        conversation.cancel()
    return None


def _answer(conversation: Conversation, kind: str) -> Any:
    response = conversation.read()
    if response is None or response.WhichOneof("response") != kind:
        what = "nothing more" if response is None else response.WhichOneof("response")
        raise ServerError(f"the server answered {what!r} where {kind!r} was next")
    return getattr(response, kind)
